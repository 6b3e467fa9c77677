# shellcheck shell=sh disable=SC2154
# How many exporters one Prometheus scrapes each 5 s before scrapes are late or fail, and its memory
# there. Each exporter has 50 names, as it takes 50 connections; all have the same cores. The container is
# bounded as the stack's is; LIMIT_MEMORY bounds it otherwise, LIMIT_TARGETS names other numbers. Nobody's tests depend on it, so it runs only where it is named.

limit_memory=${LIMIT_MEMORY-512m}

# measure TARGETS: prints a line, and fails where they are too many.
measure() {
	: >"$work/addresses"
	for _ in $(seq $((($1 + 49) / 50))); do
		start_model
		echo "$address" >>"$work/addresses"
	done
	port=$(free_port)
	name=modelmock-limit-$$
	mkdir -p "$work/limit"
	cat >"$work/limit/prometheus.yml" <<-END
		global:
		  scrape_interval: 5s
		scrape_configs:
		  - job_name: model_mock
		    file_sd_configs:
		      - files: ["/etc/prometheus/targets.yml"]
	END
	awk -v n="$1" '{ for (i = 1; i <= 50 && ++count <= n; i++) printf "- targets: [\"%s\"]\n  labels: {n: \"%d\"}\n", $1, i }' "$work/addresses" >"$work/limit/targets.yml"
	chmod -R a+rX "$work"
	container -d --name "$name" --network host --memory "$limit_memory" --memory-swap "$limit_memory" -v "$work/limit:/etc/prometheus:ro" "$(image prom/prometheus)" \
		--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus --web.listen-address="127.0.0.1:$port"
	sleep 60
	memory=$(docker stats --no-stream --format '{{.MemUsage}}, {{.CPUPerc}} of a core' "$name")
	up=$(query "http://127.0.0.1:$port" 'sum(up)')
	longest=$(get "http://127.0.0.1:$port/metrics" | sed -n 's/^prometheus_target_interval_length_seconds{interval="5s",quantile="0.99"} //p')
	scrape=$(query "http://127.0.0.1:$port" 'max(scrape_duration_seconds)')
	docker rm -f "$name"
	echo "measured: $1 targets: ${up:-none} up, 99 % of the intervals at most ${longest:-unknown} s, the longest scrape ${scrape:-unknown} s, memory ${memory:-none: it was killed}"
	awk "BEGIN { exit !(\"$up\" == \"$1\" && \"$longest\" + 0 > 0 && \"$longest\" + 0 <= 5.5) }"
}

(require_docker) || exit
for targets in ${LIMIT_TARGETS-2000 4000 6000}; do
	run "$targets exporters each 5 s" measure "$targets" || exit
done
