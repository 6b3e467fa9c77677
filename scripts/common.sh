# shellcheck shell=sh
# What the other scripts share; they source it.

# Numbers have a decimal point, and programs say what is matched here, in any country.
export LC_ALL=C
# With it, cd says where it went, which is no part of a path.
unset CDPATH

root=$(cd "$(dirname "$0")/.." && pwd)
env_file=$root/stack/.env
all_services="prometheus alertmanager mailpit grafana"

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

# mails URL SUBJECT: the IDs of the mails in the mailbox at the URL whose subject begins so, a line each.
mails() {
	get "$1/api/v1/messages?limit=500" 2>/dev/null | sed 's/},{/}\
{/g' | grep "\"Subject\":\"$2" | sed 's/.*{"ID":"\([^"]*\)".*/\1/'
}

# image NAME: the image in the stack's Compose file whose name that is, as in prom/prometheus; the
# exporter's own is in no registry, so it is not among them.
image() {
	sed -n "/image: modelmock:/d; s|^ *image: *\($1:.*\)|\1|p" "$root/stack/compose.yaml"
}

# exporter_image: the name of the image that scripts/kit.sh makes.
exporter_image() {
	sed -n 's|^ *image: *\(modelmock:.*\)|\1|p' "$root/stack/compose.yaml"
}

# sha256 FILE: its sum and its name; macOS has the tool under another name.
sha256() {
	if command -v sha256sum >/dev/null; then
		sha256sum "$1"
	else
		shasum -a 256 "$1"
	fi
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

# listed SERVICE N: the Nth word of its line in the kit's list of images.
listed() {
	awk -v service="$1" -v n="$2" '$1 == service { print $n }' "$root/images/list"
}

# load_images SERVICE...: those of the kit whose name the engine does not have; the network is never
# asked. All is looked at before anything is loaded. Outside a kit there is nothing to load.
load_images() {
	if ! in_kit; then
		case " $* " in
		*" exporter "*)
			# shellcheck disable=SC2119
			docker image inspect "$(exporter_image)" >/dev/null 2>&1 ||
				die "the image $(exporter_image) is made by scripts/kit.sh: run that first, or start the model with $(model_command)"
			;;
		esac
		return
	fi
	for file in images/list sums; do
		[ -s "$root/$file" ] || die "$file of the kit is missing: copy and unpack the kit again"
	done
	[ "$(uname)" != Linux ] || [ -x "$root/modelmock" ] ||
		die "$root/modelmock may not be run, as on a stick that is mounted without that right (noexec): copy the folder to your home folder and go on there"
	engine=$(docker version --format '{{.Server.Version}} {{.Server.Arch}}')
	case $engine in
	[0-9].* | 1[0-9].*) die "Docker's engine is too old: it is ${engine% *}, and 20.10 is the oldest that was tried: update it" ;;
	esac
	missing=
	for service in "$@"; do
		image=$(listed "$service" 2)
		[ -n "$image" ] || die "this kit was made without $service: name the services to start, of these: $(awk '{ printf "%s ", $1 }' "$root/images/list")"
		processor=$(listed "$service" 4)
		[ "$processor" = "${engine#* }" ] ||
			die "this kit is for the processor $processor, and Docker's engine here has ${engine#* }: ask for a kit that was made on such a machine"
		if ! here=$(docker image inspect -f '{{.Id}} {{range .RootFS.Layers}}{{.}},{{end}}' "$image" 2>/dev/null); then
			missing="$missing $service"
		# Engines number images in two ways; the layers are the same in both.
		elif [ "${here% *}" != "$(listed "$service" 3)" ] && [ "${here#* }" != "$(listed "$service" 6)" ]; then
			echo "another $image is here than the kit's: it stays as it is"
		fi
	done
	[ -n "$missing" ] || return 0
	for file in modelmock images/list $(for service in $missing; do echo "images/$service.tar.gz"; done); do
		sum=$(cd "$root" && sha256 "$file" 2>/dev/null)
		grep -qxF -- "${sum:-none}" "$root/sums" || die "$file of the kit is damaged: copy and unpack the kit again"
	done
	# While an image is loaded it is there twice: unpacked, and as what it is read from.
	needed=$(for service in $missing; do listed "$service" 5; done | awk '{ sum += $1; if ($1 > most) most = $1 } END { printf "%.0f", (sum + most) / 1000000 }')
	engine_folder=$(docker info --format '{{.DockerRootDir}}')
	# The engine of Docker Desktop has a disk of its own, which cannot be asked from here.
	free=$(df -Pk "$engine_folder" 2>/dev/null | awk 'NR == 2 { printf "%.0f", $4 * 1.024 / 1000 }')
	[ "${free:-$needed}" -ge "$needed" ] ||
		die "too little disk: the images need $needed MB, and $engine_folder, where Docker keeps them, has $free MB free: make room (docker system df shows what Docker takes)"
	for service in $missing; do
		image=$(listed "$service" 2)
		echo "loading $image ($(listed "$service" 5 | awk '{ printf "%.0f", $1 / 1000000 }') MB)"
		docker load -i "$root/images/$service.tar.gz" >/dev/null || die "the engine does not take $image: what it said is above"
		docker image inspect "$image" >/dev/null 2>&1 || die "images/$service.tar.gz holds no $image: ask for another kit"
	done
}

# pull IMAGE: gets it, with a word now and then; where it cannot be had it fails and sets $why.
pull() {
	said=$(mktemp) || die "cannot write below ${TMPDIR:-/tmp}: is the disk full?"
	docker pull "$1" >"$said" 2>&1 &
	puller=$!
	began=$(date +%s)
	next=15
	while kill -0 $puller 2>/dev/null; do
		sleep 0.2
		passed=$(($(date +%s) - began))
		if [ $passed -ge 60 ] && [ ! -s "$said" ]; then
			kill $puller
			echo "its registry does not answer" >"$said"
		elif [ $passed -ge $next ]; then
			echo "still pulling $1 ($passed s)"
			next=$((next + 15))
		fi
	done
	wait $puller
	pulled=$?
	# shellcheck disable=SC2034 # for whoever called
	why=$(grep . "$said" | tail -n 1)
	rm -f "$said"
	return $pulled
}

# has_image IMAGE: whether it is here, or can be had.
has_image() {
	docker image inspect "$1" >/dev/null 2>&1 || pull "$1" >/dev/null 2>&1
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

# listens PORT: whether anything listens there.
listens() {
	curl -s --noproxy '*' --max-time 1 -o /dev/null "http://127.0.0.1:$1/"
	[ $? -ne 7 ]
}

# read_password: sets $password to Grafana's, from stack/.env; dies where it is not said there, or said
# in a way that Compose reads differently: quotes, dollars, blanks, comments behind it, CRLF.
read_password() {
	[ -r "$env_file" ] || die "there is no $env_file that you may read: scripts/up.sh makes it"
	password=$(sed -n 's/^GRAFANA_PASSWORD=\([A-Za-z0-9_.,:@+=/~^-]\{4,\}\)$/\1/p' "$env_file")
	if [ -z "$password" ] || [ "$(grep -c '^[^#]*GRAFANA_PASSWORD' "$env_file")" != 1 ]; then
		die "$env_file must have one line GRAFANA_PASSWORD= with 4 or more letters, digits or _.,:@+=/~^- and nothing else: write it so, or remove the file and run scripts/up.sh, which makes one"
	fi
}

# compose ARGUMENT...: Compose, for the stack. It wants the password for whatever it does, though only a
# start uses it; it gets the one that was read, whatever stands in the environment or in a broken file.
compose() (
	export GRAFANA_PASSWORD="${password:-none}"
	# Without the profile Compose would not stop a service that starts only when asked for.
	docker compose --profile exporter --env-file /dev/null --project-directory "$root/stack" --file "$root/stack/compose.yaml" "$@"
)

# require_docker: dies where there is no engine, or no Compose that knows the stack, or where another
# folder's stack runs under this one's name.
require_docker() {
	command -v docker >/dev/null ||
		die "Docker is missing: install Docker Engine, or Docker Desktop on macOS and Windows (https://docs.docker.com/get-started/get-docker/)"
	if ! failure=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null); then
		failure=$(echo "$failure" | grep . | tail -n 1)
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
	project=${COMPOSE_PROJECT_NAME:-$(sed -n 's/^name: *//p' "$root/stack/compose.yaml")}
	folder=$(docker ps -a --filter "label=com.docker.compose.project=$project" \
		--format '{{.Label "com.docker.compose.project.working_dir"}}' | grep -vxF "$root/stack" | head -n 1)
	[ -z "$folder" ] ||
		die "a stack named $project is here already, from the folder $folder: run scripts/down.sh there, or docker compose -p $project down where that folder is gone"
}

# services NAME...: these services, all where none is named; dies where there is no such service.
services() {
	for name in "$@"; do
		case " $all_services exporter " in
		*" $name "*) ;;
		*) usage_error "there is no service '$name': there are $all_services" ;;
		esac
	done
	echo "${*:-$all_services}"
}
