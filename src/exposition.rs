//! The page that a scrape gets: every metric family in Prometheus' text exposition format.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
//! To add a metric, keep its value where it comes about and write its family here.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::StatusCode;

use crate::model::{BOUNDS, Model, QUANTILES, Refresh};
use crate::process::{Process, Sample};

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the process metrics are good for: a scrape that reads them from procfs takes three times the
/// CPU time, and nobody needs them more often than this.
const SAMPLE_LASTS: Duration = Duration::from_millis(100);

/// The status codes that there are answers with.
const CODES: [u16; 9] = [200, 400, 404, 405, 408, 414, 431, 501, 505];

/// Writes the page, for any thread.
pub struct Exposition {
    model: Arc<Model>,
    process: Option<Process>,
    /// How many answers were sent so far, by each of [`CODES`].
    answers: [AtomicU64; CODES.len()],
    kept: Mutex<Kept>,
}

/// What is written already and serves again.
#[derive(Default)]
struct Kept {
    /// The families that change only with a refresh, as of the refresh after which there were `count`.
    refreshed: String,
    count: u64,
    /// The process metrics, and when they were read.
    sampled: String,
    sampled_at: Option<Instant>,
}

impl Exposition {
    pub fn of(model: Arc<Model>) -> Self {
        Exposition {
            model,
            process: Process::open(),
            answers: Default::default(),
            kept: Mutex::default(),
        }
    }

    /// Counts an answer that was sent.
    pub fn count(&self, code: StatusCode) {
        if let Some(place) = CODES.iter().position(|known| *known == code.0) {
            self.answers[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The whole page, as of now.
    pub fn page(&self) -> String {
        let mut text = String::with_capacity(4096);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, refresh)) = self.model.newer_than(kept.count) {
            kept.count = count;
            kept.refreshed.clear();
            Page(&mut kept.refreshed).refresh(count, &refresh);
        }
        if kept.sampled_at.is_none_or(|at| at.elapsed() > SAMPLE_LASTS) {
            kept.sampled_at = Some(Instant::now());
            kept.sampled.clear();
            if let Some(sample) = self.process.as_ref().and_then(Process::sample) {
                Page(&mut kept.sampled).process(&sample);
            }
        }
        text.push_str(&kept.refreshed);
        text.push_str(&kept.sampled);
        drop(kept);
        Page(&mut text).exporter(&self.answers);
        text
    }
}

/// A page that is being written.
struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn refresh(&mut self, count: u64, refresh: &Refresh) {
        let Refresh {
            result,
            drawn_at,
            sum,
            buckets,
            quantiles,
        } = refresh;
        self.family(
            "model_result",
            "gauge",
            "The latest result of the model, from 0 to 1.",
        );
        self.sample("model_result", result);
        self.family("model_refreshes_total", "counter", "Results drawn so far.");
        self.sample("model_refreshes_total", count);
        let name = "model_last_refresh_timestamp_seconds";
        self.family(
            name,
            "gauge",
            "When the latest result was drawn, in Unix time.",
        );
        self.sample(name, drawn_at);

        let name = "model_result_distribution";
        self.family(name, "histogram", "All results so far, counted in tenths.");
        for (bound, bucket) in BOUNDS.iter().zip(buckets) {
            self.sample(format_args!("{name}_bucket{{le=\"{bound:?}\"}}"), bucket);
        }
        self.sample(format_args!("{name}_bucket{{le=\"+Inf\"}}"), count);
        self.sample(format_args!("{name}_sum"), sum);
        self.sample(format_args!("{name}_count"), count);

        let name = "model_result_recent";
        self.family(
            name,
            "summary",
            "Quantiles of the last 180 results; sum and count of all.",
        );
        for (quantile, result) in QUANTILES.iter().zip(quantiles) {
            self.sample(format_args!("{name}{{quantile=\"{quantile}\"}}"), result);
        }
        self.sample(format_args!("{name}_sum"), sum);
        self.sample(format_args!("{name}_count"), count);
    }

    fn exporter(&mut self, answers: &[AtomicU64]) {
        let name = "modelmock_http_requests_total";
        let help = "Answers sent whole so far, by status code; this page is not yet among them.";
        self.family(name, "counter", help);
        for (code, answers) in CODES.iter().zip(answers) {
            self.sample(
                format_args!("{name}{{code=\"{code}\"}}"),
                answers.load(Ordering::Relaxed),
            );
        }
        let name = "modelmock_build_info";
        self.family(
            name,
            "gauge",
            "Always 1; its label says which version this is.",
        );
        self.sample(
            format_args!("{name}{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")),
            1,
        );
    }

    fn process(&mut self, sample: &Sample) {
        #[rustfmt::skip]
        let families: [(&str, &str, &str, &dyn Display); 7] = [
            ("process_cpu_seconds_total", "counter", "CPU time spent so far, user and system, in seconds.", &sample.cpu_seconds),
            ("process_resident_memory_bytes", "gauge", "Memory that is held in RAM, in bytes.", &sample.resident_bytes),
            ("process_virtual_memory_bytes", "gauge", "Address space that is reserved, in bytes.", &sample.virtual_bytes),
            ("process_virtual_memory_max_bytes", "gauge", "How much address space may be reserved, in bytes.", &sample.max_virtual_bytes),
            ("process_open_fds", "gauge", "Open file descriptors.", &sample.open_fds),
            ("process_max_fds", "gauge", "How many file descriptors may be open.", &sample.max_fds),
            ("process_start_time_seconds", "gauge", "When the process started, in Unix time.", &sample.start_time_seconds),
        ];
        for (name, kind, help, value) in families {
            self.family(name, kind, help);
            self.sample(name, value);
        }
    }

    // Writing to a string cannot fail.

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}
