//! The model: a loop on a thread of its own draws a result at each deadline, and keeps behind atomics
//! what came of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::latest::Latest;
use crate::log::{Line, Log};

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

/// The state of the model after a refresh.
#[derive(Clone, Copy, Default)]
pub struct Refresh {
    /// The latest result, in [0, 1].
    pub result: f64,
    /// When it was drawn, in seconds of Unix time.
    pub drawn_at: f64,
    /// The sum of all results so far.
    pub sum: f64,
    /// How many of all results are at most each of [`BOUNDS`].
    pub buckets: [u64; BOUNDS.len()],
    /// The recent results' value at each of [`QUANTILES`], by nearest rank.
    pub quantiles: [f64; QUANTILES.len()],
}

/// Draws the first result and starts the loop that draws the others.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(options: &Options, log: Log) -> Result<Arc<Model>, String> {
    let interval = options.interval;
    let mut source = Source::new(options);
    let model = Arc::new(Model(Latest::new()));
    let refresh = {
        let model = Arc::clone(&model);
        move || {
            let drawn_at = SystemTime::now();
            let refresh = source.draw(drawn_at);
            model.0.put(refresh.to_words());
            if let Some(log) = &log {
                // A full queue means that nobody reads the lines: this one is left out.
                let _ = log.try_send(Line {
                    drawn_at,
                    result: refresh.result,
                });
            }
        }
    };
    repeat(interval, refresh)?;
    Ok(model)
}

/// Calls `refresh` now, and then on a thread of its own at each start + n × `interval`. A deadline that
/// passed while the machine was suspended is left out, so no burst makes up for it.
fn repeat(interval: Duration, mut refresh: impl FnMut() + Send + 'static) -> Result<(), String> {
    let start = Instant::now();
    let interval = interval.as_nanos() as u64;
    refresh();
    thread::Builder::new()
        .name("model".to_owned())
        .spawn(move || {
            loop {
                let passed = start.elapsed().as_nanos() as u64 / interval;
                let deadline = start + Duration::from_nanos((passed + 1) * interval);
                thread::sleep(deadline.saturating_duration_since(Instant::now()));
                refresh();
            }
        })
        .map(drop)
        .map_err(|error| format!("cannot start the model's thread: {error}"))
}

/// Where the results come from, and what they add up to.
struct Source {
    random: fastrand::Rng,
    value: Option<f64>,
    recent: VecDeque<f64>,
    so_far: Refresh,
}

impl Source {
    fn new(options: &Options) -> Self {
        Source {
            random: options
                .seed
                .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            value: options.value,
            recent: VecDeque::with_capacity(RECENT),
            so_far: Refresh::default(),
        }
    }

    fn draw(&mut self, now: SystemTime) -> Refresh {
        let drawn = f64::from(self.random.u32(0..=STEPS)) / f64::from(STEPS);
        let result = self.value.unwrap_or(drawn);

        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(result);
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);

        let refresh = &mut self.so_far;
        refresh.result = result;
        refresh.drawn_at = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |t| t.as_secs_f64());
        refresh.sum += result;
        for (bucket, bound) in refresh.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(result <= bound);
        }
        refresh.quantiles = QUANTILES.map(|quantile| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            sorted[rank.max(1) - 1]
        });
        *refresh
    }
}

const WORDS: usize = 3 + QUANTILES.len() + BOUNDS.len();

/// The latest refresh, for any thread to read.
pub struct Model(Latest<WORDS>);

impl Model {
    /// How many results were drawn so far, and the latest refresh, unless their number is `seen`.
    pub fn newer_than(&self, seen: u64) -> Option<(u64, Refresh)> {
        self.0
            .newer_than(seen)
            .map(|(count, words)| (count, Refresh::from_words(words)))
    }
}

impl Refresh {
    fn to_words(self) -> [u64; WORDS] {
        let floats = [self.result, self.drawn_at, self.sum]
            .into_iter()
            .chain(self.quantiles);
        let mut words = floats.map(f64::to_bits).chain(self.buckets);
        std::array::from_fn(|_| words.next().unwrap_or_default())
    }

    fn from_words(words: [u64; WORDS]) -> Self {
        let [
            result,
            drawn_at,
            sum,
            median,
            ninth_decile,
            last_percentile,
            buckets @ ..,
        ] = words;
        Refresh {
            result: f64::from_bits(result),
            drawn_at: f64::from_bits(drawn_at),
            sum: f64::from_bits(sum),
            buckets,
            quantiles: [median, ninth_decile, last_percentile].map(f64::from_bits),
        }
    }
}
