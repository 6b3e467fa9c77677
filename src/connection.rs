//! A connection: a client's requests and their answers, one after the other, and how long each may take.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Method, Response, StatusCode};

use crate::request::{self, Refusal, Request};

/// How long a client may be silent between two requests. Prometheus leaves after 5 minutes by itself.
const SILENCE: Duration = Duration::from_secs(600);

/// How long a request may take from its first byte to its last.
const TIME_TO_ASK: Duration = Duration::from_secs(5);
const TOO_SLOW: Refusal = Refusal(408, "The request was not there whole within 5 s.\n");

/// How long an answer may wait for its client to read.
const TIME_TO_READ: Duration = Duration::from_secs(5);

/// The longest body that is skipped for the sake of the request behind it, in bytes.
const LONGEST_BODY: usize = 16 << 10;

/// How long, and for how many bytes, a client is listened to that has its last answer.
const TIME_TO_LEAVE: Duration = Duration::from_secs(1);
const BYTES_TO_LEAVE: usize = 1 << 20;

/// What a client does, from who makes room first to who makes room last; among those who do the same,
/// who has done so for the longest time is first. So a scraper keeps its place whatever comes, unless
/// as many others are served after it as there is room for.
pub enum Standing {
    /// It has its last answer.
    Leaves,
    /// It was never answered, or does not read its answer.
    Waits,
    /// It has its answer, and may ask again.
    Served,
}

/// Answers a client until it leaves or has to; says whenever it `stands` otherwise.
///
/// # Errors
/// Where it left by itself, was silent for too long, or did not read.
pub fn hold<R: Read>(
    stream: &TcpStream,
    answer: impl Fn(&Method, &str) -> Response<R>,
    sent: impl Fn(StatusCode),
    stands: impl Fn(Standing),
) -> io::Result<()> {
    // One of several answers would wait for the client's acknowledgement of the one before otherwise,
    // which clients delay by 40 ms.
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(TIME_TO_READ))?;
    let mut inbox = Inbox::of(stream)?;
    loop {
        let request = match inbox.next()? {
            Ok(request) => request,
            Err(Refusal(code, why)) => {
                let response = Response::from_string(why).with_status_code(code);
                let answer = print(response, HTTPVersion(1, 1), false, Some("close"))?;
                send(stream, &answer)?;
                sent(StatusCode(code));
                stands(Standing::Leaves);
                return part(stream);
            }
        };
        let response = answer(&request.method, &request.target);
        let code = response.status_code();
        let body = request.body.filter(|body| *body <= LONGEST_BODY);
        let connection = match (request.is_kept_alive, body, &request.version) {
            (false, ..) | (_, None, _) => Some("close"),
            (.., HTTPVersion(1, 0)) => Some("keep-alive"),
            _ => None,
        };
        let is_head = request.method == Method::Head;
        let answer = print(response, request.version, is_head, connection)?;
        stands(Standing::Waits);
        send(stream, &answer)?;
        sent(code);
        match body {
            Some(body) if request.is_kept_alive => {
                stands(Standing::Served);
                inbox.skip(request.head + body)?;
            }
            _ => {
                stands(Standing::Leaves);
                return part(stream);
            }
        }
    }
}

/// What a client sent and nobody has read yet: at most a head, a body that is skipped, and 4 KiB.
struct Inbox<'a> {
    stream: &'a TcpStream,
    unread: Vec<u8>,
    /// When the request that is being read began.
    begun: Option<Instant>,
    /// The read timeout that is set.
    patience: Duration,
}

impl<'a> Inbox<'a> {
    fn of(stream: &'a TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Inbox {
            stream,
            unread: Vec::new(),
            begun: None,
            patience: SILENCE,
        })
    }

    /// The next request, its head still unread.
    fn next(&mut self) -> io::Result<Result<Request, Refusal>> {
        self.begun = None;
        loop {
            // Some clients end a body with a line that does not belong to it (RFC 9112, 2.2).
            let is_blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let blank = self.unread.iter().take_while(is_blank).count();
            self.unread.drain(..blank);
            if let Some(request) = request::read(&self.unread).transpose() {
                return Ok(request);
            }
            match self.read_on() {
                Err(error) if is_timeout(&error) && !self.unread.is_empty() => {
                    return Ok(Err(TOO_SLOW));
                }
                read => read?,
            }
        }
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        while self.unread.len() < bytes {
            self.read_on()?;
        }
        self.unread.drain(..bytes);
        Ok(())
    }

    /// Reads what has come, or waits for something.
    ///
    /// # Errors
    /// A timeout where the time is up for what has begun, or for something to begin.
    fn read_on(&mut self) -> io::Result<()> {
        let patience = match self.unread.is_empty() {
            true => SILENCE,
            false => {
                let begun = *self.begun.get_or_insert_with(Instant::now);
                TIME_TO_ASK.saturating_sub(begun.elapsed())
            }
        };
        if patience.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if patience != self.patience {
            self.stream.set_read_timeout(Some(patience))?;
            self.patience = patience;
        }
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(number) => {
                self.unread.extend_from_slice(&bytes[..number]);
                Ok(())
            }
            // So it is after the process was stopped and goes on: signal(7).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether a read ended because the time was up, which systems name differently.
fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// An answer as it goes over the wire, all in one piece, so that the client wakes up once for it.
fn print<R: Read>(
    response: Response<R>,
    version: HTTPVersion,
    is_head: bool,
    connection: Option<&str>,
) -> io::Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(4096);
    response.raw_print(&mut answer, version, &[], is_head, None)?;
    if let Some(option) = connection {
        // tiny_http sets this header itself or not at all; it goes behind the first line.
        let line = answer.split_inclusive(|byte| *byte == b'\n').next();
        let end = line.map_or(0, <[u8]>::len);
        let header = format!("Connection: {option}\r\n");
        answer.splice(end..end, header.into_bytes());
    }
    Ok(answer)
}

/// # Errors
/// Where the client does not take the answer whole in time: nothing may be sent to it any more.
fn send(mut stream: &TcpStream, mut answer: &[u8]) -> io::Result<()> {
    let begun = Instant::now();
    while !answer.is_empty() {
        match stream.write(answer) {
            Ok(number) if begun.elapsed() < TIME_TO_READ => answer = &answer[number..],
            Ok(_) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets a client have its last answer before its connection ends: to close one with unread bytes is to
/// reset it, and the answer may be lost then (RFC 9112, 9.6).
fn part(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let begun = Instant::now();
    let mut ignored = 0;
    while ignored < BYTES_TO_LEAVE {
        let left = TIME_TO_LEAVE.saturating_sub(begun.elapsed());
        // It cannot be set to nothing, which ends the wait, too.
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut [0; 4096])? {
            0 => break,
            number => ignored += number,
        }
    }
    Ok(())
}
