//! The page that a scrape gets, compared with a stored one; its process metrics against procfs; and how long a scrape
//! takes.
#![cfg(unix)]

mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{Exporter, REQUEST, TIMEOUT, wait_until};

#[cfg_attr(not(target_os = "linux"), ignore = "the process metrics need Linux")]
#[test]
fn the_page_is_the_stored_one() {
    let exporter = Exporter::start(&["--seed", "1", "--interval", "86400"]);
    let varies = |name: &str| name.starts_with("process_") || name.ends_with("_timestamp_seconds");
    let body = exporter.connect().get("/metrics").body.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let lines = body.lines().map(|line| match line.split_once(' ') {
        Some((name, _)) if varies(name) => format!("{name} VARIES\n"),
        _ => format!("{line}\n"),
    });
    let page: String = lines.collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page.prom");
    assert!(page == fs::read_to_string(path).unwrap(), "this page differs from {path}:\n{page}");
}

#[test]
fn get_and_head_work_at_both_paths() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    for path in ["/", "/metrics", "/?a=b", "/metrics?x", "/metrics?name[]=model_result", "http://localhost?x"] {
        let get = connection.get(path);
        assert_eq!(get.status, 200, "GET {path}");
        assert_eq!(get.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(get.body.starts_with("# HELP model_result ") && get.body.ends_with('\n'), "GET {path}");
        let head = connection.request("HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "HEAD {path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"]);
        assert!(head.headers["content-length"].parse::<usize>().unwrap() > 1000);
    }
}

#[test]
fn the_statistics_of_a_page_agree_with_each_other() {
    let exporter = Exporter::start(&["--interval", "0.01"]);
    let mut connection = exporter.connect();
    let mut latest = 0.0;
    while latest < 200.0 {
        let page = connection.get("/metrics").page();
        let count = page.value("model_refreshes_total");
        for name in [
            "model_result_distribution_count",
            "model_result_distribution_bucket{le=\"+Inf\"}",
            "model_result_distribution_bucket{le=\"1.0\"}",
            "model_result_recent_count",
        ] {
            assert_eq!(page.value(name), count, "{name}");
        }
        assert_eq!(page.value("model_result_distribution_sum"), page.value("model_result_recent_sum"));
        assert!(count >= latest, "{latest} results, then {count}");
        latest = count;
    }
}

#[cfg_attr(not(target_os = "linux"), ignore = "the process metrics need Linux")]
#[test]
fn the_process_metrics_are_those_of_the_process() {
    let unix_time = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let earliest = unix_time();
    let exporter = Exporter::start_after("ulimit -n 321; ulimit -v 4000000", &["--interval", "86400"]);
    let latest = unix_time();
    let mut connection = exporter.connect();
    let page = connection.get("/metrics").page();
    assert_eq!(page.value("process_max_fds"), 321.0);
    assert_eq!(page.value("process_virtual_memory_max_bytes"), 4_000_000.0 * 1024.0);
    assert_eq!(page.value("process_open_fds"), exporter.open_files() as f64);
    let started_at = page.value("process_start_time_seconds");
    assert!((earliest..=latest).contains(&started_at), "{started_at} isn't from {earliest} to {latest}");
    assert!(started_at <= page.value("model_last_refresh_timestamp_seconds"));
    // main, the model, the connection, one for each output, and one for signals.
    assert_eq!(page.value("process_threads"), 6.0);
    // A thread that starts late takes memory late. The kernel's files may differ by some pages (proc(5)).
    for (name, field) in [("process_resident_memory_bytes", "VmRSS"), ("process_virtual_memory_bytes", "VmSize")] {
        wait_until(TIMEOUT, &format!("{name} is {field}"), || {
            let (shown, actual) = (connection.get("/metrics").page().value(name), exporter.status(field) * 1024);
            ((shown - actual as f64).abs() < f64::from(512 << 10)).then_some(())
        });
    }

    // New connections cost system time, and pages user time.
    wait_until(Duration::from_secs(60), "CPU time of both kinds", || {
        drop(exporter.scrape());
        exporter.cpu().iter().all(|time| *time >= Duration::from_millis(100)).then_some(())
    });
    let held = [(); 3].map(|()| exporter.connect());
    thread::sleep(Duration::from_millis(200));
    let after = connection.get("/metrics").page();
    let spent = exporter.cpu().iter().sum::<Duration>().as_secs_f64();
    let shown = after.value("process_cpu_seconds_total");
    assert!((spent - 0.05..=spent).contains(&shown), "{shown} s on the page, {spent} s in procfs");
    let opened = after.value("process_open_fds") - page.value("process_open_fds");
    assert_eq!(opened, held.len() as f64, "each connection has one file");
    drop(held);
    wait_until(TIMEOUT, "their files closed", || {
        let open = connection.get("/metrics").page().value("process_open_fds");
        (open == page.value("process_open_fds")).then_some(())
    });
}

#[test]
fn a_kept_alive_scraper_never_waits_for_an_acknowledgement() {
    let exporter = Exporter::start(&[]);
    let mut connection = exporter.connect();
    for at_once in [1, 3] {
        let requests = REQUEST.repeat(at_once);
        let mut times: Vec<Duration> = (0..201)
            .map(|_| {
                let start = Instant::now();
                connection.send(&requests).unwrap();
                for _ in 0..at_once {
                    connection.response(true).unwrap().page();
                }
                start.elapsed()
            })
            .collect();
        times.sort();
        // A client may delay its acknowledgement by 40 ms.
        let median = times[times.len() / 2];
        assert!(median < Duration::from_millis(20), "the median of {at_once} scrapes at once took {median:?}");
    }
}
