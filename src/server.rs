//! The server: answers scrapes over HTTP, and outlives the clients that do not behave.
//!
//! `tiny_http` accepts connections and reads requests, each connection on a thread of its own. What
//! it leaves to its user is here: it stops listening for good where the process runs out of files, it
//! waits without end for a client that does not read, and for a body that does not come.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Cursor, Write};
use std::mem::{self, ManuallyDrop};
use std::net::{SocketAddr, TcpListener};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Header, Method, Request, Response, Server};

use crate::exposition::{CONTENT_TYPE, Exposition};
use crate::log;
use crate::upkeep::{self, Upkeep};

/// How long a client may leave its receive window full before it is given up.
#[cfg(unix)]
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// For how long a client that was given up stays so after its last request. It is known by its
/// address alone, which another client may have later.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10);

/// How often it is tried to listen again.
const RETRY: Duration = Duration::from_millis(50);

/// How many files must be free to listen again: a connection takes two.
const FILES_TO_LISTEN: usize = 8;

/// For how long connections are served that send nothing, once their server has stopped listening.
/// Prometheus closes an idle connection after 5 minutes.
const IDLE_CONNECTIONS: Duration = Duration::from_secs(600);

/// The longest body that is waited for, in bytes.
const LARGEST_BODY: usize = 64 << 20;

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
    let failed = |error| format!("cannot set up the socket on {address}: {error}");
    #[cfg(unix)]
    set_for_all_connections(&listener).map_err(failed)?;
    let taken = listener.local_addr().map_err(failed)?;
    Ok((listener, taken))
}

/// Sets the options that a connection inherits from its listener, as tiny_http gives no access to the
/// connection itself: an answer leaves at once, as one to a client that has asked for several would
/// otherwise wait for its delayed acknowledgement of the one before (40 ms); and a write to a client
/// that does not read ends.
#[cfg(unix)]
fn set_for_all_connections(listener: &TcpListener) -> io::Result<()> {
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;

    // The standard library sets them on streams only; to the system both are sockets.
    let socket = TcpStream::from(OwnedFd::from(listener.try_clone()?));
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))
}

/// What befalls the thread of tiny_http that accepts connections.
enum Event {
    /// It has panicked, which the server itself does not notice.
    Panicked,
    /// The server has stopped listening.
    Stopped,
}

/// Answers scrapes for as long as the process lives.
///
/// Where a server stops listening, it still serves the connections that it has, and another takes its
/// place on the same listener once there is room; until then clients wait in the listener's backlog.
///
/// # Errors
/// Where the first server cannot be started.
pub fn serve(
    listener: &TcpListener,
    address: SocketAddr,
    exposition: &Exposition,
) -> Result<Infallible, String> {
    let (events, accepting) = mpsc::channel();
    say_panics_plainly(events.clone());
    let mut upkeep = Upkeep::new(exposition.process(), address);
    let start = || Listening::start(listener, exposition.clone(), events.clone());
    let mut listening = start().map_err(|error| format!("cannot start the server: {error}"))?;
    let mut announced = false;
    loop {
        loop {
            match accepting.recv_timeout(upkeep::EVERY) {
                Ok(Event::Stopped) => break,
                Ok(Event::Panicked) => listening.server.unblock(),
                Err(_) => upkeep.iter_mut().for_each(Upkeep::see_to_it),
            }
        }
        // Until a new client is answered it is the same event, however often listening was tried.
        announced &= !listening.has_answered.load(Ordering::Relaxed);
        listening = loop {
            if !announced && !has_room(listener) {
                log::complain(
                    "out of file descriptors or threads: connected clients are served on, others wait until \
                     some disconnect; ulimit -n and ulimit -u set how many there are",
                );
                announced = true;
            }
            thread::sleep(RETRY);
            if has_room(listener) {
                if let Ok(listening) = start() {
                    break listening;
                }
            }
        };
    }
}

/// Whether a server that starts now can accept a few connections: free files and a free thread.
fn has_room(listener: &TcpListener) -> bool {
    let files: Result<Vec<_>, _> = (0..FILES_TO_LISTEN).map(|_| listener.try_clone()).collect();
    files.is_ok() && thread::Builder::new().spawn(|| ()).is_ok()
}

/// Keeps Rust's own words on a panic from the user, and tells of those that stop a server.
fn say_panics_plainly(events: Sender<Event>) {
    panic::set_hook(Box::new(move |panic: &PanicHookInfo| {
        let place = panic.location().map_or("", |location| location.file());
        // tiny_http panics where it has no file for a connection's second handle, or no thread to start.
        let is_out = place.ends_with("refined_tcp_stream.rs") || place.contains("std/src/thread");
        match thread::current().name() {
            // Only threads that tiny_http starts have no name: the one that accepts connections, which has
            // panicked here, and those that serve one, which just end with it.
            None if is_out => drop(events.send(Event::Panicked)),
            None => {}
            // A server is being started, and will be again.
            Some(_) if is_out => {}
            Some(thread) => {
                log::complain(format_args!(
                    "a fault of its own in thread '{thread}', {place}: please report it"
                ));
                process::exit(1);
            }
        }
    }));
}

/// A server, and whether it has answered a client yet.
struct Listening {
    server: Arc<Server>,
    has_answered: Arc<AtomicBool>,
}

impl Listening {
    fn start(
        listener: &TcpListener,
        exposition: Exposition,
        events: Sender<Event>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let listener = listener.try_clone()?;
        let server = panic::catch_unwind(|| Server::from_listener(listener, None))
            .map_err(|_| "no thread can be started")??;
        let server = Arc::new(server);
        let has_answered = Arc::new(AtomicBool::new(false));
        let listening = Listening {
            server: Arc::clone(&server),
            has_answered: Arc::clone(&has_answered),
        };
        thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || {
                let mut scrapes = Scrapes {
                    exposition,
                    given_up: Vec::new(),
                };
                scrapes.answer_all(&server, &has_answered, &events);
            })?;
        Ok(listening)
    }
}

/// Answers requests, one after the other.
struct Scrapes {
    exposition: Exposition,
    /// Clients that did not read what they asked for, and when each last asked.
    given_up: Vec<(SocketAddr, Instant)>,
}

impl Scrapes {
    /// Answers for as long as the server listens, and then until its connections are idle.
    fn answer_all(&mut self, server: &Server, has_answered: &AtomicBool, events: &Sender<Event>) {
        let mut is_listening = true;
        loop {
            let request = match is_listening {
                true => server.recv().map(Some),
                false => server.recv_timeout(IDLE_CONNECTIONS),
            };
            match request {
                Ok(Some(request)) => {
                    self.answer(request);
                    has_answered.store(true, Ordering::Relaxed);
                }
                Ok(None) => return,
                Err(_) => {
                    is_listening = false;
                    let _ = events.send(Event::Stopped);
                }
            }
        }
    }

    fn answer(&mut self, request: Request) {
        let client = request.remote_addr().copied();
        let body = request.body_length().unwrap_or(0);
        if body > LARGEST_BODY {
            // tiny_http skips a body with a buffer of its length, and where there is no such memory the
            // process ends. Nothing prevents that but to leak the request, and its connection with it.
            mem::forget(request);
        } else if body > 0 {
            let response = self.response(&request);
            // To drop it is to wait for its body, so that is left undone where there is no thread for it.
            let request = ManuallyDrop::new(request);
            let _ = thread::Builder::new()
                .spawn(move || ManuallyDrop::into_inner(request).respond(response));
        } else if self.has_given_up(client) {
            // What is dropped as a request is answered, with a 500; what is dropped as a writer is not.
            drop(request.into_writer());
        } else {
            let response = self.response(&request);
            let sent = send(request, response);
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.given_up
                    .extend(client.map(|client| (client, Instant::now())));
            }
        }
    }

    fn has_given_up(&mut self, client: Option<SocketAddr>) -> bool {
        self.given_up
            .retain(|(_, asked)| asked.elapsed() < GIVEN_UP_FOR);
        let known = self
            .given_up
            .iter_mut()
            .find(|(given_up, _)| Some(*given_up) == client);
        known.map(|(_, asked)| *asked = Instant::now()).is_some()
    }

    fn response(&mut self, request: &Request) -> Response<Cursor<Vec<u8>>> {
        let path = request.url().split('?').next();
        let response = match (path, request.method()) {
            (Some("/" | "/metrics"), Method::Get | Method::Head) => {
                Response::from_data(self.exposition.page())
                    .with_header(header("Content-Type", CONTENT_TYPE))
            }
            (Some("/" | "/metrics"), _) => {
                Response::from_string("Only GET and HEAD are allowed here.\n")
                    .with_status_code(405)
                    .with_header(header("Allow", "GET, HEAD"))
            }
            _ => Response::from_string("Nothing is here: the metrics are at /metrics.\n")
                .with_status_code(404),
        };
        self.exposition.answers().count(response.status_code().0);
        response
    }
}

/// Sends a response in one piece, so that the client wakes up once for it. tiny_http itself would send
/// the page in two, as its buffer is shorter, for a tenth more of CPU time per scrape. It does not serve
/// for a request with a body, which would be waited for before the response is sent.
fn send(request: Request, response: Response<Cursor<Vec<u8>>>) -> io::Result<()> {
    let mut message = Vec::with_capacity(4096);
    let version = request.http_version().clone();
    let is_head = *request.method() == Method::Head;
    response.raw_print(&mut message, version, request.headers(), is_head, None)?;
    let mut connection = request.into_writer();
    connection.write_all(&message)?;
    connection.flush()
}

fn header(field: &str, value: &str) -> Header {
    Header::from_bytes(field, value).expect("both are ASCII")
}
