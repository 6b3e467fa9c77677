//! The command line: its flags, the values that they accept, and the messages for the others.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::model::{self, Drift, DriftKind};

pub const NAME_AND_VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const DEFAULT_INTERVAL: f64 = 5.0;
/// The allowed values; an interval and a drift are in seconds.
const INTERVAL_RANGE: RangeInclusive<f64> = 0.01..=86_400.0;
const DRIFT_RANGE: RangeInclusive<f64> = 1.0..=31_536_000.0;
const VALUE_RANGE: RangeInclusive<f64> = 0.0..=1.0;
/// `--value` is rounded to this many steps from 0 to 1.
const VALUE_STEPS: f64 = 1e9;
/// How a message names the values that a flag takes.
const ADDRESS_FORM: &str = "an IP address and a port such as 127.0.0.1:5000 or [::1]:5000";
const SECONDS_FORM: &str = "a number of seconds";
const SEED_FORM: &str = "a whole number from 0 to 18446744073709551615";

/// The task that the command line selects.
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
    let mut listen = DEFAULT_LISTEN;
    let mut interval = DEFAULT_INTERVAL;
    let mut seed = None;
    let mut value = None;
    let mut drift = None;
    let mut quiet = false;
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut text = || attached.clone().or_else(|| arguments.next());
        match flag {
            "--listen" => listen = parse_value(flag, text(), ADDRESS_FORM, |_| true)?,
            "--interval" => interval = parse_number(flag, text(), SECONDS_FORM, &INTERVAL_RANGE)?,
            "--seed" => seed = Some(parse_value(flag, text(), SEED_FORM, |_| true)?),
            "--value" => {
                let number = parse_number(flag, text(), "a number", &VALUE_RANGE)?;
                // A number such as 5e-324 would have hundreds of digits. The range contains -0, which would be printed
                // with its sign.
                value = Some((number * VALUE_STEPS).round().abs() / VALUE_STEPS);
            }
            "--drift" | "--drift-narrow" | "--drift-split" => {
                let kind = match flag {
                    "--drift-narrow" => DriftKind::Narrow,
                    "--drift-split" => DriftKind::Split,
                    _ => DriftKind::Rise,
                };
                let seconds = parse_number(flag, text(), SECONDS_FORM, &DRIFT_RANGE)?;
                drift = Some(Drift { kind, duration: Duration::from_secs_f64(seconds) });
            }
            "--quiet" | "-h" | "--help" | "-V" | "--version" if attached.is_some() => {
                return Err(usage_error(format_args!("{flag} takes no value, but got '{argument}'")));
            }
            "--quiet" => quiet = true,
            "-h" | "--help" => return Ok(Command::Print(help())),
            "-V" | "--version" => return Ok(Command::Print(format!("{NAME_AND_VERSION}\n"))),
            _ => return Err(usage_error(format_args!("unknown argument '{argument}'"))),
        }
    }
    if value.is_some() && drift.is_some() {
        return Err(usage_error("--value and a drift can't be used together: drop one of them"));
    }
    let interval = Duration::from_secs_f64(interval);
    let model = model::Options { interval, seed, value, drift };
    Ok(Command::Run(Options { listen, model, quiet }))
}

fn help() -> String {
    let [intervals, values, drifts] = [INTERVAL_RANGE, VALUE_RANGE, DRIFT_RANGE].map(|range| describe(&range));
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
                      alert fire; can't be used with a drift
  --drift SECONDS     let the model drift: the results move half of the way to 1
                      within SECONDS, {drifts}
  --drift-narrow SECONDS
                      the same, but half of the way to 0.5
  --drift-split SECONDS
                      the same, but half of the way to 0 or 1, the nearer one
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
    // An argument may contain line breaks, escape sequences and characters that reverse the text after them. The error
    // stays one line that reads as it is printed.
    let line: String = message.to_string().chars().map(escape).collect();
    format!("{line}; see {} --help", env!("CARGO_PKG_NAME"))
}

/// A character as it is, or as an escape such as `\u{202e}` if it can't be seen.
fn escape(character: char) -> String {
    match character {
        '\\' | '\'' | '"' => character.to_string(),
        _ => character.escape_debug().to_string(),
    }
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
        assert_eq!((model.seed, quiet), (Some(8), true));
        let duration = Duration::from_secs(60);
        assert_eq!(model.drift, Some(Drift { kind: DriftKind::Rise, duration }));
        for (flag, kind) in
            [("--drift", DriftKind::Rise), ("--drift-narrow", DriftKind::Narrow), ("--drift-split", DriftKind::Split)]
        {
            let Options { model, .. } = options(&["--drift-split", "1", "--drift", "2", flag, "60"]);
            assert_eq!(model.drift, Some(Drift { kind, duration }));
        }
    }

    #[test]
    fn the_ends_of_each_range_are_accepted() {
        let drift = ["1", "31536000"];
        for (flag, ends) in [
            ("interval", ["0.01", "86400"]),
            ("drift", drift),
            ("drift-narrow", drift),
            ("drift-split", drift),
            ("value", ["0", "1"]),
        ] {
            for end in ends {
                options(&[&format!("--{flag}={end}")]);
            }
        }
        assert_eq!(options(&["--value", "0.95"]).model.value, Some(0.95));
        for (given, value) in [("-0", "0"), ("5e-324", "0"), ("1e-9", "0.000000001"), ("0.12345678949", "0.123456789")]
        {
            assert_eq!(options(&["--value", given]).model.value.unwrap().to_string(), value);
        }
        assert_eq!(options(&["--seed", &u64::MAX.to_string()]).model.seed, Some(u64::MAX));
        assert!(SEED_FORM.ends_with(&u64::MAX.to_string()));
    }

    #[test]
    fn a_usage_error_names_the_wrong_value_and_the_allowed_ones() {
        let wrong: [(&[&str], &str); 37] = [
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
            (&["--drift-narrow", "0.9"], "--drift-narrow takes a number of seconds from 1 to 31536000, not '0.9'"),
            (&["--drift-split=x"], "--drift-split takes a number of seconds from 1 to 31536000, not 'x'"),
            (&["--drift", "60", "--value", "1"], "--value and a drift can't be used together"),
            (&["--value", "1", "--drift-split", "60"], "--value and a drift can't be used together"),
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
            (&["two\nlines\u{1b}[31m"], "'two\\nlines\\u{1b}[31m'"),
            (&["a\u{202e}b\u{2066}c\u{200f}\u{200b}\u{feff}"], "'a\\u{202e}b\\u{2066}c\\u{200f}\\u{200b}\\u{feff}'"),
            (&["\u{85}\u{2028}\u{2029}\u{ad}\u{e0041}"], "'\\u{85}\\u{2028}\\u{2029}\\u{ad}\\u{e0041}'"),
            (&["C:\\é'\"日"], "'C:\\é'\"日'"),
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
        let help = help();
        let readme = include_str!("README.md");
        assert!(help.lines().all(|line| line.len() <= 80), "a line is wider than a terminal:\n{help}");
        let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `-")).collect();
        assert_eq!(rows.len(), 10);
        for flag in [
            "--listen",
            "--interval",
            "--seed",
            "--value",
            "--drift ",
            "--drift-narrow ",
            "--drift-split ",
            "--quiet",
            "--help",
            "--version",
        ] {
            assert!(help.contains(flag), "the help lacks {flag}");
            assert!(rows.iter().any(|row| row.contains(&format!("`{flag}"))), "the README lacks {flag}");
        }
        for flag in help.split([' ', ',', ';', '\n']).filter(|word| word.starts_with("--")) {
            assert!(rows.iter().any(|row| row.contains(&format!("`{flag}"))), "the README lacks {flag}");
        }
        let listen = DEFAULT_LISTEN.to_string();
        let interval = DEFAULT_INTERVAL.to_string();
        for (flag, default) in [("--listen ADDR:PORT", format!("`{listen}`")), ("--interval SECONDS", interval)] {
            assert!(readme.contains(&format!("| `{flag}` | {default} |")), "{flag}");
        }
        assert!(help.contains(&format!("(default {listen})")) && help.contains("(default 5)"));
        for (flag, range) in [("--interval", &INTERVAL_RANGE), ("--value", &VALUE_RANGE), ("--drift", &DRIFT_RANGE)] {
            let range = describe(range);
            assert!(help.contains(&range), "the help of {flag} lacks the range {range}");
            assert!(rows.iter().any(|row| row.contains(flag) && row.contains(&range)), "{flag} {range}");
        }
    }
}
