# shellcheck shell=sh disable=SC2154
# What the files of tests here share: how a test is run and counted, and how it starts, waits for and
# looks at things. scripts/test.sh sources it, then the files, each in a shell of its own.
#
# A test is a function; it runs in a shell of its own, so it may exit: 0 passed, 3 skipped (see lacks),
# anything else failed. What it started ends with it.

# Containers mount files from here, and only what lies in the project is shared with every engine.
mkdir -p "$root/target"
top=$(mktemp -d "$root/target/tests.XXXXXX") || exit
: >"$top/results"
: >"$top/beside"
: >"$top/clean_up"
modelmock=$root/target/release/modelmock

trap clean_up EXIT
# A shell that a signal ends does not run the trap on its exit everywhere.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

clean_up() {
	trap '' HUP INT TERM
	# shellcheck disable=SC2046 # process IDs are words
	end_trees $(cut -d' ' -f1 "$top/beside")
	for pids in "$top"/*/pids; do
		work=${pids%/pids} && stop_all
	done
	# shellcheck disable=SC2046 # IDs are words
	set -- $(docker ps -aq --filter "label=modelmock.tests=$$" 2>/dev/null)
	[ $# -eq 0 ] || docker rm -f "$@" >/dev/null 2>&1
	while read -r line; do
		sh -c "$line" >/dev/null 2>&1 </dev/null
	done <"$top/clean_up"
	rm -rf "$top"
}

# end_trees PID...: ends them with all that they started, as a shell does not pass a signal on.
end_trees() {
	for parent in "$@"; do
		kill "$parent" 2>/dev/null
		# shellcheck disable=SC2046
		end_trees $(ps -A -o pid= -o ppid= 2>/dev/null | awk -v parent="$parent" '$2 == parent { print $1 }')
	done
}

# tests_of KIND: runs the file of that name, with a folder of its own for what its tests leave. To be
# called in a shell of its own.
tests_of() {
	trap - EXIT
	work=$top/$1
	output=$work/output
	mkdir "$work"
	cd "$root" || exit
	# shellcheck source=/dev/null
	. "$root/tests/$1.sh"
}

# at_the_end COMMAND: a line of shell that is run by itself when all ends, however it ends.
at_the_end() {
	echo "$1" >>"$top/clean_up"
}

# start COMMAND...: starts it in the background until its test ends, and sets $pid.
start() {
	"$@" &
	pid=$!
	echo $pid >>"$work/pids"
}

# stop PID: ends it, and waits until it has ended.
stop() {
	kill "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	within 10 "the end of process $1" has_ended "$1"
}

has_ended() {
	! kill -0 "$1" 2>/dev/null
}

stop_all() {
	[ -e "$work/pids" ] || return 0
	while read -r pid; do
		kill "$pid" 2>/dev/null
	done <"$work/pids"
	while read -r pid; do
		tries=0
		until has_ended "$pid"; do
			tries=$((tries + 1))
			[ $tries -lt 50 ] || kill -9 "$pid"
			sleep 0.1
		done
	done <"$work/pids"
	rm -f "$work/pids"
}

# run NAME COMMAND...: one test. What it measures is shown; where it fails, all that it said.
run() {
	name=$1
	shift
	begun=$(date +%s)
	("$@") >"$output" 2>&1 </dev/null
	code=$?
	stop_all
	took=$(($(date +%s) - begun))
	case $code in
	0)
		echo "ok    $name ($took s)" | tee -a "$top/results"
		grep -Eo '^ok .*|measured: .*' "$output" | sed 's/^/      /'
		sed -n 's/.*left out: //p' "$output" | while read -r left_out; do
			echo "skip  $name: $left_out" | tee -a "$top/results"
		done
		;;
	3) skip "$name" "$(tail -n 1 "$output")" ;;
	*)
		echo "FAIL  $name ($took s); it said:" | tee -a "$top/results"
		tail -n 60 "$output" | sed 's/^/      /'
		;;
	esac
	[ $code -eq 0 ]
}

# skip NAME WHY: what a machine lacks; where nothing may lack, as in CI, that is a failure.
skip() {
	if [ "${CI-}" = true ]; then
		echo "FAIL  $1: skipped, which CI may not: $2"
	else
		echo "skip  $1: $2"
	fi | tee -a "$top/results"
}

# leave_out NAME WHY: what cannot be had everywhere, not even in CI, such as an image.
leave_out() {
	echo "skip  $1: $2" | tee -a "$top/results"
}

# lacks WHAT: ends a test that cannot run on this machine; says what to install.
lacks() {
	echo "$*"
	exit 3
}

# needs TOOL PACKAGE
needs() {
	command -v "$1" >/dev/null || lacks "there is no $1: install the package $2"
}

# broken WHAT: ends a test that failed; what ran last says more.
broken() {
	[ ! -s "$work/said" ] || tail -n 40 "$work/said"
	printf 'not as it should be: %s\n' "$*"
	exit 1
}

# works COMMAND...: it ends with code 0.
works() {
	"$@" >"$work/said" 2>&1 || broken "$* ended with code $?"
}

# fails WORDS COMMAND...: it ends with code 1 and says the words.
fails() {
	words=$1
	shift
	"$@" >"$work/said" 2>&1
	code=$?
	[ $code -eq 1 ] || broken "$* ended with code $code, not 1"
	says "$words"
}

# says WORDS: what ran last did.
says() {
	grep -qF -- "$1" "$work/said" || broken "these words are missing: $1"
}

# says_not WORDS: what ran last did not.
says_not() {
	! grep -qF -- "$1" "$work/said" || broken "these words should not be there: $1"
}

# one_line: what ran last said one line.
one_line() {
	[ "$(grep -c . "$work/said")" -eq 1 ] || broken "it should be one line"
}

# within SECONDS WHAT COMMAND...: until the command succeeds, by the clock.
within() {
	limit=$1
	what=$2
	shift 2
	until_then=$(($(date +%s) + limit))
	until "$@"; do
		[ "$(date +%s)" -le $until_then ] || broken "$what: not within $limit s"
		sleep 0.5
	done
}

# at_most LIMIT FIGURE WHAT
at_most() {
	echo "measured: $3: $2, at most $1"
	awk "BEGIN { exit !($2 <= $1) }" || broken "$3: $2 is more than $1"
}

# start_model ARGUMENT...: on a free port; sets $address and $pid.
start_model() {
	: >"$work/first"
	start "$modelmock" --listen 127.0.0.1:0 --quiet "$@" >"$work/first"
	within 5 "the model's first line" grep -q http "$work/first"
	# shellcheck disable=SC2034 # for the tests
	address=$(sed -n 's|.*http://\([^/]*\)/.*|\1|p' "$work/first")
}

# free_port [FROM]: one that nothing listens on.
free_port() {
	port=${1:-19090}
	while listens "$port"; do
		port=$((port + 1))
	done
	echo "$port"
}

# container ARGUMENT...: docker run, of a container that ends with the tests.
container() {
	docker run --rm --label "modelmock.tests=$$" "$@"
}

# tool IMAGE TOOL ARGUMENT...: promtool or amtool out of the image that the stack uses, or this
# machine's own, in the folder $stack.
tool() {
	image=$(image "prom/$1")
	tool=$2
	shift 2
	if has_image "$image"; then
		container -i --network none --user 0 -v "$stack:/stack:ro" -w /stack --entrypoint "/bin/$tool" "$image" "$@"
	elif command -v "$tool" >/dev/null; then
		(cd "$stack" && "$tool" "$@")
	else
		lacks "there is no $tool: install Docker (the README says how), or the package that has $tool"
	fi
}
