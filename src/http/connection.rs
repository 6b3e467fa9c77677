//! One connection: reads a request, writes its response, then reads the next request. So a client that sends many
//! requests at once doesn't fill the server's memory.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::request::REQUEST_TIMEOUT;
use super::{request, response};
use crate::clock;
use crate::metrics::Metrics;

/// After the last response, the server reads on for at most this time and this many bytes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
const DRAIN_LIMIT: u64 = 1 << 20;
/// On Windows, closing a connection doesn't wake a blocked read but makes the next one fail (rust-lang/rust#121594).
/// So a thread that waits for its client wakes up at this interval.
const SHUTDOWN_POLL: Option<Duration> = if cfg!(windows) { Some(Duration::from_secs(1)) } else { None };

#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub activity: Mutex<Activity>,
}

/// The times by which the listener chooses a connection to close.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// When the connection opened, or when all requests sent so far had been read; `None` after the last response.
    pub last: Option<Instant>,
    /// When the connection opened, or when the first request since all were last answered began; `None` if all are
    /// answered.
    pub unanswered_since: Option<Instant>,
    /// Whether the listener closes the connection for another client.
    pub is_evicted: bool,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        let now = Some(Instant::now());
        Connection { stream, activity: Mutex::new(Activity { last: now, unanswered_since: now, is_evicted: false }) }
    }

    /// Answers requests until the client closes the connection, or the server has to.
    /// A request, and the client's reading of its response, may take [`REQUEST_TIMEOUT`] each. Between two requests
    /// a client may be silent as long as no other client needs its place. On Linux and macOS, an `Instant` doesn't
    /// advance while the machine sleeps: after waking up, a client has the rest of its time.
    pub fn serve(&self, metrics: &Metrics) -> io::Result<()> {
        // Otherwise a second response waits until the client acknowledges the first one, which may take 40 ms.
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        let mut reader = BufReader::new(DeadlineStream { stream: &self.stream, deadline: None, read_timeout: None });
        let mut head = Vec::new();
        let mut skipped = 0;
        let mut all_read = true;
        loop {
            reader.get_mut().deadline = None;
            match reader.fill_buf()? {
                [] => return Ok(()),
                // Some clients send an empty line after a request (RFC 9112, 2.2). It isn't the start of a request, so
                // no deadline begins.
                [b'\r' | b'\n', ..] if skipped < 2 => {
                    reader.consume(1);
                    skipped += 1;
                    continue;
                }
                _ => skipped = 0,
            }
            if all_read {
                self.activity.lock().unwrap().unanswered_since = Some(Instant::now());
            }
            reader.get_mut().deadline = Some(Instant::now() + REQUEST_TIMEOUT);
            let request = request::read(&mut reader, &mut head);
            // A pipelining client counts as active only at its last request. The time is set before the response, so
            // that clients that connect during the response count as newer.
            all_read = reader.buffer().trim_ascii().is_empty();
            let is_evicted = {
                let mut activity = self.activity.lock().unwrap();
                if all_read {
                    activity.last = Some(Instant::now());
                }
                activity.is_evicted
            };
            // The listener cut this request short, so the error isn't the client's: send no response.
            if is_evicted && request.is_err() {
                return Ok(());
            }
            let close = is_evicted || request.as_ref().map_or(true, |request| request.close);
            let response = response::respond(metrics, &request);
            let status = response.status_code();
            // No response to a HEAD has a body, not even an error (RFC 9110, 9.3.2).
            let bytes = response::encode(response, head.starts_with(b"HEAD "), close, clock::unix_time())?;
            reader.get_mut().deadline = Some(Instant::now() + REQUEST_TIMEOUT);
            reader.get_mut().write_all(&bytes)?;
            metrics.count_response(status.0);
            if close {
                break;
            }
            if all_read {
                self.activity.lock().unwrap().unanswered_since = None;
            } else {
                // Without the yield, a scrape next to 200 pipelining clients took more than 8 s.
                thread::yield_now();
            }
        }
        {
            let mut activity = self.activity.lock().unwrap();
            activity.last = None;
            activity.unanswered_since = None;
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
        loop {
            let timeout = self.remaining()?.into_iter().chain(SHUTDOWN_POLL).min();
            if timeout != self.read_timeout {
                self.stream.set_read_timeout(timeout)?;
                self.read_timeout = timeout;
            }
            // A peek that times out loses no bytes, unlike a read on Windows.
            let polls = SHUTDOWN_POLL.is_some();
            if polls && matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::TimedOut) {
                continue;
            }
            return self.stream.read(bytes);
        }
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
