//! The model: when it draws, what it draws, and what its statistics make of that.

mod common;

use std::io::{BufRead, Read};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{Clock, Exporter, Page, WHOLE_REQUEST, within};

/// The first `number` results that an exporter prints.
fn results(exporter: &mut Exporter, number: usize) -> Vec<f64> {
    let lines = exporter.stdout().by_ref().lines().take(number);
    lines.map(|line| line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn results_are_in_range_and_the_seed_decides_on_them() {
    let [mut first, mut again, mut other, mut random] =
        [Some("7"), Some("7"), Some("8"), None].map(|seed| match seed {
            Some(seed) => Exporter::start(&["--interval", "0.01", "--seed", seed]),
            None => Exporter::start(&["--interval", "0.01"]),
        });
    let drawn = results(&mut first, 200);
    assert!(drawn.iter().all(|result| (0.0..=1.0).contains(result)));
    assert_eq!(drawn, results(&mut again, 200));
    assert_ne!(drawn, results(&mut other, 200));
    assert_ne!(drawn, results(&mut random, 200));
    let mean = drawn.iter().sum::<f64>() / 200.0;
    assert!((0.4..0.6).contains(&mean), "the mean of 200 results is {mean}");
}

#[test]
fn the_statistics_are_those_of_the_results() {
    let mut exporter = Exporter::start(&["--interval", "0.01", "--seed", "3"]);
    let drawn = results(&mut exporter, 200);
    let page = exporter.scrape();
    // The page may be some refreshes further than the lines that were read.
    let count = page.value("model_refreshes_total") as usize;
    let drawn = [drawn, results(&mut exporter, count - 200)].concat();

    assert_eq!(page.value("model_result"), drawn[count - 1]);
    let sum: f64 = drawn.iter().sum();
    assert!((page.value("model_result_distribution_sum") - sum).abs() < 1e-9);
    for tenth in 1..=10 {
        let bound = f64::from(tenth) / 10.0;
        let expected = drawn.iter().filter(|result| **result <= bound).count();
        assert_eq!(page.value(&format!("model_result_distribution_bucket{{le=\"{bound:?}\"}}")), expected as f64);
    }
    let mut recent = drawn[count - 180..].to_vec();
    recent.sort_by(f64::total_cmp);
    for (quantile, rank) in [("0.5", 90), ("0.9", 162), ("0.99", 179)] {
        let value = page.value(&format!("model_result_recent{{quantile=\"{quantile}\"}}"));
        assert_eq!(value, recent[rank - 1], "quantile {quantile}");
    }
}

#[test]
fn a_fixed_value_is_every_result() {
    for (given, value) in [("0", "0"), ("-0", "0"), ("9.5e-1", "0.95"), ("1", "1"), ("0.123456789", "0.123456789")] {
        let exporter = Exporter::start(&["--interval", "0.01", "--value", given]);
        thread::sleep(Duration::from_millis(50));
        let body = exporter.connect().get("/metrics").body;
        assert!(body.contains(&format!("\nmodel_result {value}\n")), "{body}");
        let page = Page::read(&body);
        assert_eq!(page.value("model_result_recent{quantile=\"0.5\"}").to_string(), value);
    }
}

#[test]
fn the_first_result_is_there_before_the_first_scrape() {
    for _ in 0..20 {
        let page = Exporter::start(&["--interval", "86400"]).scrape();
        assert_eq!(page.value("model_refreshes_total"), 1.0);
        assert!(page.value("model_last_refresh_timestamp_seconds") > 1.7e9);
    }
}

#[test]
fn deadlines_do_not_drift() {
    // With 10 ms between two results, all are drawn at the same digit of the milliseconds; where each
    // comes a little later than the one before, the digits are spread evenly.
    let mut exporter = Exporter::start(&["--interval", "0.01"]);
    let mut drawn_at = [0; 10];
    let start = Instant::now();
    for line in exporter.stdout().by_ref().lines().take(250) {
        let line = line.unwrap();
        let (time, _) = line.split_once('Z').unwrap();
        drawn_at[usize::from(time.as_bytes()[time.len() - 1] - b'0')] += 1;
    }
    let took = start.elapsed().as_secs_f64();
    assert!((2.4..8.0).contains(&took), "250 results took {took} s");
    let at = |digit: usize| drawn_at[digit % 10];
    let on_time = (0..10).map(|digit| at(digit) + at(digit + 1) + at(digit + 2));
    let on_time = on_time.max().unwrap();
    println!("measured: of 250 results {on_time} are within 3 ms of their deadline");
    assert!(on_time > 150, "the results are spread: {drawn_at:?}");
}

#[cfg(unix)]
#[test]
fn no_burst_makes_up_for_a_pause() {
    let exporter = Exporter::start(&["--interval", "0.1"]);
    exporter.signal("STOP");
    thread::sleep(Duration::from_secs(2));
    exporter.signal("CONT");
    let start = Instant::now();
    thread::sleep(Duration::from_millis(500));
    let count = exporter.scrape().value("model_refreshes_total");
    let most = 3.0 + start.elapsed().as_secs_f64() / 0.1;
    assert!(count <= most, "{count} results: those of the pause were made up for");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_machine_that_slept_goes_on_where_it_was() {
    let clock = Clock::new();
    clock.advance(0);
    let exporter = Exporter::on_another_system(&[("CLOCK", clock.path())], &["--interval", "1", "--quiet"]);
    let age = |page: &Page| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since_1970.unwrap().as_secs_f64() + 3600.0;
        now - page.value("model_last_refresh_timestamp_seconds")
    };
    let mut scraper = exporter.scraper();
    let mut half = exporter.connect();
    half.send(&WHOLE_REQUEST[..20]).unwrap();
    // So it is when a machine has slept for an hour: Unix time jumps, and an Instant stood still.
    clock.advance(3600);
    let woken = Instant::now();
    let page = scraper.scrape();
    assert!((3600.0..3602.0).contains(&age(&page)), "{}", age(&page));
    let drawn = page.value("model_refreshes_total");
    // The next result comes within an interval, and no burst before it.
    let page = within(Duration::from_secs(3), "a result", || {
        Some(scraper.scrape()).filter(|page| page.value("model_refreshes_total") > drawn)
    });
    let (took, more) = (woken.elapsed(), page.value("model_refreshes_total") - drawn);
    println!("measured: after an hour's sleep the next result came within {took:?}");
    assert!(more <= 1.0 + took.as_secs_f64(), "{more} in {took:?}");
    assert!(age(&page) < 3.0, "{}", age(&page));
    // Whoever was in the middle of a request has the rest of its time.
    half.send(&WHOLE_REQUEST[20..]).unwrap();
    half.answer(true).unwrap().page();
    assert_eq!(scraper.reconnected, 0);
}
