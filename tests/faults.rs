//! Misbehaving clients, and the scraper next to them that must not notice.
#![cfg(target_os = "linux")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Connection, Exporter, REQUEST, TIMEOUT, command, wait_until};

const HALF_A_REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: local";
/// A scrape that takes longer has waited for another client: the time limits of a client are 5 s, and a busy machine
/// delays a scrape for less.
const TOO_LONG: Duration = Duration::from_millis(4500);
/// How much more memory the exporter may hold after an attack, in KiB.
const MEMORY: u64 = 4 * 1024;

/// Some tests open hundreds of connections. Only one of them runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens connections that send nothing (the even ones) or half a request (the odd ones): `number` of them, or as many
/// as the listener's backlog accepts.
fn hold(exporter: &Exporter, number: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    let mut refused = 0;
    // The backlog may be full for just a moment.
    while held.len() < number && refused < 5 {
        let Ok(mut stream) = TcpStream::connect_timeout(&exporter.address, Duration::from_millis(200)) else {
            refused += 1;
            continue;
        };
        refused = 0;
        if held.len() % 2 == 1 {
            stream.write_all(HALF_A_REQUEST).expect("the system accepts it");
        }
        held.push(stream);
        // On a busy machine, the backlog could fill before the exporter accepts anything.
        thread::sleep(Duration::from_millis(1));
    }
    held
}

/// A client that sends `number` requests, or as many as the system accepts, and reads no response.
fn ask_and_never_read(exporter: &Exporter, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(exporter.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let _ = stream.write_all(&REQUEST.repeat(number));
    thread::sleep(Duration::from_millis(1));
    stream
}

/// The open files, apart from the connection of the scrape that counts them.
fn other_files(exporter: &Exporter) -> usize {
    exporter.scrape().value("process_open_fds") as usize - 1
}

/// Scrapes over new connections for as long as `duration`; fails if three of them in a row take too long. A busy
/// machine may delay one of them, but a client that other clients delay waits each time.
fn assert_scrapes_are_quick(exporter: &Exporter, duration: Duration) {
    let start = Instant::now();
    let mut slow = Vec::new();
    while start.elapsed() < duration || !slow.is_empty() {
        let scrape = Instant::now();
        exporter.scrape();
        if scrape.elapsed() < TOO_LONG {
            slow.clear();
        } else {
            slow.push(scrape.elapsed());
            assert!(slow.len() < 3, "scrapes took {slow:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_scrape_is_answered_next_to_400_connections_with_little_memory_or_few_files() {
    let _alone = alone();
    // This memory is enough for 50 connections; 24 files aren't.
    for (limit, most, warnings) in [("ulimit -v 30000", 61.0, 0), ("ulimit -n 24", 24.0, 1)] {
        let exporter = Exporter::start_after(limit, &[]);
        let mut scraper = exporter.scraper();
        let held = hold(&exporter, 400);
        assert_eq!(held.len(), 400);
        let (start, cpu) = (Instant::now(), exporter.cpu());
        assert_scrapes_are_quick(&exporter, Duration::from_millis(700));
        let page = scraper.scrape();
        let spent = exporter.cpu().iter().sum::<Duration>() - cpu.iter().sum();
        // The page shows that the files are used up, apart from connections that end just then.
        let open = page.value("process_open_fds");
        assert!((most * 0.8..=most).contains(&open), "{open} files are open");
        assert!(spent * 5 < start.elapsed(), "{spent:?} of CPU time in {:?}", start.elapsed());
        let errors = exporter.errors();
        assert_eq!(errors.lines().count(), warnings, "{errors}");
        assert!(errors.lines().all(|line| line.starts_with("modelmock: cannot open") && line.contains("ulimit -n")));
    }
}

#[test]
fn the_only_client_that_the_files_allow_is_answered() {
    // With 7 files, only one is free for connections.
    for files in 7..12 {
        let exporter = Exporter::start_after(&format!("ulimit -n {files}"), &[]);
        let mut client = exporter.scraper();
        if files == 7 {
            // The process metrics stay on the page if no file is free.
            assert_eq!(client.scrape().value("process_open_fds"), 7.0);
        }
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(100));
            client.scrape();
        }
        assert_eq!(client.reconnected, 0, "with {files} files");
        drop(client);
        for _ in 0..3 {
            exporter.scrape();
        }
    }
}

#[test]
fn clients_are_answered_if_another_program_takes_each_free_thread() {
    let _alone = alone();
    // The system counts the threads of a user, but not those of root. This user runs nothing else.
    let user = 3_000_000_000 + std::process::id();
    let as_user = |script: &str| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--clear-groups", "sh", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        command
    };
    if !as_user("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: setpriv is missing or may not change the user: install util-linux, and run as root");
        return;
    }
    // The user may not be allowed to read the folder of the program.
    let folder = std::env::temp_dir().join(format!("modelmock-{user}"));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("modelmock");
    fs::copy(command("", &[]).get_program(), &program).unwrap();
    let exporter =
        Exporter::spawn(as_user(&format!("exec prlimit --nproc=24 {} --listen 127.0.0.1:0", program.display())));
    let _idle: Vec<_> = (0..6).map(|_| exporter.scraper()).collect();
    // These are more than the exporter's limit, so it gets no thread, even if one of its own has ended.
    let mut others = as_user("for n in $(seq 30); do sleep 60 & done; echo; exec sleep 60").spawn().unwrap();
    others.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let answered: Vec<bool> = (0..12).map(|_| is_served(exporter.address)).collect();
    let _ = as_user("kill -KILL -1").output();
    others.wait().unwrap();
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(answered, [true; 12]);
}

#[test]
fn at_most_51_connections_are_open_at_once() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let others = other_files(&exporter);
    let address = exporter.address;
    let end = Instant::now() + Duration::from_millis(1000);
    let floods = [(); 4].map(|()| {
        thread::spawn(move || {
            let mut held = Vec::new();
            let mut opened = 0;
            while Instant::now() < end {
                held.extend(TcpStream::connect_timeout(&address, Duration::from_millis(200)));
                opened += 1;
                if held.len() > 200 {
                    held.clear();
                }
            }
            opened
        })
    });
    let mut most = 0;
    while Instant::now() < end {
        most = most.max(exporter.open_files().saturating_sub(others));
    }
    let opened: usize = floods.map(|flood| flood.join().unwrap()).iter().sum();
    assert!(opened > 100 && most > 45, "{opened} connections, {most} at once: this tests nothing");
    // 50 connections, and the one that the exporter accepts just then.
    assert!(most <= 51, "{most} connections were open at once");
    let _held = hold(&exporter, 60);
    assert_eq!(other_files(&exporter), others + 49);
}

/// Scrapes over a new connection, as an honest client. Returns whether it got the response.
fn is_served(address: SocketAddr) -> bool {
    let served = Connection::open(address).and_then(|mut connection| {
        connection.send(REQUEST)?;
        connection.response(true)
    });
    served.is_ok()
}

#[test]
fn a_burst_of_new_clients_is_answered() {
    let _alone = alone();
    let exporter = Exporter::start(&["--quiet"]);
    let address = exporter.address;
    for (clients, most_lost) in [(60, 0), (100, 10)] {
        let mut lost = 0;
        for _ in 0..10 {
            let start = Arc::new(Barrier::new(clients));
            let client = || {
                let start = Arc::clone(&start);
                thread::spawn(move || {
                    start.wait();
                    is_served(address)
                })
            };
            let clients: Vec<_> = (0..clients).map(|_| client()).collect();
            lost += clients.into_iter().map(|client| client.join().unwrap()).filter(|served| !served).count();
        }
        assert!(lost <= most_lost, "{lost} of {} clients were not answered", clients * 10);
    }
}

#[test]
fn clients_that_ask_and_close_are_answered() {
    let _alone = alone();
    let exporter = Exporter::start(&["--quiet"]);
    let address = exporter.address;
    for clients in [40, 49] {
        let asked = Arc::new(AtomicUsize::new(0));
        let client = || {
            let asked = Arc::clone(&asked);
            thread::spawn(move || {
                let mut lost = 0;
                while asked.fetch_add(1, Ordering::Relaxed) < 6000 {
                    lost += usize::from(!is_served(address));
                }
                lost
            })
        };
        let clients: Vec<_> = (0..clients).map(|_| client()).collect();
        let lost: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(lost, 0, "of 6000 clients");
    }
}

#[test]
fn newcomers_are_answered_during_a_flood_of_silent_clients() {
    let _alone = alone();
    let exporter = Exporter::start(&["--quiet"]);
    let address = exporter.address;
    let end = Instant::now() + Duration::from_secs(3);
    let flood = thread::spawn(move || {
        let mut held = VecDeque::new();
        while Instant::now() < end {
            held.extend(TcpStream::connect_timeout(&address, Duration::from_millis(200)));
            while held.len() > 400 {
                held.pop_front();
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        exporter.scrape();
        times.push(start.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    flood.join().unwrap();
    times.sort();
    let median = times[times.len() / 2];
    // If each newcomer waited until the silent ones may be closed, this would take some 100 ms.
    assert!(median < Duration::from_millis(50), "the median of {} scrapes took {median:?}", times.len());
}

#[test]
fn idle_connections_end_for_newcomers() {
    let exporter = Exporter::start(&[]);
    let mut idle = [(); 50].map(|()| exporter.scraper());
    for round in 0..10 {
        let mut newcomers = [(); 10].map(|()| exporter.connect());
        for newcomer in &mut newcomers {
            newcomer.send(REQUEST).unwrap();
        }
        let answered = newcomers.each_mut().map(|newcomer| newcomer.response(true).is_ok());
        assert_eq!(answered, [true; 10], "round {round}");
    }
    // A disconnected scraper is answered when it connects again.
    for scraper in &mut idle {
        scraper.scrape();
        assert!(scraper.reconnected <= 1);
    }
}

#[test]
fn a_scrape_is_answered_next_to_60_idle_connections() {
    let exporter = Exporter::start(&["--quiet"]);
    // On Windows, closing such a connection doesn't wake its thread.
    let mut kept = exporter.connect();
    kept.get("/metrics").page();
    let _idle: Vec<Connection> = (0..60).map(|_| exporter.connect()).collect();
    assert_scrapes_are_quick(&exporter, Duration::from_millis(100));
    kept.response(true).expect_err("the least recently active connection ends");
}

#[test]
fn a_scrape_is_answered_next_to_50_halves_of_requests() {
    let exporter = Exporter::start(&["--quiet"]);
    // A busy machine may delay a scrape, so one of three is enough.
    let times = [(); 3].map(|()| {
        let _halves = [(); 50].map(|()| {
            let mut client = exporter.connect();
            client.send(HALF_A_REQUEST).unwrap();
            client
        });
        // A connection that sent something a moment ago isn't closed for others.
        thread::sleep(Duration::from_millis(400));
        let start = Instant::now();
        exporter.scrape();
        start.elapsed()
    });
    // On Windows, a thread notices within 1 s that its connection was closed. The time limit of a request is 5 s.
    assert!(times.iter().min() < Some(&Duration::from_millis(2500)), "the scrapes took {times:?}");
}

#[test]
fn the_most_recently_answered_client_keeps_its_connection() {
    let exporter = Exporter::start(&[]);
    let _held = hold(&exporter, 25);
    let never_read = [(); 24].map(|()| ask_and_never_read(&exporter, 2000));
    let mut scraper = exporter.scraper();
    for _ in 0..6 {
        // These never ask, and come after the scraper's response, so the ones before it end.
        let newcomers = hold(&exporter, 40);
        // After this scrape, the exporter has accepted all of them.
        exporter.scrape();
        scraper.scrape();
        assert_eq!(scraper.reconnected, 0, "the scraper was disconnected");
        drop(newcomers);
    }
    drop(never_read);
}

#[test]
fn an_empty_line_behind_a_request_does_not_hide_that_the_client_is_active() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    let _older: Vec<Connection> = (0..20).map(|_| exporter.connect()).collect();
    // Connections are accepted in order: after this scrape, the exporter has accepted the older ones.
    exporter.scrape();
    for _ in 0..3 {
        client.send(&[REQUEST, b"\r\n"].concat()).unwrap();
        client.response(true).unwrap().page();
        let _newer: Vec<Connection> = (0..40).map(|_| exporter.connect()).collect();
        exporter.scrape();
    }
}

#[test]
fn a_head_without_an_end_is_cut() {
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let before = exporter.status("VmHWM");
    for (beginning, filler) in
        [("GET /metrics HTTP/1.1\r\nA: ", "xxxxxx"), ("GET /metrics HTTP/1.1\r\n", "A: b\r\n"), ("GET /", "xxxxxx")]
    {
        let mut client = exporter.connect();
        client.send(beginning.as_bytes()).unwrap();
        client.send(filler.repeat(4000).as_bytes()).unwrap();
        assert_eq!(client.response(true).unwrap().status, 431, "{beginning}");

        let mut endless = TcpStream::connect(exporter.address).unwrap();
        endless.write_all(beginning.as_bytes()).unwrap();
        let megabyte = filler.repeat(175_000);
        let accepted = (0..64).take_while(|_| endless.write_all(megabyte.as_bytes()).is_ok()).count();
        assert!(accepted < 32, "the exporter accepted {accepted} MiB of a head");
    }
    let grown = exporter.status("VmHWM") - before;
    assert!(grown < MEMORY, "{grown} KiB more");
}

#[test]
fn a_slow_client_is_disconnected_after_5_s() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n").unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(5200) {
        // The last bytes may be refused.
        let _ = client.send(b"A: b\r\n");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.response(true).unwrap().status, 408);
    client.response(true).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn a_pipelining_client_fills_no_memory() {
    let exporter = Exporter::start(&[]);
    exporter.scrape();
    let before = exporter.status("VmHWM");
    let mut reader = TcpStream::connect(exporter.address).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(1..) = reader.read(&mut bytes) {}
    });
    let writing = thread::spawn(move || {
        let requests = REQUEST.repeat(10_000);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1500) {
            writer.write_all(&requests).unwrap();
        }
        writer.shutdown(Shutdown::Both).unwrap();
    });
    assert_scrapes_are_quick(&exporter, Duration::from_millis(1500));
    writing.join().unwrap();
    reading.join().unwrap();
    let grown = exporter.status("VmHWM") - before;
    assert!(grown < 4 * MEMORY, "{grown} KiB more");
}

#[test]
fn a_client_that_never_reads_is_disconnected() {
    let exporter = Exporter::start(&[]);
    let files = other_files(&exporter);
    // The system stores some megabytes of responses for the client.
    let _client = ask_and_never_read(&exporter, 200_000);
    assert!(exporter.open_files() > files, "all responses were sent: this tests nothing");
    wait_until(Duration::from_secs(60), "the client disconnected", || (exporter.open_files() <= files).then_some(()));
}

#[test]
fn clients_that_never_read_do_not_delay_scrapes() {
    let _alone = alone();
    let exporter = Exporter::start(&[]);
    let mut silent = exporter.scraper();
    for number in [1, 100] {
        let _held: Vec<_> = (0..number).map(|_| ask_and_never_read(&exporter, 2000)).collect();
        assert_scrapes_are_quick(&exporter, Duration::from_millis(700));
    }
    silent.scrape();
}

#[test]
fn idle_connections_cost_almost_no_cpu_time() {
    let exporter = Exporter::start(&[]);
    let _held = hold(&exporter, 30);
    let before = exporter.cpu();
    thread::sleep(Duration::from_secs(2));
    let spent = exporter.cpu().iter().sum::<Duration>() - before.iter().sum();
    assert!(spent <= Duration::from_millis(10), "{spent:?} of CPU time in 2 s");
}

#[test]
fn bodies_that_never_come_do_not_delay_scrapes() {
    let exporter = Exporter::start(&[]);
    let files = other_files(&exporter);
    let post = |length: &str| {
        let mut connection = exporter.connect();
        let head = format!("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        connection
    };
    let mut held: Vec<_> = (0..20).map(|_| post("100000")).collect();
    assert_scrapes_are_quick(&exporter, Duration::from_millis(500));
    for connection in &mut held {
        // The response doesn't wait for the body.
        assert_eq!(connection.response(true).unwrap().status, 405);
    }
    let _absurd = ["9223372036854775807", "99999999999999999999999", "-1"].map(post);
    assert_scrapes_are_quick(&exporter, Duration::from_millis(500));
    // The exporter doesn't wait for them for as long as for a request.
    wait_until(Duration::from_secs(3), "their connections closed", || (exporter.open_files() <= files).then_some(()));
    assert_eq!(exporter.errors(), "");
}

/// A request that clients may send, with some bytes changed, removed, repeated or inserted.
fn mutated(random: &mut fastrand::Rng) -> Vec<u8> {
    let requests: [&[u8]; 7] = [
        REQUEST,
        b"GET http://localhost/metrics?a=%6d HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na=b&cGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 1\n\n",
    ];
    let words = "\r\n|\r\n\r\n|\n|\r| |:|,|%|\0|\u{fffd}|HTTP/2.0|HTTP/1.0|Host: b\r\n|Connection: close\r\n|\
                 Content-Length: |99999999999999999999|-1|Transfer-Encoding: chunked\r\n|://|//|?";
    let words: Vec<&str> = words.split('|').collect();
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
fn five_thousand_mutated_requests_get_a_known_status_and_leave_nothing_behind() {
    let exporter = Exporter::start(&[]);
    let (files, before) = (other_files(&exporter), exporter.status("VmRSS"));
    let mut random = fastrand::Rng::with_seed(9);
    let mut statuses = BTreeMap::new();
    for number in 0..5_000 {
        let request = mutated(&mut random);
        let what = || format!("number {number}: {:?}", String::from_utf8_lossy(&request));
        let mut stream = TcpStream::connect(exporter.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(&request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap_or_else(|error| panic!("{}: {error}", what()));
        let response = String::from_utf8_lossy(&response).into_owned();
        let mut words = response.split(' ');
        assert!(["", "HTTP/1.1"].contains(&words.next().unwrap()), "{}: {response}", what());
        *statuses.entry(words.next().unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    for status in ["200", "400", "404", "405", "505"] {
        assert!(statuses.remove(status) > Some(10), "almost no {status}: this tests little");
    }
    statuses.remove("");
    assert!(statuses.is_empty(), "unexpected: {statuses:?}");
    exporter.scrape();
    wait_until(TIMEOUT, "their files closed", || (exporter.open_files() <= files).then_some(()));
    let grown = exporter.status("VmRSS").saturating_sub(before);
    assert!(grown < MEMORY, "{grown} KiB more");
    assert_eq!(exporter.errors(), "");
}
