#!/bin/sh
# test.sh [KIND...] [PYTEST'S ARGUMENT...]: all tests: the code, what it costs, the real tools, and a
# student's way through the stack.
#
# KIND is the name of a file in tests/, as in test_KIND.py; all but "limit", which measures for a quarter
# of an hour, by default. -k WORDS runs the tests whose name has them. What a machine lacks is skipped,
# aloud, with how to get it; with CI=true a skip is a failure, apart from an image that cannot be had.
# It ends with a count. See tests/README.md.

set -eu
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"

case ${1-} in
-h | --help)
	print_help
	exit
	;;
esac
cd "$root"
before=
for argument in "$@"; do
	shift
	for file in "tests/test_$argument.py" "tests/$argument.py"; do
		# The word behind a flag is the flag's.
		case $before in
		-*) ;;
		*) [ ! -e "$file" ] || argument=$file ;;
		esac
	done
	set -- "$@" "$argument"
	before=$argument
done

command -v python3 >/dev/null || die "python3 is missing: install the package python3-venv"
venv=target/venv-$(cksum <tests/requirements.txt | cut -d' ' -f1)
if [ ! -e "$venv/whole" ]; then
	rm -rf target/venv-*
	mkdir -p target
	python3 -m venv "$venv" >/dev/null || die "python3 has no module venv: install the package python3-venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt ||
		die "the tests' packages cannot be installed: pip must reach its package index"
	touch "$venv/whole"
fi
# Nothing is written beside the tests.
export PYTHONDONTWRITEBYTECODE=1
# In its place, so that a signal reaches the one that cleans up.
exec "$venv/bin/python" -m pytest "$@"
