#!/bin/sh
# up.sh [SERVICE...]: starts the stack, waits until it answers, and says where it is.
#
# SERVICE is prometheus, alertmanager, mailpit or grafana, all four by default; exporter, the model as a
# container, with the flags in MODELMOCK_FLAGS; or logging, which is loki and fluent-bit. In a kit it loads
# the kit's images first. Running it again does no harm: it starts what is missing and applies what changed
# in the configuration. Interrupted, it stops what it had started.
# The first time it makes a password for Grafana and keeps it in stack/.env; Grafana gets that one.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
pull_log=
child=

case ${1-} in
-h | --help)
	print_help
	exit
	;;
-*) usage_error "unknown flag '$1'" ;;
esac
require_curl
require_docker
wanted=$(services "$@") || exit
require_project_dir "$project" "$root/stack"
! docker ps --format '{{.Label "com.docker.compose.project.working_dir"}}' | grep -q "/my-stack$" ||
	die "your own stack runs, and both need the same ports: run docker compose down in my-stack, then try again"

# port_owner PORT: the program that listens there, as far as this user may know.
port_owner() {
	name=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 " (process " $2 ")" }')
	[ -n "$name" ] || name=$(ss -ltnpH "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p')
	printf '%s\n' "${name:-another program}"
}

# make_password: once; a file that stands is never changed.
make_password() {
	[ ! -e "$env_file" ] || return 0
	password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
	# A name of its own and then the right one, so that no half file stays where the disk is full.
	if ! (umask 077 && echo "GRAFANA_PASSWORD=$password" >"$env_file.new") 2>/dev/null || ! mv "$env_file.new" "$env_file"; then
		rm -f "$env_file.new"
		die "cannot write $env_file: make the folder writable, or the disk less full"
	fi
}

# state SERVICE: running, or ended, if only to be started again and again; nothing where there is none.
state() {
	docker inspect -f '{{if or (ne .State.Status "running") .RestartCount}}ended{{else}}running{{end}}' "$(compose ps -aq "$1")" 2>/dev/null
}

answers() {
	get -o /dev/null "$(readiness "$1")" 2>/dev/null
}

# answers_inside SERVICE: whether its own health check succeeds in its container.
answers_inside() (
	id=$(compose ps -q "$1")
	# The words are told apart by lines; one of them is an asterisk.
	set -f
	IFS='
'
	# shellcheck disable=SC2046
	set -- $(docker inspect -f '{{with .Config.Healthcheck}}{{range .Test}}{{println .}}{{end}}{{end}}' "$id")
	# The exporter's image has no program that could ask it: that it runs has to do. Nor has Fluent Bit's.
	if [ $# -le 1 ]; then
		[ "$service" = exporter ]
		return
	fi
	shift
	docker exec "$id" "$@" >/dev/null 2>&1
)

# die_host_network SERVICE: dies, with the reason why a service that runs does not answer on this machine.
die_host_network() {
	case $(docker info --format '{{.OperatingSystem}} {{.Name}} {{.SecurityOptions}}' 2>/dev/null) in
	*"Docker Desktop"*) todo="in Docker Desktop turn on Settings > Resources > Network > Enable host networking, then Apply" ;;
	*rootless*) todo="Docker runs rootless here, and the host network of that is its own: use the system's engine, with docker context use default" ;;
	*colima*) todo="Colima's machine has a network of its own: use Docker Desktop, with host networking" ;;
	*) todo="Docker's engine runs elsewhere: see docker context ls and DOCKER_HOST" ;;
	esac
	die "$1 runs but does not answer at $(readiness "$1"), as Docker's host network is not this machine's: $todo"
}

is_ready() {
	! answers "$1" || return 0
	[ "$(state "$1")" != ended ] || abort_reason="does not run"
	# It may come up between the two questions, so it is asked from here once more.
	[ "$waited" -lt 10 ] || ! answers_inside "$1" || answers "$1" || die_host_network "$1"
	return 1
}

# apply SERVICE: lets one that ran already read its configuration again.
apply() {
	! why=$(config_errors "$1") || die "$1 does not take its configuration: $why"
	case $1 in
	prometheus | alertmanager) compose kill -s HUP "$1" >/dev/null 2>&1 ;;
	loki | fluent-bit)
		compose restart "$1" >/dev/null 2>&1
		wait_for 60 "$1 is ready again" answers "$1" || die "$1 does not start again: docker compose -f stack/compose.yaml logs $1 says why"
		;;
	grafana)
		for kind in datasources dashboards; do
			code=$(as_admin "$password" -o /dev/null -w '%{http_code}' -X POST "$(url grafana)/api/admin/provisioning/$kind/reload")
			case $code in
			200) ;;
			*) die "Grafana does not take stack/grafana/provisioning/$kind (HTTP $code): docker compose -f stack/compose.yaml logs grafana says why" ;;
			esac
		done
		;;
	esac
}

# rollback: after a signal, so that nothing goes on that nobody waits for.
rollback() {
	trap '' INT TERM HUP
	[ -z "$child" ] || kill "$child" 2>/dev/null
	rm -f "$pull_log" "$env_file.new"
	for service in $wanted; do
		printf '%s\n' "$running" | grep -qx "$service" || compose rm -sf "$service" >/dev/null 2>&1
	done
	die "interrupted: what it had started is stopped again, and the data is kept"
}

# Fluent Bit reads what the model writes there, whatever the umask is, as tee changes no file's rights.
logs=$root/stack/logs
case $wanted in
*fluent-bit*) { mkdir -p "$logs" && : >>"$logs/model.log" && chmod go+rX "$logs" "$logs"/*; } || die "cannot write $logs: what the system said is above" ;;
esac

# The services run as users of their own.
unreadable=$(find "$root"/stack/* \( -type d ! -perm -005 -o ! -perm -004 \) | head -n 1)
[ -z "$unreadable" ] || die "the containers may not read $unreadable: run chmod -R go+rX '$root'/stack/*"

make_password
read_password
running=$(compose ps --status running --services 2>/dev/null)
for service in $wanted; do
	printf '%s\n' "$running" | grep -qx "$service" && continue
	for port in $(service_field 3 "$service") $(service_field 5 "$service" | tr -d -); do
		! listens "$port" || die "port $port, which $service needs, is taken by $(port_owner "$port"): stop it, then try again"
	done
done
trap rollback INT TERM HUP
# shellcheck disable=SC2086 # the names are words, here and below
get_images $wanted

for service in $wanted; do
	# One that ended begins anew, so that what it did before is not taken for what it does now.
	if [ "$(state "$service")" = ended ] && ! answers "$service"; then
		compose rm -sf "$service" >/dev/null 2>&1
	fi
done
# shellcheck disable=SC2086
compose up -d --pull never $wanted || die "Docker could not start the stack: what it said is above"
for service in $wanted; do
	if ! wait_for 120 "$service is ready" is_ready "$service"; then
		compose logs --no-log-prefix --tail 15 "$service" >&2
		die "$service ${abort_reason:-does not answer after $waited s}; the end of its log is above"
	fi
	echo "$service is ready ($waited s)"
done

# Data from before keeps the password that it was made with.
case $wanted in
*grafana*)
	[ "$(as_admin "$password" -o /dev/null -w '%{http_code}' "$(url grafana)/api/user")" != 401 ] ||
		echo "$password" | compose exec -T grafana grafana cli admin reset-admin-password --password-from-stdin >/dev/null ||
		die "Grafana does not take the password in $env_file: scripts/down.sh --volumes removes its data, with the password that it has"
	;;
esac
for service in $wanted; do
	! printf '%s\n' "$running" | grep -qx "$service" || apply "$service"
done

echo
for service in $wanted; do
	login=
	[ "$service" != grafana ] || login="   login admin, password $password"
	printf '%-13s %s%s\n' "$(service_field 6 "$service")" "$(url "$service")" "$login"
done
# shellcheck disable=SC2119
listens "$(service_field 3 exporter)" || echo "The model does not run yet: start it with $(model_command)"
case $wanted in
*fluent-bit*) echo "The model's lines go to Loki where it runs as $(logged_command)" ;;
esac
