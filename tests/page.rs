//! The page: what a scrape gets, held against a kept page, and what any other request gets.

mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{Connection, Exporter, Page, WHOLE_REQUEST};

/// The page with what differs from run to run replaced by a word.
fn fixed(page: &str) -> String {
    let varies = |name: &str| name.starts_with("process_") || name.ends_with("_timestamp_seconds");
    let fixed = page.lines().map(|line| match line.split_once(' ') {
        Some((name, _)) if varies(name) => format!("{name} VARIES\n"),
        _ => format!("{line}\n"),
    });
    fixed.collect::<String>().replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[cfg(target_os = "linux")]
#[test]
fn the_page_is_the_kept_one() {
    let exporter = Exporter::start(&["--seed", "1", "--interval", "86400"]);
    let page = fixed(&exporter.connect().get("/metrics").body);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page.prom");
    let kept = fs::read_to_string(path).unwrap();
    assert!(page == kept, "this page is not the one in {path}:\n{page}");
}

#[test]
fn get_and_head_are_answered_at_both_paths() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    for path in ["/", "/metrics", "/?a=b", "/metrics?x", "/metrics?name[]=model_result"] {
        let get = connection.get(path);
        assert_eq!(get.status, 200, "GET {path}");
        assert_eq!(get.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(get.body.starts_with("# HELP model_result "), "GET {path}");
        assert!(get.body.ends_with('\n'));
        let head = connection.request("HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "HEAD {path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"]);
        assert!(head.headers["content-length"].parse::<usize>().unwrap() > 1000);
    }
    connection.send(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    connection.answer(true).unwrap().page();
}

#[test]
fn other_paths_and_methods_are_refused_with_a_reason() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    for path in ["/metric", "/metrics/", "/metrics2", "/favicon.ico", "//", "/?/../x/y".trim_start_matches("/?")] {
        for method in ["GET", "HEAD", "POST"] {
            let answer = connection.request(method, path);
            assert_eq!(answer.status, 404, "{method} {path}");
            assert!(method == "HEAD" || answer.body.contains("/metrics"), "{}", answer.body);
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get"] {
        for path in ["/", "/metrics"] {
            let answer = connection.request(method, path);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.headers["allow"], "GET, HEAD");
            assert_eq!(answer.body.lines().count(), 1);
        }
    }
    connection.send(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b").unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 405);
}

#[test]
fn answers_are_counted_by_code() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    let codes = ["200", "400", "404", "405", "408", "431", "505"];
    let counts =
        |page: Page| codes.map(|code| page.value(&format!("modelmock_http_requests_total{{code=\"{code}\"}}")));
    assert_eq!(counts(connection.get("/").page()), [0.0; 7]);
    connection.get("/nothing");
    connection.get("/nothing");
    connection.request("PUT", "/metrics");
    connection.request("HEAD", "/metrics");
    for _ in 0..3 {
        let mut refused = exporter.connect();
        refused.send(b"GET / HTTP/3.0\r\n\r\n").unwrap();
        assert_eq!(refused.answer(true).unwrap().status, 505);
        // It is closed after the answer was counted.
        refused.answer(true).unwrap_err();
    }
    let expected = [2.0, 0.0, 2.0, 1.0, 0.0, 0.0, 3.0];
    assert_eq!(counts(connection.get("/").page()), expected);
}

#[test]
fn no_page_mixes_two_refreshes() {
    let exporter = Exporter::start(&["--interval", "0.01"]);
    let address = exporter.address;
    let scrape = move || {
        let mut connection = Connection::open(address).unwrap();
        let start = Instant::now();
        let (mut pages, mut last) = (0, 0.0);
        while start.elapsed() < Duration::from_secs(2) {
            let page = connection.get("/metrics").page();
            let count = page.value("model_refreshes_total");
            let counts = [
                "model_result_distribution_count",
                "model_result_distribution_bucket{le=\"+Inf\"}",
                "model_result_distribution_bucket{le=\"1.0\"}",
                "model_result_recent_count",
            ];
            assert_eq!(counts.map(|name| page.value(name)), [count; 4]);
            assert_eq!(page.value("model_result_distribution_sum"), page.value("model_result_recent_sum"));
            assert!(count >= last, "{last} results, then {count}");
            (pages, last) = (pages + 1, count);
        }
        pages
    };
    let scrapers: Vec<_> = (0..4).map(|_| thread::spawn(scrape)).collect();
    let pages: u32 = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).sum();
    println!("measured: {pages} pages, none of them mixed");
    assert!(pages > 400, "only {pages} pages");
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_metrics_are_those_of_the_process() {
    let unix_time = || {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.unwrap().as_secs_f64()
    };
    let earliest = unix_time();
    let exporter = Exporter::with_files(321, &["--interval", "86400"]);
    let latest = unix_time();
    let mut connection = exporter.connect();
    let before = connection.get("/metrics").page();
    assert_eq!(before.value("process_max_fds"), 321.0);
    assert_eq!(before.value("process_open_fds"), exporter.open_files() as f64);
    let started_at = before.value("process_start_time_seconds");
    assert!((earliest..=latest).contains(&started_at), "started at {started_at}, not from {earliest} to {latest}");
    let drawn_at = before.value("model_last_refresh_timestamp_seconds");
    assert!(started_at <= drawn_at, "{started_at}, then {drawn_at}");
    // main, the model, the connection, the two that print, and the one that waits for signals.
    assert_eq!(before.value("process_threads"), 6.0);
    let resident = exporter.resident() as f64 * 1024.0;
    // The kernel's two files are not exact, and differ by some pages: proc(5).
    let shown = before.value("process_resident_memory_bytes");
    assert!((shown - resident).abs() < f64::from(512 << 10), "{shown} bytes on the page, {resident} in procfs");
    let reserved = before.value("process_virtual_memory_bytes");
    let reservable = before.value("process_virtual_memory_max_bytes");
    assert!(resident < reserved && reserved < reservable);

    let held = [(); 3].map(|()| exporter.connect());
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(600) {
        connection.get("/metrics").page();
    }
    let after = connection.get("/metrics").page();
    let opened = after.value("process_open_fds") - before.value("process_open_fds");
    assert_eq!(opened, held.len() as f64, "each connection has one file");
    let (counted, spent) = (after.value("process_cpu_seconds_total"), exporter.cpu().as_secs_f64());
    assert!((counted - spent).abs() < 0.11 && counted > 0.0, "{counted} s on the page, {spent} s in procfs");

    drop(held);
    thread::sleep(Duration::from_millis(300));
    let open = connection.get("/metrics").page().value("process_open_fds");
    assert_eq!(open, before.value("process_open_fds"), "after a pause");
}

#[test]
fn a_kept_alive_scraper_is_answered_without_a_stall() {
    let exporter = Exporter::start(&[]);
    let mut connection = exporter.connect();
    for at_once in [1, 3] {
        let requests = WHOLE_REQUEST.repeat(at_once);
        let mut times: Vec<Duration> = (0..501)
            .map(|_| {
                let asked = Instant::now();
                connection.send(&requests).unwrap();
                for _ in 0..at_once {
                    connection.answer(true).unwrap().page();
                }
                asked.elapsed()
            })
            .collect();
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "measured: {at_once} scrapes sent at once on a kept-alive connection: median {median:?}, longest {longest:?}"
        );
        // A stall is the 40 ms by which a client delays its acknowledgement.
        assert!(median < Duration::from_millis(10), "the median of {at_once} scrapes at once took {median:?}");
    }
}
