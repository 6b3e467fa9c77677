//! The model: a thread of its own draws a result at each deadline. It stores the result in an atomic, and the
//! statistics of all results behind a lock.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::output::Log;

/// The upper bounds of the histogram's buckets, without `+Inf`.
pub const BOUNDS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// The quantiles of the summary, each from 0 to 1.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// How many of the latest results the quantiles cover: 15 minutes at the default interval.
pub const WINDOW: usize = 180;
/// Drawn results are multiples of 1/RESOLUTION; 0 and 1 are possible.
const RESOLUTION: u32 = 1_000_000;
/// The part of the way to its target that a result has moved at the end of a drift.
const DRIFT_PART: f64 = 0.5;

/// Where the results move while the model drifts. Only `Rise` changes their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DriftKind {
    /// Up to 1.
    Rise,
    /// From both sides to 0.5.
    Narrow,
    /// Each to the nearer one of 0 and 1.
    Split,
}

impl DriftKind {
    fn target(self, drawn: f64) -> f64 {
        match self {
            DriftKind::Rise => 1.0,
            DriftKind::Narrow => 0.5,
            DriftKind::Split => drawn.round(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    pub kind: DriftKind,
    /// How long the results move. After it, they stay where they are.
    pub duration: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time between two results.
    pub interval: Duration,
    /// Determines the series of results; without it, each run has a different one.
    pub seed: Option<u64>,
    /// The result to give each time instead of a drawn one, from 0 to 1.
    pub value: Option<f64>,
    /// Without it, the results are spread evenly from 0 to 1.
    pub drift: Option<Drift>,
}

#[derive(Debug, Default)]
pub struct Model {
    /// The bits of the latest result. An exporter with a single value needs nothing else.
    result: AtomicU64,
    statistics: Mutex<Statistics>,
}

/// The statistics of all results so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// The Unix time of the latest result.
    pub drawn_at: Duration,
    /// How many results were drawn.
    pub count: u64,
    pub sum: f64,
    /// For each of [`BOUNDS`], how many results are less than or equal to it.
    pub buckets: [u64; BOUNDS.len()],
    /// The value at each of [`QUANTILES`] in the latest [`WINDOW`] results.
    pub quantiles: [f64; QUANTILES.len()],
}

/// Draws the first result, and starts the thread that draws the others at each start + n × interval. Fails if the
/// system refuses the thread. On Linux and macOS, an `Instant` doesn't advance while the machine sleeps: after waking
/// up, the next result comes within one interval.
pub fn start(options: &Options, log: Option<Log>) -> io::Result<Arc<Model>> {
    let start = Instant::now();
    let interval = options.interval;
    let mut results = series(*options);
    let mut window = VecDeque::with_capacity(WINDOW);
    let model = Arc::new(Model::default());
    let shared = Arc::clone(&model);
    let mut draw = move || {
        let Some(result) = results.next() else { return };
        let drawn_at = clock::unix_time();
        window.truncate(WINDOW - 1);
        window.push_front(result);
        shared.record(result, drawn_at, quantiles(&window));
        if let Some(log) = &log {
            log.push(format_args!("{} model_result {result}", clock::rfc3339(drawn_at)));
        }
    };
    draw();
    let repeat = move || {
        let mut deadline = 0;
        loop {
            deadline = next_deadline(deadline, start.elapsed(), interval);
            let after_start = Duration::from_nanos(interval.as_nanos() as u64 * deadline);
            thread::sleep(after_start.saturating_sub(start.elapsed()));
            draw();
        }
    };
    thread::Builder::new().name("model".to_owned()).spawn(repeat)?;
    Ok(model)
}

/// The number of the deadline after `latest`. The deadlines that passed while the process was stopped are skipped, so
/// no burst follows. A sleep may end before its deadline, as on Windows; that deadline isn't the next one again.
fn next_deadline(latest: u64, elapsed: Duration, interval: Duration) -> u64 {
    let passed = (elapsed.as_nanos() / interval.as_nanos()) as u64;
    latest.max(passed) + 1
}

/// The endless series of results.
fn series(options: Options) -> impl Iterator<Item = f64> + Send {
    // The state of a fastrand generator is a counter, so neighboring seeds give correlated results. Students have
    // neighboring numbers. A fork begins at a state that the generator has drawn.
    let with_seed = |seed| fastrand::Rng::with_seed(seed).fork();
    let mut random = options.seed.map_or_else(fastrand::Rng::new, with_seed);
    (0_u64..).map(move |number| {
        if let Some(value) = options.value {
            return value;
        }
        let resolution = f64::from(RESOLUTION);
        let drawn = f64::from(random.u32(0..=RESOLUTION)) / resolution;
        let Some(drift) = options.drift else { return drawn };
        // The drift depends on the number of results, not on the time, so the same seed gives the same series.
        let elapsed = number as f64 * options.interval.as_secs_f64();
        let progress = (elapsed / drift.duration.as_secs_f64()).min(1.0);
        let drifted = drawn + DRIFT_PART * progress * (drift.kind.target(drawn) - drawn);
        (drifted * resolution).round() / resolution
    })
}

/// The value at each of [`QUANTILES`], by nearest rank.
fn quantiles(results: &VecDeque<f64>) -> [f64; QUANTILES.len()] {
    let mut sorted: Vec<f64> = results.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    QUANTILES.map(|quantile| {
        let rank = (quantile * sorted.len() as f64).ceil() as usize;
        sorted[rank.max(1) - 1]
    })
}

impl Model {
    /// The latest result, from 0 to 1, without waiting for a lock.
    pub fn result(&self) -> f64 {
        f64::from_bits(self.result.load(Ordering::Acquire))
    }

    /// A consistent copy. Taken after [`Model::result`], it includes that result.
    pub fn snapshot(&self) -> Statistics {
        *self.statistics.lock().unwrap()
    }

    fn record(&self, result: f64, drawn_at: Duration, quantiles: [f64; QUANTILES.len()]) {
        let mut statistics = self.statistics.lock().unwrap();
        statistics.drawn_at = drawn_at;
        statistics.count += 1;
        statistics.sum += result;
        for (bucket, bound) in statistics.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(result <= bound);
        }
        statistics.quantiles = quantiles;
        self.result.store(result.to_bits(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { interval: Duration::from_secs(5), seed: Some(7), value: None, drift: None };

    fn results(options: Options, number: usize) -> Vec<f64> {
        series(options).take(number).collect()
    }

    fn drifting(kind: DriftKind, seconds: u64) -> Options {
        Options { drift: Some(Drift { kind, duration: Duration::from_secs(seconds) }), ..OPTIONS }
    }

    #[test]
    fn the_seed_determines_the_series() {
        let drawn = results(OPTIONS, 200);
        assert_eq!(drawn, results(OPTIONS, 200));
        assert_ne!(drawn, results(Options { seed: Some(7 + (1 << 32)), ..OPTIONS }, 200));
        // These seeds give the lowest and the highest result first.
        for (seed, first) in [(149_996, 0.0), (978_262, 1.0)] {
            assert_eq!(results(Options { seed: Some(seed), ..OPTIONS }, 1), [first]);
        }
        let random = Options { seed: None, ..OPTIONS };
        assert_ne!(results(random, 200), results(random, 200));
    }

    #[test]
    fn the_results_of_neighboring_seeds_do_not_correlate() {
        const NUMBER: usize = 1500;
        let series: Vec<Vec<f64>> = (1..=60)
            .map(|seed| {
                let drawn = results(Options { seed: Some(seed), ..OPTIONS }, NUMBER);
                drawn.iter().map(|result| result - 0.5).collect()
            })
            .collect();
        // Results that are spread evenly from 0 to 1 have a variance of 1/12. With 13,000 pairs of series, a chance
        // correlation beyond five and a half standard deviations is rare.
        let limit = 5.5 / (NUMBER as f64).sqrt();
        for (index, first) in series.iter().enumerate() {
            for (other, second) in series.iter().enumerate() {
                for lag in 0..=3 {
                    if index == other && lag == 0 {
                        continue;
                    }
                    let products: f64 = first[lag..].iter().zip(second).map(|(a, b)| a * b).sum();
                    let correlation = 12.0 * products / (NUMBER - lag) as f64;
                    let seeds = format!("seeds {} and {}, lag {lag}", index + 1, other + 1);
                    assert!(correlation.abs() < limit, "{seeds}: the correlation is {correlation}");
                }
            }
        }
    }

    #[test]
    fn results_are_spread_evenly_from_0_to_1_in_six_digits() {
        let drawn = results(OPTIONS, 20_000);
        for tenth in 0..10 {
            let (from, to) = (f64::from(tenth) / 10.0, f64::from(tenth + 1) / 10.0);
            let number = drawn.iter().filter(|result| (from..to).contains(*result)).count();
            assert!((1_800..2_200).contains(&number), "{number} of 20000 results from {from} to {to}");
        }
        assert!(drawn.iter().all(|result| (0.0..=1.0).contains(result) && result.to_string().len() <= 8));
        assert!(drawn.iter().any(|result| result.to_string().len() == 8));
    }

    #[test]
    fn a_fixed_value_is_each_result() {
        let fixed = Options { value: Some(0.123_456_789), ..OPTIONS };
        assert_eq!(results(fixed, 3), [0.123_456_789; 3]);
    }

    #[test]
    fn a_drift_moves_the_results_half_of_the_way_to_their_targets() {
        let plain = results(OPTIONS, 4000);
        // The targets of results below and above 0.5.
        for (kind, low, high) in
            [(DriftKind::Rise, 1.0, 1.0), (DriftKind::Narrow, 0.5, 0.5), (DriftKind::Split, 0.0, 1.0)]
        {
            let drifted = results(drifting(kind, 1000), 4000);
            assert_eq!(drifted, results(drifting(kind, 1000), 4000));
            assert_eq!(drifted[0], plain[0]);
            assert_eq!(results(drifting(kind, 31_536_000), 2), plain[0..2]);
            for (number, (drifted, plain)) in drifted.iter().zip(&plain).enumerate() {
                // The 200th result comes after 1000 s.
                let part = 0.5 * (number as f64 / 200.0).min(1.0);
                let target = if *plain < 0.5 { low } else { high };
                let expected = (1.0 - part) * plain + part * target;
                assert!((drifted - expected).abs() <= 0.000_000_501, "{kind:?} {number}: {drifted}, not {expected}");
                assert!(drifted.to_string().len() <= 8, "{drifted} has more than six digits");
            }
        }
    }

    #[test]
    fn each_drift_ends_with_its_ranges_and_its_mean() {
        for (kind, ranges, mean) in [
            (DriftKind::Rise, [0.5..=0.75, 0.75..=1.0], 0.75),
            (DriftKind::Narrow, [0.25..=0.5, 0.5..=0.75], 0.5),
            (DriftKind::Split, [0.0..=0.25, 0.75..=1.0], 0.5),
        ] {
            let after = results(drifting(kind, 1000), 4200).split_off(200);
            let is_in_range = |result: &f64| ranges.iter().any(|range| range.contains(result));
            assert!(after.iter().all(is_in_range), "{kind:?}");
            for end in ranges.iter().flat_map(|range| [range.start() + 0.01, range.end() - 0.01]) {
                assert!(after.iter().any(|result| (result - end).abs() < 0.01), "{kind:?} doesn't reach {end}");
            }
            let actual = after.iter().sum::<f64>() / after.len() as f64;
            assert!((actual - mean).abs() < 0.02, "{kind:?}: the mean is {actual}, not {mean}");
        }
    }

    #[test]
    fn each_deadline_has_at_most_one_result() {
        let interval = Duration::from_millis(10);
        let next = |latest, elapsed| next_deadline(latest, Duration::from_micros(elapsed), interval);
        // The result came in time, 2 ms late, at the next deadline, and 35 ms late.
        assert_eq!([30_000, 32_000, 40_000, 65_000].map(|elapsed| next(3, elapsed)), [4, 4, 5, 7]);
        // The sleep ended early.
        assert_eq!([29_999, 25_000].map(|elapsed| next(3, elapsed)), [4, 4]);
    }

    #[test]
    fn the_statistics_are_those_of_the_results() {
        let model = Model::default();
        // The bounds belong to their buckets.
        for (number, result) in [0.0, 0.1, 0.100_001, 0.5, 1.0].into_iter().enumerate() {
            model.record(result, Duration::from_secs(number as u64), [result; 3]);
        }
        let statistics = model.snapshot();
        assert_eq!((model.result(), statistics.count), (1.0, 5));
        assert!((statistics.sum - 1.700_001).abs() < 1e-9);
        assert_eq!(statistics.buckets, [2, 3, 3, 3, 4, 4, 4, 4, 4, 5]);
        assert_eq!(statistics.drawn_at, Duration::from_secs(4));
        assert_eq!(statistics.quantiles, [1.0; 3]);
    }

    #[test]
    fn quantiles_are_the_values_at_the_nearest_rank() {
        let of = |results: &[f64]| quantiles(&results.iter().copied().collect());
        assert_eq!(of(&[0.3]), [0.3; 3]);
        assert_eq!(of(&[0.2, 0.1]), [0.1, 0.2, 0.2]);
        let shuffled: Vec<f64> = (0..180).map(|number| f64::from(number * 7 % 180 + 1)).collect();
        assert_eq!(of(&shuffled), [90.0, 162.0, 179.0]);
    }
}
