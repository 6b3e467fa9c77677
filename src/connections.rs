//! The connections: who is let in, for how long, and what one client can make the process hold.
//!
//! Each connection has a thread and one file, and one request is answered at a time, so a client that
//! does not behave waits for itself alone:
//!
//! | what a client may do | what it gets | shown in `tests/faults.rs` by |
//! | --- | --- | --- |
//! | connect, and send nothing or half a request | makes room for newcomers first; after 5 s a 408 | `a_newcomer_and_the_scraper_are_served_while_half_requests_hold`, `a_dripping_client_is_let_go` |
//! | send a head without an end | a 431 or 414 at 16 KiB | `a_header_without_an_end_is_cut` |
//! | ask, and never read | 5 s to read; makes room like those that send nothing | `clients_that_never_read_hold_no_other_up` |
//! | send a thousand requests at once | an answer after the other | `a_pipeline_has_no_queue` |
//! | announce a body | an answer at once; up to 16 KiB are skipped, or the connection ends | `bodies_that_never_come_hold_no_other_up` |
//! | speak HTTP/2 or TLS, or nonsense | a 505 or a 400, and the connection ends | `http_2_is_refused_and_leaves_nothing`, `ten_thousand_mutated_requests_are_outlived` |
//! | go away within an answer | no further answer on that connection | `no_answer_begins_inside_another` |
//! | connect 400 times | 50 connections; each newcomer takes the place of one | `more_connections_than_files_are_outlived` |
//!
//! `tiny_http::Server` is not used, as it lets clients do three things for good: keep two files for
//! each request in HTTP/2, fill the memory by a header without an end (481 MiB in 5 s) or by requests
//! sent ahead (968 MiB in 4 s), and hold the one thread that answers up. To go back once it has such
//! bounds, let [`serve`] pass `Server::recv`'s requests to `answer`: it has that shape.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Method, Response, StatusCode};

use crate::log;
use crate::request::{self, Refusal};

/// How many clients are connected at most. Where the process has fewer files, these are the limit.
const MOST_CLIENTS: usize = 50;

/// How many connections more there are while those that made room end: to wait for each one would
/// let a flood of newcomers fill the listener's backlog.
const MOST_ENDING: usize = 50;

/// How long a kept-alive connection may be silent. Prometheus closes its own after 5 minutes.
const SILENCE: Duration = Duration::from_secs(600);

/// How long a head may take from its first byte to its last, and so a body that is skipped.
const TIME_TO_ASK: Duration = Duration::from_secs(5);

const TOO_SLOW: Refusal = Refusal(408, "The request was not there whole within 5 s.\n");

/// How long an answer may wait for its client to read.
const TIME_TO_READ: Duration = Duration::from_secs(5);

/// The longest body that is skipped for the sake of the request behind it, in bytes.
const LONGEST_BODY: usize = 16 << 10;

/// How long, and for how many bytes, a client is listened to that has its last answer.
const TIME_TO_LEAVE: Duration = Duration::from_secs(1);
const BYTES_TO_LEAVE: usize = 1 << 20;

/// How long to wait where no client can be let in and none can make room.
const RETRY: Duration = Duration::from_millis(100);

/// What a connection's thread needs is a tenth of this; it is address space, of which some have little.
const STACK: usize = 128 << 10;

/// Takes the address, and tells which it really is where its port is 0.
///
/// # Errors
/// One line that names the address and says what to do where it cannot be had.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let hint = match (error.kind(), address.port()) {
            (io::ErrorKind::AddrInUse, 5000) => {
                "stop what uses it (on macOS: AirPlay Receiver, in System Settings) or choose another port, as in --listen 127.0.0.1:5001"
            }
            (io::ErrorKind::AddrInUse, _) => "stop what uses it, or choose another port with --listen",
            (io::ErrorKind::PermissionDenied, _) => "choose a port from 1024 with --listen",
            _ => "choose an address of this machine with --listen, such as 127.0.0.1:5000",
        };
        format!("cannot listen on {address}: {error}: {hint}")
    })?;
    let taken = listener
        .local_addr()
        .map_err(|error| format!("cannot tell which address {address} became: {error}"))?;
    Ok((listener, taken))
}

/// Answers clients for as long as the process lives.
///
/// `answer` gives the response to a method and a target (a path and its query), and should do so soon:
/// nobody else is let in while a client that makes room still waits for it. `sent` is told the status
/// code of each answer, refusals too, that was handed to the system whole.
pub fn serve<R: Read>(
    listener: &TcpListener,
    answer: impl Fn(&Method, &str) -> Response<R> + Sync,
    sent: impl Fn(StatusCode) + Sync,
) -> ! {
    let room = Room::new();
    let mut has_complained = false;
    let mut complain = |what: &str, error: io::Error| {
        if !has_complained {
            log::complain(format_args!(
                "{what}: {error}: from now on one client makes room for another; ulimit -n and ulimit -u set how many there may be"
            ));
        }
        has_complained = true;
    };
    thread::scope(|scope| {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    complain("cannot let a client in", error);
                    if !room.make_room() {
                        thread::sleep(RETRY);
                    }
                    continue;
                }
            };
            let client = room.admit(stream);
            let guest = Arc::clone(&client);
            let (answer, sent) = (&answer, &sent);
            let thread = thread::Builder::new()
                .name("connection".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, move || {
                    // How a conversation ends is the client's own affair.
                    let _ = Conversation::begin(&guest).and_then(|mut it| it.hold(answer, sent));
                    guest.leave();
                });
            if let Err(error) = thread {
                complain("cannot start a thread for a client", error);
                client.leave();
                room.show_out();
            }
        }
    })
}

/// Everybody who is connected.
struct Room {
    opened: Instant,
    guests: Mutex<Guests>,
    left: Condvar,
}

#[derive(Default)]
struct Guests {
    /// Those that may stay.
    present: Vec<Arc<Client>>,
    /// How many connections there are, with those that were shown out and have not ended yet.
    connections: usize,
}

struct Client {
    stream: TcpStream,
    /// Who has the least makes room first: see [`Standing`].
    standing: AtomicU64,
    /// Dropped after the stream, so whoever hears that a connection ended finds its file closed.
    place: Place,
}

/// A connection's place in the room: to drop it is to leave.
struct Place(Arc<Room>);

/// What a client does, from the one who makes room first to the one who makes room last; among those
/// who do the same, it is the one who has done so for the longest time. So a scraper keeps its place
/// whatever comes, unless as many others are served after it as there is room for.
enum Standing {
    /// It has its last answer.
    Leaves,
    /// It was never answered, or does not read its answer.
    Waits,
    /// It has its answer, and may ask again.
    Served,
}

impl Room {
    fn new() -> Arc<Self> {
        Arc::new(Room {
            opened: Instant::now(),
            guests: Mutex::default(),
            left: Condvar::new(),
        })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, stream: TcpStream) -> Arc<Client> {
        if self.guests().present.len() >= MOST_CLIENTS {
            self.show_out();
        }
        self.wait_for_fewer(MOST_CLIENTS + MOST_ENDING);
        let client = Arc::new(Client {
            stream,
            standing: AtomicU64::new(0),
            place: Place(Arc::clone(self)),
        });
        client.stands(Standing::Waits);
        let mut guests = self.guests();
        guests.connections += 1;
        guests.present.push(Arc::clone(&client));
        client
    }

    /// Makes room, and waits until a file is free. False where there is nobody who could make it.
    fn make_room(&self) -> bool {
        let connections = self.guests().connections;
        let is_made = self.show_out();
        if is_made {
            self.wait_for_fewer(connections);
        }
        is_made
    }

    /// Ends a client's connection. Its thread waits for nothing but the client, and so ends soon.
    fn show_out(&self) -> bool {
        let mut guests = self.guests();
        let standing = |&index: &usize| guests.present[index].standing.load(Ordering::Relaxed);
        let first = (0..guests.present.len()).min_by_key(standing);
        let first = first.map(|index| guests.present.swap_remove(index));
        // Who owns the client last locks the guests.
        drop(guests);
        first
            .map(|client| client.stream.shutdown(Shutdown::Both))
            .is_some()
    }

    fn wait_for_fewer(&self, connections: usize) {
        let are_too_many = |guests: &mut Guests| guests.connections >= connections;
        drop(self.left.wait_while(self.guests(), are_too_many));
    }
}

impl Client {
    fn stands(&self, standing: Standing) {
        let since = self.place.0.opened.elapsed().as_micros() as u64;
        let rank = ((standing as u64) << 62) | since;
        self.standing.store(rank, Ordering::Relaxed);
    }

    fn leave(self: Arc<Self>) {
        let mut guests = self.place.0.guests();
        guests.present.retain(|client| !Arc::ptr_eq(client, &self));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.guests().connections -= 1;
        self.0.left.notify_one();
    }
}

/// A client's requests and their answers, one after the other.
struct Conversation<'a> {
    client: &'a Client,
    /// What the client sent and nobody has read yet: a head and a body at most, and a bit of the next.
    unread: Vec<u8>,
    /// When the request that is being read began.
    begun: Option<Instant>,
    /// The read timeout that is set.
    patience: Duration,
}

impl<'a> Conversation<'a> {
    /// # Errors
    /// Where the client has gone again.
    fn begin(client: &'a Client) -> io::Result<Self> {
        // An answer to one of several requests would wait for the acknowledgement of the one before
        // otherwise, which clients delay by 40 ms.
        client.stream.set_nodelay(true)?;
        client.stream.set_read_timeout(Some(SILENCE))?;
        client.stream.set_write_timeout(Some(TIME_TO_READ))?;
        Ok(Conversation {
            client,
            unread: Vec::new(),
            begun: None,
            patience: SILENCE,
        })
    }

    /// Answers until the client leaves, or has to.
    ///
    /// # Errors
    /// Where it left by itself, was silent for too long, or does not read.
    fn hold<R: Read>(
        &mut self,
        answer: impl Fn(&Method, &str) -> Response<R>,
        sent: impl Fn(StatusCode),
    ) -> io::Result<()> {
        loop {
            self.begun = None;
            let request = loop {
                // Some clients end a body with a line that is not its own (RFC 9112, 2.2).
                let blank = self
                    .unread
                    .iter()
                    .take_while(|b| matches!(b, b'\r' | b'\n'));
                let blank = blank.count();
                self.unread.drain(..blank);
                match request::read(&self.unread) {
                    Ok(None) => {}
                    Ok(Some(request)) => break Ok(request),
                    Err(refusal) => break Err(refusal),
                }
                match self.read_on() {
                    Err(error) if is_timeout(&error) && !self.unread.is_empty() => {
                        break Err(TOO_SLOW);
                    }
                    read => read?,
                }
            };
            let request = match request {
                Ok(request) => request,
                Err(Refusal(code, why)) => {
                    let response = Response::from_string(why).with_status_code(code);
                    let is_sent = self.send(response, HTTPVersion(1, 1), false, Some("close"));
                    is_sent.map(|()| sent(StatusCode(code)))?;
                    return self.part();
                }
            };
            let response = answer(&request.method, &request.target);
            let code = response.status_code();
            let is_head = request.method == Method::Head;
            let body = request.body.filter(|body| *body <= LONGEST_BODY);
            let connection = match (request.is_kept_alive, body, &request.version) {
                (false, ..) | (_, None, _) => Some("close"),
                (.., HTTPVersion(1, 0)) => Some("keep-alive"),
                _ => None,
            };
            let message = request.head + body.unwrap_or(0);
            self.send(response, request.version, is_head, connection)?;
            sent(code);
            if connection == Some("close") {
                return self.part();
            }
            self.begun = None;
            while self.unread.len() < message {
                self.read_on()?;
            }
            self.unread.drain(..message);
        }
    }

    /// Reads what has come, or waits for it.
    ///
    /// # Errors
    /// `TimedOut` where a request has begun and is not there whole in time.
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
            self.client.stream.set_read_timeout(Some(patience))?;
            self.patience = patience;
        }
        let mut bytes = [0; 4096];
        match (&self.client.stream).read(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(number) => {
                self.unread.extend_from_slice(&bytes[..number]);
                Ok(())
            }
            // A process that was stopped and goes on is interrupted, too: signal(7).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if is_timeout(&error) && !self.unread.is_empty() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends an answer, in one piece, so that the client wakes up once for it.
    ///
    /// # Errors
    /// Where the client does not take it whole in time: nothing may be sent to it any more.
    fn send<R: Read>(
        &self,
        response: Response<R>,
        version: HTTPVersion,
        is_head: bool,
        connection: Option<&str>,
    ) -> io::Result<()> {
        let mut message = Vec::with_capacity(4096);
        response.raw_print(&mut message, version, &[], is_head, None)?;
        if let Some(option) = connection {
            // tiny_http keeps this header to itself; it goes behind the first line.
            let line = message.iter().position(|byte| *byte == b'\n');
            let end = line.map_or(0, |end| end + 1);
            message.splice(end..end, format!("Connection: {option}\r\n").bytes());
        }
        self.client.stands(Standing::Waits);
        let begun = Instant::now();
        let mut rest = &message[..];
        while !rest.is_empty() {
            match (&self.client.stream).write(rest) {
                Ok(taken) if begun.elapsed() < TIME_TO_READ => rest = &rest[taken..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
        self.client.stands(Standing::Served);
        Ok(())
    }

    /// Lets the client have its last answer before the connection ends: to close a connection with
    /// unread bytes is to reset it, and then the client may lose the answer (RFC 9112, 9.6).
    fn part(&self) -> io::Result<()> {
        self.client.stands(Standing::Leaves);
        self.client.stream.shutdown(Shutdown::Write)?;
        let begun = Instant::now();
        let mut ignored = 0;
        while ignored < BYTES_TO_LEAVE {
            let left = TIME_TO_LEAVE.saturating_sub(begun.elapsed());
            self.client.stream.set_read_timeout(Some(left))?;
            match (&self.client.stream).read(&mut [0; 4096])? {
                0 => break,
                number => ignored += number,
            }
        }
        Ok(())
    }
}

/// Whether a read ended for want of bytes; systems differ in what they call it.
fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut)
}
