//! modelmock plays a model in production: it draws a result in [0, 1] at a fixed interval and serves
//! it to Prometheus. A value flows one way through these files:
//!
//! | file | what it does |
//! | --- | --- |
//! | `cli.rs` | the command line: which flags there are and what they allow |
//! | `model.rs` | the model: draws a result at each deadline and keeps what came of it |
//! | `latest.rs` | the latest refresh, behind atomics |
//! | `log.rs` | the line on standard output that each refresh leaves |
//! | `process.rs` | the process metrics, from Linux' procfs |
//! | `exposition.rs` | the page: every metric family as Prometheus reads it |
//! | `server.rs` | the server: answers scrapes, and outlives the clients that do not behave |
//! | `upkeep.rs` | what the server's libraries leave undone, seen to now and then |

mod cli;
mod exposition;
mod latest;
mod log;
mod model;
mod process;
mod server;
mod upkeep;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use cli::Command;
use exposition::Exposition;

fn main() -> ExitCode {
    match cli::parse(env::args_os().skip(1)) {
        Ok(Command::Print(text)) => {
            // A reader that has gone away, as `head` does, is no failure.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Run(options)) => {
            let Err(error) = run(&options);
            fail(&error, 1)
        }
        Err(error) => fail(&error, 2),
    }
}

/// Runs until a signal ends the process, with exit code 0; comes back only with what went wrong.
fn run(options: &cli::Options) -> Result<std::convert::Infallible, String> {
    upkeep::heap::set_up();
    ctrlc::set_handler(|| std::process::exit(0))
        .map_err(|error| format!("cannot listen for Ctrl+C: {error}"))?;
    let (listener, address) = server::bind(options.listen)?;
    let log = log::start(address, options.quiet)?;
    let model = model::start(&options.model, log)?;
    server::serve(&listener, address, &Exposition::of(model))
}

fn fail(error: &dyn Display, code: u8) -> ExitCode {
    log::complain(error);
    ExitCode::from(code)
}
