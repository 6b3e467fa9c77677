#!/bin/sh
# bench.sh [--quick]: measures the exporter beside others on this machine, and prints Markdown tables.
#
# First what each costs at rest, scraped every 5 s; then under load; then 1 to 1000 exporters under one
# Prometheus, where Docker has its image. The others are in tests/peers. It takes about eight minutes,
# needs Linux' procfs, python3 with venv and wrk.
# --quick measures the exporter, the Python mock and a bare loop on std, and fails where the exporter
# - at rest takes more than 1/8 of the mock's CPU time, or more than 50 context switches a minute;
# - under load takes more than 1/60 of the mock's CPU time for a scrape, or more than 1.5 times that of
#   the bare loop: the medians of 3 rounds, and of up to 10 where these do not show it.

set -eu
cd "$(dirname "$0")/.."

features=crates
case ${1-} in
-h | --help)
	sed -n '2,/^$/s/^# \{0,1\}//p' "tests/${0##*/}"
	exit
	;;
--quick) features= ;;
'') ;;
*)
	echo "${0##*/}: unknown argument '$1'; see $0 -h" >&2
	exit 2
	;;
esac

# lack WHAT: it cannot be measured here.
lack() {
	echo "$*"
	exit 3
}
[ -d /proc/self ] || lack "CPU time and memory are read from procfs, which only Linux has"
command -v wrk >/dev/null || lack "there is no wrk: install the package wrk"
command -v python3 >/dev/null || lack "there is no python3: install the package python3-venv"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Where they are built is said here, whatever CARGO_TARGET_DIR says: an old binary would be measured.
cargo build --quiet --release --locked --target-dir target
cargo build --quiet --release --locked --features "$features" --manifest-path tests/peers/Cargo.toml --target-dir target/peers 2>"$work/stderr" ||
	lack "the peers do not build: $(tail -n 1 "$work/stderr")"
echo "making the Python mock" >&2
python3 -m venv "$work/venv" >/dev/null 2>&1 || lack "there is no module venv: install the package python3-venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check prometheus_client >&2 ||
	lack "prometheus_client cannot be installed: pip must reach its package index"
python3 tests/peers/measure.py "$work" "$@"
