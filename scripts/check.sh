#!/bin/sh
# check.sh [PART...]: checks each acceptance criterion of the lab, a line each, and counts them.
# check.sh --alert: waits until a result passes the rule's limit, the alert fires and its mail arrives.
# check.sh --own: looks for a dashboard of your own, with a red line, and says what it dashboard_problems.
#
# PART is exporter, prometheus, alertmanager, mailpit or grafana; all five by default, and logging and store if
# they run. It checks your own stack, unless only the finished one runs; it asks for your Grafana's password, if
# GRAFANA_PASSWORD does not say it. A line says ok, FAIL, or open: not done yet. Exit code 1 if one FAILs.

set -u
typed=${GRAFANA_PASSWORD-}
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
exporter=$(url exporter)
instance=${exporter#http://}
prometheus=$(url prometheus)
alertmanager=$(url alertmanager)
mailpit=$(url mailpit)
grafana=$(url grafana)
start_model="start the model: $(model_command)"
start=scripts/up.sh reread=scripts/up.sh relative=
# The bar ends each folder: stack/store is not the finished stack.
case $(docker ps --format '{{.Label "com.docker.compose.project.working_dir"}}|' 2>/dev/null) in
*/my-stack\|*) stack=my-stack ;;
*/stack\|*) ;;
*) [ ! -d "$root/my-stack" ] || stack=my-stack ;;
esac
if [ $stack = my-stack ]; then
	start="docker compose up -d in my-stack"
	reread="docker compose restart in my-stack"
fi
# In my-stack, the hints name the scripts as they are called from there.
[ "$(pwd -P)" != "$root/my-stack" ] || relative='s|\([ (]\)scripts/|\1../scripts/|g; s|\([ (]\)stack/|\1../stack/|g'
ok=0 FAIL=0 open=0 images=

# report VERDICT CRITERION SEEN [NEXT]: a line, which is counted; and fails with FAIL, so that the caller
# may end there. The verdict is ok, FAIL or open.
report() {
	eval "$1=\$(($1 + 1))"
	printf '%-5s %s: %s%s\n' "$1" "$2" "$3" "${4:+. Next: $4}" | sed "$relative"
	[ "$1" != FAIL ]
}

# report_value CRITERION SEEN OTHERWISE NEXT: ok where something was seen, FAIL where nothing was.
report_value() {
	[ -n "$2" ] || report FAIL "$1" "$3" "$4" || return
	report ok "$1" "$2"
}

# require_http CRITERION URL NEXT: whether it answers there, and sets $response; otherwise that is a FAIL.
require_http() {
	response=$(get "$2" 2>&1) || report FAIL "$1" "$response" "$3"
}

# check_file: whether Compose accepts the student's file, and sets $images to those that it names.
check_file() {
	[ $stack = my-stack ] && [ -d "$root/my-stack" ] && (require_docker) 2>/dev/null || return
	response=$(cd "$root/my-stack" && docker compose config -q 2>&1) ||
		report FAIL "Compose accepts your file" "$(printf '%s\n' "$response" | tail -n 1 | sed "s|^ *||")" "correct it: messages at the end of section 5.2" || return
	report ok "Compose accepts your file" "by docker compose config"
	images=$(cd "$root/my-stack" && docker compose config --images 2>/dev/null)
}

# check_ready SERVICE [WORD]: whether it is ready, in a container of this stack, and says so; sets $id.
check_ready() {
	criterion="$(service_field 6 "$1") is ${2-ready}"
	response=$( (require_docker) 2>&1) || report FAIL "$criterion" "${response#*: }" "make Docker work, then $start" || return
	id=$(container "$1")
	image=$(image "$1")
	if [ -z "$id" ] && [ -n "$images" ] && ! printf '%s\n' "$images" | grep -q "${image%:*}"; then
		report open "$criterion" "your Compose file has no service with $image yet" "sections 5.2 to 5.4"
		return 1
	fi
	[ -n "$id" ] || report FAIL "$criterion" "$stack has no container of $image" "$start" || return
	response=$(docker inspect -f '{{if not .State.Running}}{{.Name}} is {{.State.Status}} {{.State.Error}}{{end}}' "$id")
	[ -z "$response" ] || report FAIL "$criterion" "$response$(docker logs --tail 1 "$id" 2>&1 | sed 's/.* msg=//')" "correct that, then $start" || return
	require_http "$criterion" "$(readiness "$1")" "wait 10 s; otherwise see ports: and network_mode: in $stack/compose.yaml, and docker logs $id" || return
	report ok "$criterion" "$(url "$1")"

	# In /proc/net/tcp 0A is a port that listens, and 0100007F is 127.0.0.1.
	wide=$(for number in $(service_field 3 "$1") $(service_field 5 "$1" | tr -d -); do
		{ docker port "$id" "$number" || docker exec "$id" cat /proc/net/tcp /proc/net/tcp6; } 2>/dev/null | awk -v port="$number" -v hex="$(printf ':%04X$' "$number")" '
			/^[^ ]+:[0-9]+$/ && !/^127/ || $4 == "0A" && $2 ~ hex && $2 !~ /0100007F:|^0+1000000:/ { print port }'
	done | sort -u | paste -s -d ' ' -)
	[ -n "$wide" ] || { report ok "only your machine reaches it" "127.0.0.1" && return; }
	report open "only your machine reaches it" "others do, too: $wide" "bind it to 127.0.0.1, as stack/compose.yaml does"
}

# is_kept FOLDER SECTION: whether its data there outlives the container. The name of an anonymous volume is
# 64 hexadecimal digits, and the next container gets another one.
is_kept() {
	criterion="its data outlives the container"
	response=$(docker inspect -f '{{range .Mounts}}{{println .Destination .Type .Name .Source}}{{end}}' "$id" |
		awk -v folder="$1/" 'NF && index(folder, $1 "/") == 1 && length($3) != 64 { print $2, $3 }' | head -n 1)
	[ -n "$response" ] || [ $stack = stack ] || { report open "$criterion" "your Compose file has no named volume at $1 yet" "section $2" && return; }
	report_value "$criterion" "$response" "$stack/compose.yaml has no named volume at $1" "add one, then $start"
}

# strings NAME: the strings of that name in the JSON that is read, a line each.
strings() {
	grep -Eo "\"$1\": *\"([^\"\\\\]|\\\\.)*\"" |
		sed 's/^"[^"]*": *"//; s/"$//; s/\\u003c/</g; s/\\u003e/>/g; s/\\u0026/\&/g; s/\\\(.\)/\1/g'
}

check_exporter() {
	criterion="exporter answers at / and /metrics"
	require_http "$criterion" "$exporter/" "$start_model" || return
	require_http "$criterion" "$exporter/metrics" "$start_model" || return
	report ok "$criterion" "$(printf '%s\n' "$response" | grep -vc '^#') samples"

	result=$(metric "$exporter" model_result)
	report_value "model_result is from 0 to 1" "$(printf '%s\n' "$result" | grep -xE '[01]|0[.][0-9]+|[0-9.]+e-[0-9]+')" \
		"it is '$result'" "see what listens on port ${exporter##*:}, then $start_model" || return

	criterion="model_result changes within two intervals"
	count=$(metric "$exporter" model_refreshes_total)
	wait_for 10 "there is a new result" has_new_result ||
		report FAIL "$criterion" "no new result in $waited s" "restart it without --interval" || return
	next=$(metric "$exporter" model_result)
	report ok "$criterion" "$result, then $next after $waited s"
}

has_new_result() {
	now=$(metric "$exporter" model_refreshes_total)
	[ -n "$now" ] && [ "$now" != "$count" ]
}

check_prometheus() {
	check_ready prometheus || return

	criterion="its configuration is a file of yours, and right"
	path=$(setting config.file "$id")
	file=$(docker inspect -f '{{range .Mounts}}{{println .Type .Destination .Source}}{{end}}' "$id" | awk -v path="$path" '$1 == "bind" && index(path, $2) == 1 { print $3 }')
	[ -n "$file" ] || report FAIL "$criterion" "$path is the image's own" "mount your file there: volumes: in $stack/compose.yaml, then $start" || return
	# An editor that replaces a file leaves the old one mounted until the container restarts.
	old=$(docker inspect -f '{{range .Mounts}}{{if eq .Type "bind"}}{{println .Destination .Source}}{{end}}{{end}}' "$id" | while read -r inside outside; do
		[ ! -f "$outside" ] || docker exec "$id" cat "$inside" 2>/dev/null | cmp -s - "$outside" || echo "the container still has an older ${outside##*/}"
	done)
	if [ -n "$old" ] || old=$(config_errors prometheus); then
		report FAIL "$criterion" "$old" "correct that, then $reread"
	else
		report ok "$criterion" "${file#"$root/"}"
	fi
	is_kept "$(setting storage.tsdb.path "$id" | grep . || echo /prometheus)" 5.2

	criterion="its targets are up"
	wait_for 10 "$criterion" has_scraped
	all=$(printf '%s\n' "$targets" | strings health | grep -c .)
	up=$(printf '%s\n' "$targets" | strings health | grep -cx up)
	todo=$start_model
	case $(get -o /dev/null "$exporter/metrics" 2>/dev/null && docker inspect -f '{{.HostConfig.NetworkMode}}' "$id") in
	host) todo="see targets: in its configuration, then $reread" ;;
	?*) todo="ask whose localhost that is (section 5.2), then $start" ;;
	esac
	report_value "$criterion" "$([ "$all" = 0 ] || [ "$up" != "$all" ] || echo "$up of $all up")" "$up of $all up $(printf '%s\n' "$targets" | strings lastError | grep . | head -n 1)" "$todo"
	report_value "Prometheus answers the query model_result" "$(query "$prometheus" 'timestamp(model_result) > time() - 15' | sed 's/.*/scraped in the last 15 s/')" \
		"no value of the last 15 s" "$todo"
	if [ $stack = my-stack ] && [ -z "$(metric "$prometheus" prometheus_rule_group_rules)" ]; then
		report open "the alerting rules are loaded" "there are none yet" "section 5.4"
		return
	fi
	load_rule "the alerting rules are loaded" || return
	report_value "the alerting rules are loaded" "$(get "$prometheus/api/v1/rules" | grep -q '"health":"err"' || echo "$alert: $rule")" "one can't be evaluated" "see $prometheus/rules"

	response=$(get "$prometheus/api/v1/alertmanagers" | sed 's/"droppedAlertmanagers".*//' | strings url | paste -s -d ' ' -)
	report_value "Prometheus knows its Alertmanager" "$(printf '%s\n' "$response" | grep -E "(^| )http://(localhost|127\.0\.0\.1|\[::1\]):${alertmanager##*:}/")" \
		"${response:-no Alertmanager is active}${response:+: not this machine}" "see alerting: in its configuration, then $reread"
	check_writes Prometheus "$prometheus"
}

# has_scraped: whether each target was scraped once, as after a start that takes an interval; sets $targets.
has_scraped() {
	targets=$(get "$prometheus/api/v1/targets?state=active")
	printf '%s\n' "$targets" | strings health | awk '/unknown/ { n = 0; exit } { n++ } END { exit !n }'
}

# check_writes WHO URL: whether what that Prometheus writes to other stores arrives; nothing where it
# writes to none. An error that may pass is tried again, so the samples only wait; others are lost.
check_writes() {
	total=$(metric "$2" prometheus_remote_storage_samples_total)
	[ -n "$total" ] || return
	lost=$(metric "$2" prometheus_remote_storage_samples_failed_total)
	scraped=$(metric "$2" prometheus_remote_storage_queue_highest_timestamp_seconds least)
	sent=$(metric "$2" prometheus_remote_storage_queue_highest_sent_timestamp_seconds least)
	started=$(metric "$2" process_start_time_seconds)
	[ -n "$scraped" ] && [ -n "$sent" ] && [ -n "$started" ] ||
		report FAIL "what $1 writes arrives" "it does not tell how far it wrote" "see remote_write in its log" || return
	# Before the first was sent, its time is 0.
	behind=$(awk "BEGIN { sent = $sent > $started ? $sent : $started; printf \"%d\", ($scraped > sent ? $scraped - sent : 0) }")
	if [ "$lost" != 0 ]; then
		report FAIL "what $1 writes arrives" "$lost samples were refused and are lost since it started" "see remote_write in its log: it names the store's answer"
	elif [ "$behind" -gt 15 ]; then
		report FAIL "what $1 writes arrives" "the newest that arrived is $behind s older than the newest scraped" "see whether the store runs and has room; nothing is lost while $1 runs"
	else
		report ok "what $1 writes arrives" "$total samples, $behind s behind"
	fi
}

check_store() {
	for name in store site-a site-b; do
		address=http://localhost:$(store_port $name)
		require_http "$name is ready" "$address/-/ready" "scripts/store.sh up" || continue
		report ok "$name is ready" "$address"
		[ $name = store ] || check_writes "$name" "$address"
	done
}

check_alertmanager() {
	check_ready alertmanager || return

	! wrong=$(config_errors alertmanager) || report FAIL "Alertmanager's configuration is right" "$wrong" "correct that, then $reread" || return
	report ok "Alertmanager's configuration is right" "by amtool check-config"

	criterion="no notification failed"
	sent=$(metric "$alertmanager" alertmanager_notifications_total)
	lost=$(metric "$alertmanager" alertmanager_notifications_failed_total)
	# A failed request is tried again for a while, and only then the notification has failed.
	tries=$(metric "$alertmanager" alertmanager_notification_requests_failed_total)
	why=$(docker logs --tail 1000 "$id" 2>&1 | grep -i notif | tail -n 1 | sed -n 's/"$//; s/.* err="\{0,1\}//p')
	if [ "$lost" != 0 ] || [ "${tries:-0}" != 0 ] && [ -n "$why" ]; then
		report FAIL "$criterion" "of $sent since Alertmanager started, $lost failed, and $tries requests: ${why:-see docker logs $id}" "correct that; then docker restart $id counts from 0"
	elif [ "$sent" = 0 ]; then
		report open "$criterion" "none was sent yet" "scripts/check.sh --alert"
	else
		report ok "$criterion" "$sent sent"
	fi
}

check_mailpit() { check_ready mailpit; }

# load_password CRITERION: whether it is known, and sets $password: from stack/.env for the finished
# stack, otherwise from GRAFANA_PASSWORD, or as it is typed.
load_password() {
	if [ $stack = stack ]; then
		response=$( (read_password) 2>&1) || report FAIL "$1" "${response#*: }" "correct the file" || return
		read_password
		typed=$password
	fi
	if [ -z "$typed" ] && [ -t 0 ]; then
		trap 'stty echo; exit 1' INT TERM
		printf "Password of Grafana's user admin: " >&2
		stty -echo
		read -r typed
		stty echo
		echo >&2
	fi
	password=$typed
	[ -n "$password" ] || report FAIL "$1" "it is not known" "GRAFANA_PASSWORD=... scripts/check.sh"
}

check_grafana() {
	check_ready grafana healthy || return
	is_kept /var/lib/grafana 5.3

	# Five wrong passwords lock admin out for minutes, so admin is not tried: a right one that differs is enough.
	criterion="your password works, and is not the default"
	response=$(curl -s --noproxy '*' --max-time 5 -o /dev/null -w '%{http_code}' "$grafana/api/search")
	[ "$response" = 401 ] ||
		report FAIL "$criterion" "Grafana answers without a password (HTTP $response instead of 401)" "remove GF_AUTH_ANONYMOUS_ENABLED from $stack/compose.yaml, then $start" || return
	load_password "$criterion" || return
	[ "$password" != admin ] || report FAIL "$criterion" "it is the default" "change it at $grafana/profile/password" || return
	report_value "$criterion" "$(as_admin "$password" -f "$grafana/api/user" 2>/dev/null | strings login | sed "s/^/of the user /")" "Grafana refuses it" "stack/README.md, 'forgotten Grafana password'" || return

	sources=$(as_admin "$password" "$grafana/api/datasources" | sed 's/{"id":/\
&/g' | grep '"type":"prometheus"')
	result=$(for uid in $(printf '%s\n' "$sources" | strings uid); do
		as_admin "$password" --get --data-urlencode 'query=model_result' "$grafana/api/datasources/proxy/uid/$uid/api/v1/query" | one_value
	done | head -n 1)
	report_value "a data source answers model_result" "$result" "none of the type Prometheus does" "Connections > Data sources at $grafana: Save & test, then scripts/check.sh prometheus" &&
		report_value "its scrape interval is 5s" "$(printf '%s\n' "$sources" | grep -q '"timeInterval":"5s"' && echo "as Prometheus scrapes")" "it is $(printf '%s\n' "$sources" | strings timeInterval | grep . || echo "15 s, the default")" \
			"Connections > Data sources at $grafana > Interval behaviour > Scrape interval: 5s, then Save & test"
	check_dashboards
}

# load_rule [CRITERION]: whether Prometheus has a rule on model_result that ends with > and a figure, and
# sets $alert, $rule and $limit: its name, its query and that figure; otherwise that is a FAIL.
load_rule() {
	found=$(get "$prometheus/api/v1/rules?type=alert" 2>/dev/null | grep -Eo '"name":"[^"]*","query":"([^"\\]|\\.)*"' | grep -E '"query":"(.*[^a-z_])?model_result[^a-z_].*[0-9]"$' | head -n 1)
	alert=$(printf '%s\n' "$found" | strings name)
	rule=$(printf '%s\n' "$found" | strings query)
	limit=$(printf '%s\n' "$rule" | sed -n 's/.*>=\{0,1\} *\([0-9.]*\)$/\1/p')
	[ -z "$limit" ] || return 0
	[ $# -eq 1 ] && report FAIL "$1" "Prometheus has no alert on model_result > a figure" "see rule_files: in its configuration, then $reread"
}

# dashboard_problems: what the dashboard whose JSON is read dashboard_problems, and where to set it, in one line.
dashboard_problems() {
	dashboard=$(cat)
	while IFS='~' read -r pattern todo; do
		printf '%s\n' "$dashboard" | grep -Eq "$pattern" || printf '%s; ' "$todo"
	done <<-END
		"refresh": *"5s"~refresh is not 5s (the list next to Refresh)
		"from": *"now-15m", *"to": *"now"~the time range is not Last 15 minutes (tick Update default time range when you save)
		"expr": *".*model_result[^a-z_].*"type": *"timeseries"~no Time series has the query model_result (Add visualization)
		"min": *0[,}]~Min is not 0 (Standard options)
		"max": *1[,}]~Max is not 1 (Standard options)
		"color": *"([a-z-]*red|#[C-Fc-f].[0-5][^"]*)", *"value": *${limit}[,}]~no red threshold at $limit (Thresholds)
		"thresholdsStyle": *[{]"mode": *"(line|dashed)~the threshold is not shown as a line (Show thresholds: As lines)
	END
}

# check_dashboards [own]: the best dashboard; with a word, of those that did not come with the lab.
check_dashboards() {
	criterion="a dashboard${1:+ of your own}: 5 s, 15 minutes, a red line"
	load_rule || limit=0.9
	found=$(as_admin "$password" -f "$grafana/api/search?type=dash-db&limit=5000") ||
		report FAIL "$criterion" "Grafana does not let admin in" "scripts/check.sh grafana" || return
	best=$(for uid in $(printf '%s\n' "$found" | strings uid); do
		dashboard=$(as_admin "$password" "$grafana/api/dashboards/uid/$uid")
		[ -n "${1-}" ] && printf '%s\n' "$dashboard" | grep -q '"provisioned": *true' && continue
		missing=$(printf '%s\n' "$dashboard" | dashboard_problems)
		printf '%s|%s|%s\n' "$(printf '%s' "$missing" | tr -cd ';' | wc -c)" "${missing%; }" "$grafana/d/$uid"
	done | sort -n | head -n 1)
	[ -n "$best" ] || report FAIL "$criterion" "there is none" "Dashboards > New > New dashboard at $grafana, as in section 5.3" || return
	missing=$(printf '%s\n' "$best" | cut -d '|' -f 2)
	report_value "$criterion" "$([ -n "$missing" ] || echo "${best##*|}")" "$missing" "Edit at ${best##*|}, then Save dashboard"
}

check_own() { load_password "a dashboard of your own" && check_dashboards own; }

# lines RANGE [TIME]: how many results of this model Loki has of that long before; nothing for none.
lines() {
	get --get --data-urlencode "query=sum(count_over_time({job=\"model_mock\", instance=\"$instance\"} |= \"model_result\" [$1]))" \
		--data-urlencode "time=${2-}" "$(url loki)/loki/api/v1/query" 2>/dev/null | one_value
}

# log_matches_metric: whether Loki has each result of the model, by its lines' times, which are cut, and sets $same.
log_matches_metric() {
	latest=$(metric "$exporter" model_last_refresh_timestamp_seconds)
	drawn=$(metric "$exporter" model_refreshes_total)
	logged=$(lines "$(awk "BEGIN { printf \"%d\", ($latest - $started) * 1000 + 2 }")ms" "$latest")
	same=
	[ "${logged:=0}" = "$drawn" ] && same="$drawn results since the model started"
}

check_logging() {
	check_ready loki && check_ready fluent-bit || return

	start_logged="start the model as $(logged_command)"
	require_http "the model's lines arrive" "$exporter/metrics" "$start_logged" || return
	lost="Loki refused $(metric "$(url loki)" loki_discarded_samples_total | grep . || echo 0) since it started: docker compose -f stack/compose.yaml logs fluent-bit"
	todo="$start_logged; where it runs so: $lost"
	[ -d "$root/stack/logs" ] || todo="scripts/up.sh logging makes the folder stack/logs, then $start_logged"
	report_value "the model's lines arrive" "$(lines 10s | sed 's/$/ in the last 10 s/')" "none in the last 10 s" "$todo" || return

	started=$(metric "$exporter" process_start_time_seconds)
	wait_for 5 "the newest line arrives" log_matches_metric
	report_value "the log and the metric count the same" "$same" "$logged in the log, $drawn in the metric" "$start_logged; a second model needs a file of its own, as stack/logs/localhost:5001.log. $lost"
	load_password "the data source Loki answers" || return
	response=$(as_admin "$password" --get --data-urlencode 'query=vector(1)' "$grafana/api/datasources/proxy/uid/loki/loki/api/v1/query" 2>&1)
	report_value "the data source Loki answers" "$(printf '%s\n' "$response" | one_value | sed 's/.*/through Grafana/')" "$response" "scripts/up.sh grafana"
}

# is_high: whether the rule's own query has an answer for this model.
is_high() {
	response=$(metric "$exporter" model_result)
	[ -n "$response" ] || abort_reason="the model is away"
	[ "$waited" -lt 15 ] || [ -n "$(query "$prometheus" "${rule% >*}")" ] || abort_reason="the rule's ${rule% >*} has no value"
	result=$(query "$prometheus" "($rule) and on (instance) up{instance=~\".*:$port\"}")
	[ -n "$result" ]
}

# fires: whether the alert of the model does, and sets $active to since when, to the second. Prometheus' API
# tells of now, where the metric ALERTS may be from before its start.
fires() {
	found=$(get "$prometheus/api/v1/alerts" 2>/dev/null | sed 's/{"labels":/\
&/g' | grep "\"alertname\":\"$alert\"" | grep "\"instance\":\"[^\"]*:$port\"" | head -n 1)
	response=$(printf '%s\n' "$found" | strings state)
	active=$(printf '%s\n' "$found" | strings activeAt | cut -c 1-19)
	[ "$response" = firing ]
}

# has_mail: whether a mail since then names the alert and the model, and is not of its end. A silence is said.
has_mail() {
	silence=$(get --get --data-urlencode "filter=alertname=\"$alert\"" "$alertmanager/api/v2/alerts" 2>/dev/null | sed -n 's/.*"silencedBy":\["\([^"]*\)".*/\1/p')
	[ -z "$silence" ] || abort_reason="the alert is silenced: $alertmanager/#/silences/$silence > Expire > Confirm"
	get "$mailpit/api/v1/messages?limit=500" 2>/dev/null | sed 's/{"ID":/\
&/g' | grep -F "$alert" | grep ":$port" | grep -v '"Subject":"[^"]*RESOLVED' | strings Created |
		awk -v since="$active" 'substr($0, 1, 19) >= since { found = 1 } END { exit !found }'
}

check_alert() {
	# Whatever does not answer is said before anything is waited for.
	require_http "a result is high" "$exporter/metrics" "$start_model" || return
	for service in prometheus alertmanager mailpit; do
		require_http "$(service_field 6 $service) is ready" "$(readiness $service)" "$start" || return
	done
	load_rule "the alert fires" || return
	port=${instance##*:}

	criterion="a result passes $limit"
	wait_for 600 "$criterion" is_high ||
		report FAIL "$criterion" "${abort_reason:-none in $waited s, the last was $response}" "start the model: $(model_command --value 0.95); where it runs so, see expr: of $alert" || return
	report ok "$criterion" "$result after $waited s"
	criterion="the alert fires"
	wait_for 90 "$criterion" fires ||
		report FAIL "$criterion" "not within $waited s${response:+, it is $response}" "keep the result high for longer than for: in the rule, with $(model_command --value 0.95)" || return
	report ok "$criterion" "$alert after $waited s more"
	criterion="the mail arrives"
	wait_for 60 "$criterion" has_mail ||
		report FAIL "$criterion" "${abort_reason:-not within $waited s}" "scripts/check.sh alertmanager; if Alertmanager mailed this alert before, start the model with --value 0.5, wait for the mail RESOLVED, then let it fire again" || return
	report ok "$criterion" "at $mailpit after $waited s more"
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
[ $stack = my-stack ] && echo "This checks your own stack, in my-stack/" || echo "This checks the finished stack, in stack/ (yours: scripts/down.sh, then docker compose up -d in my-stack)"
check_file
for part in "$@"; do
	"check_$part"
done
echo "$ok passed, $FAIL failed$([ $open -eq 0 ] || echo ", $open open")"
[ $FAIL -eq 0 ]
