//! The page that Prometheus scrapes: every metric family in the text exposition format.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
//! To add a metric, store its value in the file that measures it, and render its family here.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::model::{BOUNDS, Model, QUANTILES, WINDOW, unix_seconds};
use crate::process::Process;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status codes that the page shows from the start, with the value 0.
const STATUSES: [u16; 7] = [200, 400, 404, 405, 408, 431, 505];

/// Everything that the page shows; all connections share it.
#[derive(Debug)]
pub struct Exposition {
    model: Arc<Model>,
    /// How many responses were sent so far, by status code.
    responses: Mutex<BTreeMap<u16, u64>>,
    process: Option<Mutex<Process>>,
    started_at: SystemTime,
}

impl Exposition {
    pub fn new(model: Arc<Model>, started_at: SystemTime) -> Self {
        Exposition {
            model,
            responses: Mutex::new(STATUSES.map(|status| (status, 0)).into()),
            process: Process::open().map(Mutex::new),
            started_at,
        }
    }

    /// Counts a response that was sent completely.
    pub fn count_response(&self, status: u16) {
        *self.responses.lock().unwrap().entry(status).or_default() += 1;
    }

    /// Renders the whole page.
    #[rustfmt::skip]
    pub fn render(&self) -> String {
        let mut page = Page(String::with_capacity(4096));

        let (result, statistics) = (self.model.result(), self.model.snapshot());
        let (count, sum) = (statistics.count, statistics.sum);
        page.metric("model_result", "gauge", "The latest result of the model, from 0 to 1.", result);
        page.metric("model_refreshes_total", "counter", "Results that the model has drawn.", count);
        page.metric("model_last_refresh_timestamp_seconds", "gauge",
            "When the model drew the latest result, in Unix time.", statistics.drawn_at);

        page.family("model_result_distribution", "histogram", "All results, counted in buckets of 0.1.");
        let name = "model_result_distribution_bucket";
        for (bound, bucket) in BOUNDS.iter().zip(statistics.buckets) {
            page.sample(name, &[("le", &format!("{bound:?}"))], bucket);
        }
        page.sample(name, &[("le", "+Inf")], count);
        page.sample("model_result_distribution_sum", &[], sum);
        page.sample("model_result_distribution_count", &[], count);

        page.family("model_result_recent", "summary",
            &format!("Quantiles of the latest {WINDOW} results; sum and count of all results."));
        for (quantile, value) in QUANTILES.iter().zip(statistics.quantiles) {
            page.sample("model_result_recent", &[("quantile", &quantile.to_string())], value);
        }
        page.sample("model_result_recent_sum", &[], sum);
        page.sample("model_result_recent_count", &[], count);

        if let Some(process) = &self.process {
            for metric in process.lock().unwrap().metrics() {
                page.metric(metric.name, metric.kind, metric.help, metric.value);
            }
        }
        page.metric("process_start_time_seconds", "gauge",
            "When the process started, in Unix time.", unix_seconds(self.started_at));

        let name = "modelmock_http_requests_total";
        page.family(name, "counter", "Responses that were sent completely, by status code; a page doesn't count itself.");
        for (status, count) in &*self.responses.lock().unwrap() {
            page.sample(name, &[("code", &status.to_string())], count);
        }
        page.family("modelmock_build_info", "gauge", "Always 1; the label shows the version.");
        page.sample("modelmock_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.0
    }
}

/// The text of a page that is being rendered.
struct Page(String);

impl Page {
    /// Adds a family that has one sample without labels.
    fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds the two lines that begin a family.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let lines = ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"];
        self.0.extend(lines);
    }

    /// Adds a sample. Label values may contain any text.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels.iter().map(|(label, value)| {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            format!("{label}=\"{value}\"")
        });
        let labels = labels.collect::<Vec<_>>().join(",");
        // Writing to a String can't fail.
        let _ = match labels.as_str() {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }
}
