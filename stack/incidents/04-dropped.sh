# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# Prometheus drops a metric after the scrape.

notice() {
	cat <<'END'
"Prometheus says that the target is UP, and still the graph of model_result ended this morning. Yesterday I saved some
memory in Prometheus; that can't be it, I only removed the histogram."
END
}

plant() {
	replace prometheus/prometheus.yml '    relabel_configs:' '    metric_relabel_configs:
      # We do not look at the histogram.
      - source_labels: [__name__]
        regex: model_result.*
        action: drop
    relabel_configs:'
}

is_visible() {
	is_scraped && ! has_value "max($(of_model model_result))"
}

is_repaired() {
	is_scraped && has_value "max($(of_model model_result))"
}

hints() {
	cat <<'END'
The scrape works. Is the metric on the model's own page? Is it in Prometheus? The cause lies between the two.
Compare the queries scrape_samples_scraped and scrape_samples_post_metric_relabeling.
In prometheus/prometheus.yml, metric_relabel_configs drops all metrics that match model_result.*, not just the histogram.
END
}

story() {
	cat <<'END'
What happened: metric_relabel_configs dropped each metric whose name begins with model_result, so model_result, too.
Without the histogram, the rule on drift and the panels of the distribution have no data, either.
How to see it: scrape_samples_scraped is larger than scrape_samples_post_metric_relabeling: some samples were dropped.
What would have prevented it: a look at the graph after the change, and a rule with absent(model_result).
For answers.md: up was 1 all the time. Which metrics prove that the samples you need arrive?
END
}
