//! The listener: accepts connections, and decides which one ends if there are too many.
//!
//! Each connection has a thread and a file of its own, so a misbehaving client delays only itself. At the limit, the
//! server closes the least recently active connection. A disconnected scraper reconnects without missing a scrape.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex, Once, Weak};
use std::thread::{self, JoinHandle};
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

/// Serves clients until the process ends.
pub fn serve(listener: &TcpListener, exposition: &Arc<Exposition>, errors: &Log) -> ! {
    let (shortage, failure) = (Once::new(), Once::new());
    let warn = |error: &io::Error| {
        let hint = "closing the least recently active one instead; \
                    raise ulimit -n (files), ulimit -u (threads) or ulimit -v (memory)";
        shortage.call_once(|| errors.line(format_args!("cannot open another connection: {error}: {hint}")));
    };
    let mut connections = Vec::new();
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                let is_shortage = error.raw_os_error().is_some_and(|code| RESOURCE_ERRNOS.contains(&code));
                if is_shortage {
                    warn(&error);
                } else {
                    let hint = "trying again; if scrapes fail, start the program again";
                    failure.call_once(|| errors.line(format_args!("cannot accept a connection: {error}: {hint}")));
                }
                // Without a free file, the system reports EMFILE even when no client is waiting. So the only connection
                // keeps the only file.
                if is_shortage && connections.len() > 1 {
                    evict_oldest(&mut connections);
                } else {
                    thread::sleep(ACCEPT_RETRY);
                }
                continue;
            }
        };
        let connection = Arc::new(Connection { stream, last_active: Mutex::new(Instant::now()) });
        connections.retain(|entry| !entry.thread.is_finished());
        if connections.len() >= MAX_CONNECTIONS {
            evict_oldest(&mut connections);
        }
        while let Err(error) = spawn(&connection, exposition, &mut connections) {
            warn(&error);
            if !evict_oldest(&mut connections) {
                break;
            }
            // The system may count the ended thread for a moment longer.
            thread::sleep(ACCEPT_RETRY);
        }
    }
}

/// An open connection, which its thread owns, and that thread.
#[derive(Debug)]
struct Entry {
    connection: Weak<Connection>,
    thread: JoinHandle<()>,
}

/// Starts the thread of a connection, and adds its entry.
fn spawn(connection: &Arc<Connection>, exposition: &Arc<Exposition>, connections: &mut Vec<Entry>) -> io::Result<()> {
    let (served, exposition) = (Arc::clone(connection), Arc::clone(exposition));
    // An error of a connection ends only this connection.
    let thread = thread::Builder::new().stack_size(STACK_SIZE).spawn(move || drop(served.serve(&exposition)))?;
    connections.push(Entry { connection: Arc::downgrade(connection), thread });
    Ok(())
}

/// Ends the least recently active connection. Returns false without connections.
fn evict_oldest(connections: &mut Vec<Entry>) -> bool {
    // Without a time, the connection has ended already. None is less than any time.
    let last_active = |entry: &Entry| Some(*entry.connection.upgrade()?.last_active.lock().unwrap());
    let oldest = connections.iter().map(last_active).enumerate().min_by_key(|(_, time)| *time);
    let Some((index, _)) = oldest else { return false };
    let entry = connections.swap_remove(index);
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

    /// A connection whose last activity was so many seconds ago, and its entry.
    fn entry(seconds: u64) -> (Arc<Connection>, Entry) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let last_active = Mutex::new(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap());
        let connection = Arc::new(Connection { stream, last_active });
        let entry = Entry { connection: Arc::downgrade(&connection), thread: thread::spawn(|| ()) };
        (connection, entry)
    }

    #[test]
    fn the_least_recently_active_connection_ends_first() {
        let (owners, mut connections): (Vec<_>, Vec<_>) = [2, 9, 5].map(entry).into_iter().unzip();
        for open in [vec![0, 2], vec![0], vec![]] {
            assert!(evict_oldest(&mut connections));
            let is_open = |index: &usize| {
                connections.iter().any(|entry| entry.connection.ptr_eq(&Arc::downgrade(&owners[*index])))
            };
            assert_eq!((0..3).filter(is_open).collect::<Vec<_>>(), open);
        }
        assert!(!evict_oldest(&mut connections));
    }

    #[cfg(unix)]
    #[test]
    fn an_error_that_lasts_is_printed_once() {
        use std::os::fd::OwnedFd;
        // A connected socket can't accept connections.
        let (_owner, entry) = entry(0);
        let stream = entry.connection.upgrade().unwrap().stream.try_clone().unwrap();
        let listener = TcpListener::from(OwnedFd::from(stream));
        let (errors, lines) = crate::log::queue();
        thread::spawn(move || serve(&listener, &Arc::new(Exposition::new(Arc::default(), Duration::ZERO)), &errors));
        let line = lines.recv_timeout(Duration::from_secs(20)).expect("an error");
        assert!(line.starts_with("cannot accept a connection: ") && line.contains("start the program again"), "{line}");
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
