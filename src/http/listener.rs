//! The listener: accepts connections, and closes some if there are too many.
//!
//! Each connection has a thread and a file of its own, so a misbehaving client delays only itself. At the limit, the
//! server closes the least recently active connection. A disconnected scraper reconnects without missing a scrape.
//!
//! A client doesn't expect that a new connection ends without a response. So a connection that was opened a moment ago,
//! or whose request came a moment ago, isn't closed for others: they wait in the system's backlog. Without a bound, a
//! flood of silent clients would make everybody wait, so the server waits for at most a tenth of the time.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, Once, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::connection::{Activity, Connection};
use crate::errno::{is_file_limit, is_shortage, shortage_hint};
use crate::metrics::Metrics;
use crate::output::Log;

/// The maximum number of connections. If the process may have fewer files or threads, those are the limit.
const MAX_CONNECTIONS: usize = 50;
/// How long a connection without a response isn't closed for others. A burst of 100 clients needs a tenth of it, unless
/// the machine is busy.
const GRACE: Duration = Duration::from_millis(300);
/// How long the server may wait for connections in their [`GRACE`], before it closes them nonetheless.
const MAX_WAIT_BUDGET: Duration = Duration::from_millis(400);
/// The budget grows back by the time that passes, divided by this.
const REFILL_DIVISOR: u32 = 10;
/// The stack of a connection's thread, which uses a tenth of it. With the usual 2 MiB, 50 would reserve 100 MiB.
const STACK_SIZE: usize = 128 << 10;
/// The pause before the server looks again whether it can close a connection.
const POLL: Duration = Duration::from_millis(1);
/// How often the server looks whether an evicted connection has ended, before it stops a response that its client
/// doesn't read.
const EVICTION_POLLS: u32 = 20;
/// The pause after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// Listens on an address. Returns the address, too, as port 0 takes a free port. An error says why the program can't
/// listen, and what to do.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let explain = |error| listen_error(address, &error);
    let listener = TcpListener::bind(address).map_err(explain)?;
    let address = listener.local_addr().map_err(explain)?;
    Ok((listener, address))
}

fn listen_error(address: SocketAddr, error: &io::Error) -> String {
    let hint = match (error.kind(), address.port()) {
        _ if is_shortage(error) => shortage_hint(error),
        (ErrorKind::AddrInUse, 5000) => {
            "stop the program that uses this port (on macOS: AirPlay Receiver, in System Settings), \
             or choose another port, such as --listen 127.0.0.1:5001"
        }
        (ErrorKind::AddrInUse, _) => "stop the program that uses this port, or choose another port with --listen",
        (ErrorKind::PermissionDenied, ..1024) => "choose a port from 1024 with --listen",
        (ErrorKind::PermissionDenied, _) => "the system reserves this port: choose another port with --listen",
        _ => "choose an address of this machine with --listen, such as 127.0.0.1:5000",
    };
    format!("cannot listen on {address}: {error}: {hint}")
}

/// Serves all connections that are accepted. A [`TcpListener`] accepts them without an end.
pub fn serve_all(incoming: impl Iterator<Item = io::Result<TcpStream>>, mut pool: ThreadPool, error_log: &Log) {
    let shortage = Once::new();
    let failure = Once::new();
    let warn = |error: &io::Error| {
        let hint = shortage_hint(error);
        let meanwhile = "until then, newcomers replace the least recently active connection, or wait";
        shortage.call_once(|| {
            error_log.push(format_args!("cannot open another connection: {error}: {hint}; {meanwhile}"));
        });
    };
    for accepted in incoming {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) if is_shortage(&error) => {
                warn(&error);
                // Closing a connection helps only if the process's own limit is reached. accept reports that even if no
                // client waits, so the last connection stays open.
                if is_file_limit(&error) && pool.count_open() > 1 {
                    pool.evict_or_wait();
                } else {
                    thread::sleep(ACCEPT_RETRY);
                }
                continue;
            }
            // The client has gone before its connection was accepted. The next one can be accepted at once.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => continue,
            Err(error) => {
                let hint = "trying again; if scrapes fail, start the program again";
                failure.call_once(|| error_log.push(format_args!("cannot accept a connection: {error}: {hint}")));
                thread::sleep(ACCEPT_RETRY);
                continue;
            }
        };
        if let Err(error) = pool.start_if_all_are_busy() {
            warn(&error);
        }
        while pool.count_open() >= pool.started {
            pool.evict_or_wait();
        }
        pool.dispatch(stream);
    }
}

/// The threads that serve connections, each of them one at a time. A thread takes the next connection when one ends, so
/// closing a connection always helps, even if the system doesn't allow another thread.
#[derive(Debug)]
pub struct ThreadPool {
    metrics: Arc<Metrics>,
    /// How many threads were started.
    started: usize,
    queue: Sender<Job>,
    receiver: Arc<Mutex<Receiver<Job>>>,
    connections: Vec<OpenConnection>,
    /// The thread that accepts connections. The others wake it up when one ends.
    listener: Thread,
    wait_budget: WaitBudget,
}

/// How long the server may wait now.
#[derive(Debug)]
struct WaitBudget {
    left: Duration,
    updated_at: Instant,
}

impl WaitBudget {
    /// Waits until a connection ends, but only for a moment. Returns false if the budget is used up.
    fn wait(&mut self) -> bool {
        let refilled = self.left + self.updated_at.elapsed() / REFILL_DIVISOR;
        self.left = refilled.min(MAX_WAIT_BUDGET);
        self.updated_at = Instant::now();
        if self.left < POLL {
            return false;
        }
        thread::park_timeout(POLL);
        let waited = self.updated_at.elapsed();
        // On a busy machine the wait takes longer, but so does everything else. On Windows, each one takes up to 16 ms.
        let charged = if cfg!(windows) { waited } else { waited.min(POLL) };
        self.left = self.left.saturating_sub(charged);
        self.updated_at = Instant::now();
        true
    }
}

/// A connection for a thread, and the slot that it takes. The thread drops the slot last, when the file is closed.
type Job = (Arc<Connection>, Arc<()>);

/// The handle of an open connection; the connection's thread owns it.
#[derive(Debug)]
struct OpenConnection {
    connection: Weak<Connection>,
    slot: Weak<()>,
}

impl ThreadPool {
    /// Starts the first thread, without which no client would be served. The calling thread must be the one that
    /// accepts connections.
    pub fn start(metrics: Arc<Metrics>) -> io::Result<Self> {
        let (queue, receiver) = mpsc::channel();
        let mut pool = ThreadPool {
            metrics,
            started: 0,
            queue,
            receiver: Arc::new(Mutex::new(receiver)),
            connections: Vec::new(),
            listener: thread::current(),
            wait_budget: WaitBudget { left: MAX_WAIT_BUDGET, updated_at: Instant::now() },
        };
        pool.start_if_all_are_busy()?;
        Ok(pool)
    }

    /// Starts a thread if the others all have a connection and the limit allows it.
    fn start_if_all_are_busy(&mut self) -> io::Result<()> {
        if self.count_open() < self.started || self.started == MAX_CONNECTIONS {
            return Ok(());
        }
        let metrics = Arc::clone(&self.metrics);
        let receiver = Arc::clone(&self.receiver);
        let listener = self.listener.clone();
        let serve_jobs = move || {
            loop {
                let next = receiver.lock().unwrap().recv();
                let Ok((connection, slot)) = next else { return };
                // An error or a panic of a connection ends only this connection.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| connection.serve(&metrics)));
                drop(connection);
                drop(slot);
                listener.unpark();
            }
        };
        thread::Builder::new().name("connection".to_owned()).stack_size(STACK_SIZE).spawn(serve_jobs)?;
        self.started += 1;
        Ok(())
    }

    /// Gives a connection to a thread.
    fn dispatch(&mut self, stream: TcpStream) {
        let connection = Arc::new(Connection::new(stream));
        let slot = Arc::new(());
        self.connections.push(OpenConnection { connection: Arc::downgrade(&connection), slot: Arc::downgrade(&slot) });
        self.queue.send((connection, slot)).expect("this owns the receiver, too");
    }

    /// How many connections are open.
    fn count_open(&mut self) -> usize {
        self.connections.retain(|open| open.slot.strong_count() > 0);
        self.connections.len()
    }

    /// Closes the least recently active connection. If it is in its [`GRACE`], waits for a moment instead. If the
    /// budget for that is used up, closes a connection that has all its responses, or else the least recently active
    /// one.
    fn evict_or_wait(&mut self) {
        let mut activities = self.activities();
        // A connection without a time is about to end; `None` is less than any time.
        activities.sort_by_key(|(activity, _)| activity.last);
        let Some((least_recent, index)) = activities.first().copied() else {
            // All have ended, and their threads are about to notice it.
            thread::park_timeout(POLL);
            return;
        };
        if least_recent.unanswered_since.is_none_or(|since| since.elapsed() >= GRACE) {
            self.evict(index);
        } else if !self.wait_budget.wait() {
            let answered = activities.iter().find(|(activity, _)| activity.unanswered_since.is_none());
            self.evict(answered.map_or(index, |(_, index)| *index));
        }
    }

    /// The activities of the open connections, and their places in the list.
    fn activities(&self) -> Vec<(Activity, usize)> {
        let connections = self.connections.iter().enumerate();
        let activity = |(index, open): (usize, &OpenConnection)| {
            let connection = open.connection.upgrade()?;
            Some((*connection.activity.lock().unwrap(), index))
        };
        connections.filter_map(activity).collect()
    }

    /// Closes a connection, and waits until its file and its thread are free.
    fn evict(&mut self, index: usize) {
        let open = self.connections.swap_remove(index);
        let Some(connection) = open.connection.upgrade() else { return };
        connection.activity.lock().unwrap().is_evicted = true;
        if cfg!(target_os = "linux") {
            // The thread still reads a request that has arrived, and answers it, before it notices the end. Other
            // systems would drop the request.
            let _ = connection.stream.shutdown(Shutdown::Read);
            for _ in 0..EVICTION_POLLS {
                if open.slot.strong_count() == 0 {
                    return;
                }
                thread::park_timeout(POLL);
            }
        }
        let _ = connection.stream.shutdown(Shutdown::Both);
        drop(connection);
        // On Windows, a blocked thread doesn't notice that at once. The newcomer waits in the queue for a thread.
        while !cfg!(windows) && open.slot.strong_count() > 0 {
            thread::park_timeout(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> ThreadPool {
        ThreadPool::start(Arc::new(Metrics::new(Arc::default(), Duration::ZERO).unwrap())).unwrap()
    }

    /// Both ends of a connection: the client's and the server's.
    fn connect() -> (TcpStream, TcpStream) {
        let (listener, address) = bind(([127, 0, 0, 1], 0).into()).unwrap();
        (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0)
    }

    /// Adds a connection that was last active so many seconds ago, and returns its owner.
    fn add(pool: &mut ThreadPool, last: Option<u64>, is_answered: bool) -> Arc<Connection> {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let connection = Arc::new(Connection::new(connect().1));
        let unanswered_since = (!is_answered).then(Instant::now);
        *connection.activity.lock().unwrap() = Activity { last: last.map(ago), unanswered_since, is_evicted: false };
        pool.connections.push(OpenConnection { connection: Arc::downgrade(&connection), slot: Weak::new() });
        connection
    }

    /// Makes the server evict a connection until one is left, and returns the order.
    fn evicted(connections: &[(Option<u64>, bool)], budget: Duration) -> Vec<usize> {
        let mut pool = pool();
        pool.wait_budget.left = budget;
        let add = |(last, is_answered): &(Option<u64>, bool)| add(&mut pool, *last, *is_answered);
        let owners: Vec<_> = connections.iter().map(add).collect();
        let mut order = Vec::new();
        while pool.connections.len() > 1 {
            pool.evict_or_wait();
            for (index, owner) in owners.iter().enumerate() {
                let is_open = pool.connections.iter().any(|open| open.connection.ptr_eq(&Arc::downgrade(owner)));
                if !is_open && !order.contains(&index) {
                    order.push(index);
                }
            }
        }
        order
    }

    #[test]
    fn a_connection_that_ends_is_closed_first_then_the_least_recently_active_one() {
        let connections = [(Some(2), true), (Some(9), true), (None, true), (Some(5), false), (Some(1), true)];
        let start = Instant::now();
        assert_eq!(evicted(&connections, MAX_WAIT_BUDGET), [2, 1, 3, 0]);
        // Its request came a moment ago, so the others waited for its response.
        assert!(start.elapsed() >= GRACE, "{:?}", start.elapsed());
    }

    #[test]
    fn with_an_empty_budget_a_connection_that_is_answered_is_closed_first() {
        assert_eq!(evicted(&[(Some(9), false), (Some(2), true), (Some(5), false)], Duration::ZERO), [1, 0]);
    }

    #[test]
    fn silent_clients_make_newcomers_wait_for_a_tenth_of_the_time() {
        let mut budget = WaitBudget { left: MAX_WAIT_BUDGET, updated_at: Instant::now() };
        let start = Instant::now();
        while budget.wait() {}
        assert!(start.elapsed() >= MAX_WAIT_BUDGET - POLL, "{:?}", start.elapsed());
        budget.updated_at -= 10 * REFILL_DIVISOR * POLL;
        let waits = (0..20).take_while(|_| budget.wait()).count();
        assert!((1..=11).contains(&waits), "{waits} waits");
        budget.updated_at -= Duration::from_secs(3600);
        assert!(budget.wait() && budget.left <= MAX_WAIT_BUDGET);
    }

    /// Serves these connections and errors, and returns the lines that are printed.
    fn serve_and_log(incoming: impl Iterator<Item = io::Result<TcpStream>>) -> Vec<String> {
        let (error_log, lines) = crate::output::queue();
        serve_all(incoming, pool(), &error_log);
        lines.try_iter().collect()
    }

    #[test]
    fn an_error_that_lasts_is_printed_once() {
        let lines = serve_and_log((0..3).map(|_| Err(ErrorKind::InvalidInput.into())));
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert!(line.starts_with("cannot accept a connection: ") && line.contains("start the program again"), "{line}");
    }

    #[test]
    fn a_client_that_has_gone_is_not_an_error() {
        let errors = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];
        assert_eq!(serve_and_log(errors.into_iter().map(|kind| Err(kind.into()))), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_connection_ends_only_for_a_file_of_the_process() {
        // EMFILE: the process lacks a file. ENFILE: the system lacks one.
        for (code, number_closed, hint) in [(24, 1, "raise ulimit -n (files)"), (23, 0, "close other programs")] {
            let (clients, servers): (Vec<_>, Vec<_>) = [connect(), connect()].into_iter().unzip();
            let end = Instant::now() + 2 * GRACE;
            let errors = std::iter::from_fn(|| (Instant::now() < end).then(|| Err(io::Error::from_raw_os_error(code))));
            let lines = serve_and_log(servers.into_iter().map(Ok).chain(errors));
            let is_closed = |client: &&TcpStream| {
                client.set_nonblocking(true).unwrap();
                matches!(client.peek(&mut [0]), Ok(0))
            };
            assert_eq!(clients.iter().filter(is_closed).count(), number_closed, "{lines:?}");
            assert_eq!(lines.len(), 1, "{lines:?}");
            let line = &lines[0];
            assert!(line.starts_with("cannot open another connection: ") && line.contains(hint), "{line}");
        }
    }

    #[test]
    fn the_readme_names_the_limit() {
        assert!(include_str!("../README.md").contains(&format!("At most {MAX_CONNECTIONS} connections are open.")));
    }

    #[test]
    fn an_address_that_is_refused_gets_a_hint_that_fits() {
        for (kind, port, hint) in [
            (ErrorKind::AddrInUse, 5000, "AirPlay"),
            (ErrorKind::AddrInUse, 5001, "choose another port with --listen"),
            (ErrorKind::PermissionDenied, 1, "choose a port from 1024"),
            (ErrorKind::PermissionDenied, 1024, "the system reserves this port"),
            (ErrorKind::AddrNotAvailable, 5000, "choose an address of this machine"),
        ] {
            let line = listen_error(([127, 0, 0, 1], port).into(), &kind.into());
            assert!(line.contains(hint) && line.contains(&format!("127.0.0.1:{port}: ")), "{line}");
            assert!(port == 5000 || !line.contains("AirPlay"), "{line}");
        }
    }
}
