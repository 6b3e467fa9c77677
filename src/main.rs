//! modelmock plays a model in production: it draws a result from 0 to 1 at a fixed interval and serves it to
//! Prometheus. Each file has one concern:
//!
//! | file | concern |
//! | --- | --- |
//! | `cli.rs` | parses the flags and words the usage errors |
//! | `model.rs` | draws a result at each deadline; stores it, and the statistics of all results |
//! | `clock.rs` | tells the Unix time, and writes it as text |
//! | `log.rs` | prints lines without making any other thread wait for the terminal |
//! | `process.rs` | reads the process metrics from Linux's procfs |
//! | `exposition.rs` | renders the page that Prometheus scrapes |
//! | `page.rs` | writes metric families in Prometheus' text format |
//! | `listener.rs` | accepts connections, and closes the least recently active one at the limit |
//! | `connection.rs` | reads the requests of one connection and writes the responses, within time limits |
//! | `request.rs` | parses the head of a request |
//! | `handler.rs` | chooses the response to a request |

mod cli;
mod clock;
mod connection;
mod exposition;
mod handler;
mod listener;
mod log;
mod model;
mod page;
mod process;
mod request;

use std::convert::Infallible;
use std::io::{self, ErrorKind, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, iter};

use cli::Command;
use exposition::Exposition;

fn main() -> ExitCode {
    let (error, code) = match cli::parse(env::args_os().skip(1)) {
        Ok(Command::Print(text)) => match io::stdout().write_all(text.as_bytes()) {
            // A reader may close the pipe early, as `head` does.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                (format!("cannot write to standard output: {error}"), 1)
            }
            _ => return ExitCode::SUCCESS,
        },
        Ok(Command::Run(options)) => {
            let Err(error) = run(&options);
            (error, 1)
        }
        Err(error) => (error, 2),
    };
    log::error(error);
    ExitCode::from(code)
}

/// Runs until a signal ends the process; returns only if the start fails.
fn run(options: &cli::Options) -> Result<Infallible, String> {
    let started_at = clock::unix_time();
    exit_on_signal().map_err(|error| format!("cannot handle Ctrl+C: {error}"))?;
    let listen_error = |error| cli::listen_error(options.listen, &error);
    let listener = TcpListener::bind(options.listen).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let thread_error =
        |error| format!("cannot start a thread: {error}: raise ulimit -u, -v or the container's pids limit");
    let (results, result_lines) = log::queue();
    let (errors, error_lines) = log::queue();
    let model = model::start(&options.model, (!options.quiet).then_some(results)).map_err(thread_error)?;
    log::start(error_lines, log::error).map_err(thread_error)?;
    // This line says that the start succeeded, so the last step that can fail prints it.
    let started = format!("{} serves http://{address}/metrics; Ctrl+C stops it", cli::VERSION);
    log::start(iter::once(started).chain(result_lines), log::print).map_err(thread_error)?;
    listener::serve(&listener, &Arc::new(Exposition::new(model, started_at)), &errors)
}

/// Lets Ctrl+C, SIGTERM and SIGHUP end the process with exit code 0.
/// A parent may have set one of these signals to be ignored, as `nohup` does. Then `ctrlc` sets no handler at all: the
/// ignored signal stays ignored, and the others end the process with the system's default action.
fn exit_on_signal() -> Result<(), ctrlc::Error> {
    match ctrlc::try_set_handler(|| std::process::exit(0)) {
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        result => result,
    }
}
