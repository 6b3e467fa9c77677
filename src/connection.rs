//! A connection: a client's requests and their answers, one after the other, so that nothing piles up.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Response};

use crate::exposition::Exposition;
use crate::{lock, request, server};

/// How long a request may take from its first byte to its last, and how long its answer may wait for the
/// client to read. Between two requests a client may be silent for as long as nobody needs its place.
///
/// An `Instant` stands still while the machine sleeps (on Linux and macOS): whoever was in the middle
/// of a request has the rest of its time when the machine wakes up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long, and for how many bytes, a client is listened to that has its last answer.
const TIME_TO_LEAVE: Duration = Duration::from_secs(1);
const BYTES_TO_LEAVE: u64 = 1 << 20;

pub struct Client {
    pub stream: TcpStream,
    /// When it was last answered whole, or let in.
    pub served_at: Mutex<Instant>,
}

impl Client {
    /// Answers the client until it leaves or has to.
    ///
    /// # Errors
    /// Where it left by itself, was shown out, or did not read.
    pub fn serve(&self, exposition: &Exposition) -> io::Result<()> {
        // One of several answers would wait for the client's acknowledgement of the one before
        // otherwise, which clients delay by 40 ms.
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        let mut inbox = BufReader::new(Wire {
            stream: &self.stream,
            until: None,
            read_timeout: None,
        });
        let mut head = Vec::new();
        loop {
            inbox.get_mut().until = None;
            match inbox.fill_buf()? {
                [] => return Ok(()),
                // Some clients end a request with a line that does not belong to it (RFC 9112, 2.2).
                [b'\r' | b'\n', ..] => {
                    inbox.consume(1);
                    continue;
                }
                _ => inbox.get_mut().until = Some(Instant::now() + PATIENCE),
            }
            let request = request::read(&mut inbox, &mut head);
            let is_last = request.as_ref().map_or(true, |request| request.is_last);
            let response = server::answer(exposition, &request);
            let code = response.status_code();
            // No answer to a HEAD has a body, not even a refusal (RFC 9110, 9.3.2).
            let answer = print(response, head.starts_with(b"HEAD "), is_last)?;
            inbox.get_mut().until = Some(Instant::now() + PATIENCE);
            inbox.get_mut().write_all(&answer)?;
            exposition.count(code.0);
            if is_last {
                break;
            }
            // Who sends ahead is answered once it has all its answers, and lets others go first.
            if inbox.buffer().is_empty() {
                *lock(&self.served_at) = Instant::now();
            } else {
                thread::yield_now();
            }
        }
        // To close a connection with unread bytes is to reset it, and the answer may be lost then (RFC
        // 9112, 9.6).
        self.stream.shutdown(Shutdown::Write)?;
        inbox.get_mut().until = Some(Instant::now() + TIME_TO_LEAVE);
        io::copy(&mut inbox.take(BYTES_TO_LEAVE), &mut io::sink()).map(drop)
    }
}

/// A stream that is read and written until a moment, however few bytes go at once.
struct Wire<'a> {
    stream: &'a TcpStream,
    until: Option<Instant>,
    read_timeout: Option<Duration>,
}

impl Wire<'_> {
    /// The time that is left; a timeout where that is none.
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(until) = self.until else {
            return Ok(None);
        };
        let left = until.checked_duration_since(Instant::now());
        left.map(Some).ok_or(io::ErrorKind::TimedOut.into())
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        if left != self.read_timeout {
            self.stream.set_read_timeout(left)?;
            self.read_timeout = left;
        }
        self.stream.read(bytes)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer as it goes over the wire, in one piece, so that the client wakes up once for it.
fn print<R: Read>(response: Response<R>, is_head: bool, is_last: bool) -> io::Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(4096);
    response.raw_print(&mut answer, HTTPVersion(1, 1), &[], is_head, None)?;
    if is_last {
        // tiny_http takes this header from nobody; it goes behind the first line.
        let line = answer.iter().position(|byte| *byte == b'\n');
        let behind = line.map_or(0, |end| end + 1);
        answer.splice(behind..behind, *b"Connection: close\r\n");
    }
    Ok(answer)
}
