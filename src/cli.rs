//! The command line: which flags there are, what they allow, and what is said when they are wrong.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
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
    let mut options = Options {
        listen: (Ipv4Addr::LOCALHOST, 5000).into(),
        model: model::Options {
            interval: Duration::from_secs(5),
            seed: None,
            value: None,
        },
        quiet: false,
    };
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value = |allowed| Value {
            flag,
            allowed,
            given: attached.clone().or_else(|| arguments.next()),
        };
        match flag {
            "--listen" => {
                options.listen =
                    value("an IP address and a port such as 127.0.0.1:5000 or [::1]:5000")
                        .parse(|_| true)?;
            }
            "--interval" => {
                let seconds = value("a number of seconds from 0.01 to 86400")
                    .parse(|seconds| (0.01..=86_400.0).contains(seconds))?;
                options.model.interval = Duration::from_secs_f64(seconds);
            }
            "--seed" => {
                let seed =
                    value("a whole number from 0 to 18446744073709551615").parse(|_| true)?;
                options.model.seed = Some(seed);
            }
            "--value" => {
                let result: f64 =
                    value("a number from 0 to 1").parse(|result| (0.0..=1.0).contains(result))?;
                // Minus zero is in range, too, and would be shown with its sign.
                options.model.value = Some(result.abs());
            }
            "--quiet" | "-h" | "--help" | "-V" | "--version" if attached.is_some() => {
                return Err(wrong(&format!(
                    "{flag} takes no value, but got '{argument}'"
                )));
            }
            "--quiet" => options.quiet = true,
            "-h" | "--help" => return Ok(Command::Print(HELP)),
            "-V" | "--version" => return Ok(Command::Print(VERSION)),
            _ => {
                let flags = "--listen, --interval, --seed, --value, --quiet, --help and --version";
                return Err(wrong(&format!(
                    "unknown argument '{argument}': there are {flags}"
                )));
            }
        }
    }
    Ok(Command::Run(options))
}

/// A flag's value as it was given, and the words for what it may be.
struct Value<'a> {
    flag: &'a str,
    allowed: &'a str,
    given: Option<String>,
}

impl Value<'_> {
    fn parse<T: std::str::FromStr>(self, allows: impl Fn(&T) -> bool) -> Result<T, String> {
        let Value {
            flag,
            allowed,
            given,
        } = self;
        let Some(given) = given else {
            return Err(wrong(&format!("{flag} has no value: it takes {allowed}")));
        };
        given
            .parse()
            .ok()
            .filter(allows)
            .ok_or_else(|| wrong(&format!("{flag} takes {allowed}, not '{given}'")))
    }
}

fn wrong(what: &str) -> String {
    // An argument may hold anything, line breaks and escape sequences too: the error stays one line.
    let line: String = what
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    format!("{line}; see modelmock --help")
}
