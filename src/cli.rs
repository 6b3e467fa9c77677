//! The command line: its flags, the values that they accept, and the messages for the others.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::model;

/// The program's name and version.
pub const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

const DEFAULT_PORT: u16 = 5000;
const DEFAULT_INTERVAL: f64 = 5.0;
const INTERVALS: RangeInclusive<f64> = 0.01..=86_400.0;
const DRIFTS: RangeInclusive<f64> = 1.0..=31_536_000.0;
const RESULTS: RangeInclusive<f64> = 0.0..=1.0;
const ADDRESS: &str = "an IP address and a port such as 127.0.0.1:5000 or [::1]:5000";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Options),
    /// Print this text and exit.
    Print(String),
}

#[derive(Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub model: model::Options,
    pub quiet: bool,
}

/// Parses the arguments that follow the program's name. If a flag is repeated, its last value counts.
///
/// # Errors
/// One line that names the wrong argument and the values that are allowed, and points at `--help`.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut listen = default_address();
    let mut interval = DEFAULT_INTERVAL;
    let (mut seed, mut value, mut drift, mut quiet) = (None, None, None, false);
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut text = || attached.clone().or_else(|| arguments.next());
        match flag {
            "--listen" => listen = parse_value(flag, text(), ADDRESS, |_| true)?,
            "--interval" => interval = parse_number(flag, text(), "a number of seconds", INTERVALS)?,
            "--drift" => drift = Some(parse_number(flag, text(), "a number of seconds", DRIFTS)?),
            "--seed" => {
                let allowed = format!("a whole number from 0 to {}", u64::MAX);
                seed = Some(parse_value(flag, text(), &allowed, |_| true)?);
            }
            // The range contains -0, which would be printed with its sign.
            "--value" => value = Some(parse_number(flag, text(), "a number", RESULTS)?.abs()),
            "--quiet" | "-h" | "--help" | "-V" | "--version" if attached.is_some() => {
                return Err(usage_error(format_args!("{flag} takes no value, but got '{argument}'")));
            }
            "--quiet" => quiet = true,
            "-h" | "--help" => return Ok(Command::Print(help())),
            "-V" | "--version" => return Ok(Command::Print(format!("{VERSION}\n"))),
            _ => return Err(usage_error(format_args!("unknown argument '{argument}'"))),
        }
    }
    if value.is_some() && drift.is_some() {
        return Err(usage_error(
            "--value and --drift can't be used together: drop one of them",
        ));
    }
    Ok(Command::Run(Options {
        listen,
        model: model::Options {
            interval: Duration::from_secs_f64(interval),
            seed,
            value,
            drift: drift.map(Duration::from_secs_f64),
        },
        quiet,
    }))
}

fn default_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()
}

fn help() -> String {
    format!(
        "\
modelmock plays a model in production: it draws a result from 0 to 1 at a fixed
interval and serves it to Prometheus at /metrics as model_result.

Usage: modelmock [FLAG...]

  --listen ADDR:PORT  the IP address and the port to listen on; port 0 takes a
                      free port; IPv6 as [::1]:5000   (default {listen})
  --interval SECONDS  the time between two results, fractions allowed, from
                      {interval_from} to {interval_to}                         (default {DEFAULT_INTERVAL})
  --seed N            the same seed gives the same results in each run
                      (a whole number from 0; default: a random seed)
  --value V           give this result each time, from {value_from} to {value_to}: 0.95 makes the
                      alert fire; can't be used with --drift
  --drift SECONDS     let the model drift: the lowest result rises from 0 to 0.5
                      within SECONDS, from {drift_from} to {drift_to}
  --quiet             don't print a line for each result
  -h, --help          print this help and exit
  -V, --version       print the version and exit

Ctrl+C stops it.
",
        listen = default_address(),
        interval_from = INTERVALS.start(),
        interval_to = INTERVALS.end(),
        value_from = RESULTS.start(),
        value_to = RESULTS.end(),
        drift_from = DRIFTS.start(),
        drift_to = DRIFTS.end(),
    )
}

/// Parses the value of a flag as a number within a range.
fn parse_number(flag: &str, text: Option<String>, kind: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let allowed = format!("{kind} from {} to {}", range.start(), range.end());
    parse_value(flag, text, &allowed, |number| range.contains(number))
}

/// Parses the value of a flag; `allowed` tells the user which values `is_allowed` accepts.
fn parse_value<T: FromStr>(
    flag: &str,
    text: Option<String>,
    allowed: &str,
    is_allowed: impl Fn(&T) -> bool,
) -> Result<T, String> {
    let text = text.ok_or_else(|| usage_error(format_args!("{flag} has no value: it takes {allowed}")))?;
    let value = text.parse().ok().filter(is_allowed);
    value.ok_or_else(|| usage_error(format_args!("{flag} takes {allowed}, not '{text}'")))
}

fn usage_error(message: impl Display) -> String {
    // An argument may contain line breaks and escape sequences. The error stays one line.
    let line = message.to_string().replace(char::is_control, "?");
    format!("{line}; see {} --help", env!("CARGO_PKG_NAME"))
}

/// Says why the program can't listen on an address, and what to do.
pub fn listen_error(address: SocketAddr, error: &io::Error) -> String {
    let hint = match (error.kind(), address.port()) {
        (ErrorKind::AddrInUse, DEFAULT_PORT) => {
            "stop the program that uses this port (on macOS: AirPlay Receiver, in System Settings), \
             or choose another port, such as --listen 127.0.0.1:5001"
        }
        (ErrorKind::AddrInUse, _) => "stop the program that uses this port, or choose another port with --listen",
        (ErrorKind::PermissionDenied, ..1024) => "choose a port from 1024 with --listen",
        (ErrorKind::PermissionDenied, _) => "the system reserves this port: choose another port with --listen",
        _ => "choose an address of this machine with --listen, such as 127.0.0.1:5000",
    };
    format!("cannot listen on {address}: {error}: {hint}")
}
