#!/bin/sh
# bench.sh [--quick]: measures the exporter beside others on this machine, and prints Markdown tables.
#
# First what each costs at rest, scraped every 5 s; then under load; then 1 to 1000 exporters under one
# Prometheus. The others are in tests/peers. It takes about eight minutes, needs Linux' procfs, python3
# with venv and wrk.
# --quick measures the exporter, the Python mock and a bare loop on std, and fails where the exporter
# - at rest takes more than 1/3 of the mock's CPU time, or more than 50 context switches a minute;
# - under load takes more than 1/60 of the mock's CPU time for a scrape, or more than 1.5 times that of
#   the bare loop: the medians of 3 rounds, and of up to 10 where these do not show it.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
most_switches=50
less_than_mock=60
more_than_bare=1.5
seconds=5 # of load for each figure

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
command -v wrk >/dev/null || lack "there is no wrk: install the package wrk"
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
trap 'exit 1' HUP INT TERM

say() {
	echo "$*" >&2
}

# calc EXPRESSION FORMAT
calc() {
	awk "BEGIN { printf \"$2\", $1 }"
}

# at_most LIMIT FIGURE WHAT
at_most() {
	echo "measured: $3: $2, at most $1"
	[ "$(calc "$2 <= $1" %d)" -eq 1 ]
}

scraper() {
	python3 tests/peers/scraper.py "$@"
}

# mib FILE...: their size.
mib() {
	calc "$(du -sk "$@" | awk '{ kib += $1 } END { print kib }') / 1024" %.1f
}

# peer NAME: sets what it is called, its $url, its $command and its $size on disk.
peer() {
	case $1 in
	modelmock) port=15000 title=modelmock command="target/release/modelmock --quiet --listen" files=target/release/modelmock ;;
	mock) port=15001 title="Python mock" command="$work/venv/bin/python tests/peers/mock.py" files=$work/venv ;;
	naive) port=15002 title="loop over tiny_http::Server" ;;
	bare) port=15003 title="bare loop on std" ;;
	metrics_exporter) port=15004 title=metrics-exporter-prometheus ;;
	prometheus_exporter) port=15005 title=prometheus_exporter ;;
	esac
	case $1 in
	modelmock) command="$command 127.0.0.1:$port" ;;
	mock) command="$command $port" ;;
	bare) command="target/peers/release/bare 127.0.0.1:$port $work/answer" files=target/peers/release/bare ;;
	*) command="target/peers/release/$1 127.0.0.1:$port" files=target/peers/release/$1 ;;
	esac
	url=http://127.0.0.1:$port/metrics
	size=$(mib "$files")
}

# begin NAME: starts a peer, and sets $pid.
begin() {
	peer "$1"
	# shellcheck disable=SC2086 # words
	$command >/dev/null 2>"$work/stderr" &
	pid=$!
	pids="$pids $pid"
	tries=0
	until get -o /dev/null "$url" 2>/dev/null; do
		kill -0 $pid 2>/dev/null || die "$1 does not run: $(tail -n 1 "$work/stderr")"
		tries=$((tries + 1))
		[ $tries -lt 200 ] || die "$1 does not answer at $url"
		sleep 0.1
	done
}

# rest SECONDS NAME...: prints the figures of these peers at rest, all in the same run.
rest() {
	duration=$1
	shift
	targets=
	for name in "$@"; do
		begin "$name"
		targets="$targets $name=$pid=$url"
	done
	# shellcheck disable=SC2086 # words
	scraper rest "$duration" $targets || die "not all could be scraped"
	stop_all
}

# load CONNECTIONS: on the process $pid at $url; sets $rate (scrapes a second), $cost (CPU time for each,
# µs), $middle (the median) and $p99.
load() {
	before=$(scraper cpu $pid)
	wrk -t1 -c"$1" -d${seconds}s --latency "$url" >"$work/load"
	number=$(awk '/requests in/ { print $1 }' "$work/load")
	rate=$(calc "$(awk '$1 == "Requests/sec:" { print $2 }' "$work/load")" %.0f)
	middle=$(awk '$1 == "50%" { print $2; exit }' "$work/load")
	p99=$(awk '$1 == "99%" { print $2; exit }' "$work/load")
	cost=$(calc "($(scraper cpu $pid) - $before) / 1000 / $number" %.1f)
}

# median NAME: of the costs of its rounds.
median() {
	sort -n "$work/$1.costs" | awk '{ cost[NR] = $1 } END { print (cost[int((NR + 1) / 2)] + cost[int(NR / 2) + 1]) / 2 }'
}

cargo build --quiet --release || die "the exporter does not build"
$quick && features= || features=crates
cargo build --quiet --release --locked --features "$features" --manifest-path tests/peers/Cargo.toml --target-dir target/peers 2>"$work/stderr" ||
	lack "the peers do not build: $(tail -n 1 "$work/stderr")"
say "making the Python mock"
python3 -m venv "$work/venv" >/dev/null 2>&1 || lack "there is no module venv: install the package python3-venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check prometheus_client >&2 ||
	lack "prometheus_client cannot be installed: pip must reach its package index"
begin modelmock
curl -si --noproxy '*' "$url" >"$work/answer" || die "the exporter gives no answer to copy"
stop_all

if $quick; then
	rest 30 modelmock mock >"$work/rest"
	our_time=$(awk '$1 == "modelmock" { print $2 }' "$work/rest")
	our_switches=$(awk '$1 == "modelmock" { print $3 }' "$work/rest")
	their_time=$(awk '$1 == "mock" { print $2 }' "$work/rest")
	passed=true
	at_most "$(calc "$their_time / 3" %.1f)" "$our_time" "ms of CPU time a minute at rest (the Python mock: $their_time)" || passed=false
	at_most $most_switches "$our_switches" "context switches a minute at rest" || passed=false
	seconds=2
	for name in mock bare modelmock; do
		begin $name
		eval "$name=$pid"
	done
	for round in 1 2 3 4 5 6 7 8 9 10; do
		for name in mock bare modelmock; do
			peer $name
			eval "pid=\$$name"
			load 4
			echo "$cost" >>"$work/$name.costs"
		done
		ours=$(median modelmock)
		is_cheap=$(calc "$ours * $less_than_mock <= $(median mock) && $ours <= $more_than_bare * $(median bare)" %d)
		[ $round -ge 3 ] && [ "$is_cheap" -eq 1 ] && break
	done
	at_most "$(calc "$(median mock) / $less_than_mock" %.1f)" "$ours" "µs of CPU time for a scrape, the median of $round rounds (the Python mock: $(median mock))" || passed=false
	at_most "$(calc "$(median bare) * $more_than_bare" %.1f)" "$ours" "µs of CPU time for a scrape (a bare loop on std: $(median bare))" || passed=false
	$passed
	exit
fi

all="modelmock mock naive bare metrics_exporter prometheus_exporter"
echo "$(date -u +%Y-%m-%d), $(uname -sm), $(nproc) cores, wrk with one thread on the same machine, $seconds s for each figure."
echo
say "measuring at rest"
# shellcheck disable=SC2086 # words
rest 120 $all >"$work/rest"
echo "| scraped every 5 s | CPU time a minute | context switches a minute | private memory | first answer after | on disk |"
echo "| --- | ---: | ---: | ---: | ---: | ---: |"
while IFS='	' read -r name spent switches memory; do
	peer "$name"
	# shellcheck disable=SC2086 # words
	first=$(scraper start 10 "$url" $command)
	echo "| $title | $spent ms | $switches | $memory MiB | $first ms | $size MiB |"
done <"$work/rest"
echo
echo "| under load | connections | scrapes/s | CPU time for a scrape | median | 99th percentile | peak of memory |"
echo "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
for name in $all; do
	say "measuring under load: $name"
	begin "$name"
	for connections in 1 4 32; do
		load $connections
		peak=$(awk '$1 == "VmHWM:" { printf "%.1f", $2 / 1024 }' "/proc/$pid/status")
		echo "| $title | $connections | $rate | $cost µs | $middle | $p99 | $peak MiB |"
		[ $connections -ne 4 ] || echo "$cost" >"$work/$name.costs"
	done
	stop_all
done
echo
ours=$(median modelmock)
echo "At 4 connections a scrape of the exporter takes 1/$(calc "$(median mock) / $ours" %.0f) of the Python mock's CPU time, and $(calc "$ours / $(median bare)" %.2f) times that of the bare loop."
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
		prometheus_pid=$(docker inspect -f '{{.State.Pid}}' modelmock-bench)
	elif command -v prometheus >/dev/null; then
		prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address=127.0.0.1:15090 2>/dev/null &
		prometheus_pid=$!
		pids="$pids $prometheus_pid"
	else
		say "left out: many exporters under one Prometheus, as there is neither Docker nor Prometheus"
		return 1
	fi
	sleep 31
	memory=0
	for pid in $pids; do
		[ "$pid" = "$prometheus_pid" ] || memory=$((memory + $(awk '$1 == "Pss:" { print $2 }' "/proc/$pid/smaps_rollup")))
	done
	echo "| $1 | $(ask 'count(up == 1)') | $(calc "$memory / 1024" %.1f) MiB | $(awk '$1 == "VmRSS:" { printf "%.1f", $2 / 1024 }' "/proc/$prometheus_pid/status") MiB | $(calc "1000 * $(ask 'quantile(0.5, scrape_duration_seconds)')" %.1f) ms | $(calc "1000 * $(ask 'max(scrape_duration_seconds)')" %.1f) ms |"
	docker stop modelmock-bench >/dev/null 2>&1
	stop_all
}

ask() {
	query http://127.0.0.1:15090 "$1"
}

echo "| exporters, scraped every 5 s | targets up | memory of all exporters (shared memory counted once) | memory of Prometheus | median scrape | longest scrape |"
echo "| ---: | ---: | ---: | ---: | ---: | ---: |"
grow 1 && grow 50 && grow 200 && grow 1000
