# shellcheck shell=sh
# What the other scripts share; they source it.

# Numbers have a decimal point, and programs say what is matched here, in any country.
export LC_ALL=C

root=$(cd "$(dirname "$0")/.." && pwd)
env_file=$root/stack/.env

# die MESSAGE...: what failed and what to do, in one line.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# usage_error MESSAGE...
usage_error() {
	printf '%s: %s; see %s -h\n' "${0##*/}" "$*" "$0" >&2
	exit 2
}

# print_help: the comment at the head of the script, which is its help.
print_help() {
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# take_no_argument ARGUMENT...: for a script that has none but -h.
take_no_argument() {
	case ${1-} in
	-h | --help)
		print_help
		exit
		;;
	'') ;;
	*) usage_error "unknown argument '$1'" ;;
	esac
}

# get URL [CURL'S ARGUMENT...]: what it answers; nothing and a failure where it answers none or an error.
get() {
	curl -fsS --noproxy '*' --max-time 5 "$@"
}

# query URL EXPRESSION: the answer of the Prometheus at the URL, one value; nothing where it has none.
query() {
	get --get --data-urlencode "query=$2" "$1/api/v1/query" 2>/dev/null | one_value
}

# one_value: the value in an answer of Prometheus' API.
one_value() {
	sed -n 's/.*"value":\[[^,]*,"\([^"]*\)"\].*/\1/p'
}

# mails URL SUBJECT: the IDs of the mails in the mailbox at the URL whose subject begins so, a line each.
mails() {
	get "$1/api/v1/messages?limit=500" 2>/dev/null | sed 's/},{/}\
{/g' | grep "\"Subject\":\"$2" | sed 's/.*{"ID":"\([^"]*\)".*/\1/'
}

# image NAME: the image in the stack's Compose file whose name that is, as in prom/prometheus.
image() {
	sed -n "s|^ *image: *\($1:.*\)|\1|p" "$root/stack/compose.yaml"
}

# has_image IMAGE: whether it is here, or can be had.
has_image() {
	docker image inspect "$1" >/dev/null 2>&1 || docker pull -q "$1" >/dev/null 2>&1
}

# listens PORT: whether anything listens there.
listens() {
	curl -s --noproxy '*' --max-time 1 -o /dev/null "http://127.0.0.1:$1/"
	[ $? -ne 7 ]
}

compose() (
	# Compose wants the password for whatever it does, though only a start uses it.
	[ -f "$env_file" ] || export GRAFANA_PASSWORD=none
	docker compose --project-directory "$root/stack" --file "$root/stack/compose.yaml" "$@"
)

# require_docker: dies where there is no engine, or no Compose that knows the stack.
require_docker() {
	command -v docker >/dev/null ||
		die "Docker is missing: install Docker Engine, or Docker Desktop on macOS and Windows (https://docs.docker.com/get-started/get-docker/)"
	version=$(docker compose version --short 2>/dev/null) || version=
	case ${version#v} in
	'' | [01].*) die "docker compose of version 2 or later is missing: install the package docker-compose-plugin (docker-compose-v2 on Ubuntu)" ;;
	esac
	if ! failure=$(docker info 2>&1 >/dev/null); then
		case $failure in
		*"ermission denied"*) die "no permission for Docker's socket: run sudo usermod -aG docker $(id -un), then log out and in" ;;
		*) die "Docker's engine is not running: start it with sudo systemctl start docker, or open Docker Desktop" ;;
		esac
	fi
}

# services NAME...: these services, all where none is named; dies where there is no such service.
services() {
	all="prometheus alertmanager mailpit grafana"
	for name in "$@"; do
		case " $all " in
		*" $name "*) ;;
		*) usage_error "there is no service '$name': there are $all" ;;
		esac
	done
	echo "${*:-$all}"
}
