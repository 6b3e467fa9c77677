//! Prints lines: results on standard output, errors on standard error.
//!
//! A paused terminal (Ctrl+S) or a full pipe blocks the thread that writes to it. So the model and the listener put
//! their lines into a queue, and a thread for each output prints them.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

/// How many lines a queue holds for a reader that pauses. While it is full, new lines are dropped.
const QUEUE_CAPACITY: usize = 1000;

/// The sending end of a queue of lines.
#[derive(Debug)]
pub struct Log(SyncSender<String>);

impl Log {
    /// Queues a line without waiting.
    pub fn push(&self, line: impl Display) {
        let _ = self.0.try_send(line.to_string());
    }
}

pub fn queue() -> (Log, Receiver<String>) {
    let (sender, receiver) = mpsc::sync_channel(QUEUE_CAPACITY);
    (Log(sender), receiver)
}

/// Starts a thread of this name that prints `lines` with `print`.
pub fn start(
    name: &str,
    lines: impl IntoIterator<Item = String> + Send + 'static,
    print: fn(String),
) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || lines.into_iter().for_each(print)).map(drop)
}

/// Prints a line on standard output.
pub fn print(line: String) {
    // Standard output may be closed, or its reader may have gone: the program goes on without it.
    let _ = io::stdout().write_all((line + "\n").as_bytes());
}

/// Prints an error on standard error, after the program's name.
pub fn error(message: String) {
    // In one write, so that lines of other programs can't come in between.
    let line = format!("{}: {message}\n", env!("CARGO_PKG_NAME"));
    let _ = io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_new_lines_and_nothing_waits() {
        let (log, lines) = queue();
        for number in 0..QUEUE_CAPACITY + 10 {
            log.push(number);
        }
        drop(log);
        let lines: Vec<String> = lines.iter().collect();
        assert_eq!(lines.len(), QUEUE_CAPACITY);
        assert_eq!(lines.last().unwrap(), &(QUEUE_CAPACITY - 1).to_string());
    }
}
