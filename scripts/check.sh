#!/bin/sh
# check.sh [PART...]: checks each acceptance criterion of the lab, a line each, and counts them.
# check.sh --alert: waits until a result passes 0.9, the alert fires and its mail arrives.
# check.sh --own: looks for a dashboard of your own, with a red line, and says what it lacks.
#
# PART is exporter, prometheus, alertmanager, mailpit or grafana; all five by default. Two more are among
# them where they run: logging, of scripts/up.sh logging, and store, of scripts/store.sh.
# A line says ok, FAIL, or open: nothing happened yet that could show it. Exit code 1 where one FAILs.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
exporter=$(url exporter)
instance=${exporter#http://}
prometheus=$(url prometheus)
alertmanager=$(url alertmanager)
mailpit=$(url mailpit)
grafana=$(url grafana)
start_model="start the model: $(model_command)"
ok=0
FAIL=0
open=0

# say VERDICT CRITERION SEEN [NEXT]: a line, which is counted; and fails with FAIL, so that the caller
# may end there. The verdict is ok, FAIL or open.
say() {
	eval "$1=\$(($1 + 1))"
	printf '%-5s %s: %s%s\n' "$1" "$2" "$3" "${4:+. Next: $4}"
	[ "$1" != FAIL ]
}

# judge CRITERION SEEN OTHERWISE NEXT: ok where something was seen, FAIL where nothing was.
judge() {
	[ -n "$2" ] || say FAIL "$1" "$3" "$4" || return
	say ok "$1" "$2"
}

# reached CRITERION URL NEXT: whether it answers there, and sets $seen; otherwise that is a FAIL.
reached() {
	seen=$(get "$2" 2>&1) || say FAIL "$1" "$seen" "$3"
}

# is_up SERVICE [WORD [NAME]]: whether it is ready, and says so; up.sh starts it by that name.
is_up() {
	reached "$(column 6 "$1") is ${2-ready}" "$(readiness "$1")" "scripts/up.sh ${3-$1}" || return
	say ok "$(column 6 "$1") is ${2-ready}" "$(url "$1")"
}

# strings NAME: the strings of that name in the JSON that is read, a line each.
strings() {
	grep -Eo "\"$1\": *\"([^\"\\\\]|\\\\.)*\"" |
		sed 's/^"[^"]*": *"//; s/"$//; s/\\u003c/</g; s/\\u003e/>/g; s/\\u0026/\&/g; s/\\\(.\)/\1/g'
}

check_exporter() {
	criterion="exporter answers at / and /metrics"
	reached "$criterion" "$exporter/" "$start_model" || return
	reached "$criterion" "$exporter/metrics" "$start_model" || return
	say ok "$criterion" "$(printf '%s\n' "$seen" | grep -vc '^#') samples"

	result=$(metric "$exporter" model_result)
	judge "model_result is from 0 to 1" "$(printf '%s\n' "$result" | grep -xE '[01]|0[.][0-9]+|[0-9.]+e-[0-9]+')" \
		"it is '$result'" "see what listens on port ${exporter##*:}, then $start_model" || return

	criterion="model_result changes within two intervals"
	count=$(metric "$exporter" model_refreshes_total)
	wait_for 10 "there is a new result" has_new_result ||
		say FAIL "$criterion" "no new result in $waited s" "restart it without --interval" || return
	next=$(metric "$exporter" model_result)
	[ "$next" != "$result" ] || next="$next again, as with --value,"
	say ok "$criterion" "$result, then $next after $waited s"
}

has_new_result() {
	now=$(metric "$exporter" model_refreshes_total)
	[ -n "$now" ] && [ "$now" != "$count" ]
}

check_prometheus() {
	is_up prometheus || return

	criterion="its target is up and was scraped in the last 15 s"
	targets=$(get "$prometheus/api/v1/targets?state=active&scrapePool=model_mock")
	all=$(printf '%s\n' "$targets" | strings health | grep -c .)
	up=$(query "$prometheus" 'count(up{job="model_mock"} == 1 and timestamp(up{job="model_mock"}) > time() - 15)')
	if [ "$all" = 0 ]; then
		say FAIL "$criterion" "there is no target in the job model_mock" "wait 10 s; otherwise see $prometheus/targets"
	elif [ "${up:=0}" != "$all" ]; then
		why=$(printf '%s\n' "$targets" | strings lastError | grep . | head -n 1)
		say FAIL "$criterion" "$up of $all up (${why:-not scraped yet})" "$start_model"
	else
		say ok "$criterion" "$up of $all up"
	fi

	judge "Prometheus answers the query model_result" "$(query "$prometheus" 'model_result{job="model_mock"}')" "no value" "$start_model, then wait 10 s"

	# Prometheus reads its files again every 5 s; whether they are right is asked of its own tool.
	criterion="the rules of the file are loaded"
	rules=$(metric "$prometheus" prometheus_rule_group_rules)
	if wrong=$(refusal prometheus); then
		say FAIL "$criterion" "$wrong" "mend that; Prometheus reads its files again by itself"
	elif [ "$(metric "$prometheus" prometheus_config_last_reload_successful)" != 1 ]; then
		say FAIL "$criterion" "Prometheus refused its configuration the last time it read it" "wait 5 s; otherwise scripts/up.sh prometheus"
	elif get "$prometheus/api/v1/rules" | grep -q '"health":"err"'; then
		say FAIL "$criterion" "one cannot be evaluated" "see $prometheus/rules"
	else
		judge "$criterion" "${rules:+$rules rules}" "there is none" "see rule_files: in stack/prometheus/prometheus.yml"
	fi

	port=${alertmanager##*:}
	judge "Prometheus knows its Alertmanager" "$(get "$prometheus/api/v1/alertmanagers" | grep -o '"activeAlertmanagers":\[{[^]]*:'"$port/" | sed "s/.*/port $port/")" \
		"none is active" "see alerting: in stack/prometheus/prometheus.yml"
	check_writes Prometheus "$prometheus"
}

# check_writes WHO URL: whether what that Prometheus writes to other stores arrives; nothing where it
# writes to none. An error that may pass is tried again, so the samples only wait; others are lost.
check_writes() {
	total=$(metric "$2" prometheus_remote_storage_samples_total)
	[ -n "$total" ] || return
	lost=$(metric "$2" prometheus_remote_storage_samples_failed_total)
	scraped=$(metric "$2" prometheus_remote_storage_queue_highest_timestamp_seconds least)
	# Its name in older versions.
	scraped=${scraped:-$(metric "$2" prometheus_remote_storage_highest_timestamp_in_seconds)}
	sent=$(metric "$2" prometheus_remote_storage_queue_highest_sent_timestamp_seconds least)
	started=$(metric "$2" process_start_time_seconds)
	[ -n "$scraped" ] && [ -n "$sent" ] && [ -n "$started" ] ||
		say FAIL "what $1 writes arrives" "it does not tell how far it wrote" "see remote_write in its log" || return
	# Before the first was sent, its time is 0.
	behind=$(awk "BEGIN { sent = $sent > $started ? $sent : $started; printf \"%d\", ($scraped > sent ? $scraped - sent : 0) }")
	if [ "$lost" != 0 ]; then
		say FAIL "what $1 writes arrives" "$lost samples were refused and are lost since it started" "see remote_write in its log: it names the store's answer"
	elif [ "$behind" -gt 15 ]; then
		say FAIL "what $1 writes arrives" "the newest that arrived is $behind s older than the newest scraped" "see whether the store runs and has room; nothing is lost while $1 runs"
	else
		say ok "what $1 writes arrives" "$total samples, $behind s behind"
	fi
}

check_store() {
	for name in store site-a site-b; do
		address=http://localhost:$(store_port $name)
		reached "$name is ready" "$address/-/ready" "scripts/store.sh up" || continue
		say ok "$name is ready" "$address"
		[ $name = store ] || check_writes "$name" "$address"
	done
}

check_alertmanager() {
	is_up alertmanager || return

	criterion="Alertmanager runs the configuration of the file"
	loaded=$(metric "$alertmanager" alertmanager_config_last_reload_success_timestamp_seconds)
	if wrong=$(refusal alertmanager); then
		say FAIL "$criterion" "$wrong" "mend that, then scripts/up.sh alertmanager"
	elif [ "$(changed "$root/stack/alertmanager/alertmanager.yml")" -gt "${loaded%.*}" ]; then
		say FAIL "$criterion" "the file was changed since it was read" "scripts/up.sh alertmanager"
	else
		say ok "$criterion" "read since it was changed"
	fi

	criterion="no notification failed"
	sent=$(metric "$alertmanager" alertmanager_notifications_total)
	lost=$(metric "$alertmanager" alertmanager_notifications_failed_total)
	if [ "$lost" != 0 ]; then
		say FAIL "$criterion" "of $sent since Alertmanager started, $lost failed" "docker compose -f stack/compose.yaml logs alertmanager says why; once that is mended, docker compose -f stack/compose.yaml restart alertmanager counts anew"
	elif [ "$sent" = 0 ]; then
		say open "$criterion" "none was sent yet" "scripts/check.sh --alert"
	else
		say ok "$criterion" "$sent sent"
	fi
}

# changed FILE: when it was, or was put there, in Unix time. An old file that is copied keeps its time
# of modification, but not this one.
changed() {
	stat -c %Z "$1" 2>/dev/null || stat -f %c "$1"
}

check_mailpit() {
	is_up mailpit
}

# knows_password CRITERION: whether stack/.env says it, and sets $password; otherwise that is a FAIL.
knows_password() {
	seen=$( (read_password) 2>&1) || say FAIL "$1" "${seen#*: }" "mend the file" || return
	read_password
}

check_grafana() {
	is_up grafana healthy || return

	criterion="the password in stack/.env works"
	knows_password "$criterion" || return
	judge "$criterion" "$(as_admin "$password" -f "$grafana/api/user" 2>/dev/null | strings login)" "Grafana refuses it" "stack/README.md, 'forgotten Grafana password'" || return
	code=$(as_admin admin -o /dev/null -w '%{http_code}' "$grafana/api/user")
	judge "admin/admin is refused" "$([ "$code" != 401 ] || echo "HTTP 401")" "HTTP $code" "change the password at $grafana/profile/password"

	result=$(as_admin "$password" --get --data-urlencode 'query=model_result{job="model_mock"}' \
		"$grafana/api/datasources/proxy/uid/prometheus/api/v1/query" | one_value)
	judge "the data source answers model_result" "$result" "no value" "scripts/check.sh exporter prometheus"

	knows_rule "the dashboard is there" || return
	criterion="the dashboard is there: 5 s, 15 minutes, a red line at the rule's $limit"
	missing=$(as_admin "$password" "$grafana/api/dashboards/uid/modelmock" | lacks | cut -f 2)
	if [ "$missing" = nothing ]; then
		say ok "$criterion" "$grafana/d/modelmock"
	else
		say FAIL "$criterion" "${missing:-it is not there}" "scripts/up.sh grafana; where you changed the rule, its line is in stack/grafana/dashboards/model.json"
	fi
}

# knows_rule CRITERION: whether Prometheus has the rule, and sets $rule to its query and $limit to the
# figure at the end of it; otherwise that is a FAIL.
knows_rule() {
	rule=$(get --get --data-urlencode 'rule_name[]=ModelResultHigh' "$prometheus/api/v1/rules" 2>/dev/null | strings query | head -n 1)
	limit=$(printf '%s\n' "$rule" | sed -n 's/.*>=\{0,1\} \([0-9.]*\)$/\1/p')
	[ -n "$limit" ] || say FAIL "$1" "Prometheus has no rule ModelResultHigh that ends with > and a figure" "scripts/check.sh prometheus; see stack/prometheus/rules/"
}

# lacks: of the dashboard whose JSON is read: how many things it lacks, which and where to set them, or
# "nothing", and its title, with tabs between. Of its panels it takes the one that lacks least. Grafana
# sorts the names in an object, so from one fieldConfig to the next there is one panel, up to its type.
lacks() {
	sed 's/"fieldConfig":/\
&/g' | awk -v limit="$limit" '
		function need(pattern, todo) {
			if (json !~ pattern) lacking[++n] = todo
		}
		function listed(  i, all) {
			for (i = 1; i <= n; i++) all = all (i > 1 ? "; " : "") lacking[i]
			return all
		}
		function title_behind(key) {
			json = substr(json, index(json, key))
			return match(json, /"title": *"([^"\\]|\\.)*"/) ? substr(json, RSTART + 9, RLENGTH - 10) : ""
		}
		{ part[NR] = $0 }
		END {
			json = part[NR]
			need("\"refresh\": *\"5s\"", "refresh is not 5s (the list beside Refresh)")
			need("\"from\": *\"now-15m\", *\"to\": *\"now\"", "the time range is not Last 15 minutes (above the panels; tick Update default time range when you save)")
			of_all = n
			need("^$", "no Time series has the query model_result (Add visualization)")
			best = listed()
			least = n + 5
			for (i = 2; i <= NR; i++) {
				json = part[i]
				if (json !~ /"type": *"timeseries"/ || json !~ /"expr": *"(([^"\\]|\\.)*[^a-z_"\\])?model_result([^a-z_]|")/) continue
				n = of_all
				need("\"min\": *0[,}]", "Min is not 0 (Standard options)")
				need("\"max\": *1[,}]", "Max is not 1 (Standard options)")
				need("\"color\": *\"([a-z-]*red|#[C-Fc-f].[0-5][^\"]*)\", *\"value\": *" limit "[,}]", "no red threshold at " limit " (Thresholds)")
				need("\"thresholdsStyle\": *[{]\"mode\": *\"(line|dashed)", "the threshold is not shown as a line (Show thresholds: As lines)")
				if (n >= least) continue
				least = n
				best = n ? "panel " title_behind("\"targets\":") ": " listed() : "nothing"
			}
			json = part[NR]
			name = title_behind("\"time\":")
			if (name != "") print least + 0 "\t" best "\t" name
		}
	'
}

# check_own: the best of the dashboards that did not come with the lab.
check_own() {
	criterion="a dashboard of your own, with a red line"
	reached "$criterion" "$(readiness grafana)" "scripts/up.sh grafana" || return
	knows_password "$criterion" && knows_rule "$criterion" || return
	found=$(as_admin "$password" -f "$grafana/api/search?type=dash-db&limit=5000") ||
		say FAIL "$criterion" "Grafana does not let admin in" "scripts/check.sh grafana" || return
	best=$(for uid in $(printf '%s\n' "$found" | strings uid); do
		dashboard=$(as_admin "$password" "$grafana/api/dashboards/uid/$uid")
		printf '%s\n' "$dashboard" | grep -q '"provisioned": *true' ||
			printf '%s\n' "$dashboard" | lacks | sed "s|\$|	$grafana/d/$uid|"
	done | sort -n | head -n 1)
	[ -n "$best" ] || say FAIL "$criterion" "there is none" "Dashboards > New > New dashboard at $grafana, as in section 5.3" || return
	missing=$(printf '%s\n' "$best" | cut -f 2)
	name=$(printf '%s\n' "$best" | cut -f 3)
	at=$(printf '%s\n' "$best" | cut -f 4)
	if [ "$missing" = nothing ]; then
		say ok "$criterion" "$name, $at"
	else
		say FAIL "$criterion" "$name, $missing" "Edit at $at, then Save dashboard"
	fi
}

# lines RANGE [TIME]: how many results of this model Loki has of that long before; nothing for none.
lines() {
	get --get --data-urlencode "query=sum(count_over_time({job=\"model_mock\", instance=\"$instance\"} |= \"model_result\" [$1]))" \
		--data-urlencode "time=${2-}" "$(url loki)/loki/api/v1/query" 2>/dev/null | one_value
}

# agrees: whether Loki has each result of the model, by its lines' times, which are cut, and sets $same.
agrees() {
	latest=$(metric "$exporter" model_last_refresh_timestamp_seconds)
	drawn=$(metric "$exporter" model_refreshes_total)
	logged=$(lines "$(awk "BEGIN { printf \"%d\", ($latest - $started) * 1000 + 2 }")ms" "$latest")
	same=
	[ "${logged:=0}" = "$drawn" ] && same="$drawn results since the model started"
}

check_logging() {
	is_up loki ready logging && is_up fluent-bit ready logging || return

	start_logged="start the model as $(logged_command)"
	reached "the model's lines arrive" "$exporter/metrics" "$start_logged" || return
	lost="Loki refused $(metric "$(url loki)" loki_discarded_samples_total | grep . || echo 0) since it started: docker compose -f stack/compose.yaml logs fluent-bit"
	todo="$start_logged; where it runs so: $lost"
	[ -d "$root/stack/logs" ] || todo="scripts/up.sh logging makes the folder stack/logs, then $start_logged"
	judge "the model's lines arrive" "$(lines 10s | sed 's/$/ in the last 10 s/')" "none in the last 10 s" "$todo" || return

	started=$(metric "$exporter" process_start_time_seconds)
	wait_for 5 "the newest line arrives" agrees
	judge "the log and the metric count the same" "$same" "$logged in the log, $drawn in the metric" "$start_logged; a second model needs a file of its own, as stack/logs/localhost:5001.log. $lost"
	knows_password "the data source Loki answers" || return
	seen=$(as_admin "$password" --get --data-urlencode 'query=vector(1)' "$grafana/api/datasources/proxy/uid/loki/loki/api/v1/query" 2>&1)
	judge "the data source Loki answers" "$(printf '%s\n' "$seen" | one_value | sed 's/.*/through Grafana/')" "$seen" "scripts/up.sh grafana"
}

# is_high: whether the rule's own query has an answer for this model.
is_high() {
	seen=$(metric "$exporter" model_result)
	[ -n "$seen" ] || gone="the model is away"
	[ "$waited" -lt 15 ] || [ -n "$(query "$prometheus" "${rule% >*}")" ] || gone="the rule's ${rule% >*} has no value"
	result=$(query "$prometheus" "($rule) and on (instance) up{instance=\"$instance\"}")
	[ -n "$result" ]
}

# fires: whether the alert does, and sets $active to since when. Prometheus' API tells of now, where the
# metric ALERTS may be from before its start.
fires() {
	active=$(get "$prometheus/api/v1/alerts" 2>/dev/null | sed 's/{"labels":/\
/g' | grep '"alertname":"ModelResultHigh"' | grep "\"instance\":\"$instance\"" | grep '"state":"firing"' | strings activeAt | head -n 1)
	[ -n "$active" ]
}

# in_alertmanager: whether it has the alert of the model, and sets $held to what it says of it, and $since
# to since when, to the second.
in_alertmanager() {
	held=$(get --get --data-urlencode 'filter=alertname="ModelResultHigh"' --data-urlencode "filter=instance=\"$instance\"" "$alertmanager/api/v2/alerts" 2>/dev/null)
	since=$(printf '%s\n' "$held" | strings startsAt | head -n 1)
	since=${since%%[.Z]*}
	[ -n "$since" ]
}

# has_mail: whether a mail tells of the model's firing since then.
has_mail() {
	get "$mailpit/api/v1/messages?limit=500" 2>/dev/null | strings Subject | grep -q "^FIRING ModelResultHigh at $instance since ${since#*T} UTC:"
}

check_alert() {
	# Whatever does not answer is said before anything is waited for.
	reached "a result is high" "$exporter/metrics" "$start_model" || return
	reached "the alert fires" "$(readiness prometheus)" "scripts/up.sh prometheus" || return
	reached "the mail arrives" "$(readiness alertmanager)" "scripts/up.sh alertmanager" || return
	reached "the mail arrives" "$(readiness mailpit)" "scripts/up.sh mailpit" || return
	knows_rule "the alert fires" || return

	criterion="a result passes $limit"
	wait_for 600 "$criterion" is_high ||
		say FAIL "$criterion" "${gone:-none in $waited s, the last was $seen}" "start the model: $(model_command --value 0.95); where it runs so, see expr: of ModelResultHigh in stack/prometheus/rules/" || return
	say ok "$criterion" "$result after $waited s"
	criterion="the alert fires"
	wait_for 30 "$criterion" fires || say FAIL "$criterion" "not within $waited s" "scripts/check.sh prometheus" || return
	say ok "$criterion" "ModelResultHigh after $waited s more"

	criterion="the mail arrives"
	remembered="start the model with --value 0.5, wait for the mail RESOLVED ModelResultHigh (up to 5 minutes), then let it fire again"
	lost=$(metric "$alertmanager" alertmanager_notifications_failed_total)
	if ! wait_for 10 "Alertmanager has the alert" in_alertmanager; then
		say FAIL "$criterion" "Alertmanager has no such alert" "scripts/check.sh prometheus"
	elif silence=$(printf '%s\n' "$held" | sed -n 's/.*"silencedBy":\["\([^"]*\)".*/\1/p') && [ -n "$silence" ]; then
		say FAIL "$criterion" "the alert is silenced, no mail is sent" "expire the silence: $alertmanager/#/silences/$silence > Expire > Confirm"
	elif printf '%s\n' "$held" | grep -q '"state":"suppressed"'; then
		say FAIL "$criterion" "the alert is inhibited or muted, no mail is sent" "see inhibit_rules: and time intervals in stack/alertmanager/alertmanager.yml"
	elif expr "$since" '<' "${active%%[.Z]*}" >/dev/null; then
		say FAIL "$criterion" "Alertmanager knows this alert since ${since#*T} UTC, and mailed it then" "$remembered"
	elif wait_for 30 "$criterion" has_mail; then
		say ok "$criterion" "at $mailpit after $waited s more"
	elif [ "$(metric "$alertmanager" alertmanager_notifications_failed_total)" != "$lost" ]; then
		say FAIL "$criterion" "not within $waited s, and notifications fail" "scripts/check.sh alertmanager"
	else
		say FAIL "$criterion" "not within $waited s, though none failed" "Alertmanager may take it for one that it mailed before: $remembered. Does receivers: in stack/alertmanager/alertmanager.yml still send to $mailpit?"
	fi
}

all_parts="exporter $(services)"
case ${1-} in
-h | --help)
	print_help
	exit
	;;
--alert | --own)
	[ $# -eq 1 ] || usage_error "$1 takes no other argument"
	set -- "${1#--}"
	;;
'')
	# shellcheck disable=SC2086 # the names are words
	set -- $all_parts
	! listens "$(column 3 loki)" || set -- "$@" logging
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
for part in "$@"; do
	"check_$part"
done
echo "$ok passed, $FAIL failed$([ $open -eq 0 ] || echo ", $open open")"
[ $FAIL -eq 0 ]
