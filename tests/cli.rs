//! The program from the outside: its exit codes, its output, and signals. `src/cli.rs` tests the flags.
#![cfg(unix)]

mod common;

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use common::{Connection, Exporter, TIMEOUT, command, wait_until};

/// Runs a command to its end.
fn run(mut command: Command) -> Output {
    let mut child = command.spawn().unwrap();
    wait_until(TIMEOUT, "the end", || child.try_wait().unwrap());
    child.wait_with_output().unwrap()
}

/// The only line on standard error of a run that ends with `code`.
fn error_line(arguments: &[&str], code: i32) -> String {
    // One write is one datagram here: the line is written at once, so the lines of other programs can't split it.
    let (reader, writer) = UnixDatagram::pair().unwrap();
    let mut command = command("", arguments);
    command.stderr(OwnedFd::from(writer));
    let output = run(command);
    let mut bytes = [0; 1000];
    let length = reader.recv(&mut bytes).unwrap();
    let stderr = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    reader.set_nonblocking(true).unwrap();
    assert!(stderr.ends_with('\n') && reader.recv(&mut bytes).is_err(), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("modelmock: "), "{stderr}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    stderr
}

#[test]
fn a_wrong_flag_ends_it_with_code_2() {
    use std::os::unix::ffi::OsStrExt;
    error_line(&["--interval", "0"], 2);
    error_line(&["--drift", "60", "--value", "1"], 2);
    let mut not_text = command("", &["--value"]);
    not_text.arg(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(run(not_text).status.code(), Some(2));
}

#[test]
fn help_and_version_are_printed_unless_their_reader_has_gone() {
    let (help, version) = ("modelmock plays a model", concat!("modelmock ", env!("CARGO_PKG_VERSION"), "\n"));
    for (flag, beginning) in [("-h", help), ("--help", help), ("-V", version), ("--version", version)] {
        let output = run(command("", &[flag]));
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{flag}");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(beginning), "{flag}");
        let mut broken = command("", &[flag]);
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        broken.stdout(OwnedFd::from(writer));
        assert_eq!(run(broken).status.code(), Some(0), "{flag}");
        #[cfg(target_os = "linux")]
        {
            let mut full = command("", &[flag]);
            full.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
            let output = run(full);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{flag}");
            assert!(stderr.starts_with("modelmock: cannot write to standard output: "), "{stderr}");
        }
    }
}

#[test]
fn an_address_that_it_cannot_listen_on_ends_it_with_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = error_line(&["--listen", &address], 1);
    assert!(line.contains(&format!("cannot listen on {address}: ")), "{line}");
    assert!(line.contains("choose another port with --listen"), "{line}");
    let line = error_line(&["--listen", "192.0.2.1:5000"], 1);
    assert!(line.contains("192.0.2.1:5000") && line.contains("an address of this machine"), "{line}");
}

#[test]
fn it_listens_on_ipv6_if_the_machine_has_it() {
    let arguments = ["--listen", "[::1]:0"];
    if TcpListener::bind("[::1]:0").is_err() {
        assert!(error_line(&arguments, 1).contains("an address of this machine"));
        return;
    }
    let exporter = Exporter::spawn(command("", &arguments));
    assert!(exporter.address.is_ipv6());
    exporter.scrape();
}

#[test]
fn each_line_has_the_time_and_the_result_of_the_page() {
    let mut exporter = Exporter::start(&["--interval", "86400"]);
    let mut line = String::new();
    exporter.stdout.read_line(&mut line).unwrap();
    let words: Vec<&str> = line.strip_suffix('\n').unwrap().split(' ').collect();
    let response = exporter.connect().get("/metrics");
    assert!(response.body.contains(&format!("\nmodel_result {}\n", words[2])), "{line}");
    assert_eq!((words.len(), words[1]), (3, "model_result"));
    let shape = words[0].replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let drawn_at = response.page().value("model_last_refresh_timestamp_seconds");
    let seconds: f64 = words[0][17..23].parse().unwrap();
    assert!((drawn_at % 60.0 - seconds).abs() < 0.002, "{line} isn't {drawn_at}");
}

#[test]
fn quiet_prints_only_the_first_line() {
    let mut exporter = Exporter::start(&["--interval", "0.01", "--quiet"]);
    wait_until(TIMEOUT, "ten results", || (exporter.scrape().value("model_refreshes_total") > 10.0).then_some(()));
    exporter.signal("TERM");
    let mut rest = String::new();
    exporter.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

/// A stream that accepts no more bytes, as a paused terminal, and the end that could read from it.
fn full_stream() -> (UnixStream, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (writer, reader)
}

/// Starts it on a port that was free just now, for a standard output on which its first line can't be read.
fn start_unread(setup: &str, prepare: impl Fn(&mut Command)) -> (Child, SocketAddr) {
    wait_until(TIMEOUT, "the start", || {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = command(setup, &["--interval", "0.01", "--listen", &address.to_string()]);
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        wait_until(TIMEOUT, "an answer or an end", || {
            // Another program may have taken the port in the meantime.
            let has_ended = child.try_wait().unwrap().is_some();
            (has_ended || Connection::open(address).is_ok()).then_some((!has_ended).then_some(()))
        })?;
        Some((child, address))
    })
}

#[test]
fn it_serves_and_draws_if_its_output_is_full_closed_or_broken() {
    let (full, _reader) = full_stream();
    let (broken, _) = UnixStream::pair().unwrap();
    let [full, broken] = [full, broken].map(|stream| {
        start_unread("", |command| {
            command.stdout(OwnedFd::from(stream.try_clone().unwrap()));
        })
    });
    for (mut child, address) in [full, broken, start_unread("exec >&-", |_| ())] {
        wait_until(TIMEOUT, "further results", || {
            let page = Connection::open(address).unwrap().get("/metrics").page();
            (page.value("model_refreshes_total") > 100.0).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn it_accepts_clients_while_its_warning_waits_for_a_full_output() {
    let (full, _reader) = full_stream();
    let mut command = command("ulimit -n 16", &["--listen", "127.0.0.1:0"]);
    command.stderr(OwnedFd::from(full));
    let exporter = Exporter::spawn(command);
    let _idle: Vec<Connection> = (0..30).map(|_| exporter.connect()).collect();
    for _ in 0..3 {
        exporter.scrape();
    }
}

#[test]
fn signals_end_it_at_once_with_code_0() {
    for signal in ["INT", "TERM", "HUP"] {
        let mut exporter = Exporter::start(&["--interval", "0.01"]);
        let mut client = exporter.connect();
        client.get("/metrics").page();
        client.send(b"GET /metrics HTTP/1.1\r\nHost: half a requ").unwrap();
        let start = Instant::now();
        exporter.signal(signal);
        let status = exporter.wait();
        assert_eq!(status.code(), Some(0), "SIG{signal}: {status}");
        assert!(start.elapsed() < Duration::from_secs(2), "SIG{signal} took {:?}", start.elapsed());
        assert_eq!(exporter.errors(), "");
    }
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    for signal in ["HUP", "INT"] {
        let mut exporter = Exporter::start_after(&format!("trap '' {signal}"), &[]);
        exporter.signal(signal);
        thread::sleep(Duration::from_millis(200));
        exporter.scrape();
        exporter.signal("TERM");
        exporter.wait();
        assert_eq!(exporter.errors(), "");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn process_1_of_a_container_ends_even_if_a_signal_was_ignored() {
    use std::process::Stdio;
    // The first child of unshare is process 1 of its own.
    let unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let probe = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: unshare is missing or may not create namespaces: install util-linux, or run as root");
        return;
    }
    for (ignored, signal) in [("HUP", "TERM"), ("INT", "TERM"), ("INT", "INT"), ("TERM", "TERM")] {
        let script = format!("trap '' {ignored}; exec {} \"$@\"", unshare.join(" "));
        let mut wrapped = Command::new("sh");
        let inner = command("", &["--listen", "127.0.0.1:0"]);
        wrapped.args(["-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut exporter = Exporter::spawn(wrapped);
        exporter.signal_child(signal);
        assert_eq!(exporter.wait().code(), Some(0), "SIG{signal}, with SIG{ignored} ignored");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_files_end_it_with_code_1() {
    for (files, can_serve) in [(4, false), (5, false), (6, false), (7, true)] {
        let setup = format!("ulimit -n {files}");
        if can_serve {
            let page = Exporter::start_after(&setup, &[]).scrape();
            assert_eq!(page.value("process_max_fds"), f64::from(files));
            continue;
        }
        let output = run(command(&setup, &["--listen", "127.0.0.1:0"]));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{files} files: {stderr}");
        assert!(stderr.starts_with("modelmock: cannot ") && stderr.ends_with("raise ulimit -n (files)\n"), "{stderr}");
        assert_eq!((output.stdout.len(), stderr.lines().count()), (0, 1), "{stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_for_a_thread_gets_a_hint() {
    // With less memory, the program can't be loaded; with more, it serves.
    let hints = (2500..14_000).step_by(250).filter(|memory| {
        let mut child = command(&format!("ulimit -v {memory}"), &["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        if !first.is_empty() {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_refused = stderr.starts_with("modelmock: cannot ");
        assert!(!is_refused || stderr.contains(": raise ulimit -u (threads), -v (memory)"), "{memory} KiB: {stderr}");
        is_refused
    });
    assert!(hints.count() > 0, "no start failed: this tests nothing");
}
