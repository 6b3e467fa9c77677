# shellcheck shell=sh disable=SC2154
# What the exporter costs: to build, to keep, to run.

cost_of_the_build() {
	crates=$(cargo tree --edges normal,build --prefix none --format '{p}' | awk '{ print $1, $2 }' | sort -u | grep -c .)
	at_most 14 "$crates" "crates that a clean build compiles"
	at_most 800000 "$(wc -c <"$modelmock" | tr -d ' ')" "bytes of target/release/modelmock"
	packages=$(cargo tree --edges normal --depth 1 --prefix none --format '{p}' | awk 'NR > 1 { print $1 }' | sort | tr '\n' ' ')
	echo "measured: run-time packages: $packages"
	[ "$packages" = "ctrlc fastrand tiny_http " ]
}

resident_memory() {
	[ -d /proc/self ] || lacks "resident memory is read from procfs, which only Linux has"
	start_model
	for _ in 1 2 3; do
		works get -o /dev/null "http://$address/metrics"
	done
	sleep 6
	kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
	at_most 2.6 "$(awk "BEGIN { printf \"%.2f\", $kib / 1024 }")" "MiB of resident memory at rest"
}

static_file() {
	[ "$(uname)" = Linux ] || lacks "a static file is made on Linux only"
	scripts/dist.sh || exit
	at_most 1600000 "$(wc -c <"$(ls target/dist/modelmock-*)" | tr -d ' ')" "bytes of the static file"
}

run "what the build costs" cost_of_the_build
run "resident memory" resident_memory
run "what a scrape costs, beside the Python mock" scripts/bench.sh --quick
run "the static file" static_file
