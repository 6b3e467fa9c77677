//! The metrics that Prometheus scrapes. To add one, store its value in the file that measures it, and add its family to
//! the page here.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::{BOUNDS, Model, QUANTILES, WINDOW};
use crate::process::ProcessMetrics;
use crate::text_format::TextFormat;

/// Everything that the page shows; all connections share it.
#[derive(Debug)]
pub struct Metrics {
    model: Arc<Model>,
    /// How many responses were sent so far, by status code.
    responses: Mutex<BTreeMap<u16, u64>>,
    process: Option<Mutex<ProcessMetrics>>,
    /// The Unix time of the start.
    started_at: Duration,
}

impl Metrics {
    /// Fails if the process may not have enough files for the process metrics.
    pub fn new(model: Arc<Model>, started_at: Duration) -> io::Result<Self> {
        let process = ProcessMetrics::open()?.map(Mutex::new);
        Ok(Metrics {
            model,
            // A counter that starts at 0 shows its first increase, too.
            responses: Mutex::new([200, 400, 404, 405, 408, 431, 505].map(|status| (status, 0)).into()),
            process,
            started_at,
        })
    }

    /// Counts a response that was sent completely.
    pub fn count_response(&self, status: u16) {
        *self.responses.lock().unwrap().entry(status).or_default() += 1;
    }

    /// Renders the whole page.
    pub fn render(&self) -> String {
        let mut page = TextFormat::default();
        // The result is read first, so that the statistics include it.
        let result = self.model.result();
        let statistics = self.model.snapshot();
        let count = statistics.count;
        let sum = statistics.sum;
        page.metric("model_result", "gauge", "The latest result of the model, from 0 to 1.", result);
        page.metric("model_refreshes_total", "counter", "Results that the model has drawn.", count);
        let drawn_at = statistics.drawn_at.as_secs_f64();
        page.metric("model_last_refresh_timestamp_seconds", "gauge", "Unix time of the latest result.", drawn_at);

        page.family("model_result_distribution", "histogram", "All results, counted in buckets of 0.1.");
        let name = "model_result_distribution_bucket";
        // Debug writes 1.0, as client libraries do.
        for (bound, bucket) in BOUNDS.iter().zip(statistics.buckets) {
            page.sample(name, &[("le", &format!("{bound:?}"))], bucket);
        }
        page.sample(name, &[("le", "+Inf")], count);
        page.sample("model_result_distribution_sum", &[], sum);
        page.sample("model_result_distribution_count", &[], count);
        let help = format!("Quantiles of the latest {WINDOW} results; sum and count of all results.");
        page.family("model_result_recent", "summary", &help);
        for (quantile, value) in QUANTILES.iter().zip(statistics.quantiles) {
            page.sample("model_result_recent", &[("quantile", &quantile.to_string())], value);
        }
        page.sample("model_result_recent_sum", &[], sum);
        page.sample("model_result_recent_count", &[], count);
        if let Some(process) = &self.process {
            page.append(process.lock().unwrap().metrics());
        }
        let started_at = self.started_at.as_secs_f64();
        page.metric("process_start_time_seconds", "gauge", "Unix time of the start of the process.", started_at);
        let name = "modelmock_http_requests_total";
        page.family(name, "counter", "Requests with a complete response, by status code; a page doesn't count itself.");
        for (status, count) in self.responses.lock().unwrap().iter() {
            page.sample(name, &[("code", &status.to_string())], count);
        }
        page.family("modelmock_build_info", "gauge", "Always 1; the label shows the version.");
        page.sample("modelmock_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_each_family_with_its_type_its_labels_and_its_help() {
        let metrics = Metrics::new(Arc::default(), Duration::ZERO).unwrap();
        let page = metrics.render();
        let mut families = Vec::new();
        for family in page.split("# HELP ").skip(1) {
            let (name, rest) = family.split_once(' ').unwrap();
            let (help, rest) = rest.split_once("\n# TYPE ").unwrap();
            let (kind, samples) = rest.strip_prefix(name).unwrap().trim_start().split_once('\n').unwrap();
            let label = samples.split_once('{').and_then(|(_, rest)| rest.split_once('='));
            let label = label.map_or("| |".to_owned(), |(label, _)| format!("| `{label}` |"));
            families.push(format!("| `{name}` | {kind} {label} {help} |"));
        }
        let section = include_str!("README.md").split("\n## ").find(|section| section.starts_with("Metrics"));
        let rows: Vec<&str> = section.unwrap().lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows.len() >= 8);
        if cfg!(target_os = "linux") {
            assert_eq!(rows, families);
        } else {
            assert!(families.iter().all(|family| rows.contains(&family.as_str())), "{families:?}");
        }
    }
}
