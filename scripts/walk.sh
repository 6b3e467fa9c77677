#!/bin/sh
# walk.sh [--pictures]: walks through the lab's browser steps in a headless Chromium, by the README's words.
#
# It fails, and says at which step, where a word of the README is not on the page, or what a step
# promises is not seen. It needs Chromium and python3 with venv, the stack up with its web pages, and port 5000 free: it starts
# and stops the model as the lab says, for some four minutes, and saves the dashboard "Mine".
# With --pictures it takes the README's pictures anew, into stack/pictures; else they go into target/walk.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
pictures=$root/target/walk

case ${1-} in
-h | --help)
	print_help
	exit
	;;
--pictures) pictures=$root/stack/pictures ;;
'') ;;
*) usage_error "unknown argument '$1'" ;;
esac
require_curl
chromium=
for name in chromium chromium-browser google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
	[ -n "$chromium" ] || chromium=$(command -v "$name")
done
[ -n "$chromium" ] || die "there is no Chromium: install the package chromium, or Chrome"
[ -x "$root/target/release/modelmock" ] || die "the exporter is not built: cargo build --release"
read_password
for port in 9090 9093 8025 3000; do
	listens $port || die "nothing listens on port $port: start the stack with scripts/up.sh"
done
get http://localhost:9090/ -L 2>/dev/null | grep -q '<script' || die "this Prometheus has no web pages: use the image that stack/compose.yaml names"
! listens 5000 || die "port 5000 is taken: stop the model, as the walk starts it itself"

venv=$root/target/walk-venv
if [ ! -x "$venv/bin/python" ] || ! cmp -s "$root/tests/walk/requirements.txt" "$venv/requirements.txt"; then
	python3 -m venv "$venv" >/dev/null || die "there is no module venv: install the package python3-venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$root/tests/walk/requirements.txt" ||
		die "Playwright cannot be installed: pip must reach its package index"
	cp "$root/tests/walk/requirements.txt" "$venv/"
fi
exec "$venv/bin/python" "$root/tests/walk/walk.py" "$chromium" "$pictures"
