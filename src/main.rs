//! modelmock plays a model in production: it draws a result in [0, 1] at a fixed interval and serves
//! it to Prometheus. A value flows one way through these files:
//!
//! | file | what it does |
//! | --- | --- |
//! | `cli.rs` | the command line: which flags there are and what they allow |
//! | `model.rs` | the model: draws a result at each deadline and keeps it, and what all add up to |
//! | `log.rs` | the line on standard output that each refresh leaves |
//! | `process.rs` | the process metrics, from Linux' procfs |
//! | `exposition.rs` | the page: every metric family as Prometheus reads it |
//! | `server.rs` | the answer to each path and method |
//! | `listener.rs` | the listener: who is let in, and who makes room |
//! | `connection.rs` | a connection: a client's requests and their answers, and how long each may take |
//! | `request.rs` | a request's head, read as HTTP has it |

mod cli;
mod connection;
mod exposition;
mod listener;
mod log;
mod model;
mod process;
mod request;
mod server;

use std::convert::Infallible;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cli::Command;
use exposition::Exposition;

fn main() -> ExitCode {
    let (error, code) = match cli::parse(env::args_os().skip(1)) {
        Ok(Command::Print(text)) => {
            // A reader that has gone away, as `head` does, is no failure.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run(options)) => {
            let Err(error) = run(&options);
            (error, 1)
        }
        Err(error) => (error, 2),
    };
    log::complain(error);
    ExitCode::from(code)
}

/// Runs until a signal ends the process; comes back only with what went wrong.
fn run(options: &cli::Options) -> Result<Infallible, String> {
    let started_at = SystemTime::now();
    end_by_signal().map_err(|error| format!("cannot listen for Ctrl+C: {error}"))?;
    let (listener, address) = listener::bind(options.listen)?;
    let log = log::start(address, options.quiet)?;
    let model = model::start(&options.model, log)?;
    let exposition = Exposition::of(model, started_at);
    listener::serve(&listener, &exposition)
}

/// Lets Ctrl+C, SIGTERM and SIGHUP end the process with exit code 0.
///
/// Whoever started it may have had one of them ignored, as `nohup` does. The crate can only set all
/// three or, as here, none: then what was ignored stays so, and the others end the process as signals do.
fn end_by_signal() -> Result<(), ctrlc::Error> {
    match ctrlc::try_set_handler(|| std::process::exit(0)) {
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        set => set,
    }
}

/// Locks what threads share; its values are whole even where one of them had ended within.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

