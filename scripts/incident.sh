#!/bin/sh
# incident.sh start [--number N] [NAME]: breaks a copy of the finished stack in one place, and says what people notice.
# incident.sh hint: prints the next hint; each incident has three.
# incident.sh check [ANSWER]: says whether the incident is over: its cause is gone, and a high result is mailed again.
# incident.sh solve: repairs the copy, and explains the incident.
# incident.sh end: stops the copy, and removes its containers, its data and its files.
#
# The copy is in incident/, and you work there as in my-stack, with docker compose. It has containers and volumes of
# its own; your stack and your files stay as they are. Both need the same ports, so stop your stack and your model
# first: incident.sh starts a model. end keeps the files that you add to incident/.
#
# NAME is the number or the name of an incident (stack/lab/incidents.md), or mystery: nothing is broken but the model,
# and your ANSWER to check says how. Without a NAME, start takes the next incident that you haven't solved. Your own
# number, N, decides about their order; start remembers it.
#
# check and solve write to my-stack/incidents.txt, for your hand-in: the word solved, or shown if you ran solve; the
# time in UTC; the incident; how many hints (and wrong answers) you needed; and how many seconds.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
. "$root/scripts/lib/images.sh"
# shellcheck source=scripts/lib/alertmanager.sh
. "$root/scripts/lib/alertmanager.sh"
# shellcheck source=scripts/lib/alone.sh
. "$root/scripts/lib/alone.sh"
# shellcheck disable=SC2034 # for lib/alertmanager.sh
alertmanager=$(url alertmanager)
folder=$root/incident
state=$folder/.state
catalog=$root/stack/incidents
results=$root/my-stack/incidents.txt
copy_project=$project-incident
patience=25 # seconds in which a program reads a changed file and acts on it
wanted=     # the services of the copy
incomplete= # while a start could leave half a copy: files, or also things, its containers and volumes
# shellcheck source=scripts/lib/incident/copy.sh
. "$root/scripts/lib/incident/copy.sh"
# shellcheck source=scripts/lib/incident/model.sh
. "$root/scripts/lib/incident/model.sh"
# shellcheck source=scripts/lib/incident/questions.sh
. "$root/scripts/lib/incident/questions.sh"

# The parts of an incident. Each file in the catalog replaces some of them, and defines notice (what people notice),
# is_visible (whether they notice it now), is_repaired, hints (one in a line) and story.
model_flags="--value 0.95"
answers= # for a mystery: the answers that check accepts

# plant: breaks the files, before the start.
plant() {
	:
}

# plant_running: breaks a program, once the programs run.
plant_running() {
	:
}

# plant_model: starts the model, whole or not.
plant_model() {
	# shellcheck disable=SC2086 # words
	start_model $model_flags
}

# repair_running: for solve, once the files are the finished stack's again.
repair_running() {
	:
}

# names: the incidents, in their order.
names() {
	for file in "$catalog"/[0-9]*.sh; do
		basename "$file" .sh | sed 's/^[0-9]*-//'
	done
}

# load NAME: reads the incident of that name.
load() {
	{ names && echo mystery; } | grep -qxF -- "$1" ||
		usage_error "unknown incident '$1': choose a number from 1 to $(names | wc -l | tr -d ' '), or mystery"
	for file in "$catalog"/[0-9]*-"$1.sh" "$catalog/$1.sh"; do
		[ -f "$file" ] || continue
		# shellcheck source=/dev/null
		. "$file"
	done
}

# name_of WORD: the name of an incident, which is given by its name or its number.
name_of() {
	case $1 in
	*[!a-z0-9]*) printf '%s\n' "$1" | tr -dc '[:print:]' ;;
	*) names | awk -v word="$1" 'NR "" == word { name = $1 } END { print (name == "" ? word : name) }' ;;
	esac
}

# next_name: the next incident that isn't in the results, in the order of the student's number; then those that were
# only shown. Without Grafana, the one that needs Grafana is left out.
next_name() {
	{
		names | case $wanted in *grafana*) cat ;; *) grep -vx source ;; esac | sed 's/^/name /'
		[ ! -f "$results" ] || cat "$results"
	} | awk '
		$1 == "name" { name[count++] = $2 }
		$1 == "number" { number = substr($2, length($2) - 8) }
		$1 == "solved" { solved[$3] = 1 }
		$1 == "shown" { shown[$3] = 1 }
		END {
			for (round = 0; round < 2; round++)
				for (i = 0; i < count; i++) {
					each = name[(number + i) % count]
					if (!(each in solved) && (round || !(each in shown))) { print each; exit }
				}
		}'
}

# record LINE: appends a line to the results.
record() {
	mkdir -p "${results%/*}" || die "cannot write ${results%/*}: see the output above"
	[ -e "$results" ] ||
		echo "# solved or shown, time in UTC, incident, hints, seconds: written by scripts/incident.sh" >"$results"
	echo "$1" >>"$results" || die "cannot write $results: is the disk full?"
}

# record_end WORD: records that the open incident was solved, or shown, unless it is recorded already.
record_end() {
	[ -z "$(fact recorded)" ] || return 0
	record "$1 $(date -u +%FT%TZ) $(fact name) $(($(fact hints) + $(fact wrong))) $seconds"
	note recorded "$1"
}

# clean_up: at each end of the script. A start that didn't succeed leaves nothing.
clean_up() {
	trap '' INT TERM HUP
	end_pull
	if [ "$incomplete" = things ]; then
		stop_model
		remove_things
	fi
	[ -z "$incomplete" ] || remove_files
	rm -f "$lock"
	rmdir "$folder" 2>/dev/null
}

# enter: takes the lock in incident/, and sets the traps.
enter() {
	[ -d "$folder" ] || die "no incident is open: start one with scripts/incident.sh start"
	take_lock "$folder/.lock" "at work"
	trap clean_up EXIT
	trap 'echo "incident.sh: interrupted" >&2; exit 1' INT TERM HUP
}

# require_open: dies without an open incident; loads it otherwise.
require_open() {
	[ -s "$state/began" ] || die "no incident is open: start one with scripts/incident.sh start"
	load "$(fact name)"
	find_model
}

# require_ports: dies if another program has a port of the copy, and says what to stop.
require_ports() {
	running=$(compose_containers | awk -F '\t' '$2 == "running"')
	own_stack=$(printf '%s\n' "$running" | awk -F '\t' '$6 == "my-stack" { print $5; exit }')
	for taken in $(service_field 3) $(service_field 5 | tr -d -) "$port"; do
		listens "$taken" || continue
		if [ -n "$own_stack" ]; then
			todo="your own stack is running: run docker compose down in $own_stack, which keeps its data"
		elif printf '%s\n' "$running" | cut -f 6 | grep -qx stack; then
			todo="the finished stack is running: run scripts/down.sh, which keeps its data"
		elif [ "$taken" = "$port" ]; then
			todo="it is the model's: press Ctrl+C in the model's terminal (on macOS, AirPlay Receiver may have the port)"
		else
			todo="stop $(port_owner "$taken")"
		fi
		die "port $taken is in use, and the incident needs it: $todo; then try again"
	done
}

# print_message: the words of a colleague, and how to work.
print_message() {
	echo "A colleague writes:"
	notice | sed 's/^/    /'
	echo
	echo "A copy of the finished stack is in incident/, and runs:"
	for service in $wanted; do
		login=
		[ "$service" != grafana ] || login="   login admin, password $(fact password)"
		printf '    %-13s %s%s\n' "$(service_field 6 "$service")" "$(url "$service")" "$login"
	done
	if [ -n "$binary" ]; then
		printf '    %-13s %s\n' "The model" "$(url exporter)   process $(fact process)"
	else
		printf '    %-13s %s\n' "The model" "$(url exporter)   a container"
	fi
	echo
	if [ -n "$answers" ]; then
		echo "Look at the dashboard, then run scripts/incident.sh check with your answer: $answers."
	else
		echo "Find the cause, repair it in incident/ (docker compose works there), then run scripts/incident.sh check."
	fi
	# shellcheck disable=SC2031 # in_copy sets it in a subshell only
	[ -z "${COMPOSE_PROJECT_NAME-}" ] ||
		echo "In each terminal, first run: unset COMPOSE_PROJECT_NAME (it names another stack)."
}

# wait_ready SERVICE...
wait_ready() {
	for service in "$@"; do
		wait_for 120 "$service is ready" get -o /dev/null "$(readiness "$service")" 2>/dev/null ||
			die "$service doesn't answer at $(readiness "$service"): try scripts/up.sh $service, which says why"
	done
}

# require_services: sets $wanted, and dies if the kit lacks a service that the $incident needs.
require_services() {
	wanted=$(services)
	needed="prometheus alertmanager mailpit"
	[ "$incident" != source ] || needed="$needed grafana"
	for service in $needed; do
		case " $wanted " in
		*" $service "*) ;;
		*) die "this kit lacks $service, which the incident needs: choose another incident, or ask for another kit" ;;
		esac
	done
}

# require_no_files: dies if an incident is open here, or if the student's files are in its folder.
require_no_files() {
	[ ! -e "$state" ] || die "an incident is open (see incident/message.txt): end it with scripts/incident.sh end"
	own=$(own_files)
	[ -z "$own" ] || die "incident/ has files of yours: move them elsewhere, then try again: $own"
}

# require_no_things: dies if a copy has containers or volumes, also one of another clone of this project.
require_no_things() {
	require_project_dir "$copy_project" "$folder"
	[ -z "$(things "ps -a")$(things "volume ls")" ] ||
		die "containers or volumes of an earlier incident are left: run docker compose -p $copy_project down --volumes"
}

# choose_incident: sets $incident to the next one if it is empty.
choose_incident() {
	[ -n "$incident" ] || incident=$(next_name)
	[ -n "$incident" ] || die "you have solved all incidents: choose one by its number to play it again, or mystery"
	load "$incident"
}

# make_copy: starts the copy, with its fault and its model.
make_copy() {
	(umask 077 && echo "GRAFANA_PASSWORD=$(fact password)" >"$folder/.env") ||
		die "cannot write $folder/.env: is the disk full?"
	copy_files
	plant
	echo "starting the copy in incident/"
	# shellcheck disable=SC2086 # words
	in_copy up -d --pull never $wanted >"$state/output" 2>&1 ||
		die "Docker can't start the copy: $(tail -n 1 "$state/output")"
	wait_ready prometheus alertmanager mailpit
	plant_running
	plant_model
	case $wanted in
	*grafana*) wait_ready grafana ;;
	esac
	wait_for 90 "the incident can be seen" is_visible 2>/dev/null ||
		die "the incident '$incident' can't be seen: restore the files in stack/, then try again"
}

# start [--number N] [NAME]
start() {
	number='' incident=''
	while [ $# -gt 0 ]; do
		case $1 in
		--number)
			number=${2-}
			case $number in
			'' | *[!0-9]* | ???????????????????*) usage_error "--number takes your number, of 1 to 18 digits, not '$number'" ;;
			esac
			shift
			;;
		*)
			[ -z "$incident" ] || usage_error "start takes one name, not '$incident' and '$1'"
			incident=$(name_of "$1")
			;;
		esac
		shift
	done
	[ -z "$incident" ] || load "$incident"
	require_curl
	require_docker
	require_harmless_files
	require_services
	require_no_files
	require_no_things
	require_ports
	[ -z "$number" ] || record "number $number"
	choose_incident
	find_model
	mkdir -p "$folder" || die "cannot write $folder: see the output above"
	enter
	mkdir "$state" || die "an incident is open: end it with scripts/incident.sh end"
	incomplete=files
	# shellcheck disable=SC2046,SC2086 # words
	get_images $wanted $([ -n "$binary" ] || echo exporter)
	# Another clone may have started an incident since.
	require_no_things
	incomplete=things
	note name "$incident"
	note hints 0
	note wrong 0
	note password "incident-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')"
	make_copy
	note_volumes
	print_message >"$folder/message.txt"
	note began "$(date +%s)"
	incomplete=
	echo
	cat "$folder/message.txt"
}

hint() {
	next=$(($(fact hints) + 1))
	text=$(hints | line_of "$next")
	[ -n "$text" ] || die "you have seen all hints: scripts/incident.sh solve repairs the copy and explains the incident"
	note hints "$next"
	printf 'Hint %s of 3: %s\n' "$next" "$text"
}

# refuse TEXT: says that the incident isn't over.
refuse() {
	echo "FAIL  $*"
	exit 1
}

# check_answer ANSWER: for a mystery.
check_answer() {
	printf '%s\n' "$answers" | sed 's/, /\
/g' | grep -qxF -- "$1" || usage_error "check takes one of these answers: $answers"
	if ! is_right "$1"; then
		note wrong $(($(fact wrong) + 1))
		refuse "it isn't '$1': which panel would show that, and what does it show?"
	fi
	finish "'$1' is right"
}

# wait_running: waits for the programs of the copy that run and may still be starting.
wait_running() {
	for service in $(service_field 1); do
		started=$(docker ps -q --filter status=running --filter "label=com.docker.compose.project=$copy_project" \
			--filter "label=com.docker.compose.service=$service")
		[ -z "$started" ] || wait_for 60 "$service is ready" get -o /dev/null "$(readiness "$service")" 2>/dev/null
	done
}

# check_repair: whether the cause is gone, and whether a high result is mailed again.
check_repair() {
	note_volumes
	[ -n "$(things ps)" ] || die "the copy doesn't run: run docker compose up -d in incident/, then check again"
	# A check that was interrupted leaves a model with normal results.
	[ "$(fact flags)" = "$model_flags" ] || stop_model
	if ! has_model; then
		! listens "$port" ||
			die "a program that incident.sh didn't start uses port $port: stop it (a model: Ctrl+C in its terminal), then" \
				"check again, which starts a model"
		# shellcheck disable=SC2086 # words
		start_model $model_flags
	fi
	wait_running
	wait_for $patience "the cause is gone" is_repaired 2>/dev/null ||
		refuse "the cause is still there. $(failing_service || echo "Did the program read your change? docker compose up -d" \
			"applies compose.yaml; docker compose restart, with a service's name, makes its program read its files.")"
	echo "ok    the cause is gone"
	later="the cause is gone, and something else is wrong now:"
	# Alertmanager mails an alert again only after its end, so it must have the alert, and see its end. After a restart of
	# Alertmanager, Prometheus repeats an alert within a minute.
	wait_for 80 "Alertmanager has the alert" is_alerted || refuse "$later a high result makes no alert in Alertmanager"
	stop_model
	start_model --value 0.5
	wait_for 60 "the alert ends" has_no_alert ||
		refuse "$later the alert doesn't end with normal results. If you renamed a job, wait five minutes: Prometheus uses" \
			"its last samples so long"
	wait_for 30 "Alertmanager forgets the alert" is_forgotten
	before=$(high_mails)
	stop_model
	start_model --value 0.95
	wait_for 60 "a high result is mailed" has_new_mail ||
		refuse "$later a high result isn't mailed"
	finish "a high result is mailed"
}

# failing_service: a sentence on a service of the copy that starts again and again; fails without one.
failing_service() {
	docker ps -a --filter "label=com.docker.compose.project=$copy_project" --filter status=restarting \
		--format '{{.Label "com.docker.compose.service"}}' | head -n 1 |
		sed 's/.*/& ends again and again: docker compose logs --tail 5 & says why./' | grep .
}

has_new_mail() {
	[ "$(high_mails)" -gt "$before" ]
}

# finish TEXT: the incident is over.
finish() {
	echo "ok    $1"
	echo
	if [ -z "$(fact recorded)" ]; then
		mistakes=$(fact wrong | sed 's/^0$//; s/./, wrong answers: &/')
		echo "The incident is over: $((seconds / 60)) min $((seconds % 60)) s, $(fact hints) of 3 hints$mistakes."
	else
		echo "The incident is over."
	fi
	record_end solved
	echo
	story
	echo
	echo "scripts/incident.sh end removes the copy."
}

# check [ANSWER]
check() {
	seconds=$(($(date +%s) - $(fact began)))
	if [ -n "$answers" ]; then
		check_answer "${1-}"
	else
		[ $# -eq 0 ] || usage_error "check takes no answer in this incident, not '$1'"
		check_repair
	fi
}

solve() {
	seconds=$(($(date +%s) - $(fact began)))
	record_end shown
	if [ -z "$answers" ]; then
		wanted=$(services)
		copy_files
		# shellcheck disable=SC2086 # words
		in_copy up -d --pull never --force-recreate $wanted >"$state/output" 2>&1 ||
			die "Docker can't start the copy: $(tail -n 1 "$state/output")"
		wait_ready prometheus alertmanager mailpit
		repair_running
		echo "The copy is repaired: scripts/incident.sh check proves it."
		echo
	fi
	story
}

end() {
	if [ ! -d "$state" ]; then
		echo "No incident was open."
		return
	fi
	stop_model
	require_docker
	require_project_dir "$copy_project" "$folder"
	other=$(compose_containers | name=$copy_project folder=$folder awk -F '\t' '
		$5 == ENVIRON["folder"] && $4 != ENVIRON["name"] { print $4; exit }')
	[ -z "$other" ] || die "the copy's containers belong to the project $other: set COMPOSE_PROJECT_NAME as at the start"
	remove_things
	remove_files
	own=$(own_files)
	echo "The copy is removed, with its data.${own:+ Your own files stay in incident/: $own}"
}

main() {
	case ${1-} in
	-h | --help) print_help && exit ;;
	start | check) ;;
	hint | solve | end) [ $# -eq 1 ] || usage_error "$1 takes no argument" ;;
	*) usage_error "use start, hint, check, solve or end, not '${1-}'" ;;
	esac
	command=$1
	shift
	case $command in
	start) start "$@" ;;
	end)
		[ -d "$folder" ] || { echo "No incident was open." && exit; }
		enter
		end
		;;
	*)
		[ $# -le 1 ] || usage_error "check takes one answer, not '$*'"
		require_curl
		enter
		require_open
		"$command" "$@"
		;;
	esac
}

main "$@"
