//! Tells which system errors are a shortage of files, threads or memory, and what the user can do then. The standard
//! library has no names for most of them.

use std::io::{self, ErrorKind};

/// The system lacks a file. Windows doesn't have this error.
const ENFILE: i32 = 23;
/// The process lacks a file, or on Windows a socket (WSAEMFILE).
const EMFILE: i32 = if cfg!(windows) { 10_024 } else { 24 };
/// The network lacks memory (on Windows: WSAENOBUFS).
const ENOBUFS: i32 = if cfg!(windows) {
    10_055
} else if cfg!(target_os = "linux") {
    105
} else {
    55
};

/// Whether an error says that the system or the process lacks a file or memory. Other errors of accept(2) come from the
/// network.
pub fn is_shortage(error: &io::Error) -> bool {
    error.kind() == ErrorKind::OutOfMemory || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

/// Whether the process has opened as many files as it may, so that it helps to close one.
pub fn is_file_limit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EMFILE)
}

/// What to do about a shortage, or about a thread that the system refuses.
pub fn shortage_hint(error: &io::Error) -> &'static str {
    match (error.raw_os_error(), error.kind()) {
        // Windows has no such limits.
        _ if cfg!(windows) => "close other programs",
        (Some(ENFILE), _) => "close other programs",
        (Some(EMFILE), _) => "raise ulimit -n (files)",
        // EAGAIN: pthread_create(3) reports it for a limit of threads or of memory.
        (_, ErrorKind::WouldBlock) => "raise ulimit -u (threads), -v (memory) or the container's pids limit",
        _ => "free some memory",
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_accept_that_come_from_the_network_are_no_shortage() {
        let is_shortage = |code| is_shortage(&io::Error::from_raw_os_error(code));
        assert!([12, 23, 24, 105].into_iter().all(is_shortage));
        // Those that accept(2) lists.
        assert!(![11, 100, 71, 92, 112, 64, 113, 95, 101, 103, 4].into_iter().any(is_shortage));
    }

    #[test]
    fn the_hint_fits_the_shortage() {
        for (code, is_limit, hint) in
            [(24, true, "ulimit -n"), (23, false, "other programs"), (11, false, "ulimit -u"), (12, false, "memory")]
        {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_file_limit(&error), is_limit, "{error}");
            assert!(shortage_hint(&error).contains(hint), "{error}: {}", shortage_hint(&error));
        }
    }
}
