# shellcheck shell=sh
# The part store of check.sh, which sources this file, and the samples that a Prometheus writes to a store.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

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
		verdict FAIL "the samples of $1 arrive" "it doesn't tell how far it wrote" "see remote_write in its log" || return
	# Until the first sample is sent, its time is 0.
	behind=$(echo "$scraped $sent $started" | awk '{
		newest = $2 > $3 ? $2 : $3
		printf "%.0f", ($1 > newest ? $1 - newest : 0)
	}')
	if [ "$lost" != 0 ]; then
		verdict FAIL "the samples of $1 arrive" "$lost samples were refused and are lost since it started" \
			"see remote_write in its log: it names the store's answer"
	elif [ "$behind" -gt 15 ]; then
		verdict FAIL "the samples of $1 arrive" "the newest that arrived is $behind s older than the newest scraped" \
			"see whether the store runs and has room; no sample is lost while $1 runs"
	else
		verdict ok "the samples of $1 arrive" "$total samples, $behind s behind"
	fi
}

check_store() {
	for name in store site-a site-b; do
		address=http://localhost:$(store_port $name)
		require_http "$name is ready" "$address/-/ready" "scripts/store.sh up" || continue
		verdict ok "$name is ready" "$address"
		[ $name = store ] || check_writes "$name" "$address"
	done
}
