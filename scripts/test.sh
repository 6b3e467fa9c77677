#!/bin/sh
# test.sh [KIND...] [PYTEST_ARGUMENT...]: runs all tests: the code, its cost, the scripts and the stack with
# the real programs, and a student's way through the lab.
#
# KIND is the name of a file in tests/, such as up for test_up.py. -k WORDS runs the tests with these words
# in their names. Tests whose tools are missing are skipped, with a message that says how to install them;
# with CI=true that is a failure, unless an image can't be pulled. Without Python, it runs the tests that
# need only Rust and a shell. The last line is the count. See tests/README.md.

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

# test_without_python REASON: runs the tests that need no Python, prints the count, and exits.
test_without_python() {
	[ "$arguments" -eq 0 ] || die "$1"
	passed=0 failed=0 skipped=0
	log=target/test.log
	mkdir -p target
	for script in scripts/*.sh; do
		attempt "$script is valid" sh -n "$script"
		# The others are only sourced.
		[ ! -x "$script" ] || attempt "$script prints its help" sh "$script" -h
	done
	attempt_with shellcheck "install the package shellcheck" "the scripts are clean" shellcheck -x scripts/*.sh
	attempt_with cargo-fmt "run rustup component add rustfmt" "the code is formatted" cargo fmt --check
	attempt_with cargo-clippy "run rustup component add clippy" "clippy finds nothing" \
		cargo clippy --quiet --all-targets --locked -- -D warnings
	{ cargo test --locked --no-fail-fast 2>&1 || echo "cargo test failed"; } | tee "$log"
	# A build that fails prints no results.
	counts=$(awk '
		/^test result: / { passed += $4; failed += $6; skipped += $8 }
		/^cargo test failed$/ { error = 1 }
		END { print passed + 0, failed + (error && !failed), skipped + 0 }
	' "$log")
	read -r cargo_passed cargo_failed cargo_skipped <<-END
		$counts
	END
	echo "skipped: all tests in tests/test_*.py: $1"
	set -- tests/test_*.py
	passed=$((passed + cargo_passed)) failed=$((failed + cargo_failed)) skipped=$((skipped + cargo_skipped + $#))
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "${CI-}" != true ] && [ "$failed" -eq 0 ]
	exit
}

# attempt WHAT COMMAND...: counts one test.
attempt() {
	what=$1
	shift
	if "$@" >"$log" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "failed: $what:"
		cat "$log"
	fi
}

# attempt_with TOOL TODO WHAT COMMAND...: counts one test, or a skip if the tool is missing.
attempt_with() {
	if command -v "$1" >/dev/null; then
		shift 2
		attempt "$@"
	else
		skipped=$((skipped + 1))
		echo "skipped: $3: $1 is missing: $2"
	fi
}

arguments=$#
before=
for argument in "$@"; do
	shift
	# The word after a flag belongs to the flag.
	case $before in
	-*) ;;
	*) [ ! -e "tests/test_$argument.py" ] || argument=tests/test_$argument.py ;;
	esac
	set -- "$@" "$argument"
	before=$argument
done

command -v python3 >/dev/null || test_without_python "python3 is missing: install the package python3-venv"
venv=target/venv-$(cksum <tests/requirements.txt | cut -d' ' -f1)
if [ ! -e "$venv/whole" ]; then
	rm -rf target/venv-*
	mkdir -p target
	python3 -m venv "$venv" >/dev/null ||
		test_without_python "python3 lacks the module venv: install the package python3-venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt ||
		test_without_python "pip can't install the tests' packages: connect to its package index"
	touch "$venv/whole"
fi
# Python then writes no files next to the tests.
export PYTHONDONTWRITEBYTECODE=1
# exec, so that a signal reaches pytest, which cleans up.
exec "$venv/bin/python" -m pytest "$@"
