//! What has to be done now and then because tiny_http and the C library leave it undone. It is known
//! from procfs whether it is due, so elsewhere than on Linux it is left out.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::{Process, Sample};

/// How often to see to it.
pub const EVERY: Duration = Duration::from_millis(100);

/// tiny_http has at least so many threads that wait for connections.
const WAITING_THREADS: u64 = 4;

/// How many connections at once are helped to a thread.
const HELPED: usize = 16;

/// How much more memory than at rest is no reason to look for some to give back, in bytes.
const SPARE_MEMORY: u64 = 1 << 20;

pub struct Upkeep<'a> {
    process: &'a Process,
    address: SocketAddr,
    at_rest: Sample,
}

impl<'a> Upkeep<'a> {
    /// To be called when the server at `address` runs and has no connection yet.
    pub fn new(process: Option<&'a Process>, address: SocketAddr) -> Option<Self> {
        let process = process?;
        Some(Upkeep {
            process,
            address,
            at_rest: process.sample()?,
        })
    }

    pub fn see_to_it(&self) {
        let Some(now) = self.process.sample() else {
            return;
        };
        // Each connection has two files.
        if now.open_fds > self.at_rest.open_fds + 2 * WAITING_THREADS {
            help_to_a_thread(self.address);
        }
        if now.resident_bytes > self.at_rest.resident_bytes + SPARE_MEMORY {
            heap::give_back();
        }
    }
}

/// Connections that arrive faster than waiting threads wake up are all left to these threads, so some
/// may wait until another connection ends: tiny_http looks for them only then. So some connect and end.
fn help_to_a_thread(address: SocketAddr) {
    for _ in 0..HELPED {
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
