# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# Prometheus scrapes a port on which nothing listens.

notice() {
	cat <<'END'
"Grafana has said 'No data' for the model since this morning. The model itself is fine: on its machine,
curl localhost:5000/metrics prints its page."
END
}

plant() {
	replace prometheus/prometheus.yml '"localhost:5000"' '"localhost:5500"'
}

is_visible() {
	has_value 'max(up) == 0'
}

# By the targets: after a restart, a query still finds the wrong target for five minutes.
is_repaired() {
	targets=$(get "$(url prometheus)/api/v1/targets?state=active" | json_values)
	printf '%s\n' "$targets" | values data/activeTargets/N/scrapeUrl | grep -q ":$port/" &&
		! printf '%s\n' "$targets" | values data/activeTargets/N/health | grep -qvx up
}

hints() {
	cat <<'END'
Grafana draws, and Prometheus collects. Does Prometheus have samples of the model? Run the query up on its page Query.
Open Prometheus' page Target health, and compare the address there with the one at which curl gets an answer.
In prometheus/prometheus.yml, the port of the target is 5500, and the model's port is 5000.
END
}

story() {
	cat <<'END'
What happened: Prometheus scraped port 5500, on which nothing listens. The model ran all the time.
How to see it: up was 0, and Target health showed the error "connection refused" with the wrong address.
What would have prevented it: a look at Target health after the change. The mail came, too: the rule ModelMockDown fired
15 seconds later.
For answers.md: the dashboard shows "No data" for a model that is down, and for a wrong port. Which page of Prometheus
tells the two apart, and why doesn't the query model_result?
END
}
