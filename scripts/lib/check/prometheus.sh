# shellcheck shell=sh
# The part prometheus of check.sh, which sources this file: the files that the program reads, and its targets.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

# here PATH: the path on this machine of a file in $container; empty if the file isn't from this machine.
here() {
	fact mount | wanted="$1" awk -F '\t' '
		$1 ~ /^bind/ && index(ENVIRON["wanted"] "/", $2 "/") == 1 && length($2) > longest {
			longest = length($2)
			found = $3 substr(ENVIRON["wanted"], longest + 1)
		}
		END { print found }' | sed 's|^/host_mnt/|/|'
}

# is_default FILE: whether the file is the one that the image came with. docker diff knows the files that were written
# since; Compose labels the images that it built.
is_default() {
	[ -z "$(here "$1")" ] || return
	image_name=$(fact image)
	docker image inspect -f '{{.Config.Entrypoint}} {{.Config.Cmd}}' "$image_name" 2>/dev/null | grep -qF -- "$1" || return
	! docker image inspect -f '{{.Config.Labels}}' "$image_name" | grep -q com.docker.compose.project || return
	! docker diff "$container" 2>/dev/null | grep -qxF -e "A $1" -e "C $1" || return
	! is_mounted "$1"
}

# is_mounted FILE: whether the file, or a folder above it, is a mount of the container.
is_mounted() {
	fact mount | cut -f 2 | file="$1/" awk 'index(ENVIRON["file"], $0 "/") == 1 { found = 1 } END { exit !found }'
}

# differs_from_content FILE: whether the Compose file has another text for that file, under configs:. Compose puts it
# into a container only when it makes one. docker cp needs no tool in the container.
differs_from_content() {
	service="services/$(fact service)/configs"
	name=$(printf '%s\n' "$config" | below "$service" | wanted="$1" awk -F '\t' '
		$1 ~ /source$/ { source = $2 }
		$1 ~ /target$/ && $2 == ENVIRON["wanted"] { print source; exit }')
	content=$(printf '%s\n' "$config" | values "configs/$name/content" | sed 's/[$][$]/$/g; s/ *$//')
	[ -n "$content" ] || return
	[ "$(docker cp "$container:$1" - 2>/dev/null | tar -xOf - | tr '\n\t' '  ' | sed 's/ *$//')" != "$content" ]
}

# changed FILE: when the file was last changed or put there, in seconds; the tool has other flags on macOS.
changed() {
	stat -c %.3Z "$1" 2>/dev/null || stat -f %Fc "$1" 2>/dev/null
}

# The services, with the times of their files, whose tools found no error.
accepted=

# load_files SERVICE: sets $config_file to the program's configuration, as the container sees it, $files to it and the
# rules that Prometheus has, and $unused to YAML files with rules next to them that it hasn't.
load_files() {
	config_file=$(setting config.file)
	loaded=
	if [ "$1" = prometheus ]; then
		config_file=$(printf '%s\n' "$flags" | values data/config.file)
		loaded=$(get "$address/api/v1/rules" 2>/dev/null | json_values | values data/groups/N/file | sort -u)
	fi
	# A path may be relative.
	files=$(printf '%s\n' "${config_file:-$1.yml}" "$loaded" | grep . | folder="$(fact workdir)/" awk '
		{ print (/^\// ? "" : ENVIRON["folder"]) $0 }')
	config_file=$(printf '%s\n' "$files" | head -n 1)
	# Without hidden files, which editors leave.
	unused=$([ "$1" != prometheus ] || fact mount | grep '^bind' | while IFS=$tab read -r _ inside outside; do
		find "$outside" -type f -name '[!.]*.y*ml' 2>/dev/null | while IFS= read -r file; do
			! printf '%s\n' "$files" | grep -qxF -- "$inside${file#"$outside"}" || continue
			! grep -qE "^[{\"' ]*groups[\"']? *:" "$file" || ! grep -qE "(alert|record)[\"']? *:" "$file" || echo "$file"
		done
	done)
}

# has_settled SERVICE: for wait_for: whether the newest file is older than the 5 s after which the service may read it
# again; sets what load_files sets.
has_settled() {
	load_files "$1"
	newest=$({
		printf '%s\n' "$files" | while IFS= read -r file; do changed "$(here "$file")"; done
		printf '%s\n' "$unused" | while IFS= read -r file; do changed "$file"; done
	} | sort -n | tail -n 1)
	newest=${newest%.*}
	[ "${newest:-0}" -lt $(($(date +%s) - 7)) ]
}

# mounted_file_with TEXT: the first file with that text that the container has from this machine.
mounted_file_with() {
	fact mount | grep '^bind' | cut -f 3 | while IFS= read -r outside; do
		find "$outside" -type f -name '[!.]*' -exec grep -lF -e "$1" {} + 2>/dev/null
	done | head -n 1 | without_root
}

# check_config SERVICE CRITERION METRIC: checks that it uses files of the stack as they are now, and that its own tool
# accepts them. METRIC is the time when it read them.
check_config() {
	load_files "$1"
	if is_default "$config_file"; then
		verdict FAIL "$2" "$config_file is the one of the image, and not a file of yours" \
			"mount yours with volumes:, then $start; see $page"
		return
	fi
	interval=$(setting config.auto-reload-interval | tr -dc 0-9)
	[ -z "$interval" ] || wait_for 8 "the files are read" has_settled "$1"
	read_files="$1 $(printf '%s\n' "$files" | while IFS= read -r file; do
		changed "$(here "$file")"
	done | paste -s -d ' ' -)"
	# With --watch, the tool is asked again only if a file changed.
	if ! printf '%s\n' "$accepted" | grep -qxF -- "$read_files"; then
		problems=$(config_errors "$1" "$container" "$config_file") || accepted="$accepted
$read_files"
	else
		problems=
	fi
	problems=$(printf '%s\n' "$problems" | grep .; file_problems "$1" "$(metric "$address" "$3")")
	! differs_from_content "$config_file" ||
		problems="the container still has an older text of configs: for $config_file"
	[ -n "$problems" ] || [ "$(metric "$address" "${3%_success_timestamp_seconds}_successful")" != 0 ] ||
		problems="$1 refused it: docker logs $(fact name)"
	seen=$(here "$config_file" | without_root)
	word=FAIL todo="correct that, then $restart"
	case $problems in
	'') verdict ok "$2" "${seen:-$config_file, which the container has from your Compose file}" && return ;;
	*"does not point to an existing file"*"isn't among"*) todo="compare rule_files: with volumes:, then $restart" ;;
	*"does not point to an existing file"*) todo="mount that file with volumes:, then $start" ;;
	*"is not a valid hostname"*)
		place=$(mounted_file_with "$(printf '%s\n' "$problems" | sed -n 's/.*"\([^"]*\)" is not a valid hostname.*/\1/p')")
		todo="${place:+in $place, }a target is host:port, without http://: correct that, then $restart"
		;;
	*"exec failed"* | *"executable file not found"*) word=open todo="look at docker logs $(fact name)" ;;
	esac
	# Neither program shows the text that it read.
	printf '%s\n' "$problems" | grep -qvE "perhaps unchanged$|can't be compared$|isn't among the files of" || word=open
	printf '%s\n' "$problems" | grep -qvE "perhaps unchanged$|can't be compared$|still has an older" || todo=$restart
	case $problems in
	*"text of configs:"*) todo="docker compose up -d --force-recreate in my-stack" ;;
	esac
	verdict $word "$2" "$(printf '%s\n' "$problems" | paste -s -d ';' - | sed 's/;/; /g')" "$todo"
}

# file_problems SERVICE TIME: prints the mistakes in $files, which the service read at that time.
file_problems() {
	# With automatic reload, it isn't read again if only its time changed.
	reload=$(($(date +%s) - ${interval:-999999999} - 1))
	printf '%s\n' "$files" | while IFS= read -r inside; do
		file=$(here "$inside")
		time=$(changed "$file") || continue
		name=$(printf '%s\n' "$file" | without_root)
		# A container that was started later has the file as it is, and a folder is never replaced.
		if is_older "$(fact started)" "$(utc "${time%.*}").${time#*.}" && fact mount | cut -f 2 | grep -qxF -- "$inside"; then
			docker exec "$container" cat "$inside" 2>/dev/null | cmp -s - "$file"
			case $? in
			0) ;;
			*) docker exec "$container" cat "$inside" >/dev/null 2>&1 &&
				echo "the container still has an older $name" ||
				echo "$name was saved after the container started, and can't be compared"
				continue ;;
			esac
		fi
		! echo "$time ${2:-0} $reload" | awk '{ exit !($1 > $2 && $1 > $3) }' ||
			echo "$name was saved after $1 read it, perhaps unchanged"
		awk '/^---/ && begun { exit 1 } !/^ *(#|$|---|%)/ { begun = 1 }' "$file" ||
			echo "$1 reads $name only down to its second ---"
	done
	printf '%s\n' "$unused" | grep . | without_root | while IFS= read -r name; do
		echo "$name isn't among the files of rule_files: in ${config_file##*/}"
	done
}

check_prometheus() {
	page=$page_2
	check_ready prometheus || return
	prometheus=$address
	flags=$(get "$prometheus/api/v1/status/flags" 2>/dev/null | json_values)
	check_config prometheus "its configuration is a file of yours, and right" \
		prometheus_config_last_reload_success_timestamp_seconds
	storage=$(printf '%s\n' "$flags" | values data/storage.tsdb.path)
	case $storage in
	/*) ;;
	*) storage=$(fact workdir)/$storage ;;
	esac
	check_kept "$storage" "$page_2"
	check_targets
	check_rules
	check_alertmanagers
	check_writes Prometheus "$prometheus"
}

# has_scraped: whether each target was scraped once; sets $targets and $health.
has_scraped() {
	targets=$(get "$prometheus/api/v1/targets?state=active" 2>/dev/null | json_values | below data/activeTargets)
	health=$(printf '%s\n' "$targets" | values N/health)
	[ -n "$health" ] && ! printf '%s\n' "$health" | grep -q unknown
}

# model_listens: whether the model answers on this machine.
model_listens() {
	get -o /dev/null "$exporter/metrics" 2>/dev/null
}

# todo_for_target ERROR: what to do about the error of a scrape.
todo_for_target() {
	# The address that refused, if any.
	refused=$(printf '%s\n' "$1" | sed -n 's/.*dial tcp \([^ ]*\): connect: connection refused.*/\1/p')
	case $1 in
	*"gave HTTP response to HTTPS"*) echo "the model speaks HTTP: remove scheme: https, then $restart" ;;
	*"no such host"* | *"lookup "*) echo "use localhost, and the host's network, then $start; see $page_2" ;;
	*"HTTP status 404"*) echo "the model's samples are at /metrics: correct metrics_path:, then $restart" ;;
	*":${exporter##*:}/"*"connection refused"*)
		if ! model_listens; then
			echo "$start_model"
		elif is_on_host_network; then
			echo "see targets: in its configuration, then $restart"
		else
			case $refused in
			127.* | '[::1]'*) echo "ask whose localhost that is, then $start; see $page_2" ;;
			*) echo "the model must listen at ${refused%:*}, too: start it with --listen 0.0.0.0:${refused##*:}, with which" \
				"other computers reach it, or use the host's network; see $page_2" ;;
			esac
		fi
		;;
	*localhost:*"connection refused"* | *127.0.0.1:*"connection refused"*)
		if model_listens; then
			echo "the model listens at port ${exporter##*:}: correct targets:, or start the program that is missing"
		else
			echo "$start_model"
		fi
		;;
	*) echo "see scrape_configs: in its configuration, and $prometheus/targets" ;;
	esac
}

check_targets() {
	criterion="its targets are up"
	wait_for 12 "$criterion" has_scraped
	count=$(printf '%s\n' "$health" | grep -c .)
	up=$(printf '%s\n' "$health" | grep -cx up)
	error=$(printf '%s\n' "$targets" | values N/lastError | grep . | head -n 1)
	# A target without a port may be right, such as one that another exporter asks.
	no_port=$(printf '%s\n' "$targets" | awk -F '\t' '
		$1 ~ /discoveredLabels.__address__$/ { place = $2 }
		$1 ~ /health$/ && $2 == "down" && place !~ /:[0-9]+$/ { print place; exit }')
	twice=$(printf '%s\n' "$targets" | values N/scrapeUrl | sed 's#/127[.]0[.]0[.]1:#/localhost:#' |
		grep -F "//localhost:${exporter##*:}/" | sort | uniq -d | head -n 1)
	todo=$(todo_for_target "$error")
	if [ -n "$no_port$twice" ]; then
		verdict FAIL "$criterion" "${no_port:+the target $no_port lacks a port${twice:+; }}${twice:+$twice is there twice}" \
			"correct targets:, then $restart"
	elif [ "$count" = 0 ] || [ -n "$error" ]; then
		verdict FAIL "$criterion" "$up of $count up ${error:+($error)}" "$todo"
	elif [ "$up" != "$count" ]; then
		verdict open "$criterion" "$up of $count up, and the others weren't scraped yet" "wait, or set scrape_interval: 5s"
	else
		verdict ok "$criterion" "$up of $count up"
	fi
	check_result
}

# check_result: checks that Prometheus has the model's newest result.
check_result() {
	criterion="Prometheus answers the query model_result"
	response=$(get --get --data-urlencode 'query=count(timestamp(model_result) > time() - 15)' "$prometheus/api/v1/query" \
		2>/dev/null)
	if [ -n "$(printf '%s\n' "$response" | one_value)" ]; then
		verdict ok "$criterion" "scraped in the last 15 s"
		return
	fi
	seen="no value of the last 15 s"
	if [ "$(printf '%s\n' "$flags" | values data/agent)" = true ]; then
		seen="an agent stores no samples itself" todo="remove --agent, then $start"
	elif printf '%s\n' "$targets" | awk -F '\t' -v port=":${exporter##*:}/" '
		$1 ~ /scrapeUrl$/ { is_model = index($2, port) }
		$1 ~ /health$/ && is_model && $2 == "up" { found = 1 }
		END { exit !found }'; then
		if get "$prometheus/api/v1/status/config" 2>/dev/null | grep -q metric_relabel_configs; then
			seen="the scrape works, but model_result isn't stored" todo="see metric_relabel_configs:, then $restart"
		elif [ -n "$(query "$prometheus" 'count(last_over_time(model_result[5m]))')" ]; then
			todo="see scrape_interval: in its configuration"
		else
			seen="the scrape works, but brings no model_result" todo="see which program has port ${exporter##*:}"
		fi
	fi
	verdict FAIL "$criterion" "$seen" "$todo"
}
