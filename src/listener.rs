//! The listener: who is let in, and who makes room.
//!
//! A connection has a thread and one file, and its requests are answered one at a time, so a client
//! that does not behave waits for itself alone:
//!
//! | what a client may do | what it gets | the test that shows it |
//! | --- | --- | --- |
//! | connect, and send nothing or half a request | it makes room first; after 5 s a 408 | `half_requests_hold_no_other_up`, `a_dripping_client_is_let_go` |
//! | connect 400 times | 50 connections, or fewer where there are not so many files | `more_connections_than_files_are_outlived` |
//! | scrape, beside 300 that do not | its place | `a_newcomer_and_the_scraper_are_served_while_half_requests_hold` |
//! | send a head without an end | a 414 or 431 after 16 KiB | `a_header_without_an_end_is_cut` |
//! | ask, and never read | 5 s; it makes room first | `clients_that_never_read_hold_no_other_up` |
//! | read again after that | what was sent, and the end of the connection | `no_answer_begins_inside_another` |
//! | send thousands of requests ahead | an answer after the other | `a_pipeline_has_no_queue` |
//! | announce a body | an answer at once; 16 KiB are skipped, more end the connection | `bodies_that_never_come_hold_no_other_up` |
//! | speak HTTP/2, TLS or nonsense | a 505 or 400, and the end of the connection | `http_2_is_refused_and_leaves_nothing`, `ten_thousand_mutated_requests_are_outlived` |
//!
//! `tiny_http::Server` has no such bounds: 125 requests in HTTP/2 take 250 files for good, a header
//! without an end took 481 MiB in 5 s, and requests that were sent ahead 968 MiB in 4 s. To go back to
//! it once it has them, let [`serve`] pass what `Server::recv` gives to `answer`: it has that shape.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Method, Response, StatusCode};

use crate::connection::{self, Standing};
use crate::log;

/// How many clients are connected at most. Where the process has fewer files, these are the limit.
const MOST_CLIENTS: usize = 50;

/// How many connections more there may be, of clients that made room and have not ended yet: a flood of
/// newcomers would fill the listener's backlog if it was waited for each.
const MOST_ENDING: usize = 50;

/// How long to wait where nobody can be let in and nobody can make room.
const RETRY: Duration = Duration::from_millis(100);

/// The stack of a connection's thread, in bytes: it needs a tenth, and with the 2 MiB that are usual
/// 50 clients would reserve 100 MiB of address space.
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
/// `answer` gives the response to a method and a target (a path and its query). `sent` is told the
/// status code of each answer, of a refusal too, that was handed to the system whole.
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
                    // How it ends is the client's own affair.
                    let stands = |standing| guest.stands(standing);
                    let _ = connection::hold(&guest.stream, answer, sent, stands);
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
    /// How many connections there are, with those that have not ended yet.
    connections: usize,
}

struct Client {
    stream: TcpStream,
    /// What it does and since when: who has the least makes room first.
    rank: AtomicU64,
    /// Dropped after the stream, so that whoever hears of a connection's end finds its file closed.
    place: Place,
}

/// A connection's place in the room: to drop it is to leave.
struct Place(Arc<Room>);

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
            rank: AtomicU64::new(0),
            place: Place(Arc::clone(self)),
        });
        client.stands(Standing::Waits);
        let mut guests = self.guests();
        guests.connections += 1;
        guests.present.push(Arc::clone(&client));
        client
    }

    /// Shows a client out, and waits until a file is free. False where there is none.
    fn make_room(&self) -> bool {
        let connections = self.guests().connections;
        let is_made = self.show_out();
        if is_made {
            self.wait_for_fewer(connections);
        }
        is_made
    }

    /// Ends the connection of the client that makes room first. False where there is none.
    fn show_out(&self) -> bool {
        let mut guests = self.guests();
        let rank = |&index: &usize| guests.present[index].rank.load(Ordering::Relaxed);
        let first = (0..guests.present.len()).min_by_key(rank);
        let first = first.map(|index| guests.present.swap_remove(index));
        // A client that is dropped here leaves, for which the guests must not be locked.
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
        self.rank.store(rank, Ordering::Relaxed);
    }

    fn leave(&self) {
        let mut guests = self.place.0.guests();
        guests.present.retain(|client| !ptr::eq(&**client, self));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.guests().connections -= 1;
        self.0.left.notify_one();
    }
}
