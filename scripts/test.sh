#!/bin/sh
# test.sh [KIND...] [PYTEST_ARGUMENT...]: runs all tests: the code, its cost, the scripts and the stack with
# the real programs, and a student's way through the lab.
#
# KIND is the name of a file in tests/, such as up for test_up.py. -k WORDS runs the tests with these words
# in their names. It needs no preparation: it installs the Python packages of the tests below target/, and
# adds rustfmt and clippy if rustup is here. Tests whose tools are missing are skipped; at the end, it prints
# why, and the commands that install the tools. With CI=true a skip is a failure, unless an image can't be
# pulled. Without Python, it runs the tests that need only Rust and a shell. The last line is the count. See
# tests/README.md.

set -eu
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"

# note MESSAGE...: says what differs on this machine.
note() {
	printf '%s: %s\n' "${0##*/}" "$*"
}

# to_install PACKAGE...: the command that installs Debian's packages, or the words for another system.
to_install() {
	if ! command -v apt-get >/dev/null; then
		echo "install the package $*"
	elif [ "$(id -u)" = 0 ]; then
		echo "apt install $*"
	else
		echo "sudo apt install $*"
	fi
}

# require_kind WORD: ends if the word is neither a kind nor an existing file, with ::TEST behind it or without.
require_kind() {
	[ -e "${1%%::*}" ] || usage_error "unknown kind '$1': choose from $(
		for file in tests/test_*.py; do
			basename "${file#tests/test_}" .py
		done | paste -s -d ' ' -
	)"
}

# whose_target: why tests can't write in this folder, or shouldn't, if so.
whose_target() {
	user=$(id -un 2>/dev/null || id -u) # a container may run as a number without a name
	if [ "$(id -u)" = 0 ] && [ -z "$(find "$root" -prune -user root)" ]; then
		echo "$root belongs to another user than root, and so must target/"
	elif ! (mkdir -p target && : >target/.write) 2>/dev/null; then
		echo "$user can't write to $root/target"
	elif [ "$(id -u)" != 0 ] && [ -n "$(find target -maxdepth 2 ! -user "$(id -u)" 2>/dev/null)" ]; then
		echo "$root/target has files of another user (sudo?), which sudo chown -R $user target would change"
	fi
}

# test_a_copy ARGUMENT...: runs this script in a copy of the folder, and exits with its code.
test_a_copy() {
	copy=$(mktemp -d "${TMPDIR:-/tmp}/modelmock-XXXXXX") || die "can't write to ${TMPDIR:-/tmp}: is the disk full?"
	note "the tests run in a copy, $copy: $whose"
	chmod 755 "$copy"
	# Work of students, passwords and logs stay here.
	tar -cf - --exclude ./target --exclude ./my-stack --exclude './hand-in*' --exclude ./incident --exclude ./stack/logs \
		--exclude './stack/.env*' --exclude './stack/alertmanager/*password*' . | (cd "$copy" && tar -xof -)
	chmod -R u+w "$copy"
	"$copy/scripts/test.sh" "$@" &
	child=$!
	trap 'kill "$child"' HUP INT TERM
	code=0
	wait "$child" || code=$?
	# A trap ends the first wait.
	wait "$child" 2>/dev/null || true
	rm -rf "$copy"
	exit "$code"
}

# why_without_rust: why this machine can't build modelmock, if it can't.
why_without_rust() {
	oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
	rustup="install Rust $oldest or later (https://rustup.rs)"
	if ! command -v cargo >/dev/null; then
		echo "cargo is missing: $rustup"
	elif ! version=$(cargo --version 2>&1); then
		echo "cargo doesn't run ($(printf '%s\n' "$version" | head -n 1)): run rustup default stable, or $rustup"
	elif ! printf '%s\n' "$oldest.$version" | awk -F '[. ]' '{ exit $4 < $1 || $4 == $1 && $5 < $2 }'; then
		echo "$version is too old: $rustup"
	elif ! echo 'fn main() {}' | rustc --crate-name linked -o target/linked - >target/test.log 2>&1; then
		if [ "$(uname)" = Darwin ]; then
			echo "Rust lacks a C linker: run xcode-select --install"
		else
			echo "Rust lacks a C linker: $(to_install gcc libc6-dev)"
		fi
	elif ! cargo fetch --locked --target "$(rustc -vV | sed -n 's/^host: //p')" >target/test.log 2>&1; then
		echo "cargo can't download the packages in Cargo.lock: connect to the internet"
	fi
}

# add_components: if rustup is here, it can add what Debian has as packages.
add_components() {
	command -v rustup >/dev/null || return 0
	for component in fmt=rustfmt clippy=clippy; do
		cargo "${component%=*}" --version >/dev/null 2>&1 ||
			rustup component add "${component#*=}" >target/test.log 2>&1 || true
	done
}

# build ARGUMENT...: builds what the tests use, as a test doesn't wait for long. If it fails, the tests say why.
build() {
	cargo build --release --locked --quiet >target/test.log 2>&1 || return 0
	case " $* " in
	"  " | *" tests/test_cargo.py "*) cargo test --locked --no-run --quiet >target/test.log 2>&1 || true ;;
	esac
}

# find_python: sets $python to a Python that the tests' packages accept, or $why, if there is none.
find_python() {
	why=
	for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
		! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || return 0
	done
	why="python3 is missing: $(to_install python3-venv)"
	! command -v python3 >/dev/null ||
		why="$(python3 --version 2>&1 | head -n 1) is older than Python 3.10, which the tests' packages need: install a later one"
	return 1
}

# make_venv: sets $venv to a folder with the tests' packages, made by $python, or $why, if it can't be made.
make_venv() {
	# Another Python, or other packages, are another folder.
	key=$({
		cat tests/requirements.txt
		"$python" -c 'import os, sys; print(sys.version, os.path.realpath(sys.executable))'
	} | cksum | cut -d ' ' -f 1)
	venv=target/venv-$key
	if [ -e "$venv/whole" ]; then
		touch "$venv"
		return 0
	fi
	# Another run may use the environments that were used within a day.
	find target -maxdepth 1 -name 'venv-*' -mtime +0 -exec rm -rf {} +
	rm -rf "$venv"
	log=target/pip.log
	if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
		set -- "$venv/bin/python" -m pip
		"$python" -m venv "$venv" >"$log" 2>&1
	elif "$python" -m pip --version >/dev/null 2>&1; then
		# The system's own pip can install into a folder that lacks one.
		set -- "$python" -m pip --python "$venv/bin/python"
		"$python" -m venv --without-pip "$venv" >"$log" 2>&1
	else
		why="python3 lacks the module venv: $(to_install python3-venv)"
		return 1
	fi || {
		why="python3 can't make an environment: $(tail -n 1 "$log")"
		return 1
	}
	if ! "$@" install --quiet --disable-pip-version-check --retries 1 -r tests/requirements.txt >"$log" 2>&1; then
		case $(cat "$log") in
		*"new connection"* | *"name resolution"* | *"ProxyError"* | *"timed out"* | *"unreachable"*)
			why="pip can't reach its package index: connect to the internet" ;;
		*) why="pip can't install the tests' packages: $(grep ERROR "$log" | head -n 1)" ;;
		esac
		return 1
	fi
	touch "$venv/whole"
}

# attempt WHAT COMMAND...: counts one test, in $passed or $failed.
attempt() {
	what=$1
	shift
	if "$@" >target/test.log 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "failed: $what:"
		cat target/test.log
	fi
}

# skip COUNT WHAT REASON: counts skipped tests, in $skipped.
skip() {
	skipped=$((skipped + $1))
	echo "skipped: $2: $3"
}

# run_cargo: runs cargo's tests, and adds their counts.
run_cargo() {
	{ cargo test --locked --no-fail-fast 2>&1 || echo "cargo test failed"; } | tee target/test.log
	# A build that fails prints no results.
	counts=$(awk '
		/^test result: / { passed += $4; failed += $6; skipped += $8 }
		/^cargo test failed$/ { error = 1 }
		END { print passed + 0, failed + (error && !failed), skipped + 0 }
	' target/test.log)
	read -r cargo_passed cargo_failed cargo_skipped <<-END
		$counts
	END
	passed=$((passed + cargo_passed)) failed=$((failed + cargo_failed)) skipped=$((skipped + cargo_skipped))
}

# test_without_python: runs the tests that need no Python, prints the count, and exits.
test_without_python() {
	passed=0 failed=0 skipped=0
	scripts=$(find scripts -name '*.sh')
	for script in $scripts; do
		attempt "$script is valid" sh -n "$script"
		# The others are only sourced.
		[ ! -x "$script" ] || attempt "$script prints its help" sh "$script" -h
	done
	if command -v shellcheck >/dev/null; then
		# shellcheck disable=SC2086 # words
		attempt "the scripts are clean" shellcheck -x $scripts
	else
		skip 1 "the scripts are clean" "shellcheck is missing: $(to_install shellcheck)"
	fi
	if [ -n "$without_rust" ]; then
		skip 3 "cargo's tests and the form of the code" "$without_rust"
	else
		if cargo fmt --version >/dev/null 2>&1; then
			attempt "the code is formatted" cargo fmt --check
		else
			skip 1 "the code is formatted" "rustfmt is missing: $(to_install rustfmt)"
		fi
		if cargo clippy --version >/dev/null 2>&1; then
			attempt "clippy finds nothing" cargo clippy --quiet --all-targets --locked -- -D warnings
		else
			skip 1 "clippy finds nothing" "clippy is missing: $(to_install rust-clippy)"
		fi
		run_cargo
	fi
	set -- tests/test_*.py
	skip $# "all tests in tests/test_*.py" "$why"
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "${CI-}" != true ] && [ "$failed" -eq 0 ]
	exit
}

main() {
	case ${1-} in
	-h | --help)
		print_help
		exit
		;;
	esac
	cd "$root"
	given=$#
	before=
	for argument in "$@"; do
		shift
		# The word after such a flag belongs to the flag.
		case $before/$argument in
		-[kmnpcoWr]/* | */-*) ;;
		*)
			if [ -e "tests/test_$argument.py" ]; then
				argument=tests/test_$argument.py
			else
				# A long flag may have a value.
				case $before in --*) ;; *) require_kind "$argument" ;; esac
			fi
			;;
		esac
		set -- "$@" "$argument"
		before=$argument
	done
	whose=$(whose_target)
	[ -z "$whose" ] || test_a_copy "$@"
	without_rust=$(why_without_rust)
	if [ -n "$without_rust" ]; then
		note "$without_rust"
	else
		add_components
	fi
	if ! find_python || ! make_venv; then
		[ "$given" -eq 0 ] || die "$why"
		note "$why"
		test_without_python
	fi
	[ -n "$without_rust" ] || build "$@"
	# Python then writes no files next to the tests.
	export PYTHONDONTWRITEBYTECODE=1
	export MODELMOCK_WITHOUT_RUST="$without_rust"
	# exec, so that a signal reaches pytest, which cleans up.
	exec "$venv/bin/python" -m pytest "$@"
}

main "$@"
