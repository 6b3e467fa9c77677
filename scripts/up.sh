#!/bin/sh
# up.sh [SERVICE...]: starts the stack, waits until it is healthy, and says where it is.
#
# SERVICE is prometheus, alertmanager, mailpit or grafana; all four by default. Running it again does
# no harm: it starts what is missing and applies what changed in the configuration.
# The first time it makes a password for Grafana and keeps it in stack/.env.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
patience=120 # seconds

case ${1-} in
-h | --help)
	print_help
	exit
	;;
-*) usage_error "unknown flag '$1'" ;;
esac
wanted=$(services "$@") || exit
require_docker

ports_of() {
	case $1 in
	prometheus) echo 9090 ;;
	alertmanager) echo 9093 ;;
	mailpit) echo 1025 8025 ;;
	grafana) echo 3000 ;;
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
	[ -e "$env_file" ] && return
	password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
	(umask 077 && set -C && echo "GRAFANA_PASSWORD=$password" >"$env_file") ||
		die "cannot write $env_file: make the folder writable"
	# A volume from before keeps the password that it was made with.
	docker volume inspect "$(compose config --format json | sed -n 's/^  "name": "\(.*\)".*/\1/p')_grafana-data" >/dev/null 2>&1 &&
		grafana_has_another_password=true
}

# state SERVICE: its health, or that it ended, if only to be started again and again.
state() {
	container=$(compose ps -aq "$1")
	docker inspect -f '{{with .State.Health.Status}}{{if eq . "healthy"}}healthy{{else if or (ne $.State.Status "running") $.RestartCount}}ended{{else}}{{.}}{{end}}{{end}}' "$container" 2>/dev/null
}

give_up() {
	compose logs --no-log-prefix --tail 15 "$1" >&2
	die "$1 $2; the end of its log is above"
}

# applied SERVICE: a file as old as the service's last start or reload.
applied() {
	echo "$root/stack/.applied-$1"
}

# apply SERVICE PORT METRIC: lets it read its configuration again where that has changed. It is not
# done without need, as Prometheus loses the alerts that it would send meanwhile.
apply() {
	[ ! -e "$(applied "$1")" ] || [ -n "$(find "$root/stack/$1" -newer "$(applied "$1")")" ] || return
	compose kill -s HUP "$1" >/dev/null 2>&1
	# Until it has tried, the metric tells of the time before.
	sleep 1
	tries=0
	until get "http://127.0.0.1:$2/metrics" 2>/dev/null | grep -q "^$3 1"; do
		tries=$((tries + 1))
		[ $tries -lt 5 ] || give_up "$1" "does not take its configuration"
		sleep 1
	done
}

# Prometheus, Alertmanager and Grafana run as users of their own.
unreadable=$(find "$root/stack" ! -name '.*' ! -perm -004 | head -n 1)
[ -z "$unreadable" ] || die "the containers may not read $unreadable: run chmod -R go+rX $root/stack/*"

running=$(compose ps --status running --services 2>/dev/null)
for service in $wanted; do
	echo "$running" | grep -qx "$service" && continue
	for port in $(ports_of "$service"); do
		! listens "$port" || die "port $port, which $service needs, is taken by $(holder "$port"): stop it, then try again"
	done
done
grafana_has_another_password=false
make_password
grep -q '^GRAFANA_PASSWORD=.' "$env_file" 2>/dev/null ||
	die "$env_file has no line GRAFANA_PASSWORD=...: add one, or remove the file to have one made"

for service in $wanted; do
	# One that ended begins anew, so that what it did before is not taken for what it does now.
	[ "$(state "$service")" != ended ] || compose rm -sf "$service" >/dev/null 2>&1
done
# shellcheck disable=SC2086 # the names are words on purpose
compose up -d $wanted || die "Docker could not start the stack: what it said is above"

waiting=$wanted
passed=0
while [ -n "$waiting" ]; do
	still=
	for service in $waiting; do
		case $(state "$service") in
		healthy) echo "$service is healthy ($passed s)" ;;
		ended) give_up "$service" "does not run" ;;
		*) still="$still $service" ;;
		esac
	done
	waiting=${still# }
	[ -n "$waiting" ] || break
	[ $passed -lt $patience ] || give_up "${waiting%% *}" "is not healthy after $passed s"
	[ $((passed % 5)) -ne 4 ] || echo "waiting for $waiting ($passed s)"
	sleep 1
	passed=$((passed + 1))
done

for service in $wanted; do
	echo "$running" | grep -qx "$service" || continue
	case $service in
	prometheus) apply prometheus 9090 prometheus_config_last_reload_successful ;;
	alertmanager) apply alertmanager 9093 alertmanager_config_last_reload_successful ;;
	esac
done
for service in $wanted; do
	touch "$(applied "$service")"
done
password=$(sed -n 's/^GRAFANA_PASSWORD=//p' "$env_file")
if $grafana_has_another_password && [ "$(state grafana)" = healthy ]; then
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
	esac
done
listens 5000 || echo "The model does not run yet: start it with cargo run --release"
