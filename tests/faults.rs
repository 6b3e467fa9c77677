//! Clients that do not behave, and the scraper beside them that must not notice.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Exporter, WHOLE_REQUEST, within};

const HALF_A_REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: local";

/// A scrape that takes longer was held up, on a machine that is busy otherwise, too. No client is waited
/// for less than 5 s.
const HELD_UP: Duration = Duration::from_secs(3);

/// How much more memory it may hold after an onslaught than before it, in KiB.
const MEMORY_WITHIN_REACH: u64 = 4 * 1024;

/// Some tests open hundreds of connections: one of them runs at a time.
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
            stream.write_all(HALF_A_REQUEST).expect("the system takes it");
        }
        held.push(stream);
        // On a machine that is busy otherwise the backlog fills before anybody is let in.
        thread::sleep(Duration::from_millis(1));
    }
    held
}

/// A client that sends `number` requests, or as many as are taken, and reads none of the answers.
fn ask_and_never_read(exporter: &Exporter, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(exporter.address).unwrap();
    let patience = Duration::from_millis(100);
    stream.set_write_timeout(Some(patience)).unwrap();
    let _ = stream.write_all(&WHOLE_REQUEST.repeat(number));
    thread::sleep(Duration::from_millis(1));
    stream
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
fn more_connections_than_files_are_outlived() {
    let _alone = alone();
    // In 24 files there is no room for as many clients as there may be otherwise.
    for (files, most, complaints) in [(128, 61.0, 0), (24, 24.0, 1)] {
        let exporter = Exporter::with_files(files, &[]);
        let mut scraper = exporter.scraper();
        let held = hold(&exporter, 400);
        assert_eq!(held.len(), 400);
        let (start, cpu) = (Instant::now(), exporter.cpu());
        let longest = longest_scrape(&exporter, Duration::from_millis(700));
        let page = scraper.scrape();
        let spent = exporter.cpu() - cpu;
        println!("measured: 400 connections on {files} files: the longest scrape of a newcomer took {longest:?}");
        // Whoever looks for what is used up finds it, but for those who leave just then.
        let open = page.value("process_open_fds");
        assert!((most * 0.8..=most).contains(&open), "{open} files are open");
        assert!(longest < HELD_UP, "a newcomer waited {longest:?}");
        assert!(spent * 5 < start.elapsed(), "{spent:?} of CPU time in {:?}", start.elapsed());
        let said = exporter.complaints();
        assert_eq!(said.lines().count(), complaints, "{said}");
        assert!(said.lines().all(|line| line.contains("ulimit -n")));
    }
}

#[test]
fn a_flood_opens_no_more_than_51_connections() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let others = within(Duration::from_secs(3), "the connection closed", || {
        Some(exporter.open_files()).filter(|files| *files < 9)
    });
    let address = exporter.address;
    let ends_at = Instant::now() + Duration::from_millis(1000);
    let floods = [(); 4].map(|()| {
        thread::spawn(move || {
            let mut held = Vec::new();
            let mut opened = 0;
            while Instant::now() < ends_at {
                let patience = Duration::from_millis(200);
                held.extend(TcpStream::connect_timeout(&address, patience));
                opened += 1;
                if held.len() > 200 {
                    held.clear();
                }
            }
            opened
        })
    });
    let mut most = 0;
    while Instant::now() < ends_at {
        most = most.max(exporter.open_files().saturating_sub(others));
    }
    let opened: usize = floods.map(|flood| flood.join().unwrap()).iter().sum();
    println!("measured: a flood of {opened} connections: {most} were open at once");
    assert!(opened > 100 && most > 45, "this tests nothing");
    // The 50 that there may be, and the one that is being let in.
    assert!(most <= 51, "{most} connections were open at once");
}

#[test]
fn idle_clients_make_room_for_newcomers_that_come_at_once() {
    let exporter = Exporter::start(&[]);
    let mut idle = [(); 50].map(|()| exporter.scraper());
    for round in 0..10 {
        let mut newcomers = [(); 10].map(|()| exporter.connect());
        for newcomer in &mut newcomers {
            newcomer.send(WHOLE_REQUEST).unwrap();
        }
        let answered = newcomers.each_mut().map(|newcomer| newcomer.answer(true));
        let answered = answered.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(answered, 10, "of 10 newcomers in round {round}");
    }
    // Who had to make room is answered when it asks again.
    for scraper in &mut idle {
        scraper.scrape();
        assert!(scraper.reconnected <= 1);
    }
}

#[test]
fn whoever_was_answered_last_keeps_its_place() {
    let exporter = Exporter::start(&[]);
    let _held = hold(&exporter, 25);
    let never_read = [(); 24].map(|()| ask_and_never_read(&exporter, 2000));
    let mut scraper = exporter.scraper();
    let mut reconnected = 0;
    for _ in 0..6 {
        // These never ask, and are let in after the scraper's answer: it is those before that make room.
        let newcomers = hold(&exporter, 40);
        scraper.scrape();
        reconnected = scraper.reconnected;
        drop(newcomers);
    }
    drop(never_read);
    assert_eq!(reconnected, 0, "the scraper was shown out");
}

#[test]
fn a_newcomer_and_the_scraper_are_served_while_half_requests_hold() {
    let _alone = alone();
    let exporter = Exporter::with_files(200, &[]);
    let (mut scraper, mut silent) = (exporter.scraper(), exporter.scraper());
    let mut held = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..30 {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(exporter.address).unwrap();
            stream.write_all(HALF_A_REQUEST).unwrap();
            held.push(stream);
        }
        let asked = Instant::now();
        exporter.scrape();
        longest = longest.max(asked.elapsed());
        scraper.scrape();
    }
    println!("measured: 300 half requests: a newcomer waited {longest:?} at most");
    assert!(longest < HELD_UP, "a newcomer waited {longest:?}");
    let open = exporter.open_files();
    assert!(open > 45, "only {open} files are open: this tests nothing");
    assert_eq!(scraper.reconnected, 0, "the scraper was shown out");
    silent.scrape();
    assert_eq!(exporter.complaints(), "");
}

#[cfg(target_env = "gnu")]
#[test]
fn errors_of_the_network_show_nobody_out() {
    // Those that accept(2) lists, after one client was let in.
    let errors = "0,100,71,92,112,64,113,95,101,103";
    let exporter = Exporter::on_another_system(&[("ACCEPT_ERRORS", errors)], &[]);
    let mut scraper = exporter.scraper();
    exporter.scrape();
    scraper.scrape();
    assert_eq!(scraper.reconnected, 0, "the scraper was shown out");
    assert_eq!(exporter.complaints(), "");
}

#[test]
fn http_2_is_refused_and_leaves_nothing() {
    let _alone = alone();
    let exporter = Exporter::with_files(256, &[]);
    exporter.scrape();
    let before = exporter.open_files();
    let mut held = Vec::new();
    for _ in 0..250 {
        let mut client = exporter.connect();
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let answer = client.answer(true).unwrap();
        assert_eq!(answer.status, 505, "{answer:?}");
        held.push(client);
    }
    let asked = Instant::now();
    exporter.scrape();
    let took = asked.elapsed();
    println!("measured: 250 clients in HTTP/2 under 256 files: a scrape took {took:?}");
    assert!(took < HELD_UP, "a scrape took {took:?}");
    drop(held);
    within(Duration::from_secs(3), "their files closed", || (exporter.open_files() <= before).then_some(()));
}

#[test]
fn a_header_without_an_end_is_cut() {
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let before = exporter.peak();
    for (beginning, status) in
        [("GET /metrics HTTP/1.1\r\nA: ", 431), ("GET /metrics HTTP/1.1\r\n", 431), ("GET /", 431)]
    {
        let filler = if beginning.ends_with('\n') { "A: b\r\n" } else { "xxxxxx" };
        let mut client = exporter.connect();
        client.send(beginning.as_bytes()).unwrap();
        client.send(filler.repeat(4000).as_bytes()).unwrap();
        assert_eq!(client.answer(true).unwrap().status, status, "{beginning}");

        let mut endless = TcpStream::connect(exporter.address).unwrap();
        endless.write_all(beginning.as_bytes()).unwrap();
        let megabyte = filler.repeat(175_000);
        let taken = (0..64).take_while(|_| endless.write_all(megabyte.as_bytes()).is_ok());
        let taken = taken.count();
        assert!(taken < 32, "{taken} MiB of a head were taken");
    }
    let grown = exporter.peak() - before;
    println!("measured: heads without an end: {grown} KiB more at the peak");
    assert!(grown < MEMORY_WITHIN_REACH, "{grown} KiB more");
}

#[test]
fn a_dripping_client_is_let_go() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n").unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(5200) {
        // The last bytes may be refused.
        let _ = client.send(b"A: b\r\n");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.answer(true).unwrap().status, 408);
    client.answer(true).unwrap_err();
    let took = start.elapsed();
    println!("measured: a dripping client is let go after {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn each_request_has_its_own_time() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    let (half, rest) = WHOLE_REQUEST.split_at(20);
    for pause in [0, 5500] {
        thread::sleep(Duration::from_millis(pause));
        client.send(half).unwrap();
        thread::sleep(Duration::from_millis(100));
        client.send(rest).unwrap();
        client.answer(true).unwrap().page();
    }
}

#[test]
fn a_pipeline_has_no_queue() {
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let before = exporter.peak();
    let mut reader = TcpStream::connect(exporter.address).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        let mut read = 0;
        while let Ok(number @ 1..) = reader.read(&mut bytes) {
            read += number;
        }
        read
    });
    let writing = thread::spawn(move || {
        let requests = WHOLE_REQUEST.repeat(10_000);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1500) {
            writer.write_all(&requests).unwrap();
        }
        writer.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let longest = longest_scrape(&exporter, Duration::from_millis(1500));
    writing.join().unwrap();
    let read = reading.join().unwrap();
    let grown = exporter.peak() - before;
    println!(
        "measured: a pipeline that read {} MiB: the longest scrape took {longest:?}, {grown} KiB more at the peak",
        read >> 20
    );
    assert!(longest < HELD_UP, "a scrape took {longest:?}");
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

#[test]
fn no_answer_begins_inside_another() {
    let exporter = Exporter::start(&[]);
    let address = exporter.address;
    // Answers to HEAD, which are short, before the others: each client's last answer is cut elsewhere.
    let clients: Vec<_> = (0..4)
        .map(|short| {
            thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                let patience = Some(Duration::from_millis(500));
                client.set_write_timeout(patience).unwrap();
                client.set_read_timeout(patience).unwrap();
                let head = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(short);
                client.write_all(&head).unwrap();
                // As many as are taken: the system takes some megabytes of answers for it.
                let requests = WHOLE_REQUEST.repeat(2000);
                let taken = (0..100).take_while(|_| client.write_all(&requests).is_ok());
                assert!(taken.count() < 100, "all were taken: this tests nothing");
                // Longer than any server waits for it, or remembers that it does not read.
                thread::sleep(Duration::from_millis(6500));
                // It reads what there is, asks once more, and reads on.
                let mut bytes = Vec::new();
                let _ = client.read_to_end(&mut bytes);
                let _ = client.write_all(WHOLE_REQUEST);
                let _ = client.read_to_end(&mut bytes);
                (short, String::from_utf8(bytes).unwrap())
            })
        })
        .collect();
    for client in clients {
        let (short, text) = client.join().unwrap();
        let mut rest = text.as_str();
        let mut whole = 0;
        while let Some((head, body)) = rest.split_once("\r\n\r\n") {
            // The last may be a refusal, of a request that was sent in part.
            assert!(head.starts_with("HTTP/1.1 "), "{head}");
            let length = head.split("Content-Length: ").nth(1).unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            let length = if whole < short { 0 } else { length };
            if body.len() < length {
                break;
            }
            // Each page ends with a line, and the next answer begins one.
            let page = &body[..length];
            assert!(!page.contains("HTTP/1.1"), "an answer begins in {page}");
            (whole, rest) = (whole + 1, &body[length..]);
        }
        println!("measured: {whole} answers came whole, then {} bytes", rest.len());
        assert_eq!(rest.rfind("HTTP/1.1 ").unwrap_or(0), 0, "{rest}");
    }
}

#[test]
fn a_pause_of_the_process_ends_no_connection() {
    let exporter = Exporter::start(&[]);
    let mut scraper = exporter.connect();
    scraper.get("/metrics").page();
    exporter.signal("STOP");
    thread::sleep(Duration::from_millis(100));
    exporter.signal("CONT");
    thread::sleep(Duration::from_millis(100));
    scraper.get("/metrics").page();
}

#[test]
fn clients_that_never_read_hold_no_other_up() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let mut silent = exporter.scraper();
    for number in [1, 200] {
        let _held: Vec<_> = (0..number).map(|_| ask_and_never_read(&exporter, 2000)).collect();
        let longest = longest_scrape(&exporter, Duration::from_millis(700));
        println!("measured: {number} clients that never read: the longest scrape took {longest:?}");
        assert!(longest < HELD_UP, "with {number} of them a scrape took {longest:?}");
    }
    silent.scrape();
}

#[test]
fn half_requests_hold_no_other_up() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let mut held = hold(&exporter, 300);
    for stream in &mut held {
        stream.write_all(b"GET").unwrap();
    }
    let longest = longest_scrape(&exporter, Duration::from_millis(700));
    println!("measured: 300 half requests: the longest scrape took {longest:?}");
    assert!(longest < HELD_UP, "a scrape took {longest:?}");
}

#[test]
fn connections_that_are_held_cost_next_to_nothing() {
    let exporter = Exporter::start(&[]);
    let _held = hold(&exporter, 30);
    let cpu = exporter.cpu();
    thread::sleep(Duration::from_secs(2));
    let spent = exporter.cpu() - cpu;
    println!("measured: 30 connections held for 2 s: {spent:?} of CPU time");
    assert!(spent <= Duration::from_millis(10), "{spent:?} of CPU time in 2 s");
}

#[test]
fn bodies_that_never_come_hold_no_other_up() {
    let exporter = Exporter::start(&[]);
    let post = |length: &str| {
        let mut connection = exporter.connect();
        connection
            .send(format!("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes())
            .unwrap();
        connection
    };
    let mut held: Vec<_> = (0..20).map(|_| post("100000")).collect();
    let longest = longest_scrape(&exporter, Duration::from_millis(600));
    assert!(longest < HELD_UP, "a scrape took {longest:?}");
    for connection in &mut held {
        assert_eq!(connection.answer(true).unwrap().status, 405, "the answer need not wait for the body");
    }

    let lengths = ["1000000000000", "9223372036854775807", "18446744073709551615", "99999999999999999999999", "-1"];
    let _absurd: Vec<_> = lengths.map(post).into();
    let longest = longest_scrape(&exporter, Duration::from_millis(500));
    assert!(longest < HELD_UP, "a scrape took {longest:?}");
    assert_eq!(exporter.complaints(), "");
}

#[test]
fn requests_that_nobody_waits_for_leave_no_memory_behind() {
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let before = exporter.resident();
    for _ in 0..10 {
        drop(ask_and_never_read(&exporter, 2000));
    }
    let grown = within(Duration::from_secs(20), "its memory given back", || {
        thread::sleep(Duration::from_millis(100));
        let grown = exporter.resident().saturating_sub(before);
        (grown < MEMORY_WITHIN_REACH).then_some(grown)
    });
    println!("measured: 20000 requests left {grown} KiB more than the {before} KiB before");
    exporter.scrape();
}

/// A request that clients may send, with some of its bytes changed, left out, doubled or put in.
fn mutated(random: &mut fastrand::Rng) -> Vec<u8> {
    let requests: [&[u8]; 7] = [
        WHOLE_REQUEST,
        b"GET http://localhost/metrics?a=%6d HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na=b&cGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 1\n\n",
    ];
    let words = [
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        ":",
        ",",
        "%",
        "\0",
        "\u{fffd}",
        "HTTP/2.0",
        "HTTP/1.0",
        "Host: b\r\n",
        "Connection: close\r\n",
        "Content-Length: ",
        "99999999999999999999",
        "-1",
        "Transfer-Encoding: chunked\r\n",
        "://",
        "//",
        "?",
    ];
    let mut bytes = requests[random.usize(..requests.len())].to_vec();
    for _ in 0..random.usize(1..5) {
        let from = random.usize(..=bytes.len());
        let to = (from + random.usize(..12)).min(bytes.len());
        match random.u8(..4) {
            0 => bytes[from..to].fill_with(|| random.u8(..)),
            1 => drop(bytes.drain(from..to)),
            2 => bytes.extend_from_within(from..to),
            _ => drop(bytes.splice(from..from, words[random.usize(..words.len())].bytes())),
        }
    }
    bytes
}

#[test]
fn ten_thousand_mutated_requests_are_outlived() {
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let (files, before) = (exporter.open_files(), exporter.resident());
    let mut random = fastrand::Rng::with_seed(9);
    let mut answers = BTreeMap::new();
    let start = Instant::now();
    for number in 0..10_000 {
        let request = mutated(&mut random);
        let mut stream = TcpStream::connect(exporter.address).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        stream.write_all(&request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let what = || format!("number {number}: {:?}", String::from_utf8_lossy(&request));
        read.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let answer = String::from_utf8_lossy(&answer);
        let mut words = answer.split(' ');
        let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        assert!(["", "HTTP/1.0", "HTTP/1.1"].contains(&version), "{}: {answer}", what());
        *answers.entry(code.to_owned()).or_insert(0) += 1;
    }
    println!("measured: 10000 mutated requests in {:?}, by answer: {answers:?}", start.elapsed());
    for code in ["200", "400", "404", "405", "505"] {
        assert!(answers.remove(code) > Some(10), "hardly any {code}: this tests little");
    }
    answers.remove("");
    assert!(answers.is_empty(), "answers that nothing asked for: {answers:?}");
    exporter.scrape();
    within(Duration::from_secs(3), "their files closed", || (exporter.open_files() <= files).then_some(()));
    let grown = exporter.resident().saturating_sub(before);
    assert!(grown < MEMORY_WITHIN_REACH, "{grown} KiB more");
    assert_eq!(exporter.complaints(), "");
}
