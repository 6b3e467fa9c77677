//! Clients that do not behave, and the scraper beside them that must not notice.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Exporter, WHOLE_REQUEST, within};

const HALF_A_REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: local";

/// How much more memory it may hold after an onslaught than before it, in KiB.
const MEMORY_WITHIN_REACH: u64 = 4 * 1024;

/// These tests take times and open many files: one runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections that send nothing (the even ones) or half a request (the odd ones): `number` of them,
/// or as many as find room in the listener's backlog.
fn hold(exporter: &Exporter, number: usize) -> Vec<TcpStream> {
    let patience = Duration::from_millis(200);
    let mut held = Vec::new();
    let mut refused = 0;
    // The backlog may be full for a moment only.
    while held.len() < number && refused < 5 {
        let Ok(mut stream) = TcpStream::connect_timeout(&exporter.address, patience) else {
            refused += 1;
            continue;
        };
        refused = 0;
        if held.len() % 2 == 1 {
            stream
                .write_all(HALF_A_REQUEST)
                .expect("the system takes it");
        }
        held.push(stream);
    }
    held
}

/// A client that sends `number` requests and reads none of the answers.
fn ask_and_never_read(exporter: &Exporter, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(exporter.address).unwrap();
    stream.set_write_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(&WHOLE_REQUEST.repeat(number)).unwrap();
    stream
}

/// Whether a new client is answered within `patience`.
fn answers(exporter: &Exporter, patience: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&exporter.address, patience) else {
        return false;
    };
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(WHOLE_REQUEST).is_ok() && stream.read(&mut [0]).is_ok_and(|read| read > 0)
}

/// The longest that a scrape took, over new connections, for as long as `duration`.
fn longest_scrape(exporter: &Exporter, duration: Duration) -> Duration {
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    while start.elapsed() < duration {
        let asked = Instant::now();
        exporter.scrape();
        longest = longest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    longest
}

#[test]
fn more_connections_than_files_are_outlived_twice() {
    let _alone = alone();
    let exporter = Exporter::with_files(128, &[]);
    let mut scraper = exporter.connect();
    scraper.get("/metrics").page();

    for round in 1..=2 {
        let held = hold(&exporter, 400);
        assert!(held.len() > 128, "only {} connections are held", held.len());
        within(Duration::from_secs(2), "the line that says so", || {
            (exporter.complaints().lines().count() == round).then_some(())
        });
        let patience = Duration::from_millis(300);
        assert!(
            !answers(&exporter, patience),
            "the files have not run out: this tests nothing"
        );

        let (start, cpu) = (Instant::now(), exporter.cpu());
        while start.elapsed() < Duration::from_secs(3) {
            let asked = Instant::now();
            let page = scraper.get("/metrics").page();
            assert!(
                asked.elapsed() < Duration::from_millis(500),
                "the scraper waited {:?}",
                asked.elapsed()
            );
            assert!(
                page.value("process_open_fds") > 100.0,
                "the process metrics are still right"
            );
            thread::sleep(Duration::from_millis(50));
        }
        let spent = exporter.cpu() - cpu;
        assert!(
            spent * 5 < start.elapsed(),
            "{spent:?} of CPU time in {:?}",
            start.elapsed()
        );

        drop(held);
        let let_go = Instant::now();
        let mut newcomer = exporter.connect();
        newcomer.get("/metrics").page();
        println!(
            "measured: round {round}: {spent:?} of CPU time in 3 s; a new client is served after {:?}",
            let_go.elapsed()
        );
        assert!(
            let_go.elapsed() < Duration::from_secs(2),
            "served after {:?}",
            let_go.elapsed()
        );
        scraper.get("/metrics").page();
        assert_eq!(
            exporter.complaints().lines().count(),
            round,
            "{}",
            exporter.complaints()
        );
    }
    assert!(
        exporter
            .complaints()
            .lines()
            .all(|line| line.contains("out of file descriptors"))
    );
}

#[test]
fn clients_that_never_read_hold_no_other_up() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    for (number, limit) in [(1, Duration::from_secs(1)), (12, Duration::from_secs(10))] {
        let _held: Vec<_> = (0..number)
            .map(|_| ask_and_never_read(&exporter, 5000))
            .collect();
        let longest = longest_scrape(&exporter, Duration::from_secs(4));
        println!("measured: {number} clients that never read: the longest scrape took {longest:?}");
        assert!(
            longest < limit,
            "with {number} of them a scrape took {longest:?}"
        );
    }
}

#[test]
fn half_requests_hold_no_other_up() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let mut held = hold(&exporter, 300);
    for stream in &mut held {
        stream.write_all(b"GET").unwrap();
    }
    let longest = longest_scrape(&exporter, Duration::from_secs(3));
    println!("measured: 300 half requests: the longest scrape took {longest:?}");
    assert!(
        longest < Duration::from_millis(500),
        "a scrape took {longest:?}"
    );
}

#[test]
fn half_requests_that_come_all_at_once_hold_no_other_up() {
    let _alone = alone();
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let exporter = Exporter::start(&[]);
        // tiny_http leaves connections that come at once to the few threads that wait for one.
        thread::sleep(Duration::from_millis(50));
        let mut streams: Vec<_> = (0..10)
            .map(|_| TcpStream::connect(exporter.address).unwrap())
            .collect();
        let asked = Instant::now();
        let mut scraper = streams.pop().unwrap();
        for stream in &mut streams {
            stream.write_all(HALF_A_REQUEST).unwrap();
        }
        scraper.set_read_timeout(Some(common::PATIENCE)).unwrap();
        scraper.write_all(WHOLE_REQUEST).unwrap();
        assert!(
            scraper.read(&mut [0]).is_ok_and(|read| read > 0),
            "the scraper got no answer"
        );
        longest = longest.max(asked.elapsed());
    }
    println!(
        "measured: 9 half requests at once with a scrape, 10 times: the longest scrape took {longest:?}"
    );
    assert!(
        longest < Duration::from_millis(500),
        "a scrape took {longest:?}"
    );
}

#[test]
fn connections_that_are_held_cost_next_to_nothing() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let _held = hold(&exporter, 30);
    // For 2 s after a connection came it is seen to that all have a thread.
    thread::sleep(Duration::from_secs(3));
    let cpu = exporter.cpu();
    thread::sleep(Duration::from_secs(4));
    let spent = exporter.cpu() - cpu;
    println!("measured: 30 connections held for 4 s: {spent:?} of CPU time");
    assert!(
        spent < Duration::from_millis(60),
        "{spent:?} of CPU time in 4 s"
    );
}

#[test]
fn bodies_that_never_come_hold_no_other_up() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let post = |length: &str| {
        let mut connection = exporter.connect();
        connection
            .send(format!("POST /metrics HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").as_bytes())
            .unwrap();
        connection
    };
    let mut held: Vec<_> = (0..20).map(|_| post("100000")).collect();
    let longest = longest_scrape(&exporter, Duration::from_secs(1));
    assert!(
        longest < Duration::from_millis(500),
        "a scrape took {longest:?}"
    );
    for connection in &mut held {
        assert_eq!(
            connection.answer(true).unwrap().status,
            405,
            "the answer need not wait for the body"
        );
    }

    let lengths = [
        "1000000000000",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999999",
        "-1",
    ];
    let _absurd: Vec<_> = lengths.map(post).into();
    let longest = longest_scrape(&exporter, Duration::from_secs(1));
    assert!(
        longest < Duration::from_millis(500),
        "a scrape took {longest:?}"
    );
    assert_eq!(exporter.complaints(), "");
}

#[test]
fn nonsense_is_outlived_and_its_memory_given_back() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let megabyte = "x".repeat(1 << 20);
    let nonsense: Vec<Vec<u8>> = [
        "\r\n\r\n".to_owned(),
        "\0\u{1}\u{2}\u{fffd}\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /metrics\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nExpect: miracles\r\n\r\n".to_owned(),
        "GET /metrics HTTP/0.9\r\n\r\n".to_owned(),
        "GET /metrics HTTP/9.9\r\n\r\n".to_owned(),
        "GET /metrics HTTQ/1.1\r\n\r\n".to_owned(),
        "BREW /metrics HTTP/1.1\r\nHost: pot\r\n\r\n".to_owned(),
        "PUT /metrics HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n".to_owned(),
        "PUT /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
            .to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
        format!("GET /{megabyte} HTTP/1.1\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\nA: {megabyte}\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000)),
        format!("{megabyte}{megabyte}"),
    ]
    .map(String::into_bytes)
    .into();

    let round = || {
        for bytes in &nonsense {
            let mut stream = TcpStream::connect(exporter.address).unwrap();
            // A refusal may come before the last byte is sent.
            let _ = stream.write_all(bytes);
            reset(stream);
        }
        exporter.scrape();
    };
    round();
    thread::sleep(Duration::from_secs(6));
    let before = exporter.resident();
    for _ in 0..20 {
        round();
    }
    // tiny_http's threads live for 5 s after their last connection.
    let grown = within(Duration::from_secs(15), "its memory given back", || {
        thread::sleep(Duration::from_secs(1));
        let grown = exporter.resident().saturating_sub(before);
        (grown < MEMORY_WITHIN_REACH).then_some(grown)
    });
    println!("measured: nonsense left {grown} KiB more than the {before} KiB before");
    assert_eq!(exporter.complaints(), "");
}

/// Closes a connection by a reset: with unread bytes in the receive buffer the system sends one.
fn reset(stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let _ = stream.peek(&mut [0]);
    drop(stream);
}

#[test]
fn requests_that_nobody_waits_for_leave_no_memory_behind() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let before = exporter.resident();
    for _ in 0..10 {
        drop(ask_and_never_read(&exporter, 2000));
    }
    // tiny_http's queue keeps the room that it once had.
    let grown = within(Duration::from_secs(20), "its memory given back", || {
        thread::sleep(Duration::from_secs(1));
        let grown = exporter.resident().saturating_sub(before);
        (grown < 2 * MEMORY_WITHIN_REACH).then_some(grown)
    });
    println!("measured: 20000 requests left {grown} KiB more than the {before} KiB before");
    exporter.scrape();
}
