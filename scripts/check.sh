#!/bin/sh
# check.sh [PART...]: checks each acceptance criterion of the lab, prints a line for each, and counts them.
# check.sh --watch [PART...]: checks every few seconds, prints a line if a verdict changes, and names the next step.
# check.sh --alert: waits until a result passes the rule's limit, the alert fires and its mail arrives.
# check.sh --own: looks for a dashboard of your own that meets the four requirements, and names its mistakes.
#
# PART is exporter, prometheus, alertmanager, mailpit or grafana; all five by default, and logging, machine and
# store if they run. It checks your own stack in my-stack, unless only the finished one runs. Set
# GRAFANA_PASSWORD, or type the password of your Grafana when it asks. A line says ok, FAIL, or open: not done
# yet, or it can't be verified. Exit code 1 if a line says FAIL. --watch ends when all is ok, or with Ctrl+C.

set -u
# hand-in.sh gives it under a name that Compose files don't use.
typed=${GRAFANA_PASSWORD_OF_HAND_IN-${GRAFANA_PASSWORD-}}
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/ask_password.sh
. "$root/scripts/lib/ask_password.sh"
# shellcheck source=scripts/lib/alertmanager.sh
. "$root/scripts/lib/alertmanager.sh"
# shellcheck source=scripts/lib/check/stack.sh
. "$root/scripts/lib/check/stack.sh"
# shellcheck source=scripts/lib/check/prometheus.sh
. "$root/scripts/lib/check/prometheus.sh"
# shellcheck source=scripts/lib/check/alerts.sh
. "$root/scripts/lib/check/alerts.sh"
# shellcheck source=scripts/lib/check/grafana.sh
. "$root/scripts/lib/check/grafana.sh"
# shellcheck source=scripts/lib/check/logging.sh
. "$root/scripts/lib/check/logging.sh"
# shellcheck source=scripts/lib/check/machine.sh
. "$root/scripts/lib/check/machine.sh"
# shellcheck source=scripts/lib/check/store.sh
. "$root/scripts/lib/check/store.sh"
exporter=$(url exporter)
prometheus=$(url prometheus)
alertmanager=$(url alertmanager)
mailpit=$(url mailpit)
grafana=$(url grafana)
start_model="start the model: $(model_command)"
tab=$(printf '\t')
page_2="page 2, Prometheus (stack/lab/2-prometheus.md)"
page_3="page 3, Grafana (stack/lab/3-grafana.md)"
page_4="page 4, Alertmanager (stack/lab/4-alertmanager.md)"
page_messages=stack/lab/messages.md
# The page of the part that is checked.
page=$page_2
all_parts="exporter $(services)"
passed=0 failed=0 open=0 password='' login='' login_container='' docker_error=unknown
# For --watch: the verdicts of the round before and of this one, and the first line that isn't ok.
watch='' before='' verdicts='' next=''

# from_here: the text that is read, with the scripts as they are called from the current folder.
from_here() {
	case $(pwd -P) in
	"$root") prefix= ;;
	"$root"/*/*) prefix=$root/ ;;
	"$root"/*) prefix=../ ;;
	*) prefix=$root/ ;;
	esac
	prefix="$prefix" awk '{
		done = ""
		while (match($0, /(^|[ (])scripts\/[a-z-]+[.]sh/)) {
			at = RSTART + (substr($0, RSTART, 1) != "s")
			done = done substr($0, 1, at - 1) ENVIRON["prefix"] substr($0, at, RSTART + RLENGTH - at)
			$0 = substr($0, RSTART + RLENGTH)
		}
		print done $0
	}'
}

# verdict WORD CRITERION SEEN [NEXT]: prints a line and counts it; the word is ok, FAIL or open. It fails with FAIL, so
# that the caller can stop there. With --watch, a line comes only if the word is another one than in the round before.
verdict() {
	line=$(printf '%-5s %s: %s' "$1" "$2" "$3")
	case $1 in
	ok) passed=$((passed + 1)) ;;
	open) open=$((open + 1)) ;;
	FAIL) failed=$((failed + 1)) ;;
	esac
	if [ -z "$watch" ]; then
		printf '%s\n' "$line${4:+. Next: $4}" | from_here
	else
		same="$part $1 $2"
		verdicts="$verdicts$same
"
		printf '%s\n' "$before" | grep -qxF -- "$same" || printf '%s\n' "$line" | from_here
		[ "$1" = ok ] || [ -n "$next" ] || next="$2: $3${4:+. $4}"
	fi
	[ "$1" != FAIL ]
}

# verdict_of CRITERION SEEN OTHERWISE NEXT: ok if something was seen, and FAIL if not.
verdict_of() {
	[ -n "$2" ] || verdict FAIL "$1" "$3" "$4" || return
	verdict ok "$1" "$2"
}

# require_http CRITERION URL NEXT: a FAIL if the URL doesn't answer; sets $response.
require_http() {
	response=$(get "$2" 2>&1) || verdict FAIL "$1" "$response" "$3"
}

# check_docker PART...: checks that Docker works, once for all parts that need it.
check_docker() {
	[ -n "$docker_error" ] && [ "$*" != exporter ] || return
	verdict FAIL "Docker works" "$docker_error" "make it work, then $start"
}

check_exporter() {
	criterion="exporter answers at / and /metrics"
	for place in / /metrics; do
		response=$(get "$exporter$place" 2>&1) && continue
		todo=$start_model
		case $response in
		*"timed out"*) todo="is it suspended, after Ctrl+Z? Type fg in its terminal" ;;
		esac
		verdict FAIL "$criterion" "$response" "$todo" || return
	done
	verdict ok "$criterion" "$(printf '%s\n' "$response" | grep -vc '^#') samples"

	result=$(metric "$exporter" model_result)
	criterion="model_result is from 0 to 1"
	if ! printf '%s\n' "$result" | grep -qxE '[01]|0[.][0-9]+|[0-9.]+e-[0-9]+'; then
		verdict FAIL "$criterion" "it is '$result'" "stop the other program on port ${exporter##*:}, then $start_model"
		return
	fi
	verdict ok "$criterion" "$result"

	criterion="model_result changes within two intervals"
	count=$(metric "$exporter" model_refreshes_total)
	wait_for 10 "there is a new result" has_new_result ||
		verdict FAIL "$criterion" "no new result in $waited s" "restart it without --interval" || return
	verdict ok "$criterion" "$result, then $(metric "$exporter" model_result) after $waited s"
}

# has_new_result: for wait_for: whether the model has drawn more than $count results.
has_new_result() {
	now=$(metric "$exporter" model_refreshes_total)
	[ -n "$now" ] && [ "$now" != "$count" ]
}

# look_around: sets $docker_error, and what load_containers and choose_stack set.
look_around() {
	if [ -n "$docker_error" ] || ! docker version >/dev/null 2>&1; then
		docker_error=$( (require_docker) 2>&1) && docker_error=
		docker_error=${docker_error#*: }
	fi
	load_containers
	choose_stack
	[ $stack != stack ] || ! (read_password) 2>/dev/null || read_password
}

# runs SERVICE: whether the service runs in a container of the stack. Another program may have its port.
runs() {
	find_container "$1"
	is_ours && fact status | grep -q '^running'
}

# runs_store: whether a container of the store or of one of its sites runs.
runs_store() {
	docker ps -q --filter "label=com.docker.compose.project=$project-store" 2>/dev/null | grep -q .
}

# check_parts PART...: checks the parts, after look_around.
check_parts() {
	part=all is_told='' is_reached=''
	check_docker "$@"
	check_file
	for part in "$@"; do
		"check_$part"
	done
}

# watch_parts PART...: checks the parts again and again, until all is ok. Between two rounds it sleeps so long that it
# takes less than a tenth of a processor.
watch_parts() {
	watch=yes
	shown=''
	load_spent
	begin=$spent
	while :; do
		passed=0 failed=0 open=0 verdicts='' next=''
		check_parts "$@"
		before=$verdicts
		if [ $failed -eq 0 ] && [ $open -eq 0 ]; then
			echo "All is ok."
			return
		fi
		# The figures in a line may change from round to round.
		if [ "$(printf '%s\n' "$next" | tr -d 0-9)" != "$shown" ]; then
			printf 'Next: %s\n' "$next" | from_here
			shown=$(printf '%s\n' "$next" | tr -d 0-9)
		fi
		load_spent
		sleep "$(echo "$begin $spent" | awk '{ time = 10 * ($2 - $1); printf "%.0f\n", (time > 3 ? time : 3) }')"
		begin=$spent
		look_around
	done
}

# load_spent: sets $spent to the processor time, in seconds, of the programs that this script has run. In a pipe, times
# would only tell of the pipe.
load_spent() {
	times_file=$(mktemp) || die "cannot write below ${TMPDIR:-/tmp}: is the disk full?"
	times >"$times_file"
	spent=$(awk 'NR == 2 { gsub(/[ms]/, " "); print $1 * 60 + $2 + $3 * 60 + $4 }' "$times_file")
	rm -f "$times_file"
}

require_parts() {
	for part in "$@"; do
		case " $all_parts logging machine store " in
		*" $part "*) ;;
		*) usage_error "unknown part '$part'" ;;
		esac
	done
}

main() {
	case ${1-} in
	-h | --help) print_help && exit ;;
	--alert | --own)
		[ $# -eq 1 ] || usage_error "$1 takes no other argument"
		set -- "${1#--}"
		;;
	--watch)
		shift
		watch=yes
		require_parts "$@"
		;;
	*) require_parts "$@" ;;
	esac
	require_curl
	look_around
	if [ $# -eq 0 ]; then
		# shellcheck disable=SC2086 # words
		set -- $all_parts
		! runs loki || set -- "$@" logging
		! runs node-exporter || set -- "$@" machine
		! runs_store || set -- "$@" store
	fi
	if [ $stack = my-stack ]; then
		echo "This checks your own stack, in my-stack/"
	else
		echo "This checks the finished stack, in stack/ (yours: scripts/down.sh, then docker compose up -d in my-stack)"
	fi | from_here
	if [ -n "$watch" ]; then
		watch_parts "$@"
		return
	fi
	check_parts "$@"
	echo "$passed passed, $failed failed$([ $open -eq 0 ] || echo ", $open open")"
	[ $failed -eq 0 ]
}

main "$@"
