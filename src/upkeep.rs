//! What has to be done now and then because tiny_http and the C library leave it undone. It is known
//! from procfs whether it is due, so elsewhere than on Linux it is left out.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::{Process, Sample};

/// How often to see to it.
pub const EVERY: Duration = Duration::from_millis(100);

/// tiny_http has at least so many threads that wait for connections.
const WAITING_THREADS: u64 = 4;

/// A server has one thread that accepts connections and one that answers.
const SERVER_THREADS: u64 = 2;

/// How many connections are helped to a thread without need, as not every thread serves a connection,
/// and how often after connections have come or gone.
const HELPED_ANYHOW: u64 = 6;
const TIMES_ANYHOW: u32 = 20;

/// How much more memory than before is no reason to look for some to give back, in bytes.
const SPARE_MEMORY: u64 = 1 << 20;

pub struct Upkeep<'a> {
    process: &'a Process,
    address: SocketAddr,
    before: Sample,
    open_fds: u64,
    times_anyhow: u32,
}

impl<'a> Upkeep<'a> {
    /// To be called before there is a server at `address`, which may have connections at once.
    pub fn new(process: Option<&'a Process>, address: SocketAddr) -> Option<Self> {
        let process = process?;
        Some(Upkeep {
            process,
            address,
            before: process.sample()?,
            open_fds: 0,
            times_anyhow: 0,
        })
    }

    pub fn see_to_it(&mut self) {
        let Some(now) = self.process.sample() else {
            return;
        };
        // Each connection has two files, and one thread if it found one.
        let connections = now.open_fds.saturating_sub(self.before.open_fds) / 2;
        let threads = now
            .threads
            .saturating_sub(self.before.threads + SERVER_THREADS);
        self.times_anyhow = match now.open_fds == self.open_fds {
            true => self.times_anyhow.saturating_sub(1),
            false => TIMES_ANYHOW,
        };
        self.open_fds = now.open_fds;
        if connections > WAITING_THREADS {
            let anyhow = if self.times_anyhow > 0 {
                HELPED_ANYHOW
            } else {
                0
            };
            help_to_a_thread(self.address, connections.saturating_sub(threads) + anyhow);
        }
        if now.resident_bytes > self.before.resident_bytes + SPARE_MEMORY {
            heap::give_back();
        }
    }
}

/// Connections that arrive faster than waiting threads wake up are all left to these threads, so some
/// may wait until another connection ends: tiny_http looks for them only then. So some connect and end.
fn help_to_a_thread(address: SocketAddr, connections: u64) {
    for _ in 0..connections {
        drop(TcpStream::connect_timeout(
            &address,
            Duration::from_millis(50),
        ));
    }
}

/// glibc has a heap for each thread and keeps there what was freed: at the heap's end unless a limit is
/// set, elsewhere unless it is told to look.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub mod heap {
    const M_TRIM_THRESHOLD: i32 = -1;
    const M_ARENA_MAX: i32 = -8;

    unsafe extern "C" {
        safe fn mallopt(parameter: i32, value: i32) -> i32;
        safe fn malloc_trim(to_keep: usize) -> i32;
    }

    /// To be called before there are other threads.
    pub fn set_up() {
        mallopt(M_TRIM_THRESHOLD, 128 << 10);
        mallopt(M_ARENA_MAX, 2);
    }

    pub fn give_back() {
        malloc_trim(0);
    }
}

/// Other C libraries give back what was freed.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub mod heap {
    pub fn set_up() {}

    pub fn give_back() {}
}
