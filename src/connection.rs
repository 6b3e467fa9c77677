//! One connection: reads a request, writes its response, then reads the next request. So a client that
//! sends many requests at once doesn't fill the server's memory.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tiny_http::{HTTPVersion, Header, Response};

use crate::exposition::Exposition;
use crate::request::REQUEST_TIMEOUT;
use crate::{handler, request};

/// After the last response, the server reads on for at most this time and this many bytes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
const DRAIN_LIMIT: u64 = 1 << 20;

/// How soon an idle connection's thread notices on Windows that the connection was closed.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// The `Date` of a response if the system's clock is wrong beyond what HTTP can express.
const NO_DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// The first moment in Unix time that has no date in HTTP.
const YEAR_10000: u64 = 253_402_300_800;

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    last_active: Mutex<Instant>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        Connection {
            stream,
            last_active: Mutex::new(Instant::now()),
        }
    }

    /// When the last response to all that the client had sent was complete, or the connection began.
    pub fn last_active(&self) -> Instant {
        *self.last_active.lock().unwrap()
    }

    /// Ends the connection: its thread's next read or write fails.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Answers requests until the client closes the connection, or the server has to.
    ///
    /// A request, and the client's reading of its response, may take [`REQUEST_TIMEOUT`] each. Between
    /// two requests a client may be silent as long as no other client needs its place.
    ///
    /// On Linux and macOS, an `Instant` doesn't advance while the machine sleeps: a client that is in
    /// the middle of a request has the rest of its time after the machine wakes up.
    ///
    /// # Errors
    /// If the client resets the connection or doesn't read, or if [`Connection::close`] was called.
    pub fn serve(&self, exposition: &Exposition) -> io::Result<()> {
        // Otherwise the second of two responses would wait for the client's acknowledgement of the
        // first one, which clients delay by 40 ms.
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        let mut reader = BufReader::new(DeadlineStream {
            stream: &self.stream,
            deadline: None,
            read_timeout: None,
        });
        let mut head = Vec::new();
        loop {
            reader.get_mut().deadline = None;
            // Some clients send an empty line behind a request (RFC 9112, 2.2). No request starts there.
            for _ in b"\r\n" {
                if let [b'\r' | b'\n', ..] = reader.fill_buf()? {
                    reader.consume(1);
                }
            }
            if reader.fill_buf()?.is_empty() {
                return Ok(());
            }
            reader.get_mut().deadline = Some(Instant::now() + REQUEST_TIMEOUT);
            let request = request::read(&mut reader, &mut head);
            let close = request.as_ref().map_or(true, |request| request.close);
            let response = handler::respond(exposition, &request);
            let status = response.status_code();
            // No response to a HEAD has a body, not even an error (RFC 9110, 9.3.2).
            let bytes = encode(response, head.starts_with(b"HEAD "), close)?;
            reader.get_mut().deadline = Some(Instant::now() + REQUEST_TIMEOUT);
            reader.get_mut().write_all(&bytes)?;
            exposition.count_response(status.0);
            if close {
                break;
            }
            // A pipelining client counts as active only after its last response.
            if reader.buffer().trim_ascii().is_empty() {
                *self.last_active.lock().unwrap() = Instant::now();
            }
        }
        // If unread bytes remain when a connection is closed, the client may lose the response (RFC
        // 9112, 9.6).
        self.stream.shutdown(Shutdown::Write)?;
        reader.get_mut().deadline = Some(Instant::now() + DRAIN_TIMEOUT);
        io::copy(&mut reader.take(DRAIN_LIMIT), &mut io::sink()).map(drop)
    }
}

/// A stream whose reads and writes fail after a deadline, however few bytes each of them transfers.
#[derive(Debug)]
struct DeadlineStream<'a> {
    stream: &'a TcpStream,
    deadline: Option<Instant>,
    read_timeout: Option<Duration>,
}

impl DeadlineStream<'_> {
    /// The time until the deadline.
    fn remaining(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        let remaining = deadline.checked_duration_since(Instant::now());
        remaining.map(Some).ok_or(io::ErrorKind::TimedOut.into())
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout != self.read_timeout {
            self.stream.set_read_timeout(timeout)?;
            self.read_timeout = timeout;
        }
        Ok(())
    }
}

impl Read for DeadlineStream<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // On Windows, closing a connection doesn't wake a blocked read; it makes the next one fail
        // (rust-lang/rust#121594). A peek that times out loses no bytes.
        while cfg!(windows) && self.deadline.is_none() {
            self.set_read_timeout(Some(IDLE_POLL))?;
            match self.stream.peek(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                result => {
                    result?;
                    break;
                }
            }
        }
        let remaining = self.remaining()?;
        self.set_read_timeout(remaining)?;
        self.stream.read(bytes)
    }
}

impl Write for DeadlineStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.remaining()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes a response in one piece, so that the client wakes up once for it.
fn encode<R: Read>(response: Response<R>, is_head: bool, close: bool) -> io::Result<Vec<u8>> {
    // tiny_http would send 32 KiB and more in chunks, which HTTP/1.0 lacks.
    let mut response = response.with_chunked_threshold(usize::MAX);
    if !is_in_http_dates(SystemTime::now()) {
        response.add_header(Header::from_bytes("Date", NO_DATE).expect("both are ASCII"));
    }
    let mut bytes = Vec::with_capacity(4096);
    response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], is_head, None)?;
    if close {
        // tiny_http ignores this header in a response, so it's put behind the first line.
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let second_line = newline.map_or(0, |index| index + 1);
        bytes.splice(second_line..second_line, *b"Connection: close\r\n");
    }
    Ok(bytes)
}

/// Whether tiny_http can write this time into a response; it panics before 1970 and after 9999.
fn is_in_http_dates(now: SystemTime) -> bool {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH);
    since_1970.is_ok_and(|time| time.as_secs() < YEAR_10000)
}
