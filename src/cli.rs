//! The command line: which flags there are, what they allow, and what is said when they are wrong.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::model;

const HELP: &str = "\
modelmock plays a model in production: it draws a result in [0, 1] at a fixed
interval and serves it to Prometheus at /metrics as model_result.

Usage: modelmock [FLAG...]

  --listen ADDR:PORT  where to listen: an IP address and a port, port 0 for a
                      free one, IPv6 as [::1]:5000   (default 127.0.0.1:5000)
  --interval SECONDS  time between two results, fractions allowed, from 0.01
                      to 86400                                   (default 5)
  --seed N            the same seed gives the same results, run after run
                      (a whole number from 0; default: from the system)
  --value V           always this result, from 0 to 1: 0.95 fires the alert
  --quiet             print no line for each result
  -h, --help          print this and exit
  -V, --version       print the version and exit

Ctrl+C stops it.
";

const ADDRESS: &str = "an IP address and a port such as 127.0.0.1:5000 or [::1]:5000";
const SECONDS: &str = "a number of seconds from 0.01 to 86400";
const SEED: &str = "a whole number from 0 to 18446744073709551615";
const RESULT: &str = "a number from 0 to 1";
const VERSION: &str = concat!("modelmock ", env!("CARGO_PKG_VERSION"), "\n");

/// What the command line asks for.
pub enum Command {
    Run(Options),
    /// This text on standard output, and nothing else.
    Print(&'static str),
}

pub struct Options {
    pub listen: SocketAddr,
    pub model: model::Options,
    pub quiet: bool,
}

/// Reads the arguments that follow the program's name; the last of two equal flags counts.
///
/// # Errors
/// One line that names the argument which is wrong, says what is allowed and points at `--help`.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut listen = (Ipv4Addr::LOCALHOST, 5000).into();
    let mut interval = 5.0;
    let (mut seed, mut value, mut quiet) = (None, None, false);
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut given = || attached.clone().or_else(|| arguments.next());
        match flag {
            "--listen" => listen = read(flag, given(), ADDRESS, |_| true)?,
            "--interval" => {
                interval = read(flag, given(), SECONDS, |s| (0.01..=86_400.0).contains(s))?;
            }
            "--seed" => seed = Some(read(flag, given(), SEED, |_| true)?),
            "--value" => {
                let result: f64 = read(flag, given(), RESULT, |v| (0.0..=1.0).contains(v))?;
                // Minus zero is in range, too, and would be shown with its sign.
                value = Some(result.abs());
            }
            "--quiet" | "-h" | "--help" | "-V" | "--version" if attached.is_some() => {
                return Err(wrong(format_args!(
                    "{flag} takes no value, but got '{argument}'"
                )));
            }
            "--quiet" => quiet = true,
            "-h" | "--help" => return Ok(Command::Print(HELP)),
            "-V" | "--version" => return Ok(Command::Print(VERSION)),
            _ => return Err(wrong(format_args!("unknown argument '{argument}'"))),
        }
    }
    Ok(Command::Run(Options {
        listen,
        model: model::Options {
            interval: Duration::from_secs_f64(interval),
            seed,
            value,
        },
        quiet,
    }))
}

/// A flag's value as it was given, where it is one that is allowed.
fn read<T: FromStr>(
    flag: &str,
    given: Option<String>,
    allowed: &str,
    is_allowed: impl Fn(&T) -> bool,
) -> Result<T, String> {
    let given =
        given.ok_or_else(|| wrong(format_args!("{flag} has no value: it takes {allowed}")))?;
    let value = given.parse().ok().filter(is_allowed);
    value.ok_or_else(|| wrong(format_args!("{flag} takes {allowed}, not '{given}'")))
}

fn wrong(what: impl Display) -> String {
    // An argument may hold anything, line breaks and escape sequences too: the error stays one line.
    let line = what.to_string().replace(char::is_control, "?");
    format!("{line}; see modelmock --help")
}
