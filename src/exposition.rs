//! The page that a scrape gets: every metric family in Prometheus' text exposition format.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
//! To add a metric, keep its value where it comes about and write its family here.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::{BOUNDS, Model, QUANTILES, Refresh};
use crate::process::{Process, Sample};

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the process metrics are good for: to read them from procfs took a third of a scrape's CPU
/// time, and nobody needs them more often than this.
const SAMPLE_LASTS: Duration = Duration::from_millis(100);

/// Writes the page. Each thread that answers has a clone of its own.
#[derive(Clone)]
pub struct Exposition {
    model: Arc<Model>,
    answers: Arc<Answers>,
    process: Arc<Option<Process>>,
    /// The families that change only with a refresh, as of the refresh after which there were `count`.
    refreshed: String,
    count: u64,
    /// The process metrics, and when they were read.
    sampled: String,
    sampled_at: Option<Instant>,
}

/// How many requests were answered so far, by status code.
#[derive(Default)]
pub struct Answers([AtomicU64; Answers::CODES.len()]);

impl Answers {
    const CODES: [u16; 3] = [200, 404, 405];

    pub fn count(&self, code: u16) {
        if let Some(place) = Answers::CODES.iter().position(|known| *known == code) {
            self.0[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Exposition {
    pub fn of(model: Arc<Model>) -> Self {
        Exposition {
            model,
            answers: Arc::default(),
            process: Arc::new(Process::open()),
            refreshed: String::new(),
            count: 0,
            sampled: String::new(),
            sampled_at: None,
        }
    }

    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref().as_ref()
    }

    /// The whole page, as of now.
    pub fn page(&mut self) -> String {
        if let Some((count, refresh)) = self.model.newer_than(self.count) {
            self.count = count;
            self.refreshed.clear();
            Page(&mut self.refreshed).refresh(count, &refresh);
        }
        if self.sampled_at.is_none_or(|at| at.elapsed() > SAMPLE_LASTS) {
            self.sampled_at = Some(Instant::now());
            self.sampled.clear();
            if let Some(sample) = self.process().and_then(Process::sample) {
                Page(&mut self.sampled).process(&sample);
            }
        }
        let mut text = String::with_capacity(4096);
        text.push_str(&self.refreshed);
        Page(&mut text).exporter(&self.answers);
        text.push_str(&self.sampled);
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

    fn exporter(&mut self, answers: &Answers) {
        let name = "modelmock_http_requests_total";
        self.family(name, "counter", "Requests answered so far, by status code.");
        for (code, answers) in Answers::CODES.iter().zip(&answers.0) {
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
        let mut family = |name, kind, help, value: &dyn Display| {
            self.family(name, kind, help);
            self.sample(name, value);
        };
        let help = "CPU time spent so far, user and system, in seconds.";
        family(
            "process_cpu_seconds_total",
            "counter",
            help,
            &sample.cpu_seconds,
        );
        let help = "Memory that is held in RAM, in bytes.";
        family(
            "process_resident_memory_bytes",
            "gauge",
            help,
            &sample.resident_bytes,
        );
        let help = "Address space that is reserved, in bytes.";
        family(
            "process_virtual_memory_bytes",
            "gauge",
            help,
            &sample.virtual_bytes,
        );
        family(
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            &sample.open_fds,
        );
        let help = "How many file descriptors may be open.";
        family("process_max_fds", "gauge", help, &sample.max_fds);
        let help = "When the process started, in Unix time.";
        family(
            "process_start_time_seconds",
            "gauge",
            help,
            &sample.start_time_seconds,
        );
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        self.line(format_args!("{name} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}
