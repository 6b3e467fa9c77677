# shellcheck shell=sh
# The part logging of check.sh, which sources this file: the model's lines in Loki.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

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
	range=$(echo "$started $latest" | awk '{ printf "%.0f", ($2 - $1) * 1000 + 2 }')
	logged=$(logged_results "${range}ms" "$latest")
	[ "${logged:=0}" = "$drawn" ]
}

check_logging() {
	page=stack/lab/log-and-metric.md
	check_ready loki && check_ready fluent-bit || return

	start_logged="start the model as $(logged_command)"
	criterion="the model's lines arrive"
	require_http "$criterion" "$exporter/metrics" "$start_logged" || return
	lost="Loki refused $(metric "$(url loki)" loki_discarded_samples_total | grep . || echo 0) since it started"
	lost="$lost: docker compose -f stack/compose.yaml logs fluent-bit"
	todo="$start_logged; if it runs that way: $lost"
	[ -d "$root/stack/logs" ] || todo="scripts/up.sh logging makes the folder stack/logs, then $start_logged"
	verdict_of "$criterion" "$(logged_results 10s | sed 's/$/ in the last 10 s/')" "none in the last 10 s" "$todo" ||
		return

	started=$(metric "$exporter" process_start_time_seconds)
	# From one page, as the model draws other results while Loki gets the line of this one.
	text=$(get "$exporter/metrics")
	latest=$(printf "%s\n" "$text" | sed -n 's/^model_last_refresh_timestamp_seconds \([0-9.]*\)$/\1/p')
	drawn=$(printf "%s\n" "$text" | sed -n 's/^model_refreshes_total \([0-9]*\)$/\1/p')
	wait_for 5 "the newest line arrives" log_matches_metric
	verdict_of "the log and the metric count the same" \
		"$([ "$logged" != "$drawn" ] || echo "$drawn results since the model started")" \
		"$logged in the log, $drawn in the metric" \
		"$start_logged; a second model needs a file of its own, as stack/logs/localhost:5001.log. $lost"
	criterion="the data source Loki answers"
	find_container grafana
	log_in "$criterion" || return
	address=$grafana/api/datasources/proxy/uid/loki/loki/api/v1/query
	response=$(as_admin "$password" --get --data-urlencode 'query=vector(1)' "$address" 2>&1)
	verdict_of "$criterion" "$(printf '%s\n' "$response" | one_value | sed 's/.*/through Grafana/')" "$response" \
		"scripts/up.sh grafana"
}
