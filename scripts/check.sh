#!/bin/sh
# check.sh [PART...]: checks each acceptance criterion of the lab, a line each, and counts them.
# check.sh --alert: waits until a result passes 0.9, the alert fires and the mail arrives.
#
# PART is exporter, prometheus, alertmanager, mailpit or grafana; all five by default. Where the store of
# scripts/store.sh runs there is a sixth: store.
# Exit code 1 where a criterion is not met.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
exporter=http://localhost:5000
prometheus=http://localhost:9090
alertmanager=http://localhost:9093
mailpit=http://localhost:8025
grafana=http://localhost:3000
rule_file=$root/stack/prometheus/rules/model.yml
start_model="start the model: $(model_command)"
passed=0
failed=0

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

# reached CRITERION URL SERVICE: whether it answers there, and sets $seen; otherwise that is a FAIL.
reached() {
	seen=$(get "$2" 2>&1) && return
	fail "$1" "$seen" "scripts/up.sh $3"
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

# alerting_rules: what Prometheus has loaded, each with its state.
alerting_rules() {
	get "$prometheus/api/v1/rules?type=alert" 2>/dev/null
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
	waited=0
	now=$page
	while [ $waited -lt 10 ] && [ "$(echo "$now" | sample model_refreshes_total)" = "$count" ]; do
		sleep 1
		waited=$((waited + 1))
		now=$(get "$exporter/metrics" 2>/dev/null)
	done
	next=$(echo "$now" | sample model_result)
	if [ "$(echo "$now" | sample model_refreshes_total)" = "$count" ]; then
		fail "model_result changes within two intervals" "no new result in $waited s" "restart it without --interval"
	elif [ "$next" = "$result" ]; then
		ok "model_result changes within two intervals" "drawn again after $waited s, and $next again, as with --value"
	else
		ok "model_result changes within two intervals" "$result, then $next after $waited s"
	fi
}

check_prometheus() {
	reached "Prometheus is ready" "$prometheus/-/ready" prometheus || return
	ok "Prometheus is ready" "$prometheus"

	targets=$(ask 'count(up{job="model_mock"})')
	up=$(ask 'sum(up{job="model_mock"})')
	age=$(ask 'round(time() - min(timestamp(up{job="model_mock"})), 0.1)')
	criterion="its target is up and was scraped in the last 15 s"
	if [ -z "$targets" ]; then
		fail "$criterion" "there is no target in the job model_mock" "wait 10 s; otherwise see $prometheus/targets"
	elif [ "$up" != "$targets" ]; then
		error=$(get "$prometheus/api/v1/targets?state=active" | sed -n "s/\\\\\"/'/g; s/.*\"lastError\":\"\([^\"]\{1,\}\)\".*/\1/p")
		fail "$criterion" "$up of $targets up (${error:-no error})" "$start_model"
	elif holds "$age > 15"; then
		fail "$criterion" "scraped $age s ago" "see $prometheus/targets"
	else
		ok "$criterion" "$up of $targets up, scraped $age s ago"
	fi

	result=$(ask 'model_result{job="model_mock"}')
	if [ -n "$result" ]; then
		ok "Prometheus answers the query model_result" "$result"
	else
		fail "Prometheus answers the query model_result" "no value" "$start_model, then wait 10 s"
	fi

	rules=$(alerting_rules)
	missing=
	# shellcheck disable=SC2013 # a rule's name is one word
	for rule in $(sed -n 's/.*- alert: *//p' "$rule_file"); do
		echo "$rules" | grep -q "\"name\":\"$rule\"" || missing="$missing $rule"
	done
	if [ -n "$missing" ]; then
		fail "the rules of the file are loaded" "not loaded:$missing" "scripts/up.sh prometheus"
	elif echo "$rules" | grep -q '"health":"err"'; then
		fail "the rules of the file are loaded" "one cannot be evaluated" "see $prometheus/rules"
	else
		ok "the rules of the file are loaded" "$(grep -c -- '- alert:' "$rule_file") rules"
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
	reached "Alertmanager is ready" "$alertmanager/-/ready" alertmanager || return
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

	lost=$(echo "$metrics" | awk '/^alertmanager_notifications_failed_total/ { n += $2 } END { print n + 0 }')
	if [ "$lost" = 0 ]; then
		ok "no notification failed" "$(echo "$metrics" | awk '/^alertmanager_notifications_total/ { n += $2 } END { print n + 0 }') sent"
	else
		fail "no notification failed" "$lost failed since it started" "docker compose -f stack/compose.yaml logs alertmanager"
	fi
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
	reached "Mailpit is ready" "$mailpit/readyz" mailpit || return
	ok "Mailpit is ready" "$(get "$mailpit/api/v1/messages?limit=1" | sed -n 's/.*"total":\([0-9]*\).*/\1/p') messages at $mailpit"
}

check_grafana() {
	reached "Grafana is healthy" "$grafana/api/health" grafana || return
	ok "Grafana is healthy" "version $(echo "$seen" | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p')"

	if ! seen=$( (read_password) 2>&1); then
		fail "the password in stack/.env works" "$seen" "mend the file"
		return
	fi
	read_password
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

	limit=$(sed -n 's/.*expr: model_result.* > \([0-9.]*\)$/\1/p' "$rule_file")
	dashboard=$(as_admin "$password" "$grafana/api/dashboards/uid/modelmock" | tr -d ' \n')
	missing=
	for part in '"refresh":"5s"' '"from":"now-15m"' '"thresholdsStyle":{"mode":"line"}' "{\"color\":\"red\",\"value\":$limit}"; do
		echo "$dashboard" | grep -qF "$part" || missing="$missing $part"
	done
	if [ -z "$missing" ]; then
		ok "the dashboard is there: 5 s, 15 minutes, a red line at the rule's $limit" "$grafana/d/modelmock"
	else
		fail "the dashboard is there: 5 s, 15 minutes, a red line at the rule's $limit" "not found:$missing" "scripts/up.sh grafana"
	fi
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds, with progress; sets $waited.
wait_for() {
	limit=$1
	what=$2
	shift 2
	waited=0
	until "$@"; do
		[ $waited -lt "$limit" ] || return 1
		[ $((waited % 10)) -ne 9 ] || echo "      waiting until $what ($waited s)"
		sleep 1
		waited=$((waited + 1))
	done
}

is_high() {
	result=$(get "$exporter/metrics" 2>/dev/null | sample model_result)
	[ -n "$result" ] && holds "$result > 0.9"
}

# fires: asked of the rule, as its metric ALERTS is first written at Prometheus' second evaluation.
fires() {
	alerting_rules | grep -q '"state":"firing","name":"ModelResultHigh"'
}

firing_mails() {
	mails "$mailpit" "FIRING ModelResultHigh"
}

# has_new_mail: whether one came that was not there before; their number tells nothing in a full mailbox.
has_new_mail() {
	firing_mails | grep -qvxF -- "${before:-none}"
}

check_alert() {
	before=$(firing_mails)
	# An alert that fires already has had its mail: there comes no other until it fires again.
	if fires && [ -n "$before" ]; then
		before=
		echo "      the alert fires already"
	fi
	if ! wait_for 600 "a result passes 0.9" is_high; then
		fail "a result passes 0.9" "none in $waited s" "start the model: $(model_command --value 0.95)"
		return
	fi
	ok "a result passes 0.9" "$result after $waited s"
	if ! wait_for 30 "the alert fires" fires; then
		fail "the alert fires" "not within $waited s" "scripts/check.sh prometheus"
		return
	fi
	ok "the alert fires" "ModelResultHigh after $waited s more"
	if ! wait_for 30 "the mail arrives" has_new_mail; then
		fail "the mail arrives" "not within $waited s" "scripts/check.sh alertmanager mailpit"
		return
	fi
	ok "the mail arrives" "at $mailpit after $waited s more"
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
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
