//! The model: a thread of its own draws a result at each deadline. It stores the result in an atomic, and the
//! statistics of all results behind a lock.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::log::Log;

/// The upper bounds of the histogram's buckets, without `+Inf`.
pub const BOUNDS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// The quantiles of the summary, each from 0 to 1.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// How many of the latest results the quantiles cover: 15 minutes at the default interval.
pub const WINDOW: usize = 180;
/// Drawn results have this many equal steps from 0 to 1: they are short to read, and can be 0 and 1.
const RESOLUTION: u32 = 1_000_000;
/// The end of a drift: the lower end of the range of results rises from 0 to this.
pub const DRIFT_TO: f64 = 0.5;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time between two results.
    pub interval: Duration,
    /// Determines the series of results; without it, each run has a different one.
    pub seed: Option<u64>,
    /// The result to give each time instead of a drawn one, from 0 to 1.
    pub value: Option<f64>,
    /// How long the lower end of the range takes from 0 to [`DRIFT_TO`]; without it, it stays at 0.
    pub drift: Option<Duration>,
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
    let (start, interval) = (Instant::now(), options.interval);
    let mut draw = series(*options);
    let mut window = VecDeque::with_capacity(WINDOW);
    let model = Arc::new(Model::default());
    let shared = Arc::clone(&model);
    let mut refresh = move || {
        let (result, drawn_at) = (draw(), clock::unix_time());
        window.truncate(WINDOW - 1);
        window.push_front(result);
        shared.record(result, drawn_at, quantiles(&window));
        if let Some(log) = &log {
            log.line(format_args!("{} model_result {result}", clock::rfc3339(drawn_at)));
        }
    };
    refresh();
    let repeat = move || loop {
        // The deadlines that passed while the process was stopped are skipped, so no burst follows.
        let since_deadline = start.elapsed().as_nanos() % interval.as_nanos();
        thread::sleep(interval - Duration::from_nanos(since_deadline as u64));
        refresh();
    };
    thread::Builder::new().name("model".to_owned()).spawn(repeat)?;
    Ok(model)
}

/// Returns a function that gives the next result at each call.
fn series(options: Options) -> impl FnMut() -> f64 + Send {
    let mut random = options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let mut number = 0_u64;
    move || {
        let resolution = f64::from(RESOLUTION);
        let drawn = f64::from(random.u32(0..=RESOLUTION)) / resolution;
        // The drift depends on the number of results, not on the time, so the same seed gives the same series.
        let elapsed = number as f64 * options.interval.as_secs_f64();
        let progress = options.drift.map_or(0.0, |end| elapsed / end.as_secs_f64());
        let lower = DRIFT_TO * progress.min(1.0);
        number += 1;
        let drifted = lower + (1.0 - lower) * drawn;
        options.value.unwrap_or((drifted * resolution).round() / resolution)
    }
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

    /// The statistics, which agree with each other. Read after [`Model::result`], they include it.
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
    use std::iter;

    use super::*;

    const OPTIONS: Options = Options { interval: Duration::from_secs(5), seed: Some(7), value: None, drift: None };

    fn results(options: Options, number: usize) -> Vec<f64> {
        iter::repeat_with(series(options)).take(number).collect()
    }

    fn drifting(seconds: u64) -> Options {
        Options { drift: Some(Duration::from_secs(seconds)), ..OPTIONS }
    }

    #[test]
    fn the_seed_determines_the_series() {
        let drawn = results(OPTIONS, 200);
        assert_eq!(drawn, results(OPTIONS, 200));
        assert_ne!(drawn, results(Options { seed: Some(7 + (1 << 32)), ..OPTIONS }, 200));
        // These seeds give the lowest and the highest result first.
        for (seed, first) in [(2_346_841, 0.0), (1_534_091, 1.0)] {
            assert_eq!(results(Options { seed: Some(seed), ..OPTIONS }, 1), [first]);
        }
        let random = Options { seed: None, ..OPTIONS };
        assert_ne!(results(random, 200), results(random, 200));
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
    fn a_drift_raises_the_lowest_result_from_0_to_one_half() {
        let (plain, drifted) = (results(OPTIONS, 4000), results(drifting(1000), 4000));
        assert_eq!(drifted, results(drifting(1000), 4000));
        assert_eq!(drifted[0], plain[0]);
        assert_eq!(results(drifting(31_536_000), 3)[0..2], plain[0..2]);
        for (number, (drifted, plain)) in drifted.iter().zip(&plain).enumerate() {
            // The 200th result comes after 1000 s.
            let lower = 0.5 * (number as f64 / 200.0).min(1.0);
            let expected = lower + (1.0 - lower) * plain;
            assert!((drifted - expected).abs() <= 0.000_000_501, "result {number} is {drifted}, not {expected}");
            assert!(drifted.to_string().len() <= 8, "{drifted} has more than six digits");
        }
        let after = &drifted[200..];
        assert!(after.iter().all(|result| (0.5..=1.0).contains(result)));
        assert!(after.iter().any(|result| *result < 0.51) && after.iter().any(|result| *result > 0.99));
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

    #[test]
    fn the_readme_names_the_end_of_the_drift() {
        let readme = include_str!("README.md");
        assert!(readme.contains(&format!("the lowest possible result rises evenly from 0 to {DRIFT_TO} ")));
    }
}
