//! The listener: accepts connections, and decides which one ends if there are too many.
//!
//! Each connection has a thread and a file of its own, so a misbehaving client delays only itself. At
//! the limit, the server closes the least recently active connection. A disconnected scraper reconnects
//! without missing a scrape, as HTTP clients do when a kept-alive connection has ended.
//!
//! `tiny_http::Server` has no such limits: 125 requests in HTTP/2 occupied 250 files forever, a header
//! without an end took 481 MiB in 5 s, and pipelined requests took 968 MiB in 4 s.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Weak};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::connection::Connection;
use crate::exposition::Exposition;
use crate::log::Log;

/// The maximum number of connections. If the process may have fewer files or threads, those are the limit.
const MAX_CONNECTIONS: usize = 50;

/// The stack of a connection's thread, in bytes. A tenth of it is used; with the usual 2 MiB, 50
/// connections would reserve 100 MiB of address space.
const STACK_SIZE: usize = 128 << 10;

/// The pause after an error that closing a connection doesn't remedy.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// After this many errors in a row, which take a second, the server prints one.
const LASTING_ERRORS: u32 = 100;

/// How long the only connection may be inactive if the process has no file for another one.
const MIN_IDLE: Duration = Duration::from_secs(1);

/// The errors that say that the system has no file, thread or kernel memory left. On Linux and macOS:
/// EAGAIN, ENOMEM, ENFILE, EMFILE and ENOBUFS; on Windows: WSAEMFILE and WSAENOBUFS. The other errors of
/// accept(2) come from the network and pass.
const RESOURCE_ERRNOS: [i32; 9] = [11, 12, 23, 24, 35, 55, 105, 10_024, 10_055];

/// Serves clients until the process ends.
pub fn serve(listener: &TcpListener, exposition: &Exposition, errors: &Log) -> ! {
    thread::scope(|scope| {
        let mut connections = Connections {
            scope,
            exposition,
            errors,
            has_warned: false,
            entries: Vec::new(),
        };
        let mut failures = 0;
        loop {
            let accepted = listener.accept();
            let Err(error) = accepted.and_then(|(stream, _)| connections.add(stream)) else {
                failures = 0;
                continue;
            };
            failures += 1;
            let code = error.raw_os_error();
            if code.is_some_and(|code| RESOURCE_ERRNOS.contains(&code)) {
                connections.warn(&error);
                if !connections.only_one_is_active() && connections.evict_oldest() {
                    continue;
                }
            } else if failures == LASTING_ERRORS {
                errors.line(format_args!("cannot accept connections: {error}: start it again"));
            }
            thread::sleep(ACCEPT_RETRY);
        }
    })
}

/// The open connections.
#[derive(Debug)]
struct Connections<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    exposition: &'env Exposition,
    errors: &'env Log,
    has_warned: bool,
    entries: Vec<Entry<'scope>>,
}

/// A connection, which its thread owns, and that thread.
#[derive(Debug)]
struct Entry<'scope> {
    connection: Weak<Connection>,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope, 'env> Connections<'scope, 'env> {
    /// Starts the thread that serves a new connection. If there is no place for it, the least recently
    /// active connection ends.
    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        let connection = Arc::new(Connection::new(stream));
        self.entries.retain(|entry| !entry.thread.is_finished());
        if self.entries.len() >= MAX_CONNECTIONS {
            self.evict_oldest();
        }
        loop {
            let (served, exposition) = (Arc::clone(&connection), self.exposition);
            let thread = thread::Builder::new().name("connection".to_owned());
            let started = thread.stack_size(STACK_SIZE).spawn_scoped(self.scope, move || {
                // An error ends only this connection, and its client knows why.
                let _ = served.serve(exposition);
            });
            match started {
                Ok(thread) => {
                    let connection = Arc::downgrade(&connection);
                    self.entries.push(Entry { connection, thread });
                    return Ok(());
                }
                Err(error) => {
                    self.warn(&error);
                    if !self.evict_oldest() {
                        return Err(error);
                    }
                    // The system may count the ended thread for a moment longer.
                    thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    /// Ends the least recently active connection. Returns false if there is none.
    fn evict_oldest(&mut self) -> bool {
        // A connection that has ended already has no time, and None is less than any time.
        let last_active = |entry: &Entry| Some(entry.connection.upgrade()?.last_active());
        let oldest = (0..self.entries.len()).min_by_key(|&index| last_active(&self.entries[index]));
        let Some(entry) = oldest.map(|index| self.entries.swap_remove(index)) else {
            return false;
        };
        if let Some(connection) = entry.connection.upgrade() {
            connection.close();
        }
        // Waits until the file and the thread are free. On Windows a blocked thread doesn't notice at
        // once that its connection was closed (see `connection.rs`).
        if !cfg!(windows) {
            let _ = entry.thread.join();
        }
        true
    }

    /// Whether there is one connection and it was active just now. The system may report that it has no
    /// file left when no client is waiting, so this connection must not end yet.
    fn only_one_is_active(&self) -> bool {
        let [entry] = &self.entries[..] else {
            return false;
        };
        let connection = entry.connection.upgrade();
        connection.is_some_and(|connection| connection.last_active().elapsed() < MIN_IDLE)
    }

    /// Tells the user once that the process has too few files or threads.
    fn warn(&mut self, error: &io::Error) {
        if !self.has_warned {
            self.errors.line(format_args!(
                "cannot open another connection: {error}: from now on, the least recently active one \
                 ends instead; raise ulimit -n (files) or ulimit -u (threads)"
            ));
        }
        self.has_warned = true;
    }
}
