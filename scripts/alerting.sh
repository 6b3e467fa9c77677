# shellcheck shell=sh
# The parts of check.sh, which sources this file, on alerts: the rules in Prometheus, Alertmanager, Mailpit, and for
# --alert one high result on its way to the alert and to the mail.
# shellcheck disable=SC2154 # check.sh and common.sh set the other variables

# load_rule: sets $rules to Prometheus' answer about its alerting rules, and $alert, $limit, $alerts and $rule to the
# name, the figure, the path of the alerts in $rules, and the query of one rule: the first on model_result that ends
# with > and a figure, or otherwise the first on model_result.
load_rule() {
	rules=$(get "$prometheus/api/v1/rules?type=alert" 2>/dev/null | json_values)
	found=$(printf '%s\n' "$rules" | awk -F '\t' '
		$1 ~ /^data.groups.[0-9]+.rules.[0-9]+.name$/ { name = $2 }
		$1 ~ /^data.groups.[0-9]+.rules.[0-9]+.query$/ && $2 ~ /(^|[^A-Za-z0-9_:])model_result([^A-Za-z0-9_:]|$)/ {
			limit = match($2, />=? [0-9.]+$/) ? substr($2, RSTART + 1) : ""
			sub(/^=? /, "", limit)
			print limit == "", name "\t" limit "\t" substr($1, 1, length($1) - 5) "alerts\t" $2
		}' | sort -s -k 1,1 | head -n 1 | sed 's/^[01] //')
	alert=$(printf '%s\n' "$found" | cut -f 1)
	limit=$(printf '%s\n' "$found" | cut -f 2)
	alerts=$(printf '%s\n' "$found" | cut -f 3)
	rule=$(printf '%s\n' "$found" | cut -f 4)
}

check_rules() {
	criterion="the alerting rules are loaded"
	load_rule
	if [ "$stack" = my-stack ] && [ -z "$(printf '%s\n' "$rules" | values data/groups/N/name)" ]; then
		report open "$criterion" "Prometheus hasn't loaded a rule yet" "section 5.4"
		return
	fi
	error=$(printf '%s\n' "$rules" | values data/groups/N/rules/N/lastError | grep . | head -n 1)
	report_value "$criterion" "$([ -n "$error" ] || echo "${rule:+$alert: $rule}")" \
		"${error:-none of them asks for model_result}" "see rule_files: in its configuration, and $prometheus/rules"

	# On a network of containers, an Alertmanager has the name of its service.
	response=$(get "$prometheus/api/v1/alertmanagers" 2>/dev/null | json_values |
		values data/activeAlertmanagers/N/url | paste -s -d ' ' -)
	names="localhost|127[.]0[.]0[.]1|[[]::1[]]" todo="set ${alertmanager#http://} under alerting:, then $restart"
	if ! is_on_host_network; then
		todo="ask whose localhost that is (section 5.2), then $start"
		names=$(docker inspect -f '{{index .Config.Labels "com.docker.compose.service"}}' "$(container alertmanager)")
	fi
	found=$(printf '%s\n' "$response" | grep -oE "http://($names):${alertmanager##*:}/[^ ]*" | head -n 1)
	report_value "Prometheus knows its Alertmanager" "$found" "it sends alerts to ${response:-no address}" "$todo"
}

# load_notifications: sets $sent to the notifications since Alertmanager started, $lost to those that failed, $tries to
# the requests that failed, and $reason to why, if one is lost or waits to be sent again.
load_notifications() {
	sent=$(metric "$alertmanager" alertmanager_notifications_total)
	lost=$(metric "$alertmanager" alertmanager_notifications_failed_total)
	tries=$(metric "$alertmanager" alertmanager_notification_requests_failed_total)
	reason=
	# A notification that arrived had one request that didn't fail.
	done=$(($(metric "$alertmanager" alertmanager_notification_requests_total) - tries))
	if [ "$lost" != 0 ] || { [ "$tries" != 0 ] && [ "$done" -lt "$sent" ]; }; then
		reason=$(docker logs --tail 1000 "$(container alertmanager)" 2>&1 | sed -n '/otif/s/.* err="\{0,1\}//p' | tail -n 1)
		reason=${reason%\"}
		reason=${reason:-see docker logs}
	fi
}

check_alertmanager() {
	check_ready alertmanager || return
	check_config alertmanager "Alertmanager's configuration is right" \
		alertmanager_config_last_reload_success_timestamp_seconds

	criterion="no notification failed"
	load_notifications
	if [ -n "$reason" ]; then
		[ "$lost" != 0 ] && response="Alertmanager gave up on $lost of $sent" || response="$tries attempts to send one failed"
		report FAIL "$criterion" "$response: $reason" "correct that; then docker restart $container counts from 0"
	elif [ "$sent" = 0 ]; then
		report open "$criterion" "Alertmanager hasn't sent one yet" "scripts/check.sh --alert"
	else
		report ok "$criterion" "$sent sent"
	fi
}

check_mailpit() { check_ready mailpit; }

# of_model FIELD: of series or alerts, in lines N/path<tab>value, prints the field of the first one of this model. One
# without the label instance, as of max(model_result), is of this model, too.
of_model() {
	awk -F '\t' -v instance="$instance" -v field="$1" '
		{ n = $1; sub(/\/.*/, "", n); sub(/^[0-9]+\//, "", $1) }
		$1 ~ /^(metric|labels).instance$/ && $2 != instance { is_other[n] = 1 }
		$1 == field { value[n] = $2 }
		END { for (n in value) if (!(n in is_other)) { print value[n]; exit } }'
}

# is_high: whether the rule's query has an answer for this model; sets $result.
is_high() {
	response=$(metric "$exporter" model_result)
	[ -n "$response" ] || abort_reason="the model doesn't answer"
	[ "$waited" -lt 15 ] || [ -n "$(query "$prometheus" "count(${rule%[<>]*})")" ] ||
		abort_reason="Prometheus doesn't find the rule's ${rule%[<>]*}"
	result=$(get --get --data-urlencode "query=$rule" "$prometheus/api/v1/query" 2>/dev/null | json_values |
		sed -n 's|^data/result/||p' | of_model value/1)
	[ -n "$result" ]
}

# fires: whether the alert of the model fires; sets $found to the rule's alerts, and $active to when it became pending.
fires() {
	found=$(get "$prometheus/api/v1/rules?type=alert" 2>/dev/null | json_values | sed -n "s|^$alerts/||p")
	response=$(printf '%s\n' "$found" | of_model state)
	active=$(printf '%s\n' "$found" | of_model activeAt | cut -c 1-19)
	[ "$response" = firing ]
}

# has_mail: whether a mail since $active names the alert and the model ($named), and doesn't tell of its end.
has_mail() {
	known=$(get --get --data-urlencode "filter=alertname=\"$alert\"" "$alertmanager/api/v2/alerts" 2>/dev/null |
		json_values)
	silence=$(printf '%s\n' "$known" | of_model status/silencedBy/0)
	since=$(printf '%s\n' "$known" | of_model startsAt | cut -c 1-19)
	if [ -n "$silence" ]; then
		abort_reason="the alert is silenced, expire the silence: $alertmanager/#/silences/$silence > Expire > Confirm"
	elif [ "$(printf '%s\n' "$known" | of_model status/state)" = suppressed ]; then
		abort_reason="the alert is inhibited or muted, see inhibit_rules: and time intervals in its configuration"
	elif [ -n "$since" ] && expr "$since" '<' "$active" >/dev/null; then
		abort_reason="Alertmanager knows this alert since ${since#*T} UTC, and mailed it then"
	fi
	get "$mailpit/api/v1/messages?limit=500" 2>/dev/null | json_values | sed -n 's|^messages/||p' |
		awk -F '\t' -v alert="$alert" -v named="$named" -v active="$active" '
			{ n = $1; sub(/\/.*/, "", n) }
			$1 ~ /(Subject|Snippet)$/ { text[n] = text[n] " " $2 }
			$1 ~ /Created$/ && substr($2, 1, 19) >= active { is_new[n] = 1 }
			END {
				for (n in is_new)
					# BusyBox finds an empty name in no text.
					if (index(text[n], alert) && (named == "" || index(text[n], named)) && text[n] !~ /RESOLVED/) exit 0
				exit 1
			}'
}

check_alert() {
	require_http "a result is high" "$exporter/metrics" "$start_model" || return
	for service in prometheus alertmanager mailpit; do
		require_http "$(service_field 6 $service) is ready" "$(readiness $service)" "$start" || return
	done
	load_rule
	criterion="a result passes ${limit:-the limit of the rule}"
	[ -n "$rule" ] || report FAIL "$criterion" "Prometheus hasn't loaded an alert on model_result" "section 5.4" || return
	! printf '%s\n' "$rule" | grep -qE '^model_result([{].*[}])? >=? [1-9]' ||
		report FAIL "$criterion" "a result is at most 1" "correct expr: of $alert (section 5.4), then $restart" || return
	wait_for 12 "Prometheus scrapes the model" has_scraped
	# The label instance of the target that is the model here, under any address.
	instance=$(printf '%s\n' "$targets" | awk -F '\t' -v port=":${exporter##*:}/" '
		$1 ~ /labels.instance$/ { label = $2 }
		$1 ~ /scrapeUrl$/ && index($2, port) && $2 ~ /\/(localhost|127[.]|\[::1|host[.]docker)/ { print label; exit }')
	[ -n "$instance" ] || report FAIL "$criterion" "Prometheus doesn't scrape the model" "scripts/check.sh prometheus" ||
		return

	wait_for 600 "$criterion" is_high ||
		report FAIL "$criterion" "${abort_reason:-none in $waited s, the last was $response}" \
			"start the model: $(model_command --value 0.95); if it runs that way, see expr: of $alert" || return
	report ok "$criterion" "$result after $waited s"
	criterion="the alert fires"
	wait_for 90 "$criterion" fires ||
		report FAIL "$criterion" "not within $waited s${response:+, it is $response}" \
			"keep the result high for longer than for: in the rule: $(model_command --value 0.95)" || return
	report ok "$criterion" "$alert after $waited s more"
	criterion="the mail arrives"
	named=$(printf '%s\n' "$found" | of_model labels/instance)
	wait_for 60 "$criterion" has_mail && report ok "$criterion" "at $mailpit after $waited s more" && return
	load_notifications
	todo="start the model with --value 0.5, wait for the mail RESOLVED, then let it fire again"
	[ -z "$reason" ] || todo="correct that"
	report FAIL "$criterion" "${abort_reason:-not within $waited s}${reason:+; $reason}" \
		"$todo; scripts/check.sh alertmanager says more"
}
