# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# Grafana's data source has a wrong port.

notice() {
	cat <<'END'
"All of Grafana's dashboards have been empty since the update. Prometheus' own page has everything."
END
}

plant() {
	replace grafana/provisioning/datasources/prometheus.yml ':9090' ':9091'
}

is_visible() {
	[ "$(source_health)" = ERROR ]
}

is_repaired() {
	[ "$(source_health)" = OK ]
}

repair_running() {
	wait_ready grafana
}

hints() {
	cat <<'END'
Grafana stores no samples: it asks another program for those of each panel. That program answers you. And Grafana?
In Grafana, open Connections > Data sources > Prometheus. Which address is there? What does Test, at the end, say?
In grafana/provisioning/datasources/prometheus.yml, the port is 9091. Grafana reads that file at its start.
END
}

story() {
	cat <<'END'
What happened: Grafana asked for samples at port 9091, and Prometheus listens on 9090.
How to see it: an error message on each dashboard, and a failed Test of the data source. Grafana stores no samples: an
empty panel is a question without an answer.
What would have prevented it: opening one dashboard after the update, or asking Grafana's API for the health of its
sources: /api/datasources/uid/prometheus/health.
For answers.md: the mails about high results came all the time. Why?
END
}
