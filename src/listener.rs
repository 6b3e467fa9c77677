//! The listener: accepts connections, and decides which one ends if there are too many.
//!
//! Each connection has a thread and a file of its own, so a misbehaving client delays only itself. At the limit, the
//! server closes the least recently active connection. A disconnected scraper reconnects without missing a scrape, as
//! HTTP clients do when a kept-alive connection has ended.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex, Once, Weak};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::exposition::Exposition;
use crate::log::Log;

/// The maximum number of connections. If the process may have fewer files or threads, those are the limit.
const MAX_CONNECTIONS: usize = 50;
/// The stack of a connection's thread, which uses a tenth of it. With the usual 2 MiB, 50 would reserve 100 MiB.
const STACK_SIZE: usize = 128 << 10;
/// The pause after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);
/// The errors that say that the system lacks a file, a thread or kernel memory. On Linux and macOS: EAGAIN, ENOMEM,
/// ENFILE, EMFILE and ENOBUFS; on Windows: WSAEMFILE and WSAENOBUFS. Other errors of accept(2) come from the network.
const RESOURCE_ERRNOS: [i32; 9] = [11, 12, 23, 24, 35, 55, 105, 10_024, 10_055];
/// If the process has only one file for connections, the system reports EMFILE even when no client is waiting. The only
/// connection keeps this file until it was inactive for so long.
const MIN_IDLE: Duration = Duration::from_secs(1);

/// Serves clients until the process ends.
pub fn serve(listener: &TcpListener, exposition: &Exposition, errors: &Log) -> ! {
    let warned = Once::new();
    let warn = |error: &io::Error| {
        let hint = "closing the least recently active one instead; raise ulimit -n (files) or ulimit -u (threads)";
        warned.call_once(|| errors.line(format_args!("cannot open another connection: {error}: {hint}")));
    };
    thread::scope(|scope| {
        let mut connections = Vec::new();
        let mut failures = 0;
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    failures += 1;
                    let is_shortage = error.raw_os_error().is_some_and(|code| RESOURCE_ERRNOS.contains(&code));
                    if is_shortage {
                        warn(&error);
                    } else if failures == 100 {
                        // The error has lasted for a second.
                        errors.line(format_args!("cannot accept connections: {error}: start the program again"));
                    }
                    if !(is_shortage && evict_oldest(&mut connections, MIN_IDLE)) {
                        thread::sleep(ACCEPT_RETRY);
                    }
                    continue;
                }
            };
            failures = 0;
            let connection = Arc::new(Connection { stream, last_active: Mutex::new(Instant::now()) });
            connections.retain(|entry| !entry.thread.is_finished());
            if connections.len() >= MAX_CONNECTIONS {
                evict_oldest(&mut connections, Duration::ZERO);
            }
            loop {
                let (served, connection) = (Arc::clone(&connection), Arc::downgrade(&connection));
                let thread = thread::Builder::new().stack_size(STACK_SIZE);
                // An error of a connection ends only this connection.
                match thread.spawn_scoped(scope, move || drop(served.serve(exposition))) {
                    Ok(thread) => break connections.push(Entry { connection, thread }),
                    Err(error) => warn(&error),
                }
                if !evict_oldest(&mut connections, Duration::ZERO) {
                    break;
                }
                // The system may count the ended thread for a moment longer.
                thread::sleep(ACCEPT_RETRY);
            }
        }
    })
}

/// An open connection, which its thread owns, and that thread.
#[derive(Debug)]
struct Entry<'scope> {
    connection: Weak<Connection>,
    thread: ScopedJoinHandle<'scope, ()>,
}

/// Ends the least recently active connection. Returns false without connections, or if the only one isn't idle yet.
fn evict_oldest(connections: &mut Vec<Entry>, min_idle: Duration) -> bool {
    // Without a time, the connection has ended already. None is less than any time.
    let last_active = |entry: &Entry| Some(*entry.connection.upgrade()?.last_active.lock().unwrap());
    let oldest = (0..connections.len()).map(|index| (last_active(&connections[index]), index)).min();
    let Some((time, oldest)) = oldest else { return false };
    if connections.len() == 1 && time.is_some_and(|time| time.elapsed() < min_idle) {
        return false;
    }
    let entry = connections.swap_remove(oldest);
    if let Some(connection) = entry.connection.upgrade() {
        let _ = connection.stream.shutdown(Shutdown::Both);
    }
    // Wait until the file and the thread are free. On Windows, a blocked thread doesn't notice the shutdown.
    if !cfg!(windows) {
        let _ = entry.thread.join();
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// A connection whose last activity was so many seconds ago, and the client's end of it.
    fn entry<'scope>(scope: &'scope thread::Scope<'scope, '_>, seconds: u64) -> (Arc<Connection>, Entry<'scope>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let last_active = Mutex::new(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap());
        let connection = Arc::new(Connection { stream, last_active });
        let entry = Entry { connection: Arc::downgrade(&connection), thread: scope.spawn(|| ()) };
        (connection, entry)
    }

    #[test]
    fn the_least_recently_active_connection_ends_first() {
        thread::scope(|scope| {
            let (owners, mut connections): (Vec<_>, Vec<_>) =
                [2, 9, 5].map(|ago| entry(scope, ago)).into_iter().unzip();
            let index_of =
                |entry: &Entry| owners.iter().position(|owner| entry.connection.ptr_eq(&Arc::downgrade(owner)));
            for open in [vec![0, 2], vec![0], vec![]] {
                assert!(evict_oldest(&mut connections, Duration::ZERO));
                let mut left: Vec<usize> = connections.iter().filter_map(index_of).collect();
                left.sort();
                assert_eq!(left, open);
            }
            assert!(!evict_oldest(&mut connections, Duration::ZERO));
        });
    }

    #[test]
    fn the_only_connection_may_stay_until_it_is_idle() {
        thread::scope(|scope| {
            let (_active, entry_active) = entry(scope, 0);
            let (_idle, entry_idle) = entry(scope, 2);
            let mut connections = vec![entry_active, entry_idle];
            assert!(evict_oldest(&mut connections, MIN_IDLE), "the idle one of two");
            assert!(!evict_oldest(&mut connections, MIN_IDLE), "the only one, which is active");
            assert!(evict_oldest(&mut connections, Duration::ZERO), "a newcomer waits");
        });
    }

    #[cfg(unix)]
    #[test]
    fn an_error_that_lasts_is_printed_once() {
        use std::os::fd::OwnedFd;
        // A connected socket can't accept connections.
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
        let listener = TcpListener::from(OwnedFd::from(stream));
        let (errors, lines) = crate::log::queue();
        thread::spawn(move || serve(&listener, &Exposition::new(Arc::default(), Duration::ZERO), &errors));
        let line = lines.recv_timeout(Duration::from_secs(20)).expect("an error");
        assert!(line.starts_with("cannot accept connections: ") && line.contains("start the program again"), "{line}");
        lines.recv_timeout(Duration::from_millis(1500)).expect_err("one line is enough");
    }

    #[test]
    fn errors_of_the_network_end_no_connection() {
        // Those that accept(2) lists for Linux.
        for code in [100, 71, 92, 112, 64, 113, 95, 101, 103, 4] {
            assert!(!RESOURCE_ERRNOS.contains(&code), "{code}");
        }
    }

    #[test]
    fn the_readme_names_the_limit() {
        assert!(include_str!("README.md").contains(&format!("At most {MAX_CONNECTIONS} connections are open.")));
    }
}
