#!/bin/sh
# check.sh [PART...]: checks each acceptance criterion of the lab, a line each, and counts them.
# check.sh --alert: waits until a result passes 0.9, the alert fires and its mail arrives.
# check.sh --own: looks for a dashboard of your own, with a red line, and says what it lacks.
#
# PART is exporter, prometheus, alertmanager, mailpit or grafana; all five by default. Where the store of
# scripts/store.sh runs there is a sixth: store.
# A line says ok, FAIL, or open: nothing happened yet that could show it. Exit code 1 where one FAILs.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
exporter=http://localhost:5000
instance=${exporter#http://}
prometheus=http://localhost:9090
alertmanager=http://localhost:9093
mailpit=http://localhost:8025
grafana=http://localhost:3000
rule_files=$root/stack/prometheus/rules
start_model="start the model: $(model_command)"
passed=0
failed=0
open=0

# ok CRITERION SEEN
ok() {
	passed=$((passed + 1))
	printf 'ok    %s: %s\n' "$1" "$2"
}

# fail CRITERION SEEN NEXT
fail() {
	failed=$((failed + 1))
	printf 'FAIL  %s: %s. Next: %s\n' "$1" "$2" "$3"
}

# still_open CRITERION SEEN NEXT
still_open() {
	open=$((open + 1))
	printf 'open  %s: %s. Next: %s\n' "$1" "$2" "$3"
}

# reached CRITERION URL NEXT: whether it answers there, and sets $seen; otherwise that is a FAIL.
reached() {
	seen=$(get "$2" 2>&1) && return
	fail "$1" "$seen" "$3"
	return 1
}

# sample NAME: its value on the page that is read.
sample() {
	awk -v name="$1" '$1 == name { print $2; exit }'
}

# ask EXPRESSION: the stack's Prometheus.
ask() {
	query "$prometheus" "$1"
}

# flatten: a line for each value of the JSON that is read: its path, a tab, and the value, such as
# data.alerts.0.labels.alertname	ModelMockDown
flatten() {
	awk '
		function put(value) {
			path = ""
			for (i = 1; i <= depth; i++)
				path = path (i > 1 ? "." : "") (kind[i] == "[" ? place[i] : key[i])
			gsub(/\\u003c/, "<", value); gsub(/\\u003e/, ">", value); gsub(/\\u0026/, "\\&", value)
			gsub(/\\"/, "\"", value); gsub(/\\[nt]/, " ", value); gsub(/\\\\/, "\\", value)
			print path "\t" value
		}
		# One after the other: what stands between two strings, and a string.
		BEGIN { RS = "\"" }
		in_string {
			text = text $0
			if (match(text, /\\+$/) && RLENGTH % 2) {
				text = text "\""
				next
			}
			in_string = 0
			pending = 1
			next
		}
		{
			for (n = 1; n <= length($0); n++) {
				c = substr($0, n, 1)
				if (c ~ /[{[]/) {
					kind[++depth] = c
					place[depth] = 0
				} else if (c == ":") {
					key[depth] = text
					pending = 0
					text = ""
				} else if (c ~ /[]},]/) {
					if (pending) put(text)
					pending = 0
					text = ""
					if (c == ",") place[depth]++
					else depth--
				} else if (c !~ /[ \t\r\n]/) {
					text = text c
					pending = 1
				}
			}
			in_string = 1
			text = ""
		}
	'
}

# value PATH: that value, out of what flatten made.
value() {
	awk -F '\t' -v path="$1" '$1 == path { print $2; exit }'
}

# firing: since when, by Prometheus, the alert of the result fires for the model; nothing where it does
# not. It is asked of the rules, as the metric ALERTS is first written at the second evaluation.
firing() {
	get "$prometheus/api/v1/alerts" 2>/dev/null | flatten | awk -F '\t' -v instance="$instance" '
		function leave() { if (name == "ModelResultHigh" && state == "firing" && at == instance) print since }
		$1 ~ /labels.alertname$/ { leave(); name = $2; at = state = since = "" }
		$1 ~ /labels.instance$/ { at = $2 }
		$1 ~ /state$/ { state = $2 }
		$1 ~ /activeAt$/ { since = $2 }
		END { leave() }
	'
}

# holds CONDITION: whether awk finds it true.
holds() {
	awk "BEGIN { exit !($1) }"
}

check_exporter() {
	if ! page=$(get "$exporter/metrics" 2>&1); then
		fail "exporter answers at /metrics" "$page" "$start_model"
		return
	fi
	if ! get "$exporter/" 2>/dev/null | grep -q '^model_result '; then
		fail "exporter answers at / and /metrics" "there is no model_result at $exporter/" "see what listens on port 5000, then $start_model"
		return
	fi
	ok "exporter answers at / and /metrics" "$(echo "$page" | grep -vc '^#') samples"

	result=$(echo "$page" | sample model_result)
	if [ -n "$result" ] && holds "$result >= 0 && $result <= 1"; then
		ok "model_result is from 0 to 1" "$result"
	else
		fail "model_result is from 0 to 1" "it is '$result'" "see what listens on port 5000, then $start_model"
	fi

	count=$(echo "$page" | sample model_refreshes_total)
	wait_for 10 "there is a new result" has_new_result
	next=$(echo "$now" | sample model_result)
	if [ "$(echo "$now" | sample model_refreshes_total)" = "$count" ]; then
		fail "model_result changes within two intervals" "no new result in $waited s" "restart it without --interval"
	elif [ "$next" = "$result" ]; then
		ok "model_result changes within two intervals" "drawn again after $waited s, and $next again, as with --value"
	else
		ok "model_result changes within two intervals" "$result, then $next after $waited s"
	fi
}

has_new_result() {
	now=$(get "$exporter/metrics" 2>/dev/null) || now=$page
	seen="the same"
	[ "$(echo "$now" | sample model_refreshes_total)" != "$count" ]
}

# targets: the job's active targets, a line each: instance, health, the error of the latest scrape, and
# the address.
targets() {
	get "$prometheus/api/v1/targets?state=active" 2>/dev/null | flatten | awk -F '\t' '
		$1 ~ /\.__address__$/ { address = $2 }
		$1 ~ /\.labels\.instance$/ { instance = $2 }
		$1 ~ /\.scrapePool$/ { pool = $2 }
		$1 ~ /\.lastError$/ { error = $2 }
		$1 ~ /\.health$/ && pool == "model_mock" { print instance "\t" $2 "\t" error "\t" address }
	'
}

# age_of INSTANCE...: how many seconds ago the one of them was scraped that was not for longest.
age_of() {
	for name in "$@"; do
		ask "round(time() - timestamp(up{job=\"model_mock\", instance=\"$name\"}), 0.1)"
	done | sort -n | tail -n 1
}

# modified FILE: when, in Unix time.
modified() {
	stat -c %Y "$1" 2>/dev/null || stat -f %m "$1"
}

# unread_targets: the target files that Prometheus did not read as they stand.
unread_targets() {
	for file in "$root"/stack/prometheus/targets/*.yml; do
		read_from=$(awk -v file="/${file##*/}\"}" '/^prometheus_sd_file_mtime_seconds/ && index($1, file) { printf "%.0f", $2 }' "$1")
		[ "$read_from" = "$(modified "$file")" ] || printf '%s\n' "targets/${file##*/}"
	done
}

# unknown_target: the first address in the target files that is not among the active targets. Below a
# [] Prometheus reads nothing, and does not say so.
unknown_target() {
	sed 's/#.*//' "$root"/stack/prometheus/targets/*.yml | grep -oE '[][A-Za-z0-9_.:-]*[]A-Za-z0-9_-]:[0-9]+' | sed 's/^\[\([^]]*\)$/\1/' |
		while read -r address; do
			echo "$list" | cut -f 4 | grep -qxF -- "$address" || echo "$address"
		done | head -n 1
}

check_targets() {
	metrics=$(mktemp) || die "cannot write below ${TMPDIR:-/tmp}: is the disk full?"
	get "$prometheus/metrics" >"$metrics"
	unread=$(unread_targets "$metrics" | paste -s -d ' ' -)
	errors=$(sample prometheus_sd_file_read_errors_total <"$metrics")
	reloaded=$(sample prometheus_config_last_reload_successful <"$metrics")
	rm -f "$metrics"
	criterion="its target is up and was scraped in the last 15 s"
	list=$(targets)
	if [ -z "$list" ]; then
		fail "$criterion" "there is no target in the job model_mock" "wait 10 s; otherwise see $prometheus/targets"
		return
	fi
	all=$(echo "$list" | grep -c .)
	up=$(echo "$list" | awk -F '\t' '$2 == "up"' | grep -c .)
	unknown=$(unknown_target)
	# shellcheck disable=SC2046 # an address is a word
	age=$(age_of $(echo "$list" | cut -f 1))
	if [ -n "$unread" ] && [ "${errors:-0}" != 0 ]; then
		fail "$criterion" "Prometheus cannot read $unread" "make it valid YAML: your lines stand in the place of the [], not below it"
	elif [ -n "$unread" ]; then
		fail "$criterion" "Prometheus has not read $unread since it changed" "wait some seconds; otherwise scripts/down.sh, then scripts/up.sh"
	elif [ -n "$unknown" ]; then
		fail "$criterion" "Prometheus does not know $unknown, which stands in stack/prometheus/targets/" "wait some seconds; otherwise put your lines in the place of the [], not below it"
	elif [ "$up" != "$all" ]; then
		fail "$criterion" "$up of $all up ($(echo "$list" | awk -F '\t' '$2 != "up" { gsub(/"/, "\047", $3); print $3 == "" ? "not scraped yet" : $3; exit }'))" "$start_model"
	elif holds "${age:-99} > 15"; then
		fail "$criterion" "scraped ${age:-never} s ago" "see $prometheus/targets"
	else
		ok "$criterion" "$up of $all up, scraped $age s ago"
	fi
}

# In awk: a duration such as 1m30s in seconds, and anything else as it is.
in_seconds='function seconds(text, rest, unit, number, sum) {
	rest = text
	while (match(rest, /^[0-9]+(ms|[smhdwy])/)) {
		unit = substr(rest, 1, RLENGTH)
		rest = substr(rest, RLENGTH + 1)
		number = unit + 0
		sub(/^[0-9]+/, "", unit)
		sum += number * (unit == "ms" ? 0.001 : unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : unit == "w" ? 604800 : 31536000)
	}
	return rest == "" && text != "" ? sum + 0 : text
}'

# rules_of_the_files: the rules as they stand in the folder, and rules_loaded as Prometheus has them: a
# line for each thing that is said of a rule, without quotes and blanks, which YAML may set as it likes:
# the rule's name, what it is, and its value.
rules_of_the_files() {
	cat "$rule_files"/*.yml | awk '
		function leave() {
			if (name != "" && value != "") print name "\t" what "\t" value
			value = ""
		}
		function split_at_colon(text) {
			what = value = text
			sub(/:.*/, "", what)
			sub(/^[^:]*: */, "", value)
			sub(/^[>|][-+]?$/, "", value)
		}
		/^ *#/ || /^ *$/ { next }
		{
			line = $0
			match(line, /^ */)
			indent = RLENGTH
			if (dash = line ~ /^ *- +(alert|record|name):/) {
				sub(/-/, " ", line)
				match(line, /^ */)
				first = RLENGTH
			}
			quoted = line
			if (gsub(/"/, "", quoted) % 2 == 0 && line !~ /#.*"/) sub(/ +#.*$/, "", line)
			text = line
			sub(/^ */, "", text)
			if (dash) {
				leave()
				split_at_colon(text)
				gsub(/["\047]/, "", value)
				name = what == "name" ? "" : value
				what = "name"
				depth = first
				within = ""
			} else if (name != "" && indent == depth && text ~ /^[a-z_]+:/) {
				leave()
				split_at_colon(text)
				within = what == "labels" || what == "annotations" ? what "." : ""
				inner = 0
			} else if (within != "" && (!inner || indent == inner) && text ~ /^[A-Za-z_0-9]+:/) {
				leave()
				inner = indent
				split_at_colon(text)
				what = within what
			} else if (name != "") value = value " " text
		}
		END { leave() }
	' | while IFS='	' read -r name what value; do
		case $what in
		expr)
			printed=$(get --get --data-urlencode "query=$value" "$prometheus/api/v1/format_query" 2>/dev/null | flatten | value data)
			value=${printed:-$value}
			;;
		for | keep_firing_for) value=$(echo "$value" | awk "$in_seconds"' { print seconds($0) }') ;;
		esac
		printf '%s\t%s\t%s\n' "$name" "$what" "$value"
	done | squeezed
}

rules_loaded() {
	get "$prometheus/api/v1/rules?exclude_alerts=true" 2>/dev/null | flatten | awk -F '\t' '
		{ n = split($1, path, ".") }
		path[4] != "rules" { next }
		path[3] "." path[5] != rule { rule = path[3] "." path[5]; name = "" }
		path[6] == "name" {
			name = $2
			print name "\tname\t" name
			for (i = 1; i <= held; i++) print name "\t" kept[i]
			held = 0
		}
		path[6] == "query" { say("expr", $2) }
		path[6] == "duration" && $2 != 0 { say("for", $2) }
		path[6] == "keepFiringFor" && $2 != 0 { say("keep_firing_for", $2) }
		path[6] ~ /^(labels|annotations)$/ && n == 7 { say(path[6] "." path[7], $2) }
		function say(what, value) {
			if (name == "") kept[++held] = what "\t" value
			else print name "\t" what "\t" value
		}
	' | squeezed
}

squeezed() {
	awk -F '\t' '{ gsub(/[ "\047\\]/, "", $3); if ($3 != "") print $1 "\t" $2 "\t" $3 }' | sort -u
}

# threshold: above which result the rule of the file fires.
threshold() {
	rules_of_the_files | awk -F '\t' '
		$1 == "ModelResultHigh" && $2 == "expr" && match($3, />=?[0-9.]+/) {
			figure = substr($3, RSTART, RLENGTH)
			gsub(/[>=]/, "", figure)
			print figure
			exit
		}
	'
}

# unloaded_words: what stands in the file prometheus.yml and not in what Prometheus runs with, which
# has every setting that the file leaves out, too. Lists may be written in two ways.
unloaded_words() {
	{
		get "$prometheus/api/v1/status/config" 2>/dev/null |
			awk '{ sub(/^.*"yaml":"/, ""); gsub(/\\n/, "\n"); gsub(/\\"/, "\""); gsub(/\\\\/, "\\"); print }'
		echo "end of what runs"
		cat "$root/stack/prometheus/prometheus.yml"
	} | awk "$in_seconds"'
		/^end of what runs$/ { in_file = 1; next }
		/^ *#/ { next }
		{
			sub(/ +#.*/, "")
			gsub(/[]["\047,{}]/, " ")
			sub(/^ *(- +)*/, "")
			key = $1 ~ /:$/ ? $1 : ""
			for (i = 1; i <= NF; i++) {
				word = seconds($i)
				sub(/^\/etc\/prometheus\//, "", word)
				if (!in_file) loaded[key word] = loaded[word] = 1
				else if (!((key word) in loaded) && !((key "<secret>") in loaded) && !(NF > 1 && key ~ /s:$/ && word in loaded))
					missing = missing " " (i > 1 ? key : "") word
			}
		}
		END { print substr(missing, 2) }
	'
}

check_prometheus() {
	reached "Prometheus is ready" "$prometheus/-/ready" "scripts/up.sh prometheus" || return
	ok "Prometheus is ready" "$prometheus"

	check_targets
	result=$(ask 'model_result{job="model_mock"}')
	if [ -n "$result" ]; then
		ok "Prometheus answers the query model_result" "$result"
	else
		fail "Prometheus answers the query model_result" "no value" "$start_model, then wait 10 s"
	fi

	criterion="the rules of the file are loaded"
	kept=$(rules_of_the_files)
	loaded=$(rules_loaded)
	changed=$(printf '%s\n' "$kept" "$loaded" | sort | uniq -u | head -n 1 | awk -F '\t' '{ print $1 ($2 == "name" ? "" : ", " $2) }')
	words=$(unloaded_words)
	if [ "$reloaded" != 1 ]; then
		fail "$criterion" "Prometheus refused its configuration the last time it read it" "scripts/up.sh prometheus shows why"
	elif [ -n "$words" ] || [ -n "$(find "$root/stack/prometheus/prometheus.yml" -newer "$root/stack/.applied-prometheus" 2>/dev/null)" ]; then
		fail "$criterion" "prometheus.yml is not what Prometheus runs with${words:+: it lacks $words}" "scripts/up.sh prometheus"
	elif [ -n "$changed" ]; then
		fail "$criterion" "what is loaded differs from the file: $changed" "scripts/up.sh prometheus"
	elif get "$prometheus/api/v1/rules" | grep -q '"health":"err"'; then
		fail "$criterion" "one cannot be evaluated" "see $prometheus/rules"
	else
		ok "$criterion" "$(echo "$kept" | awk -F '\t' '$2 == "name"' | grep -c .) rules, the same word for word"
	fi

	if get "$prometheus/api/v1/alertmanagers" 2>/dev/null | grep -q '"activeAlertmanagers":\[{[^]]*:9093/'; then
		ok "Prometheus knows its Alertmanager" "port 9093"
	else
		fail "Prometheus knows its Alertmanager" "none is active" "see alerting: in stack/prometheus/prometheus.yml"
	fi
	check_writes Prometheus "$prometheus"
}

# check_writes WHO URL: whether what that Prometheus writes to other stores arrives; nothing where it
# writes to none. An error that may pass is tried again, so the samples only wait; others are lost.
check_writes() {
	writes=$(get "$2/metrics" 2>/dev/null | awk '
		/^prometheus_remote_storage_samples_total\{/ { n++; total += $2 }
		/^prometheus_remote_storage_samples_failed_total\{/ { failed += $2 }
		/^prometheus_remote_storage_highest_timestamp_in_seconds |^prometheus_remote_storage_queue_highest_timestamp_seconds\{/ { if ($2 > scraped) scraped = $2 }
		/^prometheus_remote_storage_queue_highest_sent_timestamp_seconds\{/ { if (!m++ || $2 < sent) sent = $2 }
		/^process_start_time_seconds / { began = $2 }
		END {
			if (!n) exit
			if (sent < began) sent = began
			printf "%d %d %d", total, failed, (scraped > sent ? scraped - sent : 0)
		}')
	[ -n "$writes" ] || return
	# shellcheck disable=SC2086 # three figures
	set -- "$1" "$2" $writes
	if [ "$4" -gt 0 ]; then
		fail "what $1 writes arrives" "$4 samples were refused and are lost since it started" "see remote_write in its log: it names the store's answer"
	elif [ "$5" -gt 15 ]; then
		fail "what $1 writes arrives" "the newest that arrived is $5 s older than the newest scraped" "see whether the store runs and has room; nothing is lost while $1 runs"
	else
		ok "what $1 writes arrives" "$3 samples, $5 s behind"
	fi
}

check_store() {
	for name in store site-a site-b; do
		url=http://localhost:$(store_port $name)
		if ! seen=$(get "$url/-/ready" 2>&1); then
			fail "$name is ready" "$seen" "scripts/store.sh up"
			continue
		fi
		ok "$name is ready" "$url"
		[ $name = store ] || check_writes "$name" "$url"
	done
}

check_alertmanager() {
	reached "Alertmanager is ready" "$alertmanager/-/ready" "scripts/up.sh alertmanager" || return
	ok "Alertmanager is ready" "$alertmanager"

	metrics=$(get "$alertmanager/metrics")
	file=$root/stack/alertmanager/alertmanager.yml
	runs=$(echo "$metrics" | sample alertmanager_config_hash)
	kept=$(file_hash "$file")
	if [ "$(printf '%.0f' "$runs")" = "$kept" ]; then
		ok "Alertmanager runs the configuration of the file" "hash $kept"
	else
		fail "Alertmanager runs the configuration of the file" "it has hash $runs, the file $kept" "scripts/up.sh alertmanager"
	fi

	check_notifications
}

# check_notifications: whether the latest ones arrived. Alertmanager counts since it started, so that the
# counts at the last failure that was seen are kept, beside the marks of up.sh.
check_notifications() {
	criterion="no notification failed"
	kept=$root/stack/.applied-notifications
	began=$(echo "$metrics" | sample process_start_time_seconds)
	sent=$(echo "$metrics" | total alertmanager_notifications_total)
	lost=$(echo "$metrics" | total alertmanager_notifications_failed_total)
	remedy="docker compose -f stack/compose.yaml logs alertmanager says why; mend stack/alertmanager/alertmanager.yml, then scripts/up.sh alertmanager and scripts/check.sh --alert"
	before_began=
	before_sent=0
	before_lost=0
	[ ! -e "$kept" ] || read -r before_began before_sent before_lost <"$kept"
	if [ "$sent" = 0 ]; then
		still_open "$criterion" "none was sent yet" "scripts/check.sh --alert"
	elif [ "$lost" = 0 ]; then
		ok "$criterion" "$sent sent"
	elif [ "$before_began" != "$began" ] || [ "$lost" != "$before_lost" ]; then
		echo "$began $sent $lost" >"$kept"
		fail "$criterion" "of $sent since Alertmanager started, $lost failed" "$remedy"
	elif [ "$sent" = "$before_sent" ]; then
		fail "$criterion" "of $sent, $lost failed, and none was sent since" "$remedy"
	else
		ok "$criterion" "$((sent - before_sent)) sent since the last failure"
	fi
}

# total NAME: the sum of its samples on the page that is read.
total() {
	awk -v name="$1" 'index($1, name "{") == 1 { n += $2 } END { print n + 0 }'
}

# file_hash FILE: as Alertmanager's metric alertmanager_config_hash has it: the first six bytes of the
# MD5 sum, the first the least (md5HashAsMetricValue in its config/coordinator.go).
file_hash() {
	sum=$({ md5sum || md5 -q || openssl md5 -r; } 2>/dev/null <"$1" | tr -cd '0-9a-f' | cut -c1-12)
	byte=11
	hash=0
	while [ $byte -gt 0 ]; do
		hash=$((hash * 256 + 0x$(echo "$sum" | cut -c$byte-$((byte + 1)))))
		byte=$((byte - 2))
	done
	echo "$hash"
}

check_mailpit() {
	reached "Mailpit is ready" "$mailpit/readyz" "scripts/up.sh mailpit" || return
	ok "Mailpit is ready" "$(get "$mailpit/api/v1/messages?limit=1" | sed -n 's/.*"total":\([0-9]*\).*/\1/p') messages at $mailpit"
}

# knows_password CRITERION: whether stack/.env says it, and sets $password; otherwise that is a FAIL.
knows_password() {
	if ! seen=$( (read_password) 2>&1); then
		fail "$1" "$seen" "mend the file"
		return 1
	fi
	read_password
}

check_grafana() {
	reached "Grafana is healthy" "$grafana/api/health" "scripts/up.sh grafana" || return
	ok "Grafana is healthy" "version $(echo "$seen" | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p')"

	knows_password "the password in stack/.env works" || return
	code=$(as_admin "$password" -o /dev/null -w '%{http_code}' "$grafana/api/user")
	if [ "$code" = 200 ]; then
		ok "the password in stack/.env works" "user admin"
	else
		fail "the password in stack/.env works" "HTTP $code" "the README's 'forgotten Grafana password'"
		return
	fi
	code=$(as_admin admin -o /dev/null -w '%{http_code}' "$grafana/api/user")
	if [ "$code" = 401 ]; then
		ok "admin/admin is refused" "HTTP 401"
	else
		fail "admin/admin is refused" "HTTP $code" "change the password at $grafana/profile/password"
	fi

	result=$(as_admin "$password" --get --data-urlencode 'query=model_result{job="model_mock"}' \
		"$grafana/api/datasources/proxy/uid/prometheus/api/v1/query" | one_value)
	if [ -n "$result" ]; then
		ok "the data source answers model_result" "$result"
	else
		fail "the data source answers model_result" "no value" "scripts/check.sh exporter prometheus"
	fi

	limit=$(threshold)
	if [ -z "$limit" ]; then
		fail "the dashboard is there" "no threshold was found in the rule ModelResultHigh" "its expr ends with > and a figure, in stack/prometheus/rules/"
		return
	fi
	criterion="the dashboard is there: 5 s, 15 minutes, a red line at the rule's $limit"
	missing=$(as_admin "$password" "$grafana/api/dashboards/uid/modelmock" | flatten | dashboard_lacks | cut -f 3 | head -n 1)
	if [ "$missing" = nothing ]; then
		ok "$criterion" "$grafana/d/modelmock"
	else
		fail "$criterion" "${missing:-it is not there}" "scripts/up.sh grafana"
	fi
}

# dashboard_lacks: of the dashboard that flatten made, how many things it lacks, its name, and which and
# where to set them, or "nothing"; of its panels it takes the one that lacks least.
dashboard_lacks() {
	awk -F '\t' -v limit="$limit" '
		{
			path = $1
			has[path] = $2
			if (match(path, /panels\.[0-9]+\.(panels\.[0-9]+\.)?/)) {
				panel = substr(path, 1, RSTART + RLENGTH - 1)
				rest = substr(path, RSTART + RLENGTH)
				if (rest == "title") title[panel] = $2
				if (rest == "type" && $2 == "timeseries") graph[panel] = 1
				if (rest ~ /^targets\.[0-9]+\.expr$/ && $2 ~ /(^|[^a-z_])model_result([^a-z_]|$)/) asks[panel] = 1
				if (rest ~ /thresholds\.steps\.[0-9]+\.color$/) colour[step(path)] = $2
				if (rest ~ /thresholds\.steps\.[0-9]+\.value$/ && $2 + 0 == limit + 0 && $2 != "null") at_limit[panel] = at_limit[panel] " " step(path)
			}
		}
		function step(path) { sub(/\.[a-z]+$/, "", path); return path }
		function add(text) { n++; lacks = lacks (lacks == "" ? "" : "; ") text }
		END {
			name = has["dashboard.title"]
			if (name == "") exit
			if (has["dashboard.refresh"] != "5s") add("refresh is not 5s (the list beside Refresh)")
			if (has["dashboard.time.from"] != "now-15m" || has["dashboard.time.to"] != "now") add("the time range is not Last 15 minutes (above the panels; tick Update default time range when you save)")
			of_all = lacks
			count = n
			least = count + 6
			all = of_all (of_all == "" ? "" : "; ") "no Time series has the query model_result (Add visualization)"
			for (panel in graph) {
				if (!asks[panel]) continue
				lacks = of_all
				n = count
				defaults = panel "fieldConfig.defaults."
				if (has[defaults "min"] "" != "0") add("Min is not 0 (Standard options)")
				if (has[defaults "max"] "" != "1") add("Max is not 1 (Standard options)")
				red = 0
				steps = split(at_limit[panel], found, " ")
				for (i = 1; i <= steps; i++) if (colour[found[i]] ~ /red|^#[Ee0]2/) red = 1
				if (!red) add("no red threshold at " limit " (Thresholds)")
				if (has[defaults "custom.thresholdsStyle.mode"] !~ /^(line|dashed)/) add("the threshold is not shown as a line (Show thresholds: As lines)")
				if (n < least) {
					least = n
					all = lacks == "" ? "nothing" : "panel " title[panel] ": " lacks
				}
			}
			print least "\t" name "\t" all
		}
	'
}

# check_own: the best of the dashboards that did not come with the lab.
check_own() {
	criterion="a dashboard of your own, with a red line"
	reached "$criterion" "$grafana/api/health" "scripts/up.sh grafana" || return
	knows_password "$criterion" || return
	limit=$(threshold)
	if [ -z "$limit" ]; then
		fail "$criterion" "no threshold was found in the rule ModelResultHigh" "its expr ends with > and a figure, in stack/prometheus/rules/"
		return
	fi
	if ! uids=$(as_admin "$password" -f "$grafana/api/search?type=dash-db&limit=5000"); then
		fail "$criterion" "Grafana does not let admin in" "scripts/check.sh grafana"
		return
	fi
	best=$(for uid in $(echo "$uids" | flatten | awk -F '\t' '$1 ~ /^[0-9]*\.?uid$/ { print $2 }'); do
		flat=$(as_admin "$password" "$grafana/api/dashboards/uid/$uid" | flatten)
		[ "$(echo "$flat" | value meta.provisioned)" != true ] || continue
		echo "$flat" | dashboard_lacks | sed "s/\$/	$uid/"
	done | sort -n | head -n 1)
	name=$(echo "$best" | cut -f 2)
	missing=$(echo "$best" | cut -f 3)
	if [ -z "$best" ]; then
		fail "$criterion" "there is none" "Dashboards > New > New dashboard at $grafana, as in section 5.3"
	elif [ "$missing" = nothing ]; then
		ok "$criterion" "$name, $grafana/d/$(echo "$best" | cut -f 4)"
	else
		fail "$criterion" "$name, $missing" "Edit at $grafana/d/$(echo "$best" | cut -f 4), then Save dashboard"
	fi
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds, by the clock; says how it goes on, with
# what the command saw last in $seen, and sets $waited. It gives up where the command sets $gone.
wait_for() {
	patience=$1
	what=$2
	shift 2
	began_at=$(date +%s)
	told=0
	seen=
	gone=
	until "$@"; do
		waited=$(($(date +%s) - began_at))
		[ -z "$gone" ] && [ $waited -lt "$patience" ] || return 1
		if [ $((waited - told)) -ge 10 ]; then
			told=$waited
			echo "      waiting until $what ($waited s${seen:+, last seen: $seen})"
		fi
		sleep 1
	done
	waited=$(($(date +%s) - began_at))
}

is_high() {
	page=$(get "$exporter/metrics" 2>&1) || {
		gone=$page
		return 1
	}
	result=$(echo "$page" | sample model_result)
	seen=$result
	[ -n "$result" ] && holds "$result $comparison $limit"
}

fires() {
	since=$(firing)
	[ -n "$since" ]
}

# in_alertmanager: whether it has the alert of the model, and sets $held, all that it knows of it.
in_alertmanager() {
	held=$(get --get --data-urlencode 'filter=alertname="ModelResultHigh"' --data-urlencode "filter=instance=\"$instance\"" \
		"$alertmanager/api/v2/alerts" 2>/dev/null | flatten)
	[ -n "$(echo "$held" | value 0.startsAt)" ]
}

# has_mail: whether a mail tells of the model's firing since $start.
has_mail() {
	mails "$mailpit" "FIRING ModelResultHigh at $instance since ${start#* } UTC:" | grep -q .
}

check_alert() {
	limit=$(threshold)
	if [ -z "$limit" ]; then
		fail "a result passes the threshold" "none was found in the rule ModelResultHigh" "its expr ends with > and a figure, in stack/prometheus/rules/"
		return
	fi
	comparison='>'
	! rules_of_the_files | grep -q "^ModelResultHigh	expr	.*>=" || comparison='>='
	# Whatever does not answer is said before anything is waited for.
	reached "a result passes $limit" "$exporter/metrics" "$start_model" || return
	reached "the alert fires" "$prometheus/-/ready" "scripts/up.sh prometheus" || return
	reached "the mail arrives" "$alertmanager/-/ready" "scripts/up.sh alertmanager" || return
	reached "the mail arrives" "$mailpit/readyz" "scripts/up.sh mailpit" || return

	if ! wait_for 600 "a result passes $limit" is_high; then
		fail "a result passes $limit" "${gone:-none in $waited s, the last was $seen}" "start the model: $(model_command --value 0.95)"
		return
	fi
	ok "a result passes $limit" "$result after $waited s"
	if ! wait_for 30 "the alert fires" fires; then
		fail "the alert fires" "not within $waited s" "scripts/check.sh prometheus"
		return
	fi
	ok "the alert fires" "ModelResultHigh after $waited s more"

	criterion="the mail arrives"
	if ! wait_for 10 "Alertmanager has the alert" in_alertmanager; then
		fail "$criterion" "Alertmanager has no such alert" "scripts/check.sh prometheus"
		return
	fi
	if [ "$(echo "$held" | value 0.status.state)" = suppressed ]; then
		silence=$(echo "$held" | value 0.status.silencedBy.0)
		if [ -n "$silence" ]; then
			fail "$criterion" "the alert is silenced, no mail is sent" "expire the silence: $alertmanager/#/silences/$silence > Expire > Confirm"
		else
			fail "$criterion" "the alert is inhibited or muted, no mail is sent" "see inhibit_rules: and time intervals in stack/alertmanager/alertmanager.yml"
		fi
		return
	fi
	# The mail tells it to the second.
	start=$(echo "$held" | value 0.startsAt | sed 's/T/ /; s/[.Z].*//')
	by_prometheus=$(echo "$since" | sed 's/T/ /; s/[.Z].*//')
	remembered="start the model with --value 0.5, wait for the mail RESOLVED ModelResultHigh (up to 5 minutes), then let it fire again"
	lost=$(get "$alertmanager/metrics" 2>/dev/null | total alertmanager_notifications_failed_total)
	if expr "$start" '<' "$by_prometheus" >/dev/null; then
		fail "$criterion" "Alertmanager knows this alert since $start UTC, and mailed it then" "$remembered"
	elif wait_for 30 "$criterion" has_mail; then
		ok "$criterion" "at $mailpit after $waited s more"
	elif [ "$(get "$alertmanager/metrics" 2>/dev/null | total alertmanager_notifications_failed_total)" != "$lost" ]; then
		fail "$criterion" "not within $waited s, and notifications fail" "scripts/check.sh alertmanager"
	else
		fail "$criterion" "not within $waited s, though none failed" "Alertmanager may take it for one that it mailed before: $remembered. Does receivers: in stack/alertmanager/alertmanager.yml still send to $mailpit?"
	fi
}

case ${1-} in
-h | --help)
	print_help
	exit
	;;
--alert)
	[ $# -eq 1 ] || usage_error "--alert takes no other argument"
	set -- alert
	;;
--own)
	[ $# -eq 1 ] || usage_error "--own takes no other argument"
	set -- own
	;;
'')
	set -- exporter prometheus alertmanager mailpit grafana
	! listens "$(store_port site-a)" || set -- "$@" store
	;;
*)
	for part in "$@"; do
		case $part in
		exporter | prometheus | alertmanager | mailpit | grafana | store) ;;
		*) usage_error "unknown part '$part'" ;;
		esac
	done
	;;
esac
require_curl
for part in "$@"; do
	"check_$part"
done
echo "$passed passed, $failed failed$([ $open -eq 0 ] || echo ", $open open")"
[ $failed -eq 0 ]
