#!/bin/sh
# bench.sh: measures the exporter, a mock in Python and a bare loop on this machine (tests/peers), and
# prints a line for each figure.
#
# It exits with 1 if the exporter
# - uses more than 1/8 of the mock's CPU time at rest, scraped every 5 s, or more than 50 context switches
#   a minute;
# - uses more than 1/60 of the mock's CPU time for a scrape under load, or more than 1.5 times that of the
#   bare loop.
# It exits with 3 if it can't measure here. It needs Linux' procfs, wrk, and python3 with venv.

set -eu
cd "$(dirname "$0")/.."
case ${1-} in
-h | --help)
	sed -n '2,/^$/s/^# \{0,1\}//p' "tests/${0##*/}"
	exit
	;;
?*)
	echo "${0##*/}: unknown argument '$1'; see $0 -h" >&2
	exit 2
	;;
esac

# skip REASON
skip() {
	echo "$*"
	exit 3
}
[ -d /proc/self ] || skip "CPU time is read from procfs, which only Linux has"
command -v wrk >/dev/null || skip "wrk is missing: install the package wrk"
command -v python3 >/dev/null || skip "python3 is missing: install the package python3-venv"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Into this folder even if CARGO_TARGET_DIR is set: otherwise an old program could be measured.
cargo build --quiet --release --locked --target-dir target
rustc --edition 2024 -C opt-level=3 -C strip=symbols -o "$work/bare" tests/peers/bare.rs
python3 -m venv "$work/venv" >/dev/null 2>&1 || skip "python3 lacks the module venv: install the package python3-venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check prometheus_client >&2 ||
	skip "pip can't install prometheus_client: connect to its package index"
python3 tests/peers/measure.py "$work" target/release/modelmock
