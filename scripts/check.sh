#!/bin/sh
# check.sh [PART...]: checks each acceptance criterion of the lab, prints a line for each, and counts them.
# check.sh --alert: waits until a result passes the rule's limit, the alert fires and its mail arrives.
# check.sh --own: looks for a dashboard of your own that meets the four requirements, and names its mistakes.
#
# PART is exporter, prometheus, alertmanager, mailpit or grafana; all five by default, and logging and store if
# they run. It checks your own stack in my-stack, unless only the finished one runs. Set GRAFANA_PASSWORD, or type
# the password of your Grafana when it asks. A line says ok, FAIL, or open: not done yet, or it can't be verified.
# Exit code 1 if a line says FAIL.

set -u
typed=${GRAFANA_PASSWORD-}
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# shellcheck source=scripts/dashboard.sh
. "$root/scripts/dashboard.sh"
# shellcheck source=scripts/alerting.sh
. "$root/scripts/alerting.sh"
# shellcheck source=scripts/grafana.sh
. "$root/scripts/grafana.sh"
# shellcheck source=scripts/extensions.sh
. "$root/scripts/extensions.sh"
exporter=$(url exporter)
prometheus=$(url prometheus)
alertmanager=$(url alertmanager)
mailpit=$(url mailpit)
grafana=$(url grafana)
start_model="start the model: $(model_command)"
tab=$(printf '\t')
ok=0 FAIL=0 open=0 password='' login='' images=''

# choose_stack: sets $stack to the folder of the stack that runs, otherwise to my-stack if it is there; and $start
# and $restart to the commands that start it and that make it read its files again.
choose_stack() {
	# The model as a container is for your own stack, too.
	running=$(compose_containers | awk -F '\t' -v model="$(image exporter)" '$2 == "running" && $3 != model { print $5 }')
	stack=my-stack start="docker compose up -d in my-stack" restart="docker compose restart in my-stack"
	printf '%s\n' "$running" | grep -qxF -- "$root/my-stack" && return
	printf '%s\n' "$running" | grep -qxF -- "$root/stack" || [ ! -d "$root/my-stack" ] || return
	stack=stack start=scripts/up.sh restart=scripts/up.sh
}

# in_stack ARGUMENT...: runs Compose for the stack that is checked.
in_stack() {
	if [ $stack = stack ]; then
		compose "$@"
	else
		(cd "$root/my-stack" && docker compose "$@")
	fi
}

# report VERDICT CRITERION SEEN [NEXT]: prints a line and counts it; the verdict is ok, FAIL or open. It fails with
# FAIL, so that the caller can stop there. In my-stack, hints name the scripts as they are called from there.
report() {
	case $1 in
	ok) ok=$((ok + 1)) ;;
	open) open=$((open + 1)) ;;
	FAIL) FAIL=$((FAIL + 1)) ;;
	esac
	printf '%-5s %s: %s%s\n' "$1" "$2" "$3" "${4:+. Next: $4}" |
		if [ "$(pwd -P)" = "$root/my-stack" ]; then sed -E 's#([ (])(scripts|stack)/#\1../\2/#g'; else cat; fi
	[ "$1" != FAIL ]
}

# report_value CRITERION SEEN OTHERWISE NEXT: reports ok if something was seen, and FAIL if not.
report_value() {
	[ -n "$2" ] || report FAIL "$1" "$3" "$4" || return
	report ok "$1" "$2"
}

# require_http CRITERION URL NEXT: reports FAIL if the URL doesn't answer; sets $response.
require_http() {
	response=$(get "$2" 2>&1) || report FAIL "$1" "$response" "$3"
}

# values PATH: of the lines of json_values, the values at that path, in which N means any number.
values() {
	grep -E "^$(printf '%s\n' "$1" | sed 's/N/[0-9]+/g')$tab" | cut -f 2-
}

# inspect FORMAT: of the container $container.
inspect() {
	docker inspect -f "$1" "$container" 2>/dev/null
}

# check_file: checks that Compose accepts the student's file, and sets $images to the images that it names.
check_file() {
	criterion="Compose accepts your file"
	[ $stack = my-stack ] && [ -z "$docker_error" ] || return
	response=$(in_stack config -q 2>&1) && images=$(in_stack config --images 2>/dev/null) &&
		report ok "$criterion" "by docker compose config" && return
	case $response in
	*"no configuration file"*) report open "$criterion" "my-stack/compose.yaml is missing" "section 5.2" ;;
	*) report FAIL "$criterion" "$(printf '%s\n' "$response" | tail -n 1 | sed "s|^ *||; s|$root/||g")" \
		"correct it: messages at the end of section 5.2" ;;
	esac
}

# check_ready SERVICE [WORD]: checks that it is ready, in a container of this stack; sets $container.
check_ready() {
	criterion="$(service_field 6 "$1") is ${2-ready}"
	[ -z "$docker_error" ] || report FAIL "$criterion" "$docker_error" "make Docker work, then $start" || return
	container=$(container "$1")
	image=$(image "$1")
	if [ -z "$container" ] && [ $stack = my-stack ] && ! printf '%s\n' "$images" | grep -qF -- "${image%:*}"; then
		report open "$criterion" "your Compose file doesn't name the image $image yet" "sections 5.2 to 5.4"
		return 1
	fi
	[ -n "$container" ] || report FAIL "$criterion" "in $stack, the container of $image is missing" "$start" || return
	container=$(inspect '{{.Name}}' | sed 's|^/||')
	case $(inspect '{{.State.Status}} {{.State.ExitCode}}') in
	running*) ;;
	"exited 0") report FAIL "$criterion" "$container was stopped" "$start" || return ;;
	*)
		# Without an error of the engine's, such as a port in use, the program's last line is the reason.
		response=$(inspect '{{.State.Error}}' | grep . || docker logs --tail 1 "$container" 2>&1 | sed 's/.* msg=//')
		report FAIL "$criterion" "$container isn't running: $response" "correct that, then $start" || return
		;;
	esac
	wait_for 30 "$criterion" get -o /dev/null "$(readiness "$1")" 2>/dev/null
	require_http "$criterion" "$(readiness "$1")" \
		"see ports: and network_mode: of the service, and docker logs $container" || return
	service=$(inspect '{{index .Config.Labels "com.docker.compose.service"}}')
	hash=$(inspect '{{index .Config.Labels "com.docker.compose.config-hash"}}')
	hashes=$(in_stack config --hash '*' 2>/dev/null)
	if [ -n "$hashes" ] && ! printf '%s\n' "$hashes" | grep -qxF -- "$service $hash"; then
		report FAIL "$criterion" "its container differs from the Compose file of $stack" "$start"
	else
		report ok "$criterion" "$(url "$1")"
	fi
	check_reach "$1"
}

# check_reach SERVICE: checks that its ports accept connections from this machine only. In /proc/net/tcp, 0A is a port
# that listens, and 0100007F is 127.0.0.1.
check_reach() {
	ports="$(service_field 3 "$1") $(service_field 5 "$1")"
	# Several Alertmanagers use this one among themselves.
	[ "$1" != alertmanager ] || inspect '{{.Args}}' | grep -q cluster.listen-address || ports="$ports 9094"
	wide=$(if is_on_host_network; then
		docker exec "$container" cat /proc/net/tcp /proc/net/tcp6
	else
		docker port "$container"
	fi 2>/dev/null | awk -v ports="$ports" '
		$2 == "->" && $3 !~ /^(127|\[::1)/ { sub(/.*:/, "", $3); print $3 }
		$4 == "0A" && $2 !~ /0100007F:|^0+1000000:/ {
			for (n = split(ports, port, " "); n > 0; n--) if ($2 ~ sprintf(":%04X$", port[n])) print port[n]
		}' | sort -un | paste -s -d ' ' -)
	[ -n "$wide" ] || { report ok "only your machine reaches it" "127.0.0.1" && return; }
	report open "only your machine reaches it" "others do, too: $wide" "limit it to 127.0.0.1 (sections 5.2 to 5.4)"
}

is_on_host_network() {
	[ "$(inspect '{{.HostConfig.NetworkMode}}')" = host ]
}

# check_kept FOLDER SECTION: checks that the data in the folder outlives the container. A volume without a name doesn't:
# the next container gets another one. The mounts of the container aren't enough: up -d keeps a volume that was removed
# from the file, but after down, it is gone.
check_kept() {
	criterion="its data outlives the container"
	response=$(in_stack config --format json 2>/dev/null) ||
		{ report open "$criterion" "Compose doesn't accept the file" "correct it" && return; }
	response=$(printf '%s\n' "$response" | json_values |
		awk -F '\t' -v folder="$1/" -v volumes="services/$service/volumes/" '
			index($1, volumes) != 1 { next }
			$1 ~ /type$/ { kind = $2; source = "" }
			$1 ~ /source$/ { source = $2 }
			$1 ~ /target$/ && index(folder, $2 "/") == 1 && length($2) > longest {
				longest = length($2)
				found = source == "" ? "" : kind " " source
			}
			END { print found }')
	[ -n "$response" ] || [ $stack = stack ] ||
		{ report open "$criterion" "your Compose file doesn't mount a named volume at $1 yet" "section $2" && return; }
	report_value "$criterion" "$response" "stack/compose.yaml doesn't mount a named volume at $1" "add one, then $start"
}

check_exporter() {
	criterion="exporter answers at / and /metrics"
	require_http "$criterion" "$exporter/" "$start_model" || return
	require_http "$criterion" "$exporter/metrics" "$start_model" || return
	report ok "$criterion" "$(printf '%s\n' "$response" | grep -vc '^#') samples"

	result=$(metric "$exporter" model_result)
	report_value "model_result is from 0 to 1" "$(printf '%s\n' "$result" | grep -xE '[01]|0[.][0-9]+|[0-9.]+e-[0-9]+')" \
		"it is '$result'" "stop the other program on port ${exporter##*:}, then $start_model" || return

	criterion="model_result changes within two intervals"
	count=$(metric "$exporter" model_refreshes_total)
	wait_for 10 "there is a new result" has_new_result ||
		report FAIL "$criterion" "no new result in $waited s" "restart it without --interval" || return
	report ok "$criterion" "$result, then $(metric "$exporter" model_result) after $waited s"
}

has_new_result() {
	now=$(metric "$exporter" model_refreshes_total)
	[ -n "$now" ] && [ "$now" != "$count" ]
}

# mounted_files: the YAML files that the container gets from this machine, without hidden ones, such as editors'.
# A line each: when the file was last changed or put there, in seconds; its path here; its path there.
mounted_files() {
	inspect '{{range .Mounts}}{{if eq .Type "bind"}}{{println .Destination .Source}}{{end}}{{end}}' |
		while read -r inside outside; do
			find "$outside" -type f -name '[!.]*.y*ml' 2>/dev/null | while IFS= read -r file; do
				# The tool has other flags on macOS.
				changed=$(stat -c %.3Z "$file" 2>/dev/null || stat -f %Fc "$file")
				printf '%s\t%s\t%s\n' "$changed" "$file" "$inside${file#"$outside"}"
			done
		done
}

# has_settled: whether the newest file is older than the 5 s after which a program may read it again; sets $files.
has_settled() {
	files=$(mounted_files)
	printf '%s\n' "$files" | awk -v now="$(date +%s)" '$1 > now - 7 { exit 1 }'
}

# check_config SERVICE CRITERION METRIC: checks that it uses files of the stack as they are now, and that its own tool
# accepts them. METRIC is the time when it read them.
check_config() {
	wait_for 8 "the files are read" has_settled
	path=$(setting config.file "$container")
	file=$(printf '%s\n' "$files" | awk -F '\t' -v path="$path" '$3 == path { print $2 }')
	[ -n "$file" ] || report FAIL "$2" "$path isn't a file of yours" "mount it with volumes:, then $start" || return
	problems=$(config_errors "$1"; file_problems "$1" "$(metric "$(url "$1")" "$3")")
	verdict=FAIL todo="correct that, then $restart"
	case $problems in
	'') report ok "$2" "${file#"$root/"}" && return ;;
	*"does not point to an existing file"*"isn't among"*) todo="compare rule_files: with volumes:, then $restart" ;;
	*"does not point to an existing file"*) todo="mount that file with volumes:, then $start" ;;
	esac
	# Neither program shows the text that it read.
	printf '%s\n' "$problems" | grep -qv "perhaps unchanged$" || verdict=open
	printf '%s\n' "$problems" | grep -qvE "perhaps unchanged$|still has an older" || todo=$restart
	report $verdict "$2" "$(printf '%s\n' "$problems" | paste -s -d ';' - | sed 's/;/; /g')" "$todo"
}

# file_problems SERVICE TIME: prints the mistakes in $files, which the service read at that time.
file_problems() {
	# With automatic reload, it isn't read again if only its time changed.
	interval=$(setting config.auto-reload-interval "$container" | tr -dc 0-9)
	reload=$(($(date +%s) - ${interval:-999999999} - 1))
	loaded=$(get "$prometheus/api/v1/rules" 2>/dev/null | json_values | values data/groups/N/file)
	printf '%s\n' "$files" | while IFS=$tab read -r changed file inside; do
		name=${file#"$root/"}
		docker exec "$container" cat "$inside" 2>/dev/null | cmp -s - "$file" ||
			{ echo "the container still has an older $name" && changed=0; }
		if grep -qE "^[{\"' ]*groups[\"']? *:" "$file"; then
			printf '%s\n' "$loaded" | grep -qxF -- "$inside" || ! grep -qE "(alert|record)[\"']? *:" "$file" ||
				echo "$name isn't among the files of rule_files: in ${path##*/}"
		elif [ "$inside" != "$path" ]; then
			! grep -q targets "$file" || ! grep -q '^[^#]*https*://' "$file" ||
				echo "in $name, a target is host:port, without http://"
			continue
		fi
		! awk "BEGIN { exit !($changed > ${2:-0} && $changed > $reload) }" ||
			echo "$name was saved after $1 read it, perhaps unchanged"
		awk '/^---/ && begun { exit 1 } !/^ *(#|$|---|%)/ { begun = 1 }' "$file" ||
			echo "$1 reads $name only down to its second ---"
	done
}

check_prometheus() {
	check_ready prometheus || return
	check_config prometheus "its configuration is a file of yours, and right" \
		prometheus_config_last_reload_success_timestamp_seconds
	folder=$(get "$prometheus/api/v1/status/flags" 2>/dev/null | json_values | values 'data/storage[.]tsdb[.]path')
	case $folder in
	/*) ;;
	*) folder=$(inspect '{{.Config.WorkingDir}}')/$folder ;;
	esac
	check_kept "$folder" 5.2
	check_targets
	check_rules
	check_writes Prometheus "$prometheus"
}

# has_scraped: whether each target was scraped once; sets $targets and $health.
has_scraped() {
	targets=$(get "$prometheus/api/v1/targets?state=active" 2>/dev/null | json_values | sed 's|^data/activeTargets/||')
	health=$(printf '%s\n' "$targets" | values N/health)
	[ -n "$health" ] && ! printf '%s\n' "$health" | grep -q unknown
}

check_targets() {
	criterion="its targets are up"
	wait_for 12 "$criterion" has_scraped
	all=$(printf '%s\n' "$health" | grep -c .)
	up=$(printf '%s\n' "$health" | grep -cx up)
	error=$(printf '%s\n' "$targets" | values N/lastError | grep . | head -n 1)
	no_port=$(printf '%s\n' "$targets" | values N/discoveredLabels/__address__ | grep -v ':[0-9]*$' | head -n 1)
	twice=$(printf '%s\n' "$targets" | values N/scrapeUrl | sed 's#/127[.]0[.]0[.]1:#/localhost:#' | sort | uniq -d |
		head -n 1)
	case $error in
	*"gave HTTP response to HTTPS"*) todo="the model speaks HTTP: remove scheme: https, then $restart" ;;
	*"no such host"*) todo="use localhost, and the host's network (section 5.2), then $start" ;;
	*":${exporter##*:}/"*"connection refused"*)
		todo="see targets: in its configuration, then $restart"
		is_on_host_network || todo="ask whose localhost that is (section 5.2), then $start"
		get -o /dev/null "$exporter/metrics" 2>/dev/null || todo=$start_model
		;;
	*) todo="see scrape_configs: in its configuration, and $prometheus/targets" ;;
	esac
	if [ -n "$no_port$twice" ]; then
		report FAIL "$criterion" "${no_port:+the target $no_port lacks a port${twice:+; }}${twice:+$twice is there twice}" \
			"correct targets:, then $restart"
	elif [ "$all" = 0 ] || [ -n "$error" ]; then
		report FAIL "$criterion" "$up of $all up ${error:+($error)}" "$todo"
	elif [ "$up" != "$all" ]; then
		report open "$criterion" "$up of $all up, and the others weren't scraped yet" "wait, or set scrape_interval: 5s"
	else
		report ok "$criterion" "$up of $all up"
	fi
	[ "$up" != "$all" ] || todo="see scrape_interval: in its configuration"
	report_value "Prometheus answers the query model_result" \
		"$(query "$prometheus" 'count(timestamp(model_result) > time() - 15)' | sed 's/.*/scraped in the last 15 s/')" \
		"no value of the last 15 s" "$todo"
}

all_parts="exporter $(services)"
case ${1-} in
-h | --help) print_help && exit ;;
--alert | --own)
	[ $# -eq 1 ] || usage_error "$1 takes no other argument"
	set -- "${1#--}"
	;;
'')
	# shellcheck disable=SC2086 # the names are words
	set -- $all_parts
	! listens "$(service_field 3 loki)" || set -- "$@" logging
	! listens "$(store_port site-a)" || set -- "$@" store
	;;
*)
	for part in "$@"; do
		case " $all_parts logging store " in
		*" $part "*) ;;
		*) usage_error "unknown part '$part'" ;;
		esac
	done
	;;
esac
require_curl
docker_error=$( (require_docker) 2>&1) && docker_error=
docker_error=${docker_error#*: }
choose_stack
if [ $stack = my-stack ]; then
	echo "This checks your own stack, in my-stack/"
else
	echo "This checks the finished stack, in stack/ (yours: scripts/down.sh, then docker compose up -d in my-stack)"
	! (read_password) 2>/dev/null || read_password
fi
check_file
for part in "$@"; do
	"check_$part"
done
echo "$ok passed, $FAIL failed$([ $open -eq 0 ] || echo ", $open open")"
[ $FAIL -eq 0 ]
