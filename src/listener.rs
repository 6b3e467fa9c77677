//! The listener: who is let in, and who makes room.
//!
//! Each client has a thread and one file, so it waits for itself alone. Where there is no room for a
//! newcomer, whoever was last answered, or let in, longest ago makes room. A scraper that is shown out so
//! connects again, as HTTP clients do when a kept connection has ended.
//!
//! `tiny_http::Server` has no such bounds: 125 requests in HTTP/2 take 250 files for good, a header
//! without an end took 481 MiB in 5 s, and requests that were sent ahead 968 MiB in 4 s.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::connection::Client;
use crate::exposition::Exposition;
use crate::{lock, log};

/// How many clients are connected at most, beside the one that is being let in. Where the process has
/// fewer files or threads, these are the limit.
const MOST_CLIENTS: usize = 50;

/// How long to wait after an error that no client can do anything about.
const RETRY: Duration = Duration::from_millis(10);

/// The stack of a connection's thread, in bytes: it needs a tenth, and with the 2 MiB that are usual
/// 50 clients would reserve 100 MiB of address space.
const STACK: usize = 128 << 10;

/// What is said where there is no file, no thread or no memory left, on Linux and macOS: EAGAIN, ENOMEM,
/// ENFILE, EMFILE and ENOBUFS. What accept(2) says else is the network's, and passes.
const SHORTAGES: [i32; 7] = [11, 12, 23, 24, 35, 55, 105];

/// Takes the address, and tells which it really is where its port is 0.
///
/// # Errors
/// One line that names the address and says what to do where it cannot be had.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let hint = match (error.kind(), address.port()) {
            (ErrorKind::AddrInUse, 5000) => {
                "stop what uses it (on macOS: AirPlay Receiver, in System Settings) or choose another port, as in --listen 127.0.0.1:5001"
            }
            (ErrorKind::AddrInUse, _) => "stop what uses it, or choose another port with --listen",
            (ErrorKind::PermissionDenied, _) => "choose a port from 1024 with --listen",
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
pub fn serve(listener: &TcpListener, exposition: &Exposition) -> ! {
    thread::scope(|scope| {
        let mut guests = Guests(Vec::new());
        let mut has_complained = false;
        loop {
            let admitted = listener.accept().and_then(|(stream, _)| {
                let client = Arc::new(Client {
                    stream,
                    served_at: Mutex::new(Instant::now()),
                });
                guests.0.retain(|(_, thread)| !thread.is_finished());
                if guests.0.len() >= MOST_CLIENTS {
                    guests.make_room();
                }
                let guest = Arc::downgrade(&client);
                let thread = thread::Builder::new().name("connection".to_owned());
                let thread = thread.stack_size(STACK).spawn_scoped(scope, move || {
                    // How it ends is the client's own affair.
                    let _ = client.serve(exposition);
                })?;
                guests.0.push((guest, thread));
                Ok(())
            });
            let Err(error) = admitted else { continue };
            let is_shortage = error.raw_os_error().is_some_and(|e| SHORTAGES.contains(&e));
            if is_shortage && !has_complained {
                log::complain(format_args!(
                    "cannot let a client in: {error}: from now on one makes room for another; ulimit -n and ulimit -u set how many there may be"
                ));
                has_complained = true;
            }
            if !is_shortage || guests.make_room().is_none() {
                thread::sleep(RETRY);
            }
        }
    })
}

/// Who is connected: each client, which its thread alone keeps, and that thread.
struct Guests<'scope>(Vec<(Weak<Client>, ScopedJoinHandle<'scope, ()>)>);

impl Guests<'_> {
    /// Ends the connection of the client that makes room first, and waits until its file and its thread
    /// are free. `None` where there is nobody.
    fn make_room(&mut self) -> Option<()> {
        // One that has left by itself comes before all others.
        let served_at =
            |client: &Weak<Client>| client.upgrade().map(|client| *lock(&client.served_at));
        let first = (0..self.0.len()).min_by_key(|&index| served_at(&self.0[index].0))?;
        let (client, thread) = self.0.swap_remove(first);
        if let Some(client) = client.upgrade() {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
        thread.join().ok()
    }
}
