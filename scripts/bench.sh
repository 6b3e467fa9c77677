#!/bin/sh
# bench.sh [--quick]: measures the exporter beside others on this machine, and prints Markdown tables.
#
# Beside it: the lab's Python mock (prometheus_client, in a virtual environment made for it) and the
# same gauge on metrics-exporter-prometheus, where cargo can build it. Then 1, 50 and 200 exporters
# under one Prometheus. It takes about five minutes, needs Linux' procfs, and wrk or hey.
# --quick measures the exporter and the Python mock at 4 connections, in turn, and fails where the
# exporter costs more than 1/25 of the CPU time per scrape, or answers less than 25 times the scrapes,
# the best of each one's rounds compared: 3 of them, and up to 10 where these do not show it.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
seconds=5 # of load for each figure
least_ratio=25

quick=false
case ${1-} in
-h | --help)
	print_help
	exit
	;;
--quick) quick=true ;;
'') ;;
*) usage_error "unknown argument '$1'" ;;
esac
cd "$root" || exit

# lack WHAT: it cannot be measured here.
lack() {
	echo "$*"
	exit 3
}
[ -d /proc/self ] || lack "CPU time and memory are read from procfs, which only Linux has"
if command -v wrk >/dev/null; then
	load=wrk
elif command -v hey >/dev/null; then
	load=hey
else
	lack "there is no wrk and no hey: install the package wrk (Debian, Ubuntu, Homebrew) or hey (Homebrew)"
fi
command -v python3 >/dev/null || lack "there is no python3: install the package python3-venv"

work=$(mktemp -d)
pids=
stop_all() {
	# shellcheck disable=SC2086 # a list
	[ -z "$pids" ] || kill $pids 2>/dev/null
	wait 2>/dev/null
	pids=
}
trap 'stop_all; docker rm -f modelmock-bench >/dev/null 2>&1; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

say() {
	echo "$*" >&2
}

# calc EXPRESSION FORMAT
calc() {
	awk "BEGIN { printf \"$2\", $1 }"
}

milliseconds() {
	echo $(($(date +%s%N) / 1000000))
}

# begin COMMAND...: starts it, and sets $pid and $start, the ms until the first scrape at $url.
begin() {
	begun=$(milliseconds)
	"$@" >/dev/null 2>"$work/stderr" &
	pid=$!
	pids="$pids $pid"
	until get -o /dev/null "$url" 2>/dev/null; do
		kill -0 $pid 2>/dev/null || die "$1 does not run: $(tail -n 1 "$work/stderr")"
		[ $(($(milliseconds) - begun)) -lt 20000 ] || die "$1 does not answer at $url"
	done
	start=$(($(milliseconds) - begun))
}

# memory PID FIELD: MiB.
memory() {
	awk -v field="$2:" '$1 == field { printf "%.1f", $2 / 1024 }' "/proc/$1/status"
}

# ticks PID: CPU time so far, in hundredths of a second.
ticks() {
	sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# scrape CONNECTIONS: sets $rate (scrapes per second), $cost (CPU time per scrape, µs), $median and $p99.
scrape() {
	before=$(ticks $pid)
	if [ $load = wrk ]; then
		wrk -t1 -c"$1" -d${seconds}s --latency "$url" >"$work/load"
		number=$(awk '/requests in/ { print $1 }' "$work/load")
		rate=$(awk '$1 == "Requests/sec:" { print $2 }' "$work/load")
		median=$(awk '$1 == "50%" { print $2; exit }' "$work/load")
		p99=$(awk '$1 == "99%" { print $2; exit }' "$work/load")
	else
		hey -z ${seconds}s -c "$1" "$url" >"$work/load"
		number=$(awk '$1 == "[200]" { print $2 }' "$work/load")
		rate=$(awk '$1 == "Requests/sec:" { print $2 }' "$work/load")
		median=$(awk '$1 == "50%" { print $3 * 1000 "ms" }' "$work/load")
		p99=$(awk '$1 == "99%" { print $3 * 1000 "ms" }' "$work/load")
	fi
	cost=$(calc "($(ticks $pid) - $before) * 10000 / $number" %.0f)
	rate=$(calc "$rate" %.0f)
}

# row NAME SIZE COMMAND...: a server's rows in both tables; sets $at_4, its rate and cost there.
row() {
	name=$1
	size=$2
	shift 2
	say "measuring: $name"
	begin "$@"
	sleep 2
	rest=$(memory $pid VmRSS)
	for connections in 1 4 64; do
		scrape $connections
		echo "| $name | $connections | $rate | $cost µs | $median | $p99 |" >>"$work/scrapes"
		[ $connections -ne 4 ] || at_4="$rate $cost"
	done
	echo "| $name | $start ms | $rest | $(memory $pid VmHWM) | $size |" >>"$work/sizes"
	stop_all
}

# best COLUMN ORDER: the first of the rounds' figures when sorted so.
best() {
	cut -d' ' -f"$1" "$work/rounds" | sort "$2" | head -n 1
}

enough() {
	[ "$cheaper" -ge $least_ratio ] && [ "$faster" -ge $least_ratio ]
}

mib() {
	calc "$1 / 1048576" %.1f
}

cargo build --quiet --release || die "the exporter does not build"
say "making the Python mock"
python3 -m venv "$work/venv" >/dev/null 2>&1 || lack "there is no module venv: install the package python3-venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check prometheus_client >&2 ||
	lack "prometheus_client cannot be installed: pip must reach its package index"
cat >"$work/mock.py" <<-EOF
	import random, time
	from prometheus_client import Gauge, start_http_server

	result = Gauge("model_result", "The latest result of the model")
	start_http_server(15001, addr="127.0.0.1")
	while True:
	    result.set(random.random())
	    time.sleep(5)
EOF

if $quick; then
	seconds=2
	ours=http://127.0.0.1:15000/metrics
	theirs=http://127.0.0.1:15001/metrics
	url=$ours
	begin target/release/modelmock --listen 127.0.0.1:15000 --quiet
	our_pid=$pid
	url=$theirs
	begin "$work/venv/bin/python" "$work/mock.py"
	their_pid=$pid
	# What else the machine does meanwhile makes most figures worse, so the best of a server's rounds is
	# nearest to what it costs.
	for round in 1 2 3 4 5 6 7 8 9 10; do
		pid=$their_pid url=$theirs
		scrape 4
		their_cost=$cost
		their_rate=$rate
		pid=$our_pid url=$ours
		scrape 4
		echo "measured: round $round: CPU time per scrape: $cost µs, the Python mock $their_cost µs; scrapes per second: $rate, the Python mock $their_rate"
		echo "$cost $their_cost $rate $their_rate" >>"$work/rounds"
		cheaper=$(($(best 2 -n) / $(best 1 -n)))
		faster=$(($(best 3 -nr) / $(best 4 -nr)))
		[ $round -ge 3 ] && enough && break
	done
	scrape 1
	echo "measured: the best of each: 1/$cheaper of the CPU time, at most 1/$least_ratio; $faster times the scrapes, at least $least_ratio"
	echo "measured: median scrape on one kept-alive connection: $median"
	enough
	exit
fi

echo "$(date -u +%Y-%m-%d), $(uname -sm), $(nproc) cores, $load with one thread on the same machine, $seconds s for each figure."
echo
url=http://127.0.0.1:15000/metrics
row "modelmock" "$(mib "$(wc -c <target/release/modelmock)")" target/release/modelmock --listen 127.0.0.1:15000 --quiet
our=$at_4
url=http://127.0.0.1:15001/metrics
row "Python mock" "$(mib "$(du -sk "$work/venv" | awk '{ print $1 * 1024 }')")" "$work/venv/bin/python" "$work/mock.py"
python=$at_4

say "building the same gauge on metrics-exporter-prometheus"
mkdir -p target/bench/src
cat >target/bench/Cargo.toml <<-EOF
	[package]
	name = "bench"
	version = "0.0.0"
	edition = "2024"

	[dependencies]
	fastrand = "2"
	metrics = "0.24"
	metrics-exporter-prometheus = { version = "0.18", default-features = false, features = ["http-listener"] }

	[profile.release]
	codegen-units = 1
	lto = "fat"
	opt-level = "s"
	strip = "symbols"

	[workspace]
EOF
cat >target/bench/src/main.rs <<-EOF
	use std::{net::SocketAddr, thread, time::Duration};

	fn main() {
	    let address: SocketAddr = "127.0.0.1:15002".parse().unwrap();
	    metrics_exporter_prometheus::PrometheusBuilder::new().with_http_listener(address).install().unwrap();
	    metrics::describe_gauge!("model_result", "The latest result of the model");
	    loop {
	        metrics::gauge!("model_result").set(fastrand::f64());
	        thread::sleep(Duration::from_secs(5));
	    }
	}
EOF
if cargo build --quiet --release --manifest-path target/bench/Cargo.toml 2>"$work/stderr"; then
	url=http://127.0.0.1:15002/metrics
	row "metrics-exporter-prometheus" "$(mib "$(wc -c <target/bench/target/release/bench)")" target/bench/target/release/bench
else
	say "left out: metrics-exporter-prometheus, which cargo cannot build here: $(tail -n 1 "$work/stderr")"
fi
echo "| server | first scrape after | MiB at rest | MiB at peak | MiB on disk |"
echo "| --- | ---: | ---: | ---: | ---: |"
cat "$work/sizes"
echo
echo "| server | connections | scrapes/s | CPU time per scrape | median | 99th percentile |"
echo "| --- | ---: | ---: | ---: | ---: | ---: |"
cat "$work/scrapes"
echo
# shellcheck disable=SC2086 # pairs of words
set -- $our $python
echo "At 4 connections the exporter's whole page costs 1/$(calc "$4 / $2" %.0f) of the CPU time of the Python mock's, and it answers $(calc "$1 / $3" %.0f) times the scrapes."
echo

# grow NUMBER: so many exporters under one Prometheus.
grow() {
	say "measuring: $1 exporters under one Prometheus"
	targets=
	n=0
	while [ $n -lt "$1" ]; do
		target/release/modelmock --listen 127.0.0.1:$((20000 + n)) --quiet >/dev/null &
		pids="$pids $!"
		targets="$targets\"127.0.0.1:$((20000 + n))\", "
		n=$((n + 1))
	done
	mkdir -p "$work/prometheus"
	printf 'global:\n  scrape_interval: 5s\nscrape_configs:\n  - job_name: model_mock\n    static_configs:\n      - targets: [%s]\n' "${targets%, }" >"$work/prometheus/prometheus.yml"
	chmod -R a+rX "$work"
	prometheus=$(image prom/prometheus)
	if has_image "$prometheus"; then
		docker run -d --rm --name modelmock-bench --network host -v "$work/prometheus:/etc/prometheus:ro" "$prometheus" \
			--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus --web.listen-address=127.0.0.1:15090 >/dev/null
		scraper=$(docker inspect -f '{{.State.Pid}}' modelmock-bench)
	elif command -v prometheus >/dev/null; then
		prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address=127.0.0.1:15090 2>/dev/null &
		scraper=$!
		pids="$pids $scraper"
	else
		say "left out: many exporters under one Prometheus, as there is neither Docker nor Prometheus"
		return 1
	fi
	sleep 31
	all=0
	for pid in $pids; do
		[ "$pid" = "$scraper" ] || all=$((all + $(awk '$1 == "Pss:" { print $2 }' "/proc/$pid/smaps_rollup")))
	done
	echo "| $1 | $(ask 'count(up == 1)') | $(calc "$all / 1024" %.1f) | $(memory "$scraper" VmRSS) | $(calc "1000 * $(ask 'quantile(0.5, scrape_duration_seconds)')" %.1f) ms | $(calc "1000 * $(ask 'max(scrape_duration_seconds)')" %.1f) ms |"
	docker stop modelmock-bench >/dev/null 2>&1
	stop_all
}

ask() {
	query http://127.0.0.1:15090 "$1"
}

echo "| exporters, scraped each 5 s | targets up | MiB of all exporters (shared memory counted once) | MiB of Prometheus | median scrape | longest scrape |"
echo "| ---: | ---: | ---: | ---: | ---: | ---: |"
grow 1 && grow 50 && grow 200
