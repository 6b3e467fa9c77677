//! The model over time: its deadlines, and that the page shows its results. `src/model.rs` tests the series.
#![cfg(unix)]

mod common;

use std::io::{BufRead, Read};
use std::thread;
use std::time::{Duration, Instant};

use common::{Exporter, TIMEOUT, wait_until};

/// The next `number` results that an exporter prints.
fn results(exporter: &mut Exporter, number: usize) -> Vec<f64> {
    let lines = exporter.stdout.by_ref().lines().take(number);
    lines.map(|line| line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn the_page_shows_the_results_that_were_printed() {
    let mut exporter = Exporter::start(&["--interval", "0.01", "--seed", "3"]);
    let drawn = results(&mut exporter, 200);
    let page = exporter.scrape();
    // The page may be newer than the lines, and its statistics newer than its result.
    let count = page.value("model_refreshes_total") as usize;
    let drawn = [drawn, results(&mut exporter, count - 200)].concat();
    assert!(drawn[count - 2..].contains(&page.value("model_result")));
    let sum: f64 = drawn.iter().sum();
    assert!((page.value("model_result_distribution_sum") - sum).abs() < 1e-9);
    for tenth in 1..=10 {
        let bound = f64::from(tenth) / 10.0;
        let expected = drawn.iter().filter(|result| **result <= bound).count();
        let bucket = page.value(&format!("model_result_distribution_bucket{{le=\"{bound:?}\"}}"));
        assert_eq!(bucket, expected as f64, "up to {bound}");
    }
    let mut window = drawn[count - 180..].to_vec();
    window.sort_by(f64::total_cmp);
    for (quantile, rank) in [("0.5", 90), ("0.9", 162), ("0.99", 179)] {
        let value = page.value(&format!("model_result_recent{{quantile=\"{quantile}\"}}"));
        assert_eq!(value, window[rank - 1], "quantile {quantile}");
    }
}

#[test]
fn the_seed_and_the_drift_determine_the_results() {
    let start = |arguments: &[&str]| Exporter::start(&[&["--interval", "0.01"], arguments].concat());
    let seeded = ["--seed", "7"];
    let mut plain = start(&seeded);
    let plain = results(&mut plain, 300);
    // After 1 s, the results have moved half of the way to these targets, for results below and above 0.5.
    for (flag, low, high) in [("--drift", 1.0, 1.0), ("--drift-narrow", 0.5, 0.5), ("--drift-split", 0.0, 1.0)] {
        let exporters = [(); 2].map(|()| start(&[&seeded[..], &[flag, "1"]].concat()));
        let [drifted, again] = exporters.map(|mut exporter| {
            let drifted = results(&mut exporter, 300);
            let body = exporter.connect().get("/metrics").body;
            assert!(!body.contains("drift") && !body.contains("split") && !body.contains("narrow"), "{flag}: {body}");
            drifted
        });
        assert_eq!(drifted, again, "{flag}");
        assert_eq!(drifted[0], plain[0], "{flag}");
        for (plain, drifted) in plain.iter().zip(&drifted).skip(100) {
            let target = if *plain < 0.5 { low } else { high };
            assert!(((plain + target) / 2.0 - drifted).abs() < 1e-6, "{flag}: {plain} becomes {drifted}");
        }
    }
}

#[test]
fn a_fixed_value_is_each_result() {
    for (given, value) in
        [("0", "0"), ("-0", "0"), ("9.5e-1", "0.95"), ("1", "1"), ("5e-324", "0"), ("0.123456789", "0.123456789")]
    {
        let exporter = Exporter::start(&["--interval", "0.01", "--value", given]);
        wait_until(TIMEOUT, "three results", || (exporter.scrape().value("model_refreshes_total") > 3.0).then_some(()));
        let body = exporter.connect().get("/metrics").body;
        for name in ["model_result", "model_result_recent{quantile=\"0.5\"}"] {
            assert!(body.contains(&format!("\n{name} {value}\n")), "{name} isn't {value} in {body}");
        }
    }
}

#[test]
fn delays_of_single_results_do_not_add_up() {
    // With 20 ms between two results, all are printed at the same milliseconds of 20, unless the machine is busy then.
    // If each came a little later than the one before, they would be spread evenly: 38 of 250 in 3 ms. A busy machine
    // spreads them, too, so one of five runs is enough.
    let mut runs = Vec::new();
    let is_on_time = (0..5).any(|_| {
        let start = Instant::now();
        let printed_at = milliseconds_of_20(&mut Exporter::start(&["--interval", "0.02"]), 250);
        assert!(start.elapsed() >= Duration::from_millis(4900), "250 results took {:?}", start.elapsed());
        let at = |millis: usize| printed_at[millis % 20];
        let on_time = (0..20).map(|millis| at(millis) + at(millis + 1) + at(millis + 2)).max().unwrap();
        runs.push(printed_at);
        on_time > 100
    });
    assert!(is_on_time, "the results are spread: {runs:?}");
}

/// How many of the next `number` results are printed at each millisecond of 20. The times in the lines are no measure:
/// they are the wall clock's, which the machine may be setting right in small steps.
fn milliseconds_of_20(exporter: &mut Exporter, number: usize) -> [u32; 20] {
    let start = Instant::now();
    let mut printed_at = [0; 20];
    for line in exporter.stdout.by_ref().lines().take(number) {
        line.unwrap();
        printed_at[start.elapsed().as_millis() as usize % 20] += 1;
    }
    printed_at
}

#[test]
fn a_pause_of_the_process_ends_no_connection_and_no_burst_follows() {
    let exporter = Exporter::start(&["--interval", "0.1"]);
    let mut client = exporter.connect();
    let start = Instant::now();
    let before = client.get("/metrics").page().value("model_refreshes_total");
    exporter.signal("STOP");
    thread::sleep(Duration::from_secs(2));
    exporter.signal("CONT");
    thread::sleep(Duration::from_millis(500));
    let count = client.get("/metrics").page().value("model_refreshes_total") - before;
    let most = 3.0 + (start.elapsed().as_secs_f64() - 2.0) / 0.1;
    assert!(count <= most, "{count} results, more than {most}");
}
