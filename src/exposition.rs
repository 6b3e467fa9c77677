//! The page that a scrape gets: every metric family in Prometheus' text exposition format.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
//! To add a metric, keep its value where it comes about and write its family here.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::lock;
use crate::model::{BOUNDS, Model, QUANTILES, unix};
use crate::process::Process;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status codes that are on the page before there was such an answer.
const CODES: [u16; 7] = [200, 400, 404, 405, 408, 431, 505];

/// Writes the page, for any thread.
pub struct Exposition {
    model: Arc<Model>,
    /// How many answers were sent so far, by status code.
    answers: Mutex<BTreeMap<u16, u64>>,
    process: Option<Mutex<Process>>,
    started_at: SystemTime,
}

impl Exposition {
    pub fn of(model: Arc<Model>, started_at: SystemTime) -> Self {
        Exposition {
            model,
            answers: Mutex::new(CODES.map(|code| (code, 0)).into()),
            process: Process::open().map(Mutex::new),
            started_at,
        }
    }

    /// Counts an answer that was sent.
    pub fn count(&self, code: u16) {
        *lock(&self.answers).entry(code).or_default() += 1;
    }

    /// The whole page, as of now.
    #[rustfmt::skip]
    pub fn page(&self) -> String {
        let mut page = Page(String::with_capacity(4096));

        let (result, statistics) = self.model.latest();
        let (count, sum) = (statistics.count, statistics.sum);
        page.one("model_result", "gauge", "The latest result of the model, from 0 to 1.", result);
        page.one("model_refreshes_total", "counter", "Results drawn so far.", count);
        page.one("model_last_refresh_timestamp_seconds", "gauge", "When the latest result was drawn, in Unix time.", statistics.drawn_at);

        page.family("model_result_distribution", "histogram", "All results so far, counted in tenths.");
        for (bound, bucket) in BOUNDS.iter().zip(statistics.buckets) {
            page.labelled("model_result_distribution_bucket", "le", format_args!("{bound:?}"), bucket);
        }
        page.labelled("model_result_distribution_bucket", "le", "+Inf", count);
        page.sample("model_result_distribution_sum", sum);
        page.sample("model_result_distribution_count", count);

        page.family("model_result_recent", "summary", "Quantiles of the last 180 results; sum and count of all.");
        for (quantile, result) in QUANTILES.iter().zip(statistics.quantiles) {
            page.labelled("model_result_recent", "quantile", quantile, result);
        }
        page.sample("model_result_recent_sum", sum);
        page.sample("model_result_recent_count", count);

        if let Some(process) = &self.process {
            for (name, kind, help, value) in lock(process).metrics() {
                page.one(name, kind, help, value);
            }
        }
        page.one("process_start_time_seconds", "gauge", "When the process started, in Unix time.", unix(self.started_at));

        let name = "modelmock_http_requests_total";
        page.family(name, "counter", "Answers sent whole so far, by status code; this page is not yet among them.");
        for (code, answers) in &*lock(&self.answers) {
            page.labelled(name, "code", code, answers);
        }
        page.family("modelmock_build_info", "gauge", "Always 1; its label says which version this is.");
        page.labelled("modelmock_build_info", "version", env!("CARGO_PKG_VERSION"), 1);
        page.0
    }
}

/// A page that is being written; writing to a string cannot fail.
struct Page(String);

impl Page {
    /// A family of one sample without labels.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, value);
    }

    #[rustfmt::skip]
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
    }

    fn sample(&mut self, name: &str, value: impl Display) {
        self.0.push_str(name);
        let _ = writeln!(self.0, " {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, of: impl Display, value: impl Display) {
        self.0.push_str(name);
        let _ = writeln!(self.0, "{{{label}=\"{of}\"}} {value}");
    }
}
