#!/bin/sh
# up.sh [SERVICE...]: starts the stack, waits until it answers, and says where it is.
#
# SERVICE is prometheus, alertmanager, mailpit or grafana, all four by default; or exporter, the model as
# a container, with the flags in MODELMOCK_FLAGS. In a kit it loads the kit's images first. Running it again does
# no harm: it starts what is missing and applies what changed in the configuration. Interrupted, it
# stops what it had started.
# The first time it makes a password for Grafana and keeps it in stack/.env.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
patience=120 # seconds
sum=
said=
puller=

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

# ports_of SERVICE
ports_of() {
	case $1 in
	prometheus) echo 9090 ;;
	alertmanager) echo 9093 ;;
	mailpit) echo 1025 8025 ;;
	grafana) echo 3000 ;;
	exporter) echo 5000 ;;
	esac
}

# readiness SERVICE: the URL that answers where the service is ready.
readiness() {
	case $1 in
	prometheus) echo http://127.0.0.1:9090/-/ready ;;
	alertmanager) echo http://127.0.0.1:9093/-/ready ;;
	mailpit) echo http://127.0.0.1:8025/readyz ;;
	grafana) echo http://127.0.0.1:3000/api/health ;;
	exporter) echo http://127.0.0.1:5000/metrics ;;
	esac
}

# holder PORT: the program that listens there, as far as this user may know.
holder() {
	name=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 " (process " $2 ")" }')
	[ -n "$name" ] || name=$(ss -ltnpH "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p')
	echo "${name:-another program}"
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
	# A volume from before keeps the password that it was made with.
	! docker volume inspect "${project}_grafana-data" >/dev/null 2>&1 || grafana_has_another_password=true
}

# get_images: those of the wanted services, before anything starts.
get_images() {
	# shellcheck disable=SC2086 # the names are words
	load_images $wanted
	for service in $wanted; do
		# It was looked for already, and is in no registry.
		[ "$service" != exporter ] || continue
		image=$(image ".*/$service")
		docker image inspect "$image" >/dev/null 2>&1 && continue
		echo "pulling $image"
		pull "$image" && continue
		case $why in
		*"manifest unknown"* | *"manifest for"* | *"not found"*) todo="there is no such version: see image: in stack/compose.yaml" ;;
		*oomanyrequests* | *"rate limit"*) todo="the registry's limit for today is reached: wait some hours, or run docker login" ;;
		*"no space left"*) todo="the disk is full: docker system df shows what takes the room" ;;
		*) todo="is this machine online? Behind a proxy, Docker's engine needs it too (README, What to do when)" ;;
		esac
		die "the image $image cannot be had: $todo ($why)"
	done
}

# state SERVICE: running, or ended, if only to be started again and again; nothing where there is none.
state() {
	docker inspect -f '{{if or (ne .State.Status "running") .RestartCount}}ended{{else}}running{{end}}' "$(compose ps -aq "$1")" 2>/dev/null
}

give_up() {
	compose logs --no-log-prefix --tail 15 "$1" >&2
	die "$1 $2; the end of its log is above"
}

# answers_inside SERVICE: whether its own health check succeeds in its container.
answers_inside() (
	id=$(compose ps -q "$1")
	# The words are told apart by lines; one of them is an asterisk.
	set -f
	IFS='
'
	# shellcheck disable=SC2046
	set -- $(docker inspect -f '{{range .Config.Healthcheck.Test}}{{println .}}{{end}}' "$id")
	shift
	docker exec "$id" "$@" >/dev/null 2>&1
)

# other_network SERVICE: dies, with the reason why a service that runs does not answer on this machine.
other_network() {
	case $(docker info --format '{{.OperatingSystem}} {{.Name}} {{.SecurityOptions}}' 2>/dev/null) in
	*"Docker Desktop"*) todo="in Docker Desktop turn on Settings > Resources > Network > Enable host networking, then Apply" ;;
	*rootless*) todo="Docker runs rootless here, and the host network of that is its own: use the system's engine, with docker context use default" ;;
	*colima*) todo="Colima's machine has a network of its own: use Docker Desktop, with host networking" ;;
	*) todo="Docker's engine runs elsewhere: see docker context ls and DOCKER_HOST" ;;
	esac
	die "$1 runs but does not answer at $(readiness "$1"), as Docker's host network is not this machine's: $todo"
}

# sum_of SERVICE: of what its configuration holds; contents tell what changed where times do not.
sum_of() {
	case $1 in
	# Grafana reads changed dashboards by itself.
	grafana) folder=$root/stack/grafana/provisioning ;;
	*) folder=$root/stack/$1 ;;
	esac
	[ ! -d "$folder" ] || (cd "$folder" && find . -type f ! -name '.*' -exec cksum {} + | sort | cksum)
}

# applied SERVICE: the file with the sum of the configuration that the service runs.
applied() {
	echo "$root/stack/.applied-$1"
}

# apply SERVICE: lets it read its configuration again where that has changed. It is not done without
# need, as Prometheus loses the alerts that it would send meanwhile.
apply() {
	[ "$(cat "$(applied "$1")" 2>/dev/null)" != "$2" ] || return 0
	case $1 in
	prometheus) metric=prometheus_config_last_reload_successful ;;
	alertmanager) metric=alertmanager_config_last_reload_successful ;;
	grafana)
		compose restart grafana >/dev/null 2>&1
		await grafana
		return
		;;
	*) return 0 ;;
	esac
	compose kill -s HUP "$1" >/dev/null 2>&1
	# Until it has tried, the metric tells of the time before.
	sleep 1
	until_then=$(($(date +%s) + 5))
	url=$(readiness "$1")
	until get "${url%/-/ready}/metrics" 2>/dev/null | grep -q "^$metric 1"; do
		[ "$(date +%s)" -le $until_then ] || give_up "$1" "does not take its configuration"
		sleep 1
	done
}

# await SERVICE...: until each answers.
await() {
	waiting=$*
	began=$(date +%s)
	next=5
	while [ -n "$waiting" ]; do
		still=
		passed=$(($(date +%s) - began))
		for service in $waiting; do
			if get -o /dev/null "$(readiness "$service")" 2>/dev/null; then
				echo "$service is ready ($passed s)"
				continue
			fi
			[ "$(state "$service")" != ended ] || give_up "$service" "does not run"
			[ $passed -lt 10 ] || ! answers_inside "$service" || other_network "$service"
			[ $passed -lt $patience ] || give_up "$service" "does not answer after $passed s"
			still="$still $service"
		done
		waiting=${still# }
		[ -n "$waiting" ] || break
		if [ $passed -ge $next ]; then
			echo "waiting for $waiting ($passed s)"
			next=$((passed + 5))
		fi
		sleep 1
	done
}

# stop_what_began: after a signal, so that nothing goes on that nobody waits for.
stop_what_began() {
	trap '' INT TERM HUP
	[ -z "$puller" ] || kill "$puller" 2>/dev/null
	rm -f "$said" "$env_file.new"
	for service in $wanted; do
		echo "$running" | grep -qx "$service" || compose rm -sf "$service" >/dev/null 2>&1
	done
	die "interrupted: what it had started is stopped again, and the data is kept"
}

# Prometheus, Alertmanager and Grafana run as users of their own.
unreadable=$(find "$root/stack" ! -name '.*' ! -perm -004 | head -n 1)
[ -z "$unreadable" ] || die "the containers may not read $unreadable: run chmod -R go+rX $root/stack/*"

grafana_has_another_password=false
make_password
read_password
running=$(compose ps --status running --services 2>/dev/null)
for service in $wanted; do
	echo "$running" | grep -qx "$service" && continue
	for port in $(ports_of "$service"); do
		! listens "$port" || die "port $port, which $service needs, is taken by $(holder "$port"): stop it, then try again"
	done
done
trap stop_what_began INT TERM HUP
get_images

for service in $wanted; do
	# One that ended begins anew, so that what it did before is not taken for what it does now.
	if [ "$(state "$service")" = ended ] && ! get -o /dev/null "$(readiness "$service")" 2>/dev/null; then
		compose rm -sf "$service" >/dev/null 2>&1
	fi
	# Of now: what changes while it starts is for the next time.
	eval "sum_$service=\$(sum_of $service)"
done
# shellcheck disable=SC2086 # the names are words on purpose
compose up -d --pull never $wanted || die "Docker could not start the stack: what it said is above"
# shellcheck disable=SC2086
await $wanted

for service in $wanted; do
	eval "sum=\$sum_$service"
	! echo "$running" | grep -qx "$service" || apply "$service" "$sum"
	echo "$sum" >"$(applied "$service")"
done
if $grafana_has_another_password && [ "$(state grafana)" = running ]; then
	echo "$password" | compose exec -T grafana grafana cli admin reset-admin-password --password-from-stdin >/dev/null ||
		die "Grafana's data is from before, with a password of its own: scripts/down.sh --volumes removes both"
fi

echo
for service in $wanted; do
	case $service in
	prometheus) echo "Prometheus    http://localhost:9090" ;;
	alertmanager) echo "Alertmanager  http://localhost:9093" ;;
	mailpit) echo "Mailpit       http://localhost:8025" ;;
	grafana) echo "Grafana       http://localhost:3000   login admin, password $password" ;;
	exporter) echo "The model     http://localhost:5000" ;;
	esac
done
# shellcheck disable=SC2119
listens 5000 || echo "The model does not run yet: start it with $(model_command)"
