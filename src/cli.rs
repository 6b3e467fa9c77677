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
/// The allowed values; an interval and a drift are in seconds.
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
    let text = text.ok_or_else(|| usage_error(format_args!("{flag} lacks a value: it takes {allowed}")))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        match parse(arguments.iter().map(OsString::from)) {
            Ok(Command::Run(options)) => options,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_it_listens_on_loopback_and_draws_every_5_s() {
        let Options { listen, model, quiet } = options(&[]);
        assert_eq!(listen.to_string(), "127.0.0.1:5000");
        assert_eq!(model.interval, Duration::from_secs(5));
        assert_eq!((model.seed, model.value, model.drift, quiet), (None, None, None, false));
    }

    #[test]
    fn each_flag_sets_its_option_and_the_last_one_counts() {
        let given = ["--listen", "[::1]:1", "--interval", "0.5", "--seed=7", "--drift", "60", "--quiet", "--seed", "8"];
        let Options { listen, model, quiet } = options(&given);
        assert_eq!(listen.to_string(), "[::1]:1");
        assert_eq!(model.interval, Duration::from_millis(500));
        assert_eq!((model.seed, model.drift, quiet), (Some(8), Some(Duration::from_secs(60)), true));
    }

    #[test]
    fn the_ends_of_each_range_are_accepted() {
        for (flag, ends) in [("interval", ["0.01", "86400"]), ("drift", ["1", "31536000"]), ("value", ["0", "1"])] {
            for end in ends {
                options(&[&format!("--{flag}={end}")]);
            }
        }
        assert_eq!(options(&["--value", "0.95"]).model.value, Some(0.95));
        let zero = options(&["--value", "-0"]).model.value.unwrap();
        assert_eq!(zero.to_string(), "0");
        assert_eq!(options(&["--seed", &u64::MAX.to_string()]).model.seed, Some(u64::MAX));
        assert!(SEED.ends_with(&u64::MAX.to_string()));
    }

    #[test]
    fn a_usage_error_names_the_wrong_value_and_the_allowed_ones() {
        let wrong: [(&[&str], &str); 31] = [
            (&["--interval", "0"], "takes a number of seconds from 0.01 to 86400, not '0'"),
            (&["--interval", "0.009"], "'0.009'"),
            (&["--interval", "86400.1"], "'86400.1'"),
            (&["--interval", "-1"], "'-1'"),
            (&["--interval", "NaN"], "'NaN'"),
            (&["--interval", "inf"], "'inf'"),
            (&["--interval", "five"], "'five'"),
            (&["--interval=", "5"], "''"),
            (&["--interval"], "--interval lacks a value: it takes a number"),
            (&["--value", "1.0001"], "takes a number from 0 to 1, not '1.0001'"),
            (&["--value", "-0.1"], "'-0.1'"),
            (&["--value", "nan"], "'nan'"),
            (&["--value"], "--value lacks a value"),
            (&["--drift", "0.9"], "takes a number of seconds from 1 to 31536000, not '0.9'"),
            (&["--drift", "31536001"], "'31536001'"),
            (&["--drift"], "--drift lacks a value"),
            (&["--drift", "60", "--value", "1"], "--value and --drift can't be used together"),
            (&["--seed", "-1"], "'-1'"),
            (&["--seed", "1.5"], "'1.5'"),
            (&["--seed", "18446744073709551616"], "from 0 to 18446744073709551615"),
            (&["--listen", "localhost:5000"], "such as 127.0.0.1:5000"),
            (&["--listen", "127.0.0.1"], "'127.0.0.1'"),
            (&["--listen", "127.0.0.1:65536"], "'127.0.0.1:65536'"),
            (&["--listen", "::1:5000"], "[::1]:5000"),
            (&["--listen"], "--listen lacks a value"),
            (&["--port", "5000"], "unknown argument '--port'"),
            (&["5000"], "unknown argument '5000'"),
            (&["--quiet=yes"], "--quiet takes no value, but got '--quiet=yes'"),
            (&["-h=1"], "-h takes no value"),
            (&["--version=1"], "--version takes no value"),
            (&["two\nlines\u{1b}[31m"], "'two?lines?[31m'"),
        ];
        for (arguments, named) in wrong {
            let line = parse(arguments.iter().map(OsString::from)).unwrap_err();
            assert!(line.contains(named), "{arguments:?}: {line}");
            assert!(line.ends_with("; see modelmock --help"), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn help_and_readme_describe_each_flag_with_its_range_and_default() {
        let (help, readme) = (help(), include_str!("README.md"));
        assert!(help.lines().all(|line| line.len() <= 80), "a line is wider than a terminal:\n{help}");
        let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `-")).collect();
        assert_eq!(rows.len(), 8);
        for flag in ["--listen", "--interval", "--seed", "--value", "--drift", "--quiet", "--help", "--version"] {
            assert!(help.contains(flag), "the help lacks {flag}");
            assert!(rows.iter().any(|row| row.contains(&format!("`{flag}"))), "the README lacks {flag}");
        }
        for flag in help.split([' ', ',', ';', '\n']).filter(|word| word.starts_with("--")) {
            assert!(rows.iter().any(|row| row.contains(&format!("`{flag}"))), "the README lacks {flag}");
        }
        let (listen, interval) = (DEFAULT_LISTEN.to_string(), DEFAULT_INTERVAL.to_string());
        for (flag, default) in [("--listen ADDR:PORT", format!("`{listen}`")), ("--interval SECONDS", interval)] {
            assert!(readme.contains(&format!("| `{flag}` | {default} |")), "{flag}");
        }
        assert!(help.contains(&format!("(default {listen})")) && help.contains("(default 5)"));
        for (flag, range) in [("--interval", &INTERVAL), ("--value", &VALUE), ("--drift", &DRIFT)] {
            let range = describe(range);
            assert!(help.contains(&range), "the help of {flag} lacks the range {range}");
            assert!(rows.iter().any(|row| row.contains(flag) && row.contains(&range)), "{flag} {range}");
        }
    }

    #[test]
    fn an_address_that_is_refused_gets_a_hint_that_fits() {
        for (kind, port, hint) in [
            (ErrorKind::AddrInUse, 5000, "AirPlay"),
            (ErrorKind::AddrInUse, 5001, "choose another port with --listen"),
            (ErrorKind::PermissionDenied, 1, "choose a port from 1024"),
            (ErrorKind::PermissionDenied, 1024, "the system reserves this port"),
            (ErrorKind::AddrNotAvailable, 5000, "choose an address of this machine"),
        ] {
            let line = listen_error(([127, 0, 0, 1], port).into(), &kind.into());
            assert!(line.contains(hint) && line.contains(&format!("127.0.0.1:{port}: ")), "{line}");
            assert!(port == 5000 || !line.contains("AirPlay"), "{line}");
        }
    }
}
