# shellcheck shell=sh
# What the other scripts share; they source it.

# Numbers have a decimal point, and programs say what is matched here, in any country.
export LC_ALL=C
# With it, cd says where it went, which is no part of a path.
unset CDPATH

# Without links: the way here may be another the next time, and it is still the same folder.
root=$(cd "$(dirname "$0")/.." && pwd -P)
# Cargo builds where the scripts look for it.
export CARGO_TARGET_DIR="$root/target"
env_file=$root/stack/.env
stack=stack # the folder of the one that is asked about
# shellcheck disable=SC2034 # for whoever sources this
project=${COMPOSE_PROJECT_NAME:-$(sed -n 's/^name: *//p' "$root/stack/compose.yaml")}

# The stack, a line for each service: its name, its profile in the Compose file (- where it starts by
# itself), its port, what answers there once it is ready, its other port (- for none), and its title.
table='prometheus    -         9090  /-/ready     -     Prometheus
alertmanager  -         9093  /-/ready     -     Alertmanager
mailpit       -         8025  /readyz      1025  Mailpit
grafana       -         3000  /api/health  -     Grafana
exporter      exporter  5000  /metrics     -     Exporter
loki          logging   3100  /ready       9095  Loki
fluent-bit    logging   2020  /            -     Fluent-Bit'

# service_field N [SERVICE]: of that table, for a service or all of a profile; without one, of all that start by
# themselves.
service_field() {
	printf '%s\n' "$table" | awk -v n="$1" -v name="${2-}" '$1 == name || $2 == name || name == "" && $2 == "-" { print $n }'
}

# url SERVICE
url() {
	printf 'http://localhost:%s\n' "$(service_field 3 "$1")"
}

# readiness SERVICE: the URL that answers where the service is ready.
readiness() {
	printf '%s%s\n' "$(url "$1")" "$(service_field 4 "$1")"
}

# services NAME...: these services or profiles, each once; all that start by themselves where none is
# named; dies where there is no such service.
services() {
	for name in "$@"; do
		[ -n "$(service_field 1 "$name")" ] ||
			usage_error "there is no service '$name': there are $(printf '%s\n' "$table" | awk '{ print $1 }' | paste -s -d ' ' -)"
	done
	[ $# -gt 0 ] || set -- ''
	for name in "$@"; do
		service_field 1 "$name"
	done | awk '!seen[$0]++' | paste -s -d ' ' -
}

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
	-h | --help) print_help && exit ;;
	'') ;;
	*) usage_error "unknown argument '$1'" ;;
	esac
}

# require_curl: some desktops come without it.
require_curl() {
	command -v curl >/dev/null || die "curl is missing: install the package curl"
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

# listens PORT: whether anything listens there.
listens() {
	curl -s --noproxy '*' --max-time 1 -o /dev/null "http://127.0.0.1:$1/"
	[ $? -ne 7 ]
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds, by the clock; says how it goes on, with
# what the command saw last in $response, and keeps $waited. It gives up where the command sets $abort_reason.
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
		if [ $((waited - told)) -ge 10 ]; then
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

# in_kit: whether this folder is a kit of scripts/kit.sh, unpacked.
in_kit() {
	[ -d "$root/images" ]
}

# model_command ARGUMENT...: how the model is started here.
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

# logged_command: how it is started where Fluent Bit reads its lines; a container's lines are Docker's.
logged_command() {
	case $(model_command) in
	*exporter) echo "$(model_command), and in another terminal: while sleep 1; do docker compose -f stack/compose.yaml logs -f --since 3s --no-log-prefix exporter; done | tee -ai stack/logs/model.log" ;;
	*) echo "$(model_command) | tee -ai stack/logs/model.log" ;;
	esac
}

# image SERVICE: its image, by the Compose file.
image() {
	sed -n "/^  $1:/,/image:/s/^ *image: *//p" "$root/stack/compose.yaml"
}

# has_image IMAGE: whether it is here, or can be had; where it cannot it sets $why.
has_image() {
	! docker image inspect "$1" >/dev/null 2>&1 || return 0
	echo "pulling $1"
	pull_log=$(mktemp) || die "cannot write below ${TMPDIR:-/tmp}: is the disk full?"
	docker pull "$1" >"$pull_log" 2>&1 &
	child=$!
	wait_for 86400 "$1 is here" pull_ended
	wait "$child"
	pulled=$?
	child=
	why=$(grep . "$pull_log" | tail -n 1)
	rm -f "$pull_log"
	pull_log=
	return $pulled
}

# pull_ended: whether the pull has; it is ended where its registry says nothing for a minute.
pull_ended() {
	kill -0 "$child" 2>/dev/null || return 0
	if [ "$waited" -ge 60 ] && [ ! -s "$pull_log" ]; then
		kill "$child"
		echo "its registry does not answer" >"$pull_log"
	fi
	return 1
}

# get_images SERVICE...: before anything starts; dies where one cannot be had. A kit has its own.
get_images() {
	! in_kit || load_images "$@"
	for service in "$@"; do
		image=$(image "$service")
		if [ "$service" = exporter ]; then
			# shellcheck disable=SC2119
			docker image inspect "$image" >/dev/null 2>&1 ||
				die "the image $image is made by scripts/kit.sh: run that first, or start the model with $(model_command)"
			continue
		fi
		has_image "$image" && continue
		case $why in
		*"manifest unknown"* | *"manifest for"* | *"not found"*) todo="there is no such version: see image: in stack/compose.yaml" ;;
		*oomanyrequests* | *"rate limit"*) todo="the registry's limit for today is reached: wait some hours, or run docker login" ;;
		*"no space left"*) todo="the disk is full: docker system df shows what takes the room" ;;
		*) todo="is this machine online? Behind a proxy, Docker's engine needs it too (stack/README.md, What to do when)" ;;
		esac
		die "the image $image cannot be had: $todo ($why)"
	done
}

# manifest_field SERVICE N: the Nth word of its line in the kit's list of images.
manifest_field() {
	awk -v service="$1" -v n="$2" '$1 == service { print $n }' "$root/images/list"
}

# load_images SERVICE...: those of the kit whose name the engine does not have. All is looked at before
# anything is loaded.
load_images() {
	for file in images/list sums; do
		[ -s "$root/$file" ] || die "$file of the kit is missing: copy and unpack the kit again"
	done
	[ "$(uname)" != Linux ] || [ -x "$root/modelmock" ] ||
		die "$root/modelmock may not be run, as on a stick that is mounted without that right (noexec): copy the folder to your home folder and go on there"
	server=$(docker version --format '{{.Server.Version}} {{.Server.Arch}}')
	case $server in
	[0-9].* | 1[0-9].*) die "Docker's engine is too old: it is ${server% *}, and 20.10 is the oldest that was tried: update it" ;;
	esac
	missing=
	for service in "$@"; do
		image=$(manifest_field "$service" 2)
		[ -n "$image" ] || die "this kit was made without $service: name the services to start, of these: $(awk '{ printf "%s ", $1 }' "$root/images/list")"
		processor=$(manifest_field "$service" 4)
		[ "$processor" = "${server#* }" ] ||
			die "this kit is for the processor $processor, and Docker's engine here has ${server#* }: ask for a kit that was made on such a machine"
		if ! here=$(docker image inspect -f '{{.Id}} {{range .RootFS.Layers}}{{.}},{{end}}' "$image" 2>/dev/null); then
			missing="$missing $service"
		# Engines number images in two ways; the layers are the same in both.
		elif [ "${here% *}" != "$(manifest_field "$service" 3)" ] && [ "${here#* }" != "$(manifest_field "$service" 6)" ]; then
			echo "another $image is here than the kit's: it stays as it is"
		fi
	done
	[ -n "$missing" ] || return 0
	for file in modelmock images/list $(for service in $missing; do echo "images/$service.tar.gz"; done); do
		sum=$(cd "$root" && sha256 "$file" 2>/dev/null)
		grep -qxF -- "${sum:-none}" "$root/sums" || die "$file of the kit is damaged: copy and unpack the kit again"
	done
	# While an image is loaded it is there twice: unpacked, and as what it is read from.
	needed=$(for service in $missing; do manifest_field "$service" 5; done | awk '{ sum += $1; if ($1 > most) most = $1 } END { printf "%.0f", (sum + most) / 1000000 }')
	engine_folder=$(docker info --format '{{.DockerRootDir}}')
	# The engine of Docker Desktop has a disk of its own, which cannot be asked from here.
	free=$(df -Pk "$engine_folder" 2>/dev/null | awk 'NR == 2 { printf "%.0f", $4 * 1.024 / 1000 }')
	[ "${free:-$needed}" -ge "$needed" ] ||
		die "too little disk: the images need $needed MB, and $engine_folder, where Docker keeps them, has $free MB free: make room (docker system df shows what Docker takes)"
	for service in $missing; do
		image=$(manifest_field "$service" 2)
		echo "loading $image ($(manifest_field "$service" 5 | awk '{ printf "%.0f", $1 / 1000000 }') MB)"
		docker load -i "$root/images/$service.tar.gz" >/dev/null || die "the engine does not take $image: what it said is above"
		docker image inspect "$image" >/dev/null 2>&1 || die "images/$service.tar.gz holds no $image: ask for another kit"
	done
}

# metric URL NAME [least]: of that program's page, the sum of its samples, or the least; nothing where
# there is none.
metric() {
	get "$1/metrics" 2>/dev/null | awk -v name="$2" -v least="${3-}" '
		{ split($0, part, /[{ ]/) }
		part[1] == name { n = !found++ ? $NF : !least ? n + $NF : $NF < n ? $NF : n }
		END { if (found) printf "%.15g\n", n }
	'
}

# as_admin PASSWORD CURL'S ARGUMENT...: the password is kept out of the list of processes.
as_admin() {
	password=$1
	shift
	printf 'user = "admin:%s"\n' "$password" | curl -sS --noproxy '*' --max-time 10 -K - "$@"
}

# store_port NAME: where the store, or one of its sites, listens.
store_port() {
	sed -n "/^  $1:/,/listen-address/s/.*--web.listen-address=127.0.0.1:\([0-9]*\).*/\1/p" "$root/stack/store/compose.yaml"
}

# read_password: sets $password to Grafana's, from stack/.env; dies where it is not said there, or said
# in a way that Compose reads differently: quotes, dollars, blanks, comments behind it, CRLF.
read_password() {
	[ -e "$env_file" ] || die "there is no $env_file: scripts/up.sh makes it"
	[ -r "$env_file" ] || die "you may not read $env_file, as somebody else made it (sudo scripts/up.sh?): run sudo chown $(id -un) '$env_file'"
	password=$(sed -n 's/^GRAFANA_PASSWORD=\([A-Za-z0-9_.,:@+=/~^-]\{4,\}\)$/\1/p' "$env_file")
	if [ -z "$password" ] || [ "$(grep -c '^[^#]*GRAFANA_PASSWORD' "$env_file")" != 1 ]; then
		die "$env_file must have one line GRAFANA_PASSWORD= with 4 or more letters, digits or _.,:@+=/~^- and nothing else: write it so, or remove the file and run scripts/up.sh, which makes one"
	fi
}

# compose ARGUMENT...: Compose, for the stack. It wants the password for whatever it does, though only a
# start uses it; it gets the one that was read, whatever stands in the environment or in a broken file.
compose() (
	export GRAFANA_PASSWORD="${password:-none}"
	# Without its profile Compose would not stop a service that starts only when asked for.
	profiles=$(printf '%s\n' "$table" | awk '$2 != "-" { print "--profile", $2 }')
	# shellcheck disable=SC2086 # words
	docker compose $profiles --env-file /dev/null --project-directory "$root/stack" --file "$root/stack/compose.yaml" "$@"
)

# container SERVICE: its container in the stack of the folder $stack, by its image's name, as a student's
# own stack may call the service otherwise; nothing if there is none. One that runs comes before others.
container() (
	name=$(image "$1")
	docker ps -aq --filter label=com.docker.compose.project.working_dir 2>/dev/null |
		xargs docker inspect -f '{{.State.Status}} {{printf "%.12s" .Id}} {{.Config.Image}} {{index .Config.Labels "com.docker.compose.project.working_dir"}}' 2>/dev/null |
		awk -v name="${name%:*}" -v folder="/$stack$" 'index($3, name) && $0 ~ folder { id = id == "" || $1 == "running" ? $2 : id } END { print id }'
)

# setting NAME ID: what the program in the container was told by its flag of that name.
setting() {
	docker inspect -f '{{range .Args}}{{println .}}{{end}}' "$2" 2>/dev/null | sed -n "s/^--*$1=//p"
}

# config_errors SERVICE: what its own tool, in its container, finds wrong in its configuration, or why it can't
# be asked; a failure if it finds nothing. A path in the container becomes the file's in the lab's folder.
config_errors() {
	id=$(container "$1")
	case $1 in
	prometheus) set -- promtool check config "$(setting config.file "$id")" ;;
	alertmanager) set -- amtool check-config "$(setting config.file "$id")" ;;
	loki) set -- loki -verify-config -config.file=/etc/loki/loki.yml ;;
	fluent-bit) set -- /fluent-bit/bin/fluent-bit --dry-run -c /etc/fluent-bit/fluent-bit.yml ;;
	*) return 1 ;;
	esac
	! answer=$( (require_docker) 2>&1 && docker exec "$id" "$@" 2>&1) || return 1
	files=$(docker inspect -f '{{range .Mounts}}{{if eq .Type "bind"}}s|{{.Destination}}|{{.Source}}|g;{{end}}{{end}}' "$id" 2>/dev/null)
	printf '%s\n' "$answer" | grep -vE 'SUCCESS|^Checking [^ ]*$|^time=[^ ]* level=WARN|^amtool: error|^ *FAILED: *$|^$' |
		sed "s/.*FAILED: *//; s/^ *//; $files s|[^ \"]*$root/||g" | uniq | paste -s -d ' ' -
}

# require_docker: dies where there is no engine, or no Compose that knows the stack.
require_docker() {
	command -v docker >/dev/null ||
		die "Docker is missing: install Docker Engine, or Docker Desktop on macOS and Windows (https://docs.docker.com/get-started/get-docker/)"
	if ! failure=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null); then
		failure=$(printf '%s\n' "$failure" | grep . | tail -n 1)
		case $failure in
		*"ermission denied"*) die "no permission for Docker's socket: run sudo usermod -aG docker $(id -un), then log out and in" ;;
		*"annot connect to the Docker daemon"* | *"cannot find the file specified"*)
			die "Docker's engine is not running: start it with sudo systemctl start docker, or open Docker Desktop" ;;
		*) die "Docker does not work here; it says: $failure" ;;
		esac
	fi
	version=$(docker compose version --short 2>/dev/null) || version=
	case ${version#v} in
	'' | [01].*) die "docker compose of version 2 or later is missing: install the package docker-compose-plugin (docker-compose-v2 on Ubuntu)" ;;
	esac
}

# require_project_dir PROJECT FOLDER: dies where a stack of that name is here from another folder.
require_project_dir() {
	folder=$(docker ps -a --filter "label=com.docker.compose.project=$1" \
		--format '{{.Label "com.docker.compose.project.working_dir"}}' | grep -vxF -- "$2" | head -n 1)
	[ -z "$folder" ] ||
		die "a stack named $1 is here already, from the folder $folder: stop it there, or with docker compose -p $1 down where that folder is gone"
}
