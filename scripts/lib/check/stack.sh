# shellcheck shell=sh
# The stack that check.sh, which sources this file, looks at: its folder, its containers, and whether they are as its
# Compose file says. Docker knows which container has a port, and which files Compose read.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

stack=stack
folder=      # the stack's, without links
containers=  # facts about all containers
container=   # the ID of the container that the functions look at
compose_of=  # the ID of the container with whose Compose files in_stack works
config=      # these files, as Compose reads them, in lines of json_values
config_error= # why Compose refuses them
read_state=none # the state of the containers and files when Compose read them
plan=        # what Compose would do
is_told=     # yes after a line on Docker's network
is_reached=  # yes after an answer over the host's network

# load_containers: sets $containers to facts about all containers, a line each: the ID, a name and a value, with tabs
# between. A folder is without links.
load_containers() {
	# shellcheck disable=SC2016 # for Docker
	form='{{$id := printf "%.12s" .Id}}{{$l := .Config.Labels}}
{{printf "%s\tname\t%s" $id (slice .Name 1)}}
{{printf "%s\tstatus\t%s %v" $id .State.Status .State.ExitCode}}
{{printf "%s\terror\t%s" $id .State.Error}}
{{printf "%s\tstarted\t%s" $id .State.StartedAt}}
{{with index .State "Health"}}{{printf "%s\thealth\t%s" $id .Status}}{{end}}
{{printf "%s\timage\t%s" $id .Config.Image}}
{{printf "%s\tpath\t%s" $id .Path}}
{{printf "%s\tworkdir\t%s" $id .Config.WorkingDir}}
{{printf "%s\tnetwork\t%s" $id .HostConfig.NetworkMode}}
{{with index $l "com.docker.compose.service"}}{{printf "%s\tservice\t%s" $id .}}{{end}}
{{with index $l "com.docker.compose.project"}}{{printf "%s\tproject\t%s" $id .}}{{end}}
{{with index $l "com.docker.compose.project.working_dir"}}{{printf "%s\tworking-dir\t%s" $id .}}{{end}}
{{with index $l "com.docker.compose.project.config_files"}}{{printf "%s\tfiles\t%s" $id .}}{{end}}
{{with index $l "com.docker.compose.project.environment_file"}}{{printf "%s\tenv-files\t%s" $id .}}{{end}}
{{with index $l "com.docker.compose.depends_on"}}{{printf "%s\tdepends\t%s" $id .}}{{end}}
{{range .Args}}{{printf "%s\targ\t%q" $id .}}
{{end}}{{range .Config.Env}}{{printf "%s\tenv\t%q" $id .}}
{{end}}{{range .Mounts}}{{printf "%s\tmount\t%s\t%s\t%s" $id .Type .Destination .Source}}
{{end}}{{range $port, $all := .NetworkSettings.Ports}}{{range $all}}{{printf "%s\tport\t%s/%s" $id .HostIp .HostPort}}
{{end}}{{end}}{{range $port, $all := .HostConfig.PortBindings}}{{range $all -}}
{{printf "%s\tbind\t%s/%s" $id .HostIp .HostPort}}
{{end}}{{end}}'
	containers=$(docker ps -aq 2>/dev/null | xargs docker inspect -f "$form" 2>/dev/null | awk -F '\t' '
		# Go quotes these, as they may have several lines.
		$2 == "arg" || $2 == "env" {
			text = substr($3, 2, length($3) - 2)
			gsub(/\\[nt]/, " ", text)
			gsub(/\\"/, "\"", text)
			$0 = $1 "\t" $2 "\t" text
		}
		$2 != "" { print }')
	containers="$containers
$(printf '%s\n' "$containers" | awk '$2 == "working-dir"' | while IFS=$tab read -r id _ value; do
		printf '%s\tfolder\t%s\n' "$id" "$(cd "$value" 2>/dev/null && pwd -P || echo "$value")"
	done)"
}

# fact NAME [ID]: the values of that name of the container $container, or of another.
fact() {
	printf '%s\n' "$containers" | awk -F '\t' -v id="${2-$container}" -v name="$1" '
		$1 == id && $2 == name { print substr($0, length(id) + length(name) + 3) }'
}

# setting NAME: the value of that flag of the container's program, in one word with its name or in two.
setting() {
	fact arg | tr ' ' '\n' | awk -v name="$1" '
		is_next { print; exit }
		{ gsub("^[\"\047]*--?|[\"\047]+$", "") }
		$0 == name { is_next = 1 }
		index($0, name "=") == 1 { print substr($0, length(name) + 2); exit }'
}

# variable NAME: the value of that variable of the container's environment.
variable() {
	fact env | awk -v name="$1=" 'index($0, name) == 1 { print substr($0, length(name) + 1) }'
}

# find_container SERVICE: sets $container to the ID of its container, empty without one, and $address to its address.
find_container() {
	container=$(printf '%s\n' "$containers" |
		service="$1" port="$(service_field 3 "$1")" folder="$folder" my_stack="$my_stack" \
		awk -f "$root/scripts/lib/check/container.awk")
	address=$(url "$1")$(url_path "$1")
}

# url_path SERVICE: the path that the service's pages begin with, if a setting gives one.
url_path() {
	case $1 in
	prometheus | alertmanager)
		prefix=$(setting web.route-prefix)
		prefix=${prefix:-$(setting web.external-url | sed 's#^[^/]*//[^/]*##')}
		;;
	grafana)
		prefix=
		[ "$(variable GF_SERVER_SERVE_FROM_SUB_PATH)" != true ] ||
			prefix=$(variable GF_SERVER_ROOT_URL | sed 's#^[^/]*//[^/]*##')
		;;
	mailpit) prefix=$(variable MP_WEBROOT) ;;
	*) prefix= ;;
	esac
	printf '%s\n' "$prefix" | sed 's#^/*#/#; s#/*$##'
}

# is_ours: whether the container is of the stack that is checked.
is_ours() {
	case $(fact folder) in
	"$folder" | "$my_stack"/*) ;;
	*) return 1 ;;
	esac
}

# container_in FOLDER [STATUS]: the first container from that folder whose status begins like this; from my-stack, or
# below it. The model as a container is for either stack, so it doesn't count.
container_in() {
	model=$(image exporter)
	printf '%s\n' "$containers" | wanted="$1" my_stack="$my_stack" awk -F '\t' -v status="${2-}" -v model="$model" '
		$2 == "name" { ids[++count] = $1 }
		{ fact[$1, $2] = $3 }
		END {
			for (n = 1; n <= count; n++) {
				place = fact[ids[n], "folder"]
				if (ENVIRON["wanted"] == ENVIRON["my_stack"] && index(place, ENVIRON["my_stack"] "/") == 1)
					place = ENVIRON["my_stack"]
				if (place == ENVIRON["wanted"] && fact[ids[n], "image"] != model &&
					(status == "" || index(fact[ids[n], "status"], status) == 1)) {
					print ids[n]
					exit
				}
			}
		}'
}

# choose_stack: sets $stack, $folder and $compose_of to the stack that runs, otherwise to my-stack if it is there, and
# $start and $restart to the commands that start it and that make it read its files again.
choose_stack() {
	stack=my-stack
	folder=$my_stack
	if [ -z "$(container_in "$folder" running)" ] &&
		{ [ -n "$(container_in "$root/stack" running)" ] || [ ! -d "$root/my-stack" ]; }; then
		stack=stack folder=$root/stack
	fi
	compose_of=$(container_in "$folder" running)
	compose_of=${compose_of:-$(container_in "$folder")}
	start=scripts/up.sh restart=scripts/up.sh
	if [ $stack = my-stack ]; then
		options=$(file_options)
		start="docker compose${options:+ $options} up -d in my-stack"
		restart="docker compose${options:+ $options} restart in my-stack"
	fi
}

# has_own_password: whether the student's stack has GRAFANA_PASSWORD from a file that Compose reads.
has_own_password() {
	{
		fact env-files "$compose_of" | tr , '\n'
		printf '%s/.env\n' "$folder" "$(fact working-dir "$compose_of")"
	} | while IFS= read -r file; do
		grep '^[^#]*GRAFANA_PASSWORD *[=:]' "$file" 2>/dev/null
	done | grep -q .
}

# file_options: the options with which Compose finds the files of my-stack; none if it finds them itself.
file_options() {
	fact files "$compose_of" | tr , '\n' | folder="$(fact working-dir "$compose_of")/" awk '
		index($0, ENVIRON["folder"]) == 1 { $0 = substr($0, length(ENVIRON["folder"]) + 1) }
		!/^(docker-)?compose([.]override)?[.]ya?ml$/ { is_other = 1 }
		{ options = options (options == "" ? "" : " ") "-f " $0 }
		END { if (is_other) print options }'
}

# started_files: the files with which the stack was started. Without a container, or if one of them has another name by
# now, it prints none, and Compose looks for its file.
started_files() {
	files=$(fact files "$compose_of" | tr , '\n')
	printf '%s\n' "$files" | while IFS= read -r file; do
		[ -e "$file" ] || exit 1
	done && printf '%s\n' "$files"
}

# in_stack ARGUMENT...: runs Compose for the stack that is checked, with the files with which it was started.
in_stack() (
	if [ $stack = stack ]; then
		compose "$@"
		exit
	fi
	cd "$root/my-stack" 2>/dev/null || cd "$root" || exit
	files=$(started_files)
	options=$(
		[ -z "$files" ] || printf '%s\n' "$files" | sed 's/^/--file /'
		[ -z "$files" ] || fact working-dir "$compose_of" | sed 's/^/--project-directory /'
		fact project "$compose_of" | sed 's/^/--project-name /'
		fact env-files "$compose_of" | tr , '\n' | sed 's/^/--env-file /'
		echo '--profile *'
	)
	# Each option goes to the front, and a later file overrides an earlier one.
	while read -r name value; do
		set -- "$name" "$value" "$@"
	done <<END
$(printf '%s\n' "$options" | awk '{ line[NR] = $0 } END { for (n = NR; n; n--) print line[n] }')
END
	# The variable is for check.sh, and Compose would prefer it to its own file.
	! has_own_password || unset GRAFANA_PASSWORD
	docker compose "$@"
)

# compose_state: a text that changes if the stack's containers or the files of Compose do.
compose_state() {
	printf '%s\n' "$containers"
	find "$folder" -maxdepth 2 \( -name '*.y*ml' -o -name '*.env' \) -exec cksum {} + 2>/dev/null
}

# has_file: whether Compose finds a file of the stack. In my-stack, it would look in all folders above, too.
has_file() {
	[ $stack = stack ] || [ -n "$(started_files)" ] || [ -n "${COMPOSE_FILE-}" ] ||
		grep -qs '^COMPOSE_FILE=' "$folder/.env" ||
		find "$folder" -maxdepth 1 \( -name 'compose.y*ml' -o -name 'docker-compose.y*ml' \) 2>/dev/null | grep -q .
}

# check_file: checks that Compose accepts the stack's file, and sets $config to the lines of json_values of it, or
# $config_error. If Compose accepts the file of the finished stack, it prints no line.
check_file() {
	criterion="Compose accepts your file"
	[ $stack = my-stack ] || criterion="Compose accepts stack/compose.yaml"
	[ -z "$docker_error" ] || return
	current=$(compose_state)
	# With --watch, Compose is asked again only if something changed.
	if [ "$current" != "$read_state" ]; then
		read_state=$current plan='' config=''
		config_error="no configuration file"
		if has_file; then
			# Warnings come before it.
			config_error=$(in_stack config --format json 2>&1) &&
				config=$(printf '%s\n' "$config_error" | sed -n '/^{/,$p' | json_values)
			[ -z "$config" ] || config_error=
		fi
	fi
	if [ -z "$config_error" ]; then
		[ $stack = stack ] || verdict ok "$criterion" "by docker compose config"
		return
	fi
	case $config_error in
	*"no configuration file"*)
		other=$(cd "$folder" 2>/dev/null && grep -l '^services:' ./*.y*ml ./*/*.y*ml 2>/dev/null | head -n 1)
		if [ -z "$other" ]; then
			verdict open "$criterion" "my-stack/compose.yaml is missing" "$page_2"
		else
			verdict FAIL "$criterion" "my-stack/compose.yaml is missing, and there is my-stack/${other#./}" \
				"docker compose -f ${other#./} up -d in my-stack"
		fi
		;;
	*)
		verdict FAIL "$criterion" "$(printf '%s\n' "$config_error" | tail -n 1 | sed 's/^ *//' | without_root)" \
			"correct it: messages at $page_messages"
		;;
	esac
}

# planned: what Compose would do to the stack's containers; fails if it can't say. It waits for nothing.
planned() {
	[ -n "$plan" ] || plan=$(
		services=$(printf '%s\n' "$config" "$containers" | awk -F '\t' -v project="$(fact project "$compose_of")" '
			split($1, part, "/") > 2 && part[1] == "services" { is_known[part[2]] = 1 }
			$2 == "project" && $3 == project { is_ours[$1] = 1 }
			$2 == "service" { service[$1] = $3 }
			END { for (id in is_ours) if (service[id] in is_known) print service[id] }')
		# shellcheck disable=SC2086 # words
		in_stack create --dry-run --pull never --no-build $services 2>&1 || echo failed
	)
	! printf '%s\n' "$plan" | grep -qx failed
}

# check_as_filed CRITERION SEEN: checks that the container is as the stack's Compose file says. Compose itself compares
# them: the hash that docker compose config prints is another one with env_file:.
check_as_filed() {
	# A file that Compose refuses has a line of its own.
	[ -z "$config_error" ] || { verdict ok "$1" "$2" && return; }
	if ! planned; then
		reason=$(printf '%s\n' "$plan" | grep -vx failed | tail -n 1 | sed 's/^ *//' | without_root)
		verdict open "$1" "Compose can't compare its container with its file: $reason" "correct that"
		return
	fi
	variable=$(printf '%s\n' "$plan" | sed -n 's/.*The .*"\([A-Za-z0-9_]*\)\\*" variable is not set.*/\1/p' | head -n 1)
	case $(printf '%s\n' "$plan" | grep -F "Container $(fact name) ") in
	*Recreate*)
		if [ -n "$variable" ]; then
			verdict open "$1" "the file's variable $variable isn't set here, so its container can't be compared" \
				"export it, or write it into the file .env next to the Compose file"
			return
		fi
		;;
	?*) verdict ok "$1" "$2" && return ;;
	esac
	verdict FAIL "$1" "its container differs from the Compose file of $stack" "$start"
}

# has_service SERVICE: whether the stack's Compose file has a service of that name, or with an image of that name.
has_service() {
	printf '%s\n' "$config" | awk -F '\t' -v service="$1" '
		{ parts = split($1, part, "/"); name = $2 }
		part[1] != "services" { next }
		part[2] == service { found = 1 }
		parts == 3 && part[3] == "image" {
			sub(/.*\//, "", name)
			sub(/[:@].*/, "", name)
			if (index(name "-", service "-") == 1) found = 1
		}
		END { exit !found }'
}

# check_ready SERVICE [WORD]: checks that the service is ready, in a container of this stack; sets $container and
# $address. Its settings may have moved its pages to another path.
check_ready() {
	criterion="$(service_field 6 "$1") is ${2-ready}"
	[ -z "$docker_error" ] || return
	find_container "$1"
	has_container "$1" && has_started && answers "$1" || return
	check_as_filed "$criterion" "$address"
	check_reach "$1"
}

# has_container SERVICE: whether $container is one of this stack; says which it is otherwise.
has_container() {
	if [ -n "$container" ]; then
		is_ours || verdict FAIL "$criterion" "port $(service_field 3 "$1") belongs to the container $(fact name)$(
			fact folder | sed 's/^/ from the folder /')" "docker stop $(fact name), then $start"
		return
	fi
	# The mistake in the file has a line already.
	case $config_error in
	'' | *"no configuration file"*) ;;
	*) return 1 ;;
	esac
	if [ $stack = my-stack ] && ! has_service "$1"; then
		verdict open "$criterion" "your Compose file has no service with the image $(image "$1") yet" "$page"
		return 1
	fi
	verdict FAIL "$criterion" "in $stack, the container of $(image "$1") is missing" "$start"
}

# has_started: whether $container runs; says why it doesn't otherwise.
has_started() {
	name=$(fact name)
	case $(fact status) in
	running*) return ;;
	"exited 0") verdict FAIL "$criterion" "$name was stopped" "$start" || return ;;
	esac
	reason=$(fact error)
	otherwise="it has never started"
	waits_for=$(fact depends | tr , '\n' | awk -F : '$2 != "service_started" { print $1 }')
	case $(fact status) in
	created*)
		if [ -z "$reason" ] && [ -n "$waits_for" ]; then
			verdict FAIL "$criterion" "$name waits until $(echo "$waits_for" | paste -s -d ' ' -) is healthy" \
				"see healthcheck: and depends_on: in your Compose file, and docker compose ps -a" || return
		fi
		;;
	exited*) otherwise="it ended with exit code $(fact status | cut -d ' ' -f 2)" ;;
	esac
	lines=$(docker logs --tail 40 "$container" 2>&1 | grep . | sed 's/.* msg=//')
	denied=$(printf '%s\n' "$lines" | grep -iE 'permission denied|not writable' | head -n 1)
	# Without an error of the engine's, such as a port in use, the program's last line is the reason.
	reason=${reason:-${denied:-$(printf '%s\n' "$lines" | tail -n 1)}}
	todo="correct that, then $start"
	[ -z "$denied" ] ||
		todo="its user may not write there: mount a named volume where the image has its data, then $start; see $page"
	verdict FAIL "$criterion" "$name isn't running: ${reason:-$otherwise}" "$todo"
}

# utc SECONDS: that time, as Docker prints it.
utc() {
	date -u -d "@$1" +%FT%T 2>/dev/null || date -u -r "$1" +%FT%T
}

# is_older TIME TIME: whether the first of two such times is before the second.
is_older() {
	expr "x$1" '<' "x$2" >/dev/null
}

# responds SERVICE: for wait_for: whether the service says that it is ready. It gives up if an error comes instead.
responds() {
	response=$(request -o /dev/null -w '%{http_code}' "$address$(service_field 4 "$1")" 2>/dev/null)
	case $response in
	200) return ;;
	000 | 503) response= ;;
	*) abort_reason="it answers with HTTP $response" ;;
	esac
	return 1
}

# answers SERVICE: whether the service is ready; says why it isn't otherwise.
answers() {
	# A program that started a moment ago may need some seconds.
	seconds=30
	! is_older "$(fact started)" "$(utc $(($(date +%s) - 60)))" || seconds=2
	wait_for $seconds "$criterion" responds "$1" && { ! is_on_host_network || is_reached=yes; return 0; }
	reason=${abort_reason:-$(get -o /dev/null "$address$(service_field 4 "$1")" 2>&1)}
	if [ -n "$abort_reason" ]; then
		settings=$(address_settings "$1" | paste -s -d ' ' -)
		verdict open "$criterion" "$reason at $address$(service_field 4 "$1")${settings:+, see $settings}" \
			"the check needs HTTP without a password at $(url "$1"): remove that setting, or look yourself"
		return 1
	fi
	todo="see docker logs $(fact name)"
	if is_on_host_network; then
		place=$(listen_setting "$1")
		[ -z "$place" ] || todo="it is to listen at port $(service_field 3 "$1"), see $place; or $todo"
		if has_other_network "$1"; then
			reason="it runs but does not answer here, as Docker's host network is not this machine's"
			todo=$(host_network_todo)
			[ -z "$is_told" ] || todo="as above"
			is_told=yes
		fi
	elif [ -z "$(published_ports)" ]; then
		reason="its ports aren't published"
		todo="add ports: to the service, then $start; see $page_2"
	elif ! published_ports | cut -d / -f 2 | grep -qxF "$(service_field 3 "$1")"; then
		reason="it has another port: $(published_ports | tr / : | sort -u | paste -s -d ' ' -)"
		todo="publish it at 127.0.0.1:$(service_field 3 "$1") with ports:, then $start"
	else
		todo="with ports:, it must listen at all addresses of its container: $todo"
	fi
	verdict FAIL "$criterion" "$reason" "$todo"
}

# listen_setting SERVICE: the setting of the port at which the service listens, with its value, if it has one.
listen_setting() {
	for name in web.listen-address listen; do
		value=$(setting $name)
		[ -z "$value" ] || echo "--$name=$value"
	done
	for name in GF_SERVER_HTTP_PORT MP_UI_BIND_ADDR; do
		value=$(variable $name)
		[ -z "$value" ] || echo "$name: $value"
	done
}

# has_other_network SERVICE: whether Docker's host network isn't this machine's: the service answers there, or the
# engine is known for it and no other service answers here.
has_other_network() {
	[ -z "$is_reached" ] || return
	responds_inside "$1" || docker info --format '{{.OperatingSystem}} {{.Name}} {{.SecurityOptions}}' 2>/dev/null |
		grep -qE 'Docker Desktop|colima|rootless'
}

# responds_inside SERVICE: whether the service responds within its container, if that has a tool to ask it.
responds_inside() {
	ready_page=http://127.0.0.1:$(service_field 3 "$1")$(service_field 4 "$1")
	docker exec "$container" wget -q -Y off -O /dev/null "$ready_page" >/dev/null 2>&1 ||
		docker exec "$container" curl -sf --noproxy '*' -o /dev/null "$ready_page" >/dev/null 2>&1
}

# address_settings SERVICE: the settings in use that change the address of the service's pages, or protect them.
address_settings() {
	for name in web.config.file web.external-url web.route-prefix; do
		[ -z "$(setting $name)" ] || echo "--$name"
	done
	for name in GF_SERVER_PROTOCOL GF_SERVER_ROOT_URL GF_SERVER_SERVE_FROM_SUB_PATH GF_SERVER_ENFORCE_DOMAIN \
		MP_WEBROOT MP_UI_AUTH MP_UI_AUTH_FILE MP_UI_TLS_CERT; do
		[ -z "$(variable $name)" ] || echo "$name"
	done
}

is_on_host_network() {
	[ "$(fact network)" = host ]
}

# published_ports: the container's ports on this machine, as ADDRESS/PORT; also if it shares another one's network.
published_ports() {
	shared=$(fact network | sed -n 's/^container:\(............\).*/\1/p')
	fact port "${shared:-$container}"
}

# check_reach SERVICE: checks that its ports accept connections from this machine only.
check_reach() {
	criterion="only your machine reaches it"
	todo="limit it to 127.0.0.1, then $start; see $page"
	if is_on_host_network; then
		ports="$(service_field 3 "$1") $(service_field 5 "$1" | tr -d -)"
		# Several Alertmanagers use another port among themselves, unless its setting is empty.
		if [ "$1" = alertmanager ]; then
			cluster=:9094
			! fact arg | grep -qF cluster.listen-address || cluster=$(setting cluster.listen-address)
			ports="$ports ${cluster##*:}"
		fi
		addresses=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | addresses_of "$ports")
		# On other systems the engine has a network of its own.
		[ -n "$addresses" ] ||
			addresses=$(docker exec "$container" cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | addresses_of "$ports")
		if [ -z "$addresses" ]; then
			verdict open "$criterion" "its addresses can't be read" "see the address it listens at in your Compose file"
			return
		fi
	else
		addresses=$(published_ports)
	fi
	wide=$(printf '%s\n' "$addresses" | grep -vE '^(127[.]|::1/)' | sed 's|.*/||' | sort -un | paste -s -d ' ' -)
	unknown=
	[ -z "$wide" ] || [ "$1" != grafana ] || unknown=$(unknown_variables)
	[ -z "$unknown" ] || todo="Grafana doesn't know the variable $unknown: correct its name, then $start"
	if [ -n "$wide" ]; then
		verdict open "$criterion" "others do, too: $wide" "$todo"
	else
		verdict ok "$criterion" "127.0.0.1"
	fi
}

# addresses_of PORTS: of the kernel's tables of sockets, the addresses with these ports at which programs listen, as
# ADDRESS/PORT. In the tables, 0A is a socket that listens, and 0100007F is 127.0.0.1.
addresses_of() {
	awk -v ports="$1" '
		BEGIN { count = split(ports, port, " ") }
		$4 == "0A" {
			split($2, part, ":")
			is_local = part[1] ~ /^......7F$/ || part[1] ~ /^0+1000000$/ || part[1] ~ /FFFF0000......7F$/
			for (n = 1; n <= count; n++)
				if (part[2] == sprintf("%04X", port[n])) print (is_local ? "127.0.0.1/" : "0.0.0.0/") port[n]
		}'
}

# unknown_variables: the container's variables for the section server that Grafana doesn't have.
unknown_variables() {
	known=$(docker exec "$container" cat /usr/share/grafana/conf/defaults.ini 2>/dev/null | awk '
		/^\[/ { is_server = $0 == "[server]" }
		is_server && /^;?[a-z_]+ *=/ { sub(/^;/, ""); sub(/ *=.*/, ""); print "GF_SERVER_" toupper($0) }')
	[ -z "$known" ] || fact env | sed -n 's/^\(GF_SERVER_[A-Z_]*\)=.*/\1/p' | sed 's/__FILE$//' |
		grep -vxF -- "$known" | head -n 1
}

# check_kept FOLDER PAGE: checks that the data in the folder outlives the container. A volume without a name doesn't:
# the next container gets another one. The mounts of the container aren't enough: up -d keeps a volume that was removed
# from the file, but after down, it is gone.
check_kept() {
	criterion="its data outlives the container"
	if [ -z "$config" ]; then
		verdict open "$criterion" "Compose doesn't accept the file" "correct it"
		return
	fi
	kept_in=$(printf '%s\n' "$config" | below "services/$(fact service)/volumes" | place="${1%/}/" awk -F '\t' '
		$1 ~ /type$/ { kind = $2; source = "" }
		$1 ~ /source$/ { source = $2 }
		$1 ~ /target$/ && index(ENVIRON["place"], $2 "/") == 1 && length($2) > longest {
			longest = length($2)
			found = source == "" ? "" : kind " " source
		}
		END { print found }')
	if [ -n "$kept_in" ]; then
		verdict ok "$criterion" "$kept_in"
	elif [ $stack = my-stack ]; then
		verdict open "$criterion" "your Compose file doesn't mount a named volume at $1 yet" "$2"
	else
		verdict FAIL "$criterion" "stack/compose.yaml doesn't mount a named volume at $1" "add one, then $start"
	fi
}
