//! What the program says: a line on standard output for each refresh, a line on standard error for
//! each thing that goes wrong.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

/// How many lines wait for a reader that pauses before newer ones are left out.
const WAITING_LINES: usize = 64;

/// Where a refresh leaves when it drew which result; `None` where no lines are wanted.
pub type Log = Option<SyncSender<(SystemTime, f64)>>;

/// Prints the first line, which names the address, and starts the thread that prints the others.
///
/// Printing has a thread of its own because a terminal that is paused (Ctrl+S) or a pipe that is full
/// blocks whoever writes to it, and the model must go on.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(address: SocketAddr, quiet: bool) -> Result<Log, String> {
    let version = env!("CARGO_PKG_VERSION");
    print(format_args!(
        "modelmock {version} serves http://{address}/metrics; Ctrl+C stops it"
    ));
    if quiet {
        return Ok(None);
    }
    let (log, lines) = mpsc::sync_channel(WAITING_LINES);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            for (drawn_at, result) in lines {
                print(format_args!("{} model_result {result}", rfc3339(drawn_at)));
            }
        })
        .map_err(|error| format!("cannot start the thread that prints: {error}"))?;
    Ok(Some(log))
}

fn print(line: impl Display) {
    // Standard output may be closed, or its reader may have gone: that is no reason to stop.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says one line on standard error, where there still is one.
pub fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "modelmock: {what}");
}

/// The time in UTC as RFC 3339 has it, to the millisecond.
fn rfc3339(time: SystemTime) -> String {
    let since_1970 = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let seconds = since_1970.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = 28 + u64::from(is_leap);
        for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            if day < length {
                return (year, month, day + 1);
            }
            day -= length;
        }
        year += 1;
    }
}
