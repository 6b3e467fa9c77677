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
# The student's folder. It may be a link, too.
my_stack=$(cd "$root/my-stack" 2>/dev/null && pwd -P || echo "$root/my-stack")
grafana_user="admin"
grafana_session=
# shellcheck disable=SC2034 # for the scripts that source this file
project=${COMPOSE_PROJECT_NAME:-$(sed -n 's/^name: *//p' "$root/stack/compose.yaml")}

# A line for each service of the stack: its name, its profile in the Compose file (- if it starts by default), its port,
# the path that answers once it is ready, its second port (- for none), and its title.
service_table='prometheus     -         9090  /-/ready     -     Prometheus
alertmanager   -         9093  /-/ready     -     Alertmanager
mailpit        -         8025  /readyz      1025  Mailpit
grafana        -         3000  /api/health  -     Grafana
exporter       exporter  5000  /metrics     -     Exporter
loki           logging   3100  /ready       9095  Loki
fluent-bit     logging   2020  /            -     Fluent-Bit
node-exporter  machine   9100  /            -     Node-exporter'

# service_field N [NAME]: field N of $service_table, for a service or all services of a profile; without a name, for all
# services that start by default.
service_field() {
	printf '%s\n' "$service_table" |
		awk -v n="$1" -v name="${2-}" '$1 == name || $2 == name || (name == "" && $2 == "-") { print $n }'
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
			usage_error "unknown service '$name': choose from $(
				printf '%s\n' "$service_table" | cut -d ' ' -f 1 | paste -s -d ' ' -
			)"
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

# as_admin PASSWORD CURL_ARGUMENT...: a request to Grafana as its administrator, $grafana_user; if $grafana_session is
# set, in that session. The password stays out of the list of processes.
as_admin() {
	if [ -n "$grafana_session" ]; then
		printf 'cookie = "grafana_session=%s"\n' "$grafana_session"
	else
		printf 'user = "%s"\n' "$(printf '%s:%s\n' "$grafana_user" "$1" | sed 's/[\\"]/\\&/g')"
	fi | (shift && request --max-time 10 -K - "$@")
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
# without samples. A value that isn't a number, such as NaN, is printed as it is: awks read it in different ways.
metric() {
	get "$1/metrics" 2>/dev/null | awk -v name="$2" -v least="${3-}" '
		index($0, name) != 1 || substr($0, length(name) + 1) !~ /^[ {]/ { next }
		{
			text = substr($0, length(name) + 1)
			sub(/^[{].*[}]/, "", text)
			split(text, word, " ")
		}
		word[1] !~ /^-?[0-9]+([.][0-9]+)?(e[-+]?[0-9]+)?$/ { odd = word[1] }
		{ n = !found++ ? word[1] + 0 : !least ? n + word[1] : word[1] < n ? word[1] + 0 : n }
		END { if (odd != "") print odd; else if (found) printf "%.15g\n", n }
	'
}

# json_values [TEXT]: prints each value of the JSON on standard input, in a line: its path, a tab, the value.
# {"a": [{"b": 1}]} becomes a/0/b, a tab, and 1. TEXT, by default a blank, replaces new lines in a value. Not every
# laptop has a program for JSON; Compose reads it, as YAML, but refuses half of a pair of surrogates.
json_values() {
	grep -Eo '"([^"\\]|\\.)*"|[][{}:,]|[^][{}:,"[:space:]]+' | awk -v newline="${1- }" -f "$root/scripts/lib/json.awk"
}

# values PATH: of the lines of json_values, the values at that path, in which N means any number.
values() {
	awk -F '\t' -v wanted="$1" '{
		place = "/" $1 "/"
		while (sub(/\/[0-9]+\//, "/N/", place)) { }
		if ($1 == wanted || place == "/" wanted "/") print substr($0, length($1) + 2)
	}'
}

# below PATH: of the lines of json_values, those below that path, without it.
below() {
	awk -v prefix="$1/" 'index($0, prefix) == 1 { print substr($0, length(prefix) + 1) }'
}

# without_root: the text that is read; the paths of the lab's files in it begin at the lab's folder. Docker Desktop's
# engine has the files below a folder of its own.
without_root() {
	folder="$root/" awk '{
		done = ""
		while (i = index($0, ENVIRON["folder"])) {
			start = substr($0, 1, i - 1)
			sub(/[^ "]*$/, "", start)
			done = done start
			$0 = substr($0, i + length(ENVIRON["folder"]))
		}
		print done $0
	}'
}

# line_of N: the Nth line of the text that is read.
line_of() {
	awk -v n="$1" 'NR == n'
}

# listens PORT: whether a program listens there.
listens() {
	request --max-time 1 -o /dev/null "http://127.0.0.1:$1/" 2>/dev/null
	[ $? -ne 7 ]
}

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds, and prints the progress, unless $watch is
# set, as by check.sh --watch, which would print it in each round. Sets $waited, in seconds. The command may set
# $response, for the progress, and $abort_reason, to give up early.
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
			[ -n "${watch-}" ] ||
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
	[ -d "$root/images" ] && [ ! -e "$root/Cargo.toml" ]
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
	awk -v service="$1:" '
		/^  [^ ]/ { here = $1 == service }
		here && $1 == "image:" { print $2; exit }' "$root/stack/compose.yaml"
}

# store_port NAME: the port of the store, or of one of its sites.
store_port() {
	awk -v service="$1:" '
		/^  [^ ]/ { here = $1 == service }
		here && sub(/.*--web.listen-address=127.0.0.1:/, "") { print; exit }' "$root/stack/store/compose.yaml"
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
	profiles=$(printf '%s\n' "$service_table" | awk '$2 != "-" { print "--profile", $2 }')
	# shellcheck disable=SC2086 # words
	docker compose $profiles --env-file /dev/null --project-directory "$root/stack" --file "$root/stack/compose.yaml" "$@"
)

# stack_of FOLDER: the stack whose folder that is, without links: stack, or my-stack, whose folders below count, too;
# empty for another one.
stack_of() {
	case $1 in
	"$root/stack") echo stack ;;
	"$my_stack" | "$my_stack"/*) echo my-stack ;;
	esac
}

# compose_containers: a line for each container that Compose made, separated by tabs: ID, state, image, project, the
# folder without links, and its stack_of. The image is its name, even if that means another image by now.
compose_containers() (
	tab=$(printf '\t')
	label=com.docker.compose.project
	form="{{printf \"%.12s\" .Id}}$tab{{.State.Status}}$tab{{.Config.Image}}$tab{{index .Config.Labels \"$label\"}}"
	docker ps -aq --filter label=$label 2>/dev/null |
		xargs docker inspect -f "$form$tab{{index .Config.Labels \"$label.working_dir\"}}" 2>/dev/null |
		while read -r line; do
			folder=${line##*"$tab"}
			folder=$(cd "$folder" 2>/dev/null && pwd -P || echo "$folder")
			printf '%s\t%s\t%s\n' "${line%"$tab"*}" "$folder" "$(stack_of "$folder")"
		done
)

# config_errors SERVICE ID [FILE]: the errors that its own tool, in that container, finds in its configuration, or why
# the tool can't run; fails without errors. A path in the container becomes the file's in the lab's folder.
config_errors() (
	id=$2
	case $1 in
	prometheus) set -- promtool check config "${3:-/etc/prometheus/prometheus.yml}" ;;
	alertmanager) set -- amtool check-config "${3:-/etc/alertmanager/alertmanager.yml}" ;;
	loki) set -- loki -verify-config -config.file=/etc/loki/loki.yml ;;
	fluent-bit) set -- /fluent-bit/bin/fluent-bit --dry-run -c /etc/fluent-bit/fluent-bit.yml ;;
	*) return 1 ;;
	esac
	! output=$(docker exec "$id" "$@" 2>&1) || return 1
	printf '%s\n' "$output" |
		grep -vE 'SUCCESS|^Checking [^ ]*$|^time=[^ ]* level=WARN|^ *WARNING|^amtool: error|^ *FAILED: *$|^$' |
		sed 's/.*FAILED: *//; s/^ *//' | with_paths_here "$id" | without_root | uniq | paste -s -d ' ' -
)

# with_paths_here ID: the text that is read, with the paths on this machine for those in the container.
with_paths_here() {
	mounts=$(docker inspect -f \
		'{{range .Mounts}}{{if eq .Type "bind"}}{{printf "%s\t%s\n" .Destination .Source}}{{end}}{{end}}' "$1" 2>/dev/null) \
		awk 'BEGIN { count = split(ENVIRON["mounts"], line, "\n") }
		{
			for (n = 1; n <= count; n++) {
				done = ""
				if (split(line[n], mount, "\t") < 2) continue
				while (i = index($0, mount[1])) {
					done = done substr($0, 1, i - 1) mount[2]
					$0 = substr($0, i + length(mount[1]))
				}
				$0 = done $0
			}
			print
		}'
}

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
		die "docker compose of version 2 or later is missing: install the package docker-compose (Debian)," \
			"docker-compose-v2 (Ubuntu) or docker-compose-plugin (Docker's own repository)"
		;;
	esac
}

# host_network_todo: what to do if Docker's host network isn't this machine's.
host_network_todo() {
	case $(docker info --format '{{.OperatingSystem}} {{.Name}} {{.SecurityOptions}}' 2>/dev/null) in
	*"Docker Desktop"*)
		echo "in Docker Desktop 4.36 or later, turn on Settings > Resources > Network > Enable host networking, then Apply" ;;
	*rootless*)
		echo "before version 29.5, rootless Docker has a host network of its own: update Docker, or use the system's" \
			"engine with docker context use default"
		;;
	*colima*) echo "Colima's machine has a network of its own: use Docker Desktop, with host networking" ;;
	*) echo "Docker's engine runs on another machine: see docker context ls and DOCKER_HOST" ;;
	esac
}

# require_project_dir PROJECT FOLDER: dies if the engine has a stack of that name from another folder.
require_project_dir() {
	other=$(compose_containers |
		folder="$2" awk -F '\t' -v project="$1" '$4 == project && $5 != ENVIRON["folder"] { print $5; exit }')
	[ -z "$other" ] ||
		die "a stack named $1 is here already, from the folder $other: stop it there, or, if that folder is gone, with" \
			"docker compose -p $1 down"
}
