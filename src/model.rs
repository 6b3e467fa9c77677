//! The model: a loop on a thread of its own draws a result at each deadline, and keeps it behind an
//! atomic, and what all results add up to beside it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::lock;
use crate::log::Log;

/// The upper bounds of the histogram's buckets, `+Inf` apart.
pub const BOUNDS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// The quantiles of the summary, each in [0, 1].
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// How many results the quantiles look back on: 15 minutes at the default interval.
const RECENT: usize = 180;

/// A drawn result is one of this many equal steps from 0 to 1, so that it is short to read and both
/// ends can be drawn.
const STEPS: u32 = 1_000_000;

pub struct Options {
    /// The time between two results.
    pub interval: Duration,
    /// Where the results start from; without it, somewhere else in each run.
    pub seed: Option<u64>,
    /// The result to give each time instead of drawing one, in [0, 1].
    pub value: Option<f64>,
}

#[derive(Default)]
pub struct Model {
    /// The latest result, in [0, 1], as its bits: all that an exporter of one value needs.
    result: AtomicU64,
    statistics: Mutex<Statistics>,
}

/// What the results so far add up to.
#[derive(Clone, Copy, Default)]
pub struct Statistics {
    /// How many there are.
    pub count: u64,
    /// When the latest was drawn, in seconds of Unix time.
    pub drawn_at: f64,
    pub sum: f64,
    /// How many are at most each of [`BOUNDS`].
    pub buckets: [u64; BOUNDS.len()],
    /// The recent ones' value at each of [`QUANTILES`], by nearest rank.
    pub quantiles: [f64; QUANTILES.len()],
}

/// Draws the first result and starts the loop that draws the others.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(options: &Options, log: Log) -> Result<Arc<Model>, String> {
    let mut random = options
        .seed
        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let value = options.value;
    let mut recent = VecDeque::with_capacity(RECENT);
    let model = Arc::new(Model::default());
    let kept = Arc::clone(&model);
    let refresh = move || {
        let drawn = f64::from(random.u32(0..=STEPS)) / f64::from(STEPS);
        let result = value.unwrap_or(drawn);
        let drawn_at = SystemTime::now();
        recent.truncate(RECENT - 1);
        recent.push_front(result);
        kept.keep(result, drawn_at, quantiles(&recent));
        if let Some(log) = &log {
            // A full queue means that nobody reads the lines: this one is left out.
            let _ = log.try_send((drawn_at, result));
        }
    };
    repeat(options.interval, refresh)
        .map_err(|error| format!("cannot start the model's thread: {error}"))?;
    Ok(model)
}

/// Calls `refresh` now, and then on a thread of its own at each start + n × `interval`. A deadline that
/// passed while the process was stopped is left out, so no burst makes up for it.
///
/// An `Instant` stands still while the machine sleeps (on Linux and macOS), and so do the deadlines: when
/// it wakes up, the latest result is as old as the sleep was long, for one interval at most.
fn repeat(interval: Duration, mut refresh: impl FnMut() + Send + 'static) -> io::Result<()> {
    let start = Instant::now();
    refresh();
    let thread = thread::Builder::new().name("model".to_owned());
    thread.spawn(move || {
        loop {
            let since_deadline = start.elapsed().as_nanos() % interval.as_nanos();
            thread::sleep(interval - Duration::from_nanos(since_deadline as u64));
            refresh();
        }
    })?;
    Ok(())
}

/// The value at each of [`QUANTILES`].
fn quantiles(results: &VecDeque<f64>) -> [f64; QUANTILES.len()] {
    let mut sorted: Vec<f64> = results.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    QUANTILES.map(|quantile| {
        let rank = (quantile * sorted.len() as f64).ceil() as usize;
        sorted[rank.max(1) - 1]
    })
}

impl Model {
    /// The latest result, and the statistics with it in them.
    pub fn latest(&self) -> (f64, Statistics) {
        let statistics = lock(&self.statistics);
        let result = f64::from_bits(self.result.load(Ordering::Relaxed));
        (result, *statistics)
    }

    fn keep(&self, result: f64, drawn_at: SystemTime, quantiles: [f64; QUANTILES.len()]) {
        // Under the lock, so that a page agrees with itself.
        let mut statistics = lock(&self.statistics);
        self.result.store(result.to_bits(), Ordering::Relaxed);
        statistics.count += 1;
        statistics.drawn_at = unix(drawn_at);
        statistics.sum += result;
        for (bucket, bound) in statistics.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(result <= bound);
        }
        statistics.quantiles = quantiles;
    }
}

/// A time in seconds of Unix time.
pub fn unix(time: SystemTime) -> f64 {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH);
    since_1970.map_or(0.0, |time| time.as_secs_f64())
}
