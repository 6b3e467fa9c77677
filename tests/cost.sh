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

private_memory() {
	[ -d /proc/self ] || lacks "memory is read from procfs, which only Linux has"
	start_model
	for _ in 1 2 3; do
		works get -o /dev/null "http://$address/metrics"
	done
	sleep 1
	grep -E '^Rss(Anon|File)' "/proc/$pid/status" | sed 's/^/measured: /'
	# What is its own; the rest are pages of files, the C library's too, which differ from system to
	# system (2.3 to 3.1 MiB were seen in all). Seen were 0.3 MiB.
	at_most 600 "$(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status")" "KiB of private memory at rest"
}

static_file() {
	[ "$(uname)" = Linux ] || lacks "a static file is made on Linux only"
	works scripts/dist.sh
	grep -E 'bytes|SHA' "$work/said" | sed 's/^/measured: /'
}

run "what the build costs" cost_of_the_build
run "private memory" private_memory
run "what a scrape costs, beside the Python mock" tests/bench.sh --quick
run "the static file" static_file
