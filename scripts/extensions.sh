# shellcheck shell=sh
# The parts logging and store of check.sh, which sources this file.
# shellcheck disable=SC2154 # check.sh and common.sh set the other variables

# check_writes WHO URL: checks that the samples arrive which that Prometheus writes to a store; if it writes to none,
# it prints no line. It repeats a write that fails, so those samples only wait; samples that the store refuses are lost.
check_writes() {
	total=$(metric "$2" prometheus_remote_storage_samples_total)
	[ -n "$total" ] || return
	lost=$(metric "$2" prometheus_remote_storage_samples_failed_total)
	scraped=$(metric "$2" prometheus_remote_storage_queue_highest_timestamp_seconds least)
	sent=$(metric "$2" prometheus_remote_storage_queue_highest_sent_timestamp_seconds least)
	started=$(metric "$2" process_start_time_seconds)
	[ -n "$scraped" ] && [ -n "$sent" ] && [ -n "$started" ] ||
		report FAIL "the samples of $1 arrive" "it doesn't tell how far it wrote" "see remote_write in its log" || return
	# Until the first sample is sent, its time is 0.
	behind=$(awk "BEGIN { sent = $sent > $started ? $sent : $started
		printf \"%d\", ($scraped > sent ? $scraped - sent : 0) }")
	if [ "$lost" != 0 ]; then
		report FAIL "the samples of $1 arrive" "$lost samples were refused and are lost since it started" \
			"see remote_write in its log: it names the store's answer"
	elif [ "$behind" -gt 15 ]; then
		report FAIL "the samples of $1 arrive" "the newest that arrived is $behind s older than the newest scraped" \
			"see whether the store runs and has room; no sample is lost while $1 runs"
	else
		report ok "the samples of $1 arrive" "$total samples, $behind s behind"
	fi
}

check_store() {
	for name in store site-a site-b; do
		address=http://localhost:$(store_port $name)
		require_http "$name is ready" "$address/-/ready" "scripts/store.sh up" || continue
		report ok "$name is ready" "$address"
		[ $name = store ] || check_writes "$name" "$address"
	done
}

# logged_results RANGE [TIME]: how many results of this model Loki got in that range before the time.
logged_results() {
	lines="{job=\"model_mock\", instance=\"${exporter#http://}\"} |= \"model_result\" [$1]"
	get --get --data-urlencode "query=sum(count_over_time($lines))" --data-urlencode "time=${2-}" \
		"$(url loki)/loki/api/v1/query" 2>/dev/null | one_value
}

# log_matches_metric: whether Loki has the $drawn results of the model until $latest, by the times of the lines; sets
# $logged.
log_matches_metric() {
	# mawk's %d ends at 2^31 ms, which is 25 days.
	logged=$(logged_results "$(awk "BEGIN { printf \"%.0f\", ($latest - $started) * 1000 + 2 }")ms" "$latest")
	[ "${logged:=0}" = "$drawn" ]
}

check_logging() {
	check_ready loki && check_ready fluent-bit || return

	start_logged="start the model as $(logged_command)"
	criterion="the model's lines arrive"
	require_http "$criterion" "$exporter/metrics" "$start_logged" || return
	lost="Loki refused $(metric "$(url loki)" loki_discarded_samples_total | grep . || echo 0) since it started"
	lost="$lost: docker compose -f stack/compose.yaml logs fluent-bit"
	todo="$start_logged; if it runs that way: $lost"
	[ -d "$root/stack/logs" ] || todo="scripts/up.sh logging makes the folder stack/logs, then $start_logged"
	report_value "$criterion" "$(logged_results 10s | sed 's/$/ in the last 10 s/')" "none in the last 10 s" "$todo" ||
		return

	started=$(metric "$exporter" process_start_time_seconds)
	# From one page, as the model draws other results while Loki gets the line of this one.
	page=$(get "$exporter/metrics")
	latest=$(printf '%s\n' "$page" | sed -n 's/^model_last_refresh_timestamp_seconds //p')
	drawn=$(printf '%s\n' "$page" | sed -n 's/^model_refreshes_total //p')
	wait_for 5 "the newest line arrives" log_matches_metric
	report_value "the log and the metric count the same" \
		"$([ "$logged" != "$drawn" ] || echo "$drawn results since the model started")" \
		"$logged in the log, $drawn in the metric" \
		"$start_logged; a second model needs a file of its own, as stack/logs/localhost:5001.log. $lost"
	criterion="the data source Loki answers"
	log_in "$criterion" || return
	address=$grafana/api/datasources/proxy/uid/loki/loki/api/v1/query
	response=$(as_admin "$password" --get --data-urlencode 'query=vector(1)' "$address" 2>&1)
	report_value "$criterion" "$(printf '%s\n' "$response" | one_value | sed 's/.*/through Grafana/')" "$response" \
		"scripts/up.sh grafana"
}
