//! modelmock plays a model in production: it draws a result from 0 to 1 at a fixed interval and serves it to
//! Prometheus. Each file has one concern:
//!
//! | file | concern |
//! | --- | --- |
//! | `cli.rs` | parses the flags and words the usage errors |
//! | `model.rs` | draws a result at each deadline; stores it, and the statistics of all results |
//! | `clock.rs` | tells the Unix time, and writes it as text |
//! | `output.rs` | prints lines without making any other thread wait for the terminal |
//! | `metrics.rs` | renders the page that Prometheus scrapes |
//! | `text_format.rs` | writes metric families in Prometheus' text format |
//! | `process.rs` | reads the process metrics from Linux's procfs |
//! | `errno.rs` | tells which system errors are a shortage, and what to do then |
//! | `http/listener.rs` | accepts connections, and closes the least recently active one at the limit |
//! | `http/connection.rs` | reads the requests of one connection and writes the responses, within time limits |
//! | `http/request.rs` | parses the head of a request |
//! | `http/response.rs` | chooses and encodes the response to a request |

#![forbid(unsafe_code)]

mod cli;
mod clock;
mod errno;
mod http {
    mod connection;
    pub mod listener;
    mod request;
    mod response;
}
mod metrics;
mod model;
mod output;
mod process;
mod text_format;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, iter};

use cli::Command;
use errno::shortage_hint;
use http::listener::{self, ThreadPool};
use metrics::Metrics;

fn main() -> ExitCode {
    let command = match cli::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            output::error(error);
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Print(text) => print(&text),
        Command::Run(options) => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(error);
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader may close the pipe early, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}: free some space, or choose another output"))
        }
        _ => Ok(()),
    }
}

/// Runs until a signal ends the process; returns only if the start fails.
fn run(options: &cli::Options) -> Result<(), String> {
    let started_at = clock::unix_time();
    exit_on_signal().map_err(signal_error)?;
    let (listener, address) = listener::bind(options.listen)?;
    let (result_log, result_lines) = output::queue();
    let (error_log, error_lines) = output::queue();
    let result_log = (!options.quiet).then_some(result_log);
    let model = model::start(&options.model, result_log).map_err(thread_error)?;
    let metrics = Metrics::new(model, started_at).map_err(|error| file_error("the files in /proc/self", error))?;
    // A client's connection needs a file, too.
    listener.try_clone().map_err(|error| file_error("a client's connection", error))?;
    let pool = ThreadPool::start(Arc::new(metrics)).map_err(thread_error)?;
    output::start("stderr", error_lines, output::error).map_err(thread_error)?;
    // This line says that the start succeeded, so the last step that can fail prints it.
    let started = format!("{} serves http://{address}/metrics; Ctrl+C stops it", cli::NAME_AND_VERSION);
    output::start("stdout", iter::once(started).chain(result_lines), output::print).map_err(thread_error)?;
    listener::serve_all(listener.incoming(), pool, &error_log);
    Ok(())
}

fn thread_error(error: io::Error) -> String {
    format!("cannot start a thread: {error}: {}", shortage_hint(&error))
}

fn file_error(file: &str, error: io::Error) -> String {
    format!("cannot open {file}: {error}: {}", shortage_hint(&error))
}

fn signal_error(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => thread_error(error),
        // `ctrlc` wraps the error of a system call, so it has no number.
        None => format!("cannot handle Ctrl+C: {error}: start the program again, or without its sandbox"),
    }
}

/// Lets Ctrl+C, SIGTERM and SIGHUP end the process with exit code 0.
/// A parent may have set one of these signals to be ignored, as `nohup` does. Then `ctrlc` sets no handler at all. That
/// isn't an error: the ignored signal stays ignored, and the others end the process with the system's default action.
/// The system doesn't apply the default action to process 1 of a container, so there each of these signals has the
/// handler.
fn exit_on_signal() -> io::Result<()> {
    let exit = || std::process::exit(0);
    let is_process_1 = std::process::id() == 1;
    let result = if is_process_1 { ctrlc::set_handler(exit) } else { ctrlc::try_set_handler(exit) };
    match result {
        Err(ctrlc::Error::System(error)) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_signal_handler_says_what_failed() {
        // EAGAIN on Linux.
        let line = signal_error(io::Error::from_raw_os_error(11));
        assert!(line.starts_with("cannot start a thread: "), "{line}");
        let line = signal_error(io::Error::other("EPERM: Operation not permitted"));
        assert!(line.starts_with("cannot handle Ctrl+C: EPERM: "), "{line}");
        assert!(line.ends_with(": start the program again, or without its sandbox"), "{line}");
    }
}
