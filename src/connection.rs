//! One connection: reads a request, writes its response, then reads the next request. So a client that sends many
//! requests at once doesn't fill the server's memory.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Response};

use crate::exposition::Exposition;
use crate::request::REQUEST_TIMEOUT;
use crate::{clock, handler, request};

/// After the last response, the server reads on for at most this time and this many bytes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
const DRAIN_LIMIT: u64 = 1 << 20;
/// On Windows, closing a connection doesn't wake a blocked read but makes the next one fail (rust-lang/rust#121594).
/// So an idle connection's thread wakes up at this interval.
const IDLE_POLL: Option<Duration> = if cfg!(windows) { Some(Duration::from_secs(1)) } else { None };

#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    /// When the connection began, or the server read the last of the requests that the client had sent.
    pub last_active: Mutex<Instant>,
}

impl Connection {
    /// Answers requests until the client closes the connection, or the server has to.
    /// A request, and the client's reading of its response, may take [`REQUEST_TIMEOUT`] each. Between two requests
    /// a client may be silent as long as no other client needs its place. On Linux and macOS, an `Instant` doesn't
    /// advance while the machine sleeps: after waking up, a client has the rest of its time.
    pub fn serve(&self, exposition: &Exposition) -> io::Result<()> {
        // Otherwise a second response waits until the client acknowledges the first one, which may take 40 ms.
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        let mut reader = BufReader::new(DeadlineStream { stream: &self.stream, deadline: None, read_timeout: None });
        let (mut head, mut skipped) = (Vec::new(), 0);
        loop {
            reader.get_mut().deadline = None;
            match reader.fill_buf()? {
                [] => return Ok(()),
                // Some clients send an empty line after a request (RFC 9112, 2.2).
                [b'\r' | b'\n', ..] if skipped < 2 => {
                    reader.consume(1);
                    skipped += 1;
                    continue;
                }
                _ => skipped = 0,
            }
            reader.get_mut().deadline = Some(Instant::now() + REQUEST_TIMEOUT);
            let request = request::read(&mut reader, &mut head);
            // A pipelining client counts as active only at its last request. The time is set before the response, so
            // that a client that connects after it is more recent.
            let is_last = reader.buffer().trim_ascii().is_empty();
            if is_last {
                *self.last_active.lock().unwrap() = Instant::now();
            }
            let close = request.as_ref().map_or(true, |request| request.close);
            let response = handler::respond(exposition, &request);
            let status = response.status_code();
            // No response to a HEAD has a body, not even an error (RFC 9110, 9.3.2).
            let bytes = encode(response, head.starts_with(b"HEAD "), close, clock::unix_time())?;
            reader.get_mut().deadline = Some(Instant::now() + REQUEST_TIMEOUT);
            reader.get_mut().write_all(&bytes)?;
            exposition.count_response(status.0);
            if close {
                break;
            }
            // Without the yield, a scrape next to 200 pipelining clients took more than 8 s.
            if !is_last {
                thread::yield_now();
            }
        }
        // If unread bytes remain when a connection is closed, the client may lose the response (RFC 9112, 9.6).
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
    /// The time until the deadline; a timeout after it.
    fn remaining(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let remaining = deadline.checked_duration_since(Instant::now());
        Ok(Some(remaining.ok_or(io::ErrorKind::TimedOut)?))
    }
}

impl Read for DeadlineStream<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let timeout = self.remaining()?.or(IDLE_POLL);
        if timeout != self.read_timeout {
            self.stream.set_read_timeout(timeout)?;
            self.read_timeout = timeout;
        }
        // A peek that times out loses no bytes, unlike a read on Windows.
        let polls = IDLE_POLL.is_some() && self.deadline.is_none();
        while polls && matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::TimedOut) {}
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
fn encode(response: Response<Cursor<Vec<u8>>>, is_head: bool, close: bool, unix_time: Duration) -> io::Result<Vec<u8>> {
    // From 32 KiB on, tiny_http would send chunks, which HTTP/1.0 lacks.
    let mut response = response.with_chunked_threshold(usize::MAX);
    // tiny_http panics at a clock that an HTTP date can't express (before 1970, after 9999), unless there is a date.
    if !(1..253_402_300_800).contains(&unix_time.as_secs()) {
        response.add_header(handler::header("Date", "Thu, 01 Jan 1970 00:00:00 GMT"));
    }
    let mut bytes = Vec::new();
    response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], is_head, None)?;
    if close {
        // tiny_http ignores this header in a response, so it's put after the first line.
        let second_line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        bytes.splice(second_line..second_line, *b"Connection: close\r\n");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode_text(text: &str, is_head: bool, close: bool, unix_time: Duration) -> String {
        String::from_utf8(encode(Response::from_string(text), is_head, close, unix_time).unwrap()).unwrap()
    }

    #[test]
    fn a_large_page_has_a_length_and_comes_in_one_piece() {
        let text = "x".repeat(100_000);
        for (is_head, body) in [(false, text.as_str()), (true, "")] {
            let response = encode_text(&text, is_head, false, clock::unix_time());
            assert!(response.contains("\r\nContent-Length: 100000\r\n"), "{}", &response[..200]);
            assert!(!response.contains("Transfer-Encoding"));
            assert_eq!(response.split_once("\r\n\r\n").unwrap().1, body);
        }
    }

    #[test]
    fn a_response_that_ends_the_connection_says_so() {
        let now = clock::unix_time();
        assert!(encode_text("x", false, true, now).starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n"));
        assert!(!encode_text("x", false, false, now).contains("Connection:"));
    }

    #[test]
    fn a_clock_without_an_http_date_is_survived() {
        // A clock before 1970 is shown as 0.
        for (seconds, is_wrong) in [(0, true), (1, false), (253_402_300_799, false), (253_402_300_800, true)] {
            let response = encode_text("x", false, false, Duration::from_secs(seconds));
            let epoch = response.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
            assert_eq!(epoch, is_wrong, "{response}");
        }
    }
}
