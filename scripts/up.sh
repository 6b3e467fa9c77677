#!/bin/sh
# up.sh [SERVICE...]: starts the finished stack, waits until it answers, and prints its addresses.
#
# SERVICE is prometheus, alertmanager, mailpit or grafana, all four by default; exporter, the model as a
# container, with the flags in MODELMOCK_FLAGS; logging, which is loki and fluent-bit; or machine, which is
# node-exporter: the laptop itself. In a kit it loads the kit's images first, and starts by default the
# services that the kit holds. Run it again at any time: it starts services that are missing and applies
# changes in the configuration. If you interrupt it, it stops the services that it started.
# The first time, it makes a password for Grafana and keeps it in stack/.env.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
. "$root/scripts/lib/images.sh"
# shellcheck source=scripts/lib/alone.sh
. "$root/scripts/lib/alone.sh"
logs=$root/stack/logs
machine_target=$root/stack/prometheus/machine.yml
wanted=
running= # the services that ran before

# make_password: writes a new password to stack/.env, unless there is one.
make_password() {
	[ ! -e "$env_file" ] || return 0
	password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
	# Under another name first, so that a full disk doesn't leave half a file.
	if ! (umask 077 && echo "GRAFANA_PASSWORD=$password" >"$env_file.new") 2>/dev/null ||
		! mv "$env_file.new" "$env_file"; then
		rm -f "$env_file.new"
		die "cannot write $env_file: make the folder writable, or the disk less full"
	fi
}

# state SERVICE: running, or ended, even if Docker keeps restarting it; empty without a container.
state() {
	docker inspect -f '{{if or (ne .State.Status "running") .RestartCount}}ended{{else}}running{{end}}' \
		"$(compose ps -aq "$1" 2>/dev/null)" 2>/dev/null
}

answers() {
	get -o /dev/null "$(readiness "$1")" 2>/dev/null
}

# answers_inside SERVICE: whether its health check succeeds in its container.
answers_inside() (
	id=$(compose ps -q "$1")
	# One line is one word; a word may be an asterisk.
	set -f
	IFS='
'
	# shellcheck disable=SC2046
	set -- "$1" $(docker inspect -f '{{with .Config.Healthcheck}}{{range .Test}}{{println .}}{{end}}{{end}}' "$id")
	# The images of the exporter and Fluent Bit can't run a check; the exporter answers as soon as it runs.
	if [ $# -le 2 ]; then
		[ "$1" = exporter ]
		return
	fi
	shift 2
	docker exec "$id" "$@" >/dev/null 2>&1
)

# die_host_network SERVICE: dies with the reason why a service that runs does not answer on this machine.
die_host_network() {
	die "$1 runs but does not answer at $(readiness "$1"), as Docker's host network is not this machine's:" \
		"$(host_network_todo)"
}

# ready_or_restart SERVICE: for wait_for: whether it answers; restarts it once if it only answers inside. Reads and
# sets $restarted and $ask_inside, the second from which to ask inside.
ready_or_restart() {
	! answers "$1" || return 0
	current=$(state "$1") || require_docker
	[ "$current" != ended ] || abort_reason="does not run"
	[ "$waited" -ge "$ask_inside" ] && answers_inside "$1" || return 1
	# It may have come up between the two questions.
	! answers "$1" || return 0
	# After a restart of Docker Desktop, a container may be out of reach until it restarts, too.
	[ -z "$restarted" ] || die_host_network "$1"
	restarted=$1
	ask_inside=$((waited + 10))
	compose restart "$1" >/dev/null 2>&1
	return 1
}

# reload SERVICE: makes a service that was running before read its configuration again.
reload() {
	! errors=$(config_errors "$1" "$(compose ps -q "$1")") || die "$1 does not take its configuration: $errors"
	case $1 in
	prometheus | alertmanager) compose kill -s HUP "$1" >/dev/null 2>&1 ;;
	loki | fluent-bit)
		compose restart "$1" >/dev/null 2>&1
		wait_for 60 "$1 is ready again" answers "$1" ||
			die "$1 does not start again: see docker compose -f stack/compose.yaml logs $1"
		;;
	grafana)
		for kind in datasources dashboards; do
			address=$(url grafana)/api/admin/provisioning/$kind/reload
			code=$(as_admin "$password" -o /dev/null -w '%{http_code}' -X POST "$address")
			[ "$code" = 200 ] ||
				die "Grafana does not take stack/grafana/provisioning/$kind (HTTP $code): see docker compose -f" \
					"stack/compose.yaml logs grafana"
		done
		;;
	esac
}

# rollback: after a signal, stops and removes the services that this run started.
rollback() {
	trap '' INT TERM HUP
	# The signal may have come while a function had its output redirected.
	exec 2>&3
	echo "up.sh: interrupted: stopping the services that it started" >&2
	end_pull
	rm -f "$env_file.new"
	started=$(printf '%s\n' "$wanted" | tr ' ' '\n' | grep -vxF "${running:-none}")
	# shellcheck disable=SC2086 # words
	[ -z "$started" ] || compose rm -sf $started >/dev/null 2>&1
	die "interrupted: the services that it started are stopped again, and their data is kept"
}

# require_other_stack_down: dies if the student's own stack has the ports. The model as a container goes with either.
require_other_stack_down() {
	[ "$wanted" != exporter ] || return 0
	own=$(compose_containers | awk -F '\t' '$2 ~ /^(running|restarting)$/ && $6 == "my-stack" { print $5; exit }')
	[ -z "$own" ] ||
		die "your own stack is running, and both need the same ports: run docker compose down in $own, which keeps its" \
			"data, then try again"
}

# prepare_files: makes stack/logs, and dies if the containers can't read the files of stack/.
prepare_files() {
	case $wanted in
	*fluent-bit*)
		# Fluent Bit reads the model's lines there with any umask, as tee keeps a file's permissions.
		{ mkdir -p "$logs" && : >>"$logs/model.log" && chmod go+rX "$logs" "$logs"/*; } ||
			die "cannot write $logs: see the output above"
		;;
	esac
	# The services run as users of their own.
	unreadable=$(find "$root"/stack/* \( -type d ! -perm -005 -o ! -perm -004 \) | head -n 1)
	[ -z "$unreadable" ] || die "the containers may not read $unreadable: run chmod -R go+rX '$root'/stack/*"
}

# add_machine: tells Prometheus that the machine is a target now. Without its exporter, the target would be down.
add_machine() {
	{ echo "- targets: [\"localhost:$(service_field 3 node-exporter)\"]" >"$machine_target" &&
		chmod go+r "$machine_target"; } || die "cannot write $machine_target: see the output above"
}

# require_free_ports: dies if another program has a port of a service that isn't in $running.
require_free_ports() {
	for service in $wanted; do
		printf '%s\n' "$running" | grep -qxF "$service" && continue
		for port in $(service_field 3 "$service") $(service_field 5 "$service" | tr -d -); do
			! listens "$port" ||
				die "port $port, which $service needs, is taken by $(port_owner "$port"): stop it, then try again"
		done
	done
}

# start_services: starts the services in $wanted, and waits until they answer.
start_services() {
	for service in $wanted; do
		# A new container, so that the state of its previous run doesn't count.
		if [ "$(state "$service")" = ended ] && ! answers "$service"; then
			compose rm -sf "$service" >/dev/null 2>&1
		fi
	done
	# shellcheck disable=SC2086 # words
	compose up -d --pull never $wanted || die "Docker could not start the stack: see the output above"
	for service in $wanted; do
		restarted=
		ask_inside=10
		if ! wait_for 120 "$service is ready" ready_or_restart "$service"; then
			compose logs --no-log-prefix --tail 15 "$service" >&2
			die "$service ${abort_reason:-does not answer after $waited s}: see the end of its log above"
		fi
		echo "$service is ready ($waited s)"
	done
}

# set_password: gives Grafana the password in stack/.env: data from an earlier start keeps its own.
set_password() {
	[ "$(as_admin "$password" -o /dev/null -w '%{http_code}' "$(url grafana)/api/user")" != 401 ] ||
		printf '%s\n' "$password" |
		compose exec -T grafana grafana cli admin reset-admin-password --password-from-stdin >/dev/null ||
		die "Grafana does not take the password in $env_file: scripts/down.sh --volumes removes its data, with the" \
			"password that it has"
}

print_addresses() {
	echo
	for service in $wanted; do
		login=
		[ "$service" != grafana ] || login="   login admin, password $password"
		printf '%-13s %s%s\n' "$(service_field 6 "$service")" "$(url "$service")" "$login"
	done
}

main() {
	case ${1-} in
	-h | --help)
		print_help
		exit
		;;
	-*) usage_error "unknown flag '$1'" ;;
	esac
	wanted=$(services "$@") || exit
	require_curl
	require_docker
	require_project_dir "$project" "$root/stack"
	require_other_stack_down
	take_lock "$env_file.lock" "starting the stack"
	prepare_files
	make_password
	read_password
	running=$(compose ps --status running --services 2>/dev/null)
	require_free_ports
	exec 3>&2
	trap rollback INT TERM HUP
	# shellcheck disable=SC2086 # words
	get_images $wanted
	# Another copy of the lab may have started its stack during the pull.
	require_project_dir "$project" "$root/stack"
	start_services
	case $wanted in
	*grafana*) set_password ;;
	esac
	case $wanted in
	*node-exporter*) add_machine ;;
	esac
	for service in $wanted; do
		! printf '%s\n' "$running" | grep -qxF "$service" || reload "$service"
	done
	print_addresses
	if [ $# -eq 0 ] && in_kit; then
		lacking=$(service_field 1 | grep -vxF "$(echo "$wanted" | tr ' ' '\n')" | paste -s -d ' ' -)
		[ -z "$lacking" ] || echo "This kit does not hold: $lacking"
	fi
	# shellcheck disable=SC2119
	listens "$(service_field 3 exporter)" || echo "The model does not run yet: start it with $(model_command)"
	case $wanted in
	*fluent-bit*) echo "The model's lines go to Loki if it runs as $(logged_command)" ;;
	esac
}

main "$@"
