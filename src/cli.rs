//! The command line: its flags, the values that they accept, and the messages for the others.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::model::{self, DRIFT_TO};

/// The program's name and version.
pub const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const DEFAULT_INTERVAL: f64 = 5.0;
const INTERVAL: RangeInclusive<f64> = 0.01..=86_400.0;
const DRIFT: RangeInclusive<f64> = 1.0..=31_536_000.0;
const VALUE: RangeInclusive<f64> = 0.0..=1.0;
const ADDRESS: &str = "an IP address and a port such as 127.0.0.1:5000 or [::1]:5000";
const SECONDS: &str = "a number of seconds";
const SEED: &str = "a whole number from 0 to 18446744073709551615";

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
/// An error is one line that names the wrong argument and the allowed values, and points at `--help`.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let (mut listen, mut interval, mut quiet) = (DEFAULT_LISTEN, DEFAULT_INTERVAL, false);
    let (mut seed, mut value, mut drift) = (None, None, None);
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut text = || attached.clone().or_else(|| arguments.next());
        match flag {
            "--listen" => listen = parse_value(flag, text(), ADDRESS, |_| true)?,
            "--interval" => interval = parse_number(flag, text(), SECONDS, &INTERVAL)?,
            "--seed" => seed = Some(parse_value(flag, text(), SEED, |_| true)?),
            // The range contains -0, which would be printed with its sign.
            "--value" => value = Some(parse_number(flag, text(), "a number", &VALUE)?.abs()),
            "--drift" => drift = Some(parse_number(flag, text(), SECONDS, &DRIFT)?),
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
        return Err(usage_error("--value and --drift can't be used together: drop one of them"));
    }
    let (interval, drift) = (Duration::from_secs_f64(interval), drift.map(Duration::from_secs_f64));
    let model = model::Options { interval, seed, value, drift };
    Ok(Command::Run(Options { listen, model, quiet }))
}

fn help() -> String {
    let [intervals, values, drifts] = [INTERVAL, VALUE, DRIFT].map(|range| describe(&range));
    format!(
        "\
modelmock plays a model in production: it draws a result from 0 to 1 at a fixed
interval and serves it to Prometheus at /metrics as model_result.

Usage: modelmock [FLAG...]

  --listen ADDR:PORT  the IP address and the port to listen on; port 0 takes a
                      free port; IPv6 as [::1]:5000   (default {DEFAULT_LISTEN})
  --interval SECONDS  the time between two results, fractions allowed,
                      {intervals}                         (default {DEFAULT_INTERVAL})
  --seed N            the same seed gives the same results in each run
                      (a whole number from 0; default: a random seed)
  --value V           give this result each time, {values}: 0.95 makes the
                      alert fire; can't be used with --drift
  --drift SECONDS     let the model drift: the lowest possible result rises from
                      0 to {DRIFT_TO} within SECONDS, {drifts}
  --quiet             don't print a line for each result
  -h, --help          print this help and exit
  -V, --version       print the version and exit

Ctrl+C stops it.
"
    )
}

fn describe(range: &RangeInclusive<f64>) -> String {
    format!("from {} to {}", range.start(), range.end())
}

fn parse_number(flag: &str, text: Option<String>, kind: &str, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let allowed = format!("{kind} {}", describe(range));
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
        (ErrorKind::AddrInUse, 5000) => {
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
