# shellcheck shell=sh
# The variables and functions that the other scripts share; they source this file. A function that sets variables
# names them in its comment.

# In every locale, programs print the same messages and decimal points.
export LC_ALL=C
# With CDPATH set, cd prints the folder that it changes to.
unset CDPATH

# The path without links: a link to the folder or to a script still means the same lab.
root=$(cd "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/.." && pwd -P)
# Cargo builds into the folder in which the scripts look.
export CARGO_TARGET_DIR="$root/target"
env_file=$root/stack/.env
stack=stack # the folder of the stack that the functions below look at: stack or my-stack
# shellcheck disable=SC2034 # for the scripts that source this file
project=${COMPOSE_PROJECT_NAME:-$(sed -n 's/^name: *//p' "$root/stack/compose.yaml")}

# A line for each service of the stack: its name, its profile in the Compose file (- if it starts by default), its port,
# the path that answers once it is ready, its second port (- for none), and its title.
table='prometheus    -         9090  /-/ready     -     Prometheus
alertmanager  -         9093  /-/ready     -     Alertmanager
mailpit       -         8025  /readyz      1025  Mailpit
grafana       -         3000  /api/health  -     Grafana
exporter      exporter  5000  /metrics     -     Exporter
loki          logging   3100  /ready       9095  Loki
fluent-bit    logging   2020  /            -     Fluent-Bit'

# service_field N [NAME]: field N of the table, for a service or all services of a profile; without a name, for all
# services that start by default.
service_field() {
	printf '%s\n' "$table" |
		awk -v n="$1" -v name="${2-}" '$1 == name || $2 == name || name == "" && $2 == "-" { print $n }'
}

# url SERVICE
url() {
	printf 'http://localhost:%s\n' "$(service_field 3 "$1")"
}

# readiness SERVICE: the URL that answers once the service is ready.
readiness() {
	printf '%s%s\n' "$(url "$1")" "$(service_field 4 "$1")"
}

# services NAME...: the services that these names of services and profiles mean, each once. Without a name: all that
# start by default; in a kit, those of them that the kit holds.
services() {
	for name in "$@"; do
		[ -n "$(service_field 1 "$name")" ] ||
			usage_error "unknown service '$name': choose from $(printf '%s\n' "$table" | cut -d ' ' -f 1 | paste -s -d ' ' -)"
	done
	# shellcheck disable=SC2046 # words
	[ $# -gt 0 ] || ! in_kit || set -- $(service_field 1 | grep -xF "$(cut -d ' ' -f 1 "$root/images/list")")
	[ $# -gt 0 ] || set -- ''
	for name in "$@"; do
		service_field 1 "$name"
	done | awk '!seen[$0]++' | paste -s -d ' ' -
}

# die MESSAGE...: ends with one line: what failed, and what to do.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# usage_error MESSAGE...
usage_error() {
	printf '%s: %s; see %s -h\n' "${0##*/}" "$*" "$0" >&2
	exit 2
}

# print_help: the comment at the top of the script is its help.
print_help() {
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# require_curl: some desktops come without it.
require_curl() {
	command -v curl >/dev/null || die "curl is missing: install the package curl"
}

# request CURL_ARGUMENT...: curl without ~/.curlrc and proxies, over IPv4: on a Mac, AirPlay Receiver may answer at the
# model's port over IPv6.
request() {
	curl -q -4 -sS --noproxy '*' --max-time 5 "$@"
}

# get CURL_ARGUMENT...: prints the response; fails if none comes or if it is an error.
get() {
	request -f "$@"
}

# as_admin PASSWORD CURL_ARGUMENT...: a request to Grafana; the password stays out of the list of processes.
as_admin() {
	printf 'user = "admin:%s"\n' "$(printf '%s\n' "$1" | sed 's/[\\"]/\\&/g')" | (shift && request --max-time 10 -K - "$@")
}

# query URL EXPRESSION: the value that the Prometheus at the URL answers, if any.
query() {
	get --get --data-urlencode "query=$2" "$1/api/v1/query" 2>/dev/null | one_value
}

# one_value: the value in a response of Prometheus' API.
one_value() {
	sed -n 's/.*"value":\[[^,]*,"\([^"]*\)"\].*/\1/p'
}

# metric URL NAME [least]: on that program's page, the sum of the metric's samples, or the least of them; empty
# without samples.
metric() {
	get "$1/metrics" 2>/dev/null | awk -v name="$2" -v least="${3-}" '
		{ split($0, part, /[{ ]/) }
		part[1] == name { n = !found++ ? $NF : !least ? n + $NF : $NF < n ? $NF : n }
		END { if (found) printf "%.15g\n", n }
	'
}

# listens PORT: whether a program listens there.
listens() {
	request --max-time 1 -o /dev/null "http://127.0.0.1:$1/" 2>/dev/null
	[ $? -ne 7 ]
}

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds, and prints the progress. Sets $waited, in
# seconds. The command may set $response, for the progress, and $abort_reason, to give up early.
wait_for() {
	timeout=$1
	what=$2
	shift 2
	began=$(date +%s)
	waited=0
	last_progress=0
	response=
	abort_reason=
	until "$@"; do
		waited=$(($(date +%s) - began))
		[ -z "$abort_reason" ] && [ $waited -lt "$timeout" ] || return 1
		if [ $((waited - last_progress)) -ge 10 ]; then
			last_progress=$waited
			printf '      waiting until %s (%s s%s)\n' "$what" "$waited" "${response:+, last seen: $response}"
		fi
		sleep 1
	done
	waited=$(($(date +%s) - began))
}

# sha256 FILE: its sum and its name; macOS has the tool under another name.
sha256() {
	sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"
}

# in_kit: whether this folder is an unpacked kit of scripts/kit.sh.
in_kit() {
	[ -d "$root/images" ]
}

# model_command ARGUMENT...: the command that starts the model on this machine.
# shellcheck disable=SC2120 # one script passes arguments
model_command() {
	if ! in_kit; then
		echo "cargo run --release${1:+ -- $*}"
	elif [ "$(uname)" = Linux ]; then
		echo "./modelmock${1:+ $*}"
	else
		echo "${1:+MODELMOCK_FLAGS=\"$*\" }scripts/up.sh exporter"
	fi
}

# logged_command: the command that also writes the model's lines to the file that Fluent Bit reads.
logged_command() {
	case $(model_command) in
	*exporter)
		echo "$(model_command), and in another terminal: while sleep 1; do docker compose -f stack/compose.yaml" \
			"logs -f --since 3s --no-log-prefix exporter; done | tee -ai stack/logs/model.log"
		;;
	*) echo "$(model_command) | tee -ai stack/logs/model.log" ;;
	esac
}

# image SERVICE: its image, as the Compose file names it.
image() {
	sed -n "/^  $1:/,/image:/s/^ *image: *//p" "$root/stack/compose.yaml"
}

# store_port NAME: the port of the store, or of one of its sites.
store_port() {
	sed -n "/^  $1:/,/listen-address/s/.*--web.listen-address=127.0.0.1:\([0-9]*\).*/\1/p" "$root/stack/store/compose.yaml"
}

# read_password: sets $password from stack/.env. Dies if the file lacks a password, or has one that Compose reads
# differently: with quotes, dollars, blanks, a comment or CRLF.
read_password() {
	[ -e "$env_file" ] || die "$env_file is missing: run scripts/up.sh, which makes it"
	[ -f "$env_file" ] || die "$env_file is not a file: remove it, then run scripts/up.sh, which makes one"
	[ -r "$env_file" ] ||
		die "you may not read $env_file, as another user made it (sudo scripts/up.sh?): run sudo chown $(id -un) '$env_file'"
	password=$(sed -n 's/^GRAFANA_PASSWORD=\([A-Za-z0-9_.,:@+=/~^-]\{4,\}\)$/\1/p' "$env_file")
	if [ -z "$password" ] || [ "$(grep -c '^[^#]*GRAFANA_PASSWORD' "$env_file")" != 1 ]; then
		die "$env_file must have one line GRAFANA_PASSWORD= with 4 or more letters, digits or _.,:@+=/~^- and nothing" \
			"else: correct it, or remove the file and run scripts/up.sh, which makes one"
	fi
}

# compose ARGUMENT...: Compose for the finished stack. Each of its commands wants a password, though only a start uses
# it; it gets $password, not the one in the environment or in a file that Compose can't read.
compose() (
	export GRAFANA_PASSWORD="${password:-none}"
	# Without the profiles, Compose would not stop the services that start only by name.
	profiles=$(printf '%s\n' "$table" | awk '$2 != "-" { print "--profile", $2 }')
	# shellcheck disable=SC2086 # words
	docker compose $profiles --env-file /dev/null --project-directory "$root/stack" --file "$root/stack/compose.yaml" "$@"
)

# compose_containers: a line for each container that Compose made, separated by tabs: ID, state, image, project, and
# the folder without links. The image is its name, even if that means another image by now.
compose_containers() (
	tab=$(printf '\t')
	label=com.docker.compose.project
	form="{{printf \"%.12s\" .Id}}$tab{{.State.Status}}$tab{{.Config.Image}}$tab{{index .Config.Labels \"$label\"}}"
	docker ps -aq --filter label=$label 2>/dev/null |
		xargs docker inspect -f "$form$tab{{index .Config.Labels \"$label.working_dir\"}}" 2>/dev/null |
		while read -r line; do
			folder=${line##*"$tab"}
			printf '%s\t%s\n' "${line%"$tab"*}" "$(cd "$folder" 2>/dev/null && pwd -P || echo "$folder")"
		done
)

# container SERVICE: its container in the stack of the folder $stack, if any. It looks for the image, as the service may
# have another name in your own stack, and prefers a container that runs.
container() (
	name=$(image "$1")
	compose_containers | awk -F '\t' -v name="${name%:*}" -v folder="$root/$stack" '
		index($3, name) && $5 == folder { id = id == "" || $2 == "running" ? $1 : id }
		END { print id }'
)

# setting NAME ID: the value of that flag in the container.
setting() {
	docker inspect -f '{{range .Args}}{{println .}}{{end}}' "$2" 2>/dev/null | sed -n "s/^--*$1=//p"
}

# config_errors SERVICE: the errors that its own tool, in its container, finds in its configuration, or why the tool
# can't run; fails without errors. A path in the container becomes the file's in the lab's folder.
config_errors() (
	id=$(container "$1")
	case $1 in
	prometheus) set -- promtool check config "$(setting config.file "$id")" ;;
	alertmanager) set -- amtool check-config "$(setting config.file "$id")" ;;
	loki) set -- loki -verify-config -config.file=/etc/loki/loki.yml ;;
	fluent-bit) set -- /fluent-bit/bin/fluent-bit --dry-run -c /etc/fluent-bit/fluent-bit.yml ;;
	*) return 1 ;;
	esac
	! output=$( (require_docker) 2>&1 && docker exec "$id" "$@" 2>&1) || return 1
	mounts='{{range .Mounts}}{{if eq .Type "bind"}}s|{{.Destination}}|{{.Source}}|g;{{end}}{{end}}'
	files=$(docker inspect -f "$mounts" "$id" 2>/dev/null)
	printf '%s\n' "$output" |
		grep -vE 'SUCCESS|^Checking [^ ]*$|^time=[^ ]* level=WARN|^amtool: error|^ *FAILED: *$|^$' |
		sed "s/.*FAILED: *//; s/^ *//; $files s|[^ \"]*$root/||g" | uniq | paste -s -d ' ' -
)

# require_docker: dies if the engine or Compose is missing, does not run, or is too old, or in a path that they refuse.
require_docker() {
	case $root in
	# Docker can't mount files from a path with : or %, and sed gives the other characters a meaning of its own.
	*[]:%\&\|\\[]*)
		die "the lab doesn't work in a path with one of : % & | [ ] \\, as $root: rename the folder, or copy it elsewhere"
		;;
	esac
	command -v docker >/dev/null ||
		die "Docker is missing: install Docker Engine, or Docker Desktop on macOS and Windows" \
			"(https://docs.docker.com/get-started/get-docker/)"
	if ! api=$(docker version --format '{{.Server.APIVersion}}' 2>/dev/null); then
		failure=$(docker version 2>&1 >/dev/null | grep . | tail -n 1)
		case $failure in
		*"ermission denied"*)
			die "no permission for Docker's socket: run sudo usermod -aG docker $(id -un), then log out and in" ;;
		*"annot connect to the Docker daemon"* | *"cannot find the file specified"*)
			die "Docker's engine is not running: start it with sudo systemctl start docker, or open Docker Desktop" ;;
		*) die "Docker does not work here; it says: $failure" ;;
		esac
	fi
	# Podman has version numbers of its own, and the same API.
	case $api in
	1.[0-9] | 1.[1-3][0-9] | 1.40)
		die "Docker's engine is too old: its API is version $api, and 1.41 is the oldest that was tried (Docker 20.10," \
			"Podman 4): update it"
		;;
	esac
	version=$(docker compose version --short 2>/dev/null) || version=
	case ${version#v} in
	'' | [01].*)
		die "docker compose of version 2 or later is missing: install the package docker-compose-plugin" \
			"(docker-compose-v2 on Ubuntu)"
		;;
	esac
}

# require_project_dir PROJECT FOLDER: dies if the engine has a stack of that name from another folder.
require_project_dir() {
	other=$(compose_containers |
		awk -F '\t' -v project="$1" -v folder="$2" '$4 == project && $5 != folder { print $5; exit }')
	[ -z "$other" ] ||
		die "a stack named $1 is here already, from the folder $other: stop it there, or, if that folder is gone, with" \
			"docker compose -p $1 down"
}
