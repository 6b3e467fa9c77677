//! The command line: what each flag does, and what is said when one is wrong.

mod common;

use std::io::{BufRead, ErrorKind, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{BINARY, Clock, Connection, Exporter, Page, within};

/// Runs it to its end; fails where that does not come soon.
fn run(arguments: &[&str]) -> Output {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(5) {
            child.kill().unwrap();
            panic!("{arguments:?}: still running after 5 s");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.wait_with_output().unwrap()
}

/// The one line on standard error of a run that ends with `code`.
fn complaint(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}: standard output has something");
    assert!(!stderr.contains("panic"), "{stderr}");
    stderr
}

#[test]
fn help_and_version_are_printed_on_standard_output() {
    for flag in ["-h", "--help"] {
        let output = run(&[flag]);
        let help = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
        for word in ["--listen", "--interval", "--seed", "--value", "--quiet", "--help", "--version", "127.0.0.1:5000"]
        {
            assert!(help.contains(word), "{word} is not in:\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 80), "a line is wider than a terminal:\n{help}");
    }
    for flag in ["-V", "--version"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("modelmock {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_is_wrong_is_named_in_one_line_that_points_at_help() {
    let wrong: [(&[&str], &str); 24] = [
        (&["--interval", "0"], "'0'"),
        (&["--interval", "0.009"], "0.01 to 86400"),
        (&["--interval", "86400.1"], "'86400.1'"),
        (&["--interval", "-1"], "'-1'"),
        (&["--interval", "NaN"], "'NaN'"),
        (&["--interval", "inf"], "'inf'"),
        (&["--interval", "five"], "'five'"),
        (&["--interval", ""], "''"),
        (&["--interval"], "--interval has no value"),
        (&["--value", "1.0001"], "0 to 1"),
        (&["--value", "-0.1"], "'-0.1'"),
        (&["--value", "nan"], "'nan'"),
        (&["--value"], "--value has no value"),
        (&["--seed", "-1"], "'-1'"),
        (&["--seed", "1.5"], "'1.5'"),
        (&["--seed", "18446744073709551616"], "18446744073709551615"),
        (&["--listen", "localhost:5000"], "127.0.0.1:5000"),
        (&["--listen", "127.0.0.1"], "'127.0.0.1'"),
        (&["--listen", "127.0.0.1:65536"], "'127.0.0.1:65536'"),
        (&["--listen", "::1:5000"], "[::1]:5000"),
        (&["--port", "5000"], "'--port'"),
        (&["5000"], "'5000'"),
        (&["--quiet=yes"], "--quiet takes no value"),
        (&["two\nlines\u{1b}[31m"], "'two?lines?[31m'"),
    ];
    for (arguments, named) in wrong {
        let line = complaint(arguments, 2);
        assert!(line.contains(named), "{arguments:?}: {named} is not in {line}");
        assert!(line.contains("--help"), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_are_no_text_are_refused_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(BINARY).arg("--value").arg(OsStr::from_bytes(b"\xff\xfe")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_taken_address_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(&["--listen", &address], 1);
    assert!(line.contains(&address) && line.contains("choose another port with --listen"), "{line}");
    // Where something else has it already, it is as taken as it is to be.
    let taken = TcpListener::bind("127.0.0.1:5000");
    let in_use = |error: &std::io::Error| error.kind() == ErrorKind::AddrInUse;
    assert!(taken.is_ok() || taken.is_err_and(|error| in_use(&error)));
    let line = complaint(&["--listen", "127.0.0.1:5000"], 1);
    assert!(line.contains("AirPlay"), "{line}");
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let line = complaint(&["--listen", "192.0.2.1:5000"], 1);
    assert!(line.contains("192.0.2.1:5000"), "{line}");
}

#[test]
fn flags_take_their_value_after_an_equals_sign_too() {
    let exporter = Exporter::start(&["--value=0.25", "--interval=60"]);
    assert_eq!(exporter.scrape().value("model_result"), 0.25);
}

#[test]
fn it_listens_on_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("left out: listening on IPv6, which this machine does not have");
        return;
    }
    let mut command = Command::new(BINARY);
    command.args(["--listen", "[::1]:0"]);
    let exporter = Exporter::spawn(command);
    assert!(exporter.address.is_ipv6());
    exporter.scrape();
}

#[test]
fn each_refresh_prints_its_time_and_the_result_of_the_page() {
    let mut exporter = Exporter::start(&["--interval", "86400"]);
    let mut line = String::new();
    exporter.stdout().read_line(&mut line).unwrap();
    let [time, name, result] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!(name, "model_result");
    let answer = exporter.connect().get("/metrics");
    assert!(answer.body.contains(&format!("\nmodel_result {result}\n")), "{line} is not in {}", answer.body);

    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let drawn_at = answer.page().value("model_last_refresh_timestamp_seconds");
    let date = Command::new("date").args(["-u", "-d", time, "+%s.%3N"]).output().unwrap();
    if date.status.success() {
        let printed: f64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
        assert!((printed - drawn_at).abs() < 0.002, "{time} is not {drawn_at}");
    }
}

#[test]
fn quiet_prints_the_address_alone() {
    let mut exporter = Exporter::start(&["--interval", "0.01", "--quiet"]);
    std::thread::sleep(Duration::from_millis(200));
    exporter.signal("TERM");
    let mut rest = String::new();
    exporter.stdout().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[cfg(unix)]
#[test]
fn the_model_goes_on_when_nobody_reads_what_it_prints() {
    // A pipe that somebody else fills, and that nobody reads, as a paused terminal is.
    let mut command = Command::new("sh");
    let script = "(sleep 0.2; head -c 200000 /dev/zero) & exec \"$0\" --interval 0.01 --listen 127.0.0.1:0";
    command.args(["-c", script, BINARY]);
    let mut full = Exporter::spawn(command);

    // Standard output closed from the start: it cannot say which port it took.
    let script = "exec \"$0\" --interval 0.01 --listen \"$1\" >&-";
    let (mut closed, address) = within(Duration::from_secs(5), "its start", || {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let address = address.unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY, &address.to_string()]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        // Somebody else may have taken the port meanwhile.
        child.try_wait().unwrap().is_none().then_some((child, address))
    });
    let goes_on = |page: Page| (page.value("model_refreshes_total") > 100.0).then_some(());
    within(Duration::from_secs(10), "a hundred results", || {
        goes_on(Connection::open(address).ok()?.get("/metrics").page())
    });
    closed.kill().unwrap();
    closed.wait().unwrap();
    within(Duration::from_secs(10), "a hundred results", || goes_on(full.scrape()));
    full.signal("KILL");
    let mut printed = Vec::new();
    full.stdout().read_to_end(&mut printed).unwrap();
    let lines = printed.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines < 60, "{lines} lines: the pipe was not full");

    // A pipe whose reader has gone.
    let mut broken = Exporter::start(&["--interval", "0.01"]);
    broken.close_stdout();
    let drawn = broken.scrape().value("model_refreshes_total");
    within(Duration::from_secs(5), "further results", || {
        (broken.scrape().value("model_refreshes_total") > drawn + 20.0).then_some(())
    });
}

#[cfg(unix)]
#[test]
fn signals_end_it_at_once_with_exit_code_0() {
    // HUP, INT and TERM are the signals 1, 2 and 15.
    let ignored = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    if ignored & (1 | 1 << 1 | 1 << 14) != 0 {
        println!("left out: the end by signals, which whoever started this had ignored (nohup does)");
        return;
    }
    for signal in ["INT", "TERM", "HUP"] {
        let mut exporter = Exporter::start(&["--interval", "0.01"]);
        let mut scraper = exporter.connect();
        scraper.get("/metrics").page();
        scraper.send(b"GET /metrics HTTP/1.1\r\nHost: half a requ").unwrap();
        let start = Instant::now();
        exporter.signal(signal);
        let status = exporter.end_within(Duration::from_secs(5));
        let took = start.elapsed();
        println!("measured: SIG{signal}: {status} after {took:?}");
        assert_eq!(status.code(), Some(0), "SIG{signal}");
        assert!(took < Duration::from_secs(1), "SIG{signal} took {took:?}");
        assert_eq!(exporter.complaints(), "");
    }
}

#[cfg(unix)]
#[test]
fn signals_that_were_ignored_stay_ignored() {
    for signal in ["HUP", "INT"] {
        let mut command = Command::new("sh");
        let script = format!("trap '' {signal}; exec \"$0\" --listen 127.0.0.1:0");
        command.args(["-c", &script, BINARY]);
        let mut exporter = Exporter::spawn(command);
        exporter.signal(signal);
        std::thread::sleep(Duration::from_millis(200));
        exporter.scrape();
        exporter.signal("TERM");
        exporter.end_within(Duration::from_secs(5));
        assert_eq!(exporter.complaints(), "");
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, date) in [
        (0, "1970-01-01T00:0"),
        (951_782_390, "2000-02-28T23:59:5"),
        (951_782_400, "2000-02-29T00:00:0"),
        (1_735_689_590, "2024-12-31T23:59:5"),
        (4_107_542_400, "2100-03-01T00:00:0"),
    ] {
        let clock = Clock::new();
        clock.set(seconds);
        let mut exporter = Exporter::on_another_system(&[("CLOCK", clock.path())], &["--interval=60"]);
        let mut line = String::new();
        exporter.stdout().read_line(&mut line).unwrap();
        assert!(line.starts_with(date), "{line} is not from {date}");
    }
}
