# shellcheck shell=sh
# The parts of check.sh, which sources this file, on alerts: the rules in Prometheus, Alertmanager, Mailpit, and for
# --alert one high result on its way to the alert and to the mail.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

# load_rule: sets $rules to Prometheus' answer about its rules, $alerts_on_model to a line of rules.awk for each alert
# on the model's result, and $limits to the figures that a result must pass, a line each.
load_rule() {
	rules=$(get "$prometheus/api/v1/rules" 2>/dev/null | json_values)
	found=$(printf '%s\n' "$rules" | awk -f "$root/scripts/lib/check/rules.awk")
	alerts_on_model=$(printf '%s\n' "$found" | awk -F '\t' '$1 == "alerting"')
	# The names of rules that record each result from 0 to 1, so that a figure is a limit for them, too.
	models=model_result
	records=$(printf '%s\n' "$found" | awk -F '\t' '$1 == "recording"' | cut -f 3,7)
	while IFS=$tab read -r name expression; do
		[ -n "$name" ] || continue
		! query_facts "$expression" | grep -qx result || models="$models $name"
	done <<END
$records
END
	limits=$(printf '%s\n' "$alerts_on_model" | cut -f 7 | while IFS= read -r expression; do
		query_facts "$expression"
	done | sed -n 's/^limit //p')
}

# query_facts QUERY: the lines that query.awk prints about it; none if this Prometheus can't parse a query for others.
query_facts() {
	get --get --data-urlencode "query=$1" "$prometheus/api/v1/parse_query" 2>/dev/null | json_values |
		models="$models" awk -f "$root/scripts/lib/check/query.awk"
}

# rule_problem QUERY: why an alert with that query tells nothing about the result, if so.
rule_problem() {
	facts=$(query_facts "$1")
	case $(printf '%s\n' "$facts" | grep -xE 'always|never') in
	always) echo "it fires at any value: $1" ;;
	never) echo "it never fires, as a result is at most 1: $1" ;;
	*)
		printf '%s\n' "$facts" | sed -n 's/^selector //p' | while IFS= read -r selected; do
			case $selected in *model_result*) ;; *) continue ;; esac
			[ -n "$(query "$prometheus" "count(last_over_time(${selected}[5m]))")" ] || echo "Prometheus doesn't find $selected"
		done | head -n 1
		;;
	esac
}

check_rules() {
	criterion="the alerting rules are loaded"
	load_rule
	if [ "$stack" = my-stack ] && [ -z "$(printf '%s\n' "$rules" | values data/groups/N/name)" ]; then
		verdict open "$criterion" "Prometheus hasn't loaded a rule yet" "$page_4"
		return
	fi
	error=$(printf '%s\n' "$rules" | values data/groups/N/rules/N/lastError | grep . | head -n 1)
	if [ -n "$error" ]; then
		verdict FAIL "$criterion" "$error" "correct expr:, then $restart; see $prometheus/rules"
		return
	fi
	if [ -z "$alerts_on_model" ]; then
		other=$(printf '%s\n' "$rules" | values data/groups/N/rules/N/query | head -n 1)
		verdict FAIL "$criterion" "none of them asks for model_result${other:+, but for $other}" \
			"correct expr: of the rule, then $restart; see $prometheus/rules"
		return
	fi
	first=$(printf '%s\n' "$alerts_on_model" | awk -F '\t' '{ print $3 ": " $7; exit }')
	problem=$(printf '%s\n' "$alerts_on_model" | while IFS= read -r line; do
		seen=$(rule_problem "$(printf '%s\n' "$line" | cut -f 7)")
		[ -z "$seen" ] || printf '%s: %s\n' "$(printf '%s\n' "$line" | cut -f 3)" "$seen"
	done | head -n 1)
	case $problem in
	*"Prometheus doesn't find "*) verdict open "$criterion" "$problem" "correct expr: of the rule, then $restart" ;;
	?*) verdict FAIL "$criterion" "$problem" "write expr: as in model_result > 0.9, then $restart" ;;
	*) verdict ok "$criterion" "$first" ;;
	esac
}

# where_is URL: whether that address, as Prometheus has it, is the stack's Alertmanager: yes, no or unknown. It asks
# from Prometheus' network, and compares the start of the one that answers with that of the one on this machine.
where_is() {
	base=${1%/api/v2/alerts}
	if is_on_host_network; then
		case $base in
		"http://localhost:${alertmanager##*:}" | "http://127.0.0.1:${alertmanager##*:}" | "http://[::1]:${alertmanager##*:}")
			echo yes
			return
			;;
		esac
		answer=$(get "$base/api/v2/status" 2>/dev/null)
	else
		# A container has a localhost of its own, or shares it with another one.
		answer=$(docker exec "$container" wget -q -Y off -T 5 -O - "$base/api/v2/status" 2>/dev/null)
		[ $? -lt 126 ] || answer=$(delivered_to "$1")
	fi
	started=$(get "$alertmanager/api/v2/status" 2>/dev/null | json_values | values uptime)
	case $answer in
	yes | unknown) echo "$answer" ;;
	*"\"uptime\":\"${started:-none}\""*) echo yes ;;
	*) echo no ;;
	esac
}

# delivered_to URL: yes if Prometheus has sent an alert there without an error, otherwise unknown.
delivered_to() {
	get "$prometheus/metrics" 2>/dev/null | url="alertmanager=\"$1\"" awk '
		index($0, ENVIRON["url"]) && /^prometheus_notifications_sent_total/ { sent = $NF }
		index($0, ENVIRON["url"]) && /^prometheus_notifications_errors_total/ { failed = $NF }
		END { print (sent > failed ? "yes" : "unknown") }'
}

check_alertmanagers() {
	criterion="Prometheus knows its Alertmanager"
	alertmanager=$(find_container alertmanager && echo "$address")
	urls=$(get "$prometheus/api/v1/alertmanagers" 2>/dev/null | json_values | values data/activeAlertmanagers/N/url)
	if [ -z "$urls" ] && [ "$stack" = my-stack ]; then
		verdict open "$criterion" "it has no address for alerts yet" "$page_4"
		return
	fi
	places=$(printf '%s\n' "$urls" | grep . | while IFS= read -r each; do
		echo "$(where_is "$each") $each"
	done)
	todo="set ${alertmanager#http://} under alerting:, then $restart"
	is_on_host_network || [ -z "$urls" ] || todo="ask whose localhost that is, then $start; see $page_2"
	case $places in
	*yes\ *) verdict ok "$criterion" "$(printf '%s\n' "$places" | sed -n 's/^yes //p' | head -n 1)" ;;
	*unknown\ *) verdict open "$criterion" "it hasn't sent an alert to $(echo "$urls" | paste -s -d ' ' -) yet" \
		"scripts/check.sh --alert" ;;
	*) verdict FAIL "$criterion" "it sends alerts to $(echo "${urls:-no address}" | paste -s -d ' ' -)" "$todo" ;;
	esac
}

# load_notifications: sets $sent to the notifications since Alertmanager started, $lost to those that failed, $tries to
# the requests that failed, and $reason to why, if one is lost or waits to be sent again. It looks at $container.
load_notifications() {
	sent=$(metric "$alertmanager" alertmanager_notifications_total)
	lost=$(metric "$alertmanager" alertmanager_notifications_failed_total)
	tries=$(metric "$alertmanager" alertmanager_notification_requests_failed_total)
	reason=
	# A notification that arrived had one request that didn't fail.
	delivered=$(($(metric "$alertmanager" alertmanager_notification_requests_total) - tries))
	if [ "$lost" != 0 ] || { [ "$tries" != 0 ] && [ "$delivered" -lt "$sent" ]; }; then
		reason=$(docker logs --tail 1000 "$container" 2>&1 | sed -n '/otif/s/.* err="\{0,1\}//p' | tail -n 1)
		reason=${reason%\"}
		reason=${reason:-see docker logs}
	fi
}

check_alertmanager() {
	page=$page_4
	check_ready alertmanager || return
	alertmanager=$address
	check_config alertmanager "Alertmanager's configuration is right" \
		alertmanager_config_last_reload_success_timestamp_seconds

	criterion="no notification failed"
	load_notifications
	if [ -n "$reason" ]; then
		[ "$lost" != 0 ] && seen="Alertmanager gave up on $lost of $sent" || seen="$tries attempts to send one failed"
		verdict FAIL "$criterion" "$seen: $reason" "correct that; then docker restart $(fact name) counts from 0"
	elif [ "$sent" = 0 ]; then
		verdict open "$criterion" "Alertmanager hasn't sent one yet" "scripts/check.sh --alert"
	else
		verdict ok "$criterion" "$sent sent"
	fi
}

check_mailpit() {
	page=$page_4
	check_ready mailpit
}

# of_model FIELD: of series or alerts, in lines N/path<tab>value, prints the field of the first one of this model. One
# without the label instance, as of max(model_result), is of this model, too.
of_model() {
	awk -F '\t' -v instance="$instance" -v field="$1" '
		{ n = $1; sub(/\/.*/, "", n); sub(/^[0-9]+\//, "", $1) }
		$1 ~ /^(metric|labels).instance$/ && $2 != instance { is_other[n] = 1 }
		$1 == field { value[n] = $2 }
		END { for (n in value) if (!(n in is_other)) { print value[n]; exit } }'
}

# find_model: sets $instance to that label of the model that runs here, under any address in Prometheus: no other
# program started, or drew a result, at the same moment. Without such samples, an address of this machine decides.
find_model() {
	for name in process_start_time_seconds model_last_refresh_timestamp_seconds; do
		moment=$(metric "$exporter" $name)
		[ -z "$moment" ] && continue
		# metric rounds it to 15 digits.
		instance=$(get --get --data-urlencode "query=abs($name - $moment) < 0.001" "$prometheus/api/v1/query" 2>/dev/null |
			json_values | values data/result/0/metric/instance)
		[ -z "$instance" ] || return 0
	done
	instance=$(printf '%s\n' "$targets" | awk -F '\t' -v port=":${exporter##*:}/" '
		$1 ~ /labels.instance$/ { label = $2 }
		$1 ~ /scrapeUrl$/ && index($2, port) && $2 ~ /\/(localhost|127[.]|\[::1|host[.]docker)/ { print label; exit }')
	[ -n "$instance" ]
}

# each_alert COMMAND: runs the command for each of $alerts_on_model, with its path, name, for:, interval and query.
each_alert() {
	printf '%s\n' "$alerts_on_model" | while IFS= read -r line; do
		"$1" "$(printf '%s\n' "$line" | cut -f 2)" "$(printf '%s\n' "$line" | cut -f 3)" \
			"$(printf '%s\n' "$line" | cut -f 4)" "$(printf '%s\n' "$line" | cut -f 5)" "$(printf '%s\n' "$line" | cut -f 7)"
	done
}

# answer_for_model PATH NAME FOR INTERVAL QUERY: prints the rule's answer for this model, if it has one.
answer_for_model() {
	get --get --data-urlencode "query=$5" "$prometheus/api/v1/query" 2>/dev/null | json_values | below data/result |
		of_model value/1
}

# is_high: whether a rule's query has an answer for this model; sets $result.
is_high() {
	response=$(metric "$exporter" model_result)
	[ -n "$response" ] || abort_reason="the model doesn't answer"
	result=$(each_alert answer_for_model | grep . | head -n 1)
	[ -z "$result" ] || return 0
	if [ "$waited" -ge 15 ]; then
		problem=$(each_alert selects_nothing | head -n 1)
		[ -z "$problem" ] || abort_reason=$problem
	fi
	return 1
}

# selects_nothing PATH NAME FOR INTERVAL QUERY: says so if the rule reads series that Prometheus doesn't have.
selects_nothing() {
	rule_problem "$5" | grep "doesn't find"
}

# alert_state PATH NAME FOR INTERVAL QUERY: prints the state of the rule's alert on this model, when it became active,
# its name, and its label instance, with tabs between.
alert_state() {
	lines=$(printf '%s\n' "$rules" | below "$1/alerts")
	current=$(printf '%s\n' "$lines" | of_model state)
	active=$(printf '%s\n' "$lines" | of_model activeAt | cut -c 1-19)
	named=$(printf '%s\n' "$lines" | of_model labels/instance)
	[ -z "$current" ] || printf '%s\t%s\t%s\t%s\n' "$current" "$active" "$2" "$named"
}

# fires: for wait_for: whether an alert on the model fires; sets $firing to their lines of alert_state. It
# gives up if each result begins another alert.
fires() {
	rules=$(get "$prometheus/api/v1/rules" 2>/dev/null | json_values)
	states=$(each_alert alert_state)
	firing=$(printf '%s\n' "$states" | grep '^firing')
	response=$(printf '%s\n' "$states" | head -n 1 | cut -f 1)
	[ -z "$firing" ] || return 0
	since=$(printf '%s\n' "$states" | head -n 1 | cut -f 2)
	[ -n "$pending_since" ] || pending_since=$since
	if [ -n "$since" ] && [ "$since" != "$pending_since" ]; then
		pending_since=$since
		label=$(printf '%s\n' "$rules" | awk -F '\t' '
			$1 ~ /rules.[0-9]+.labels./ && $2 ~ /[{][{].*([$]value|[.]Value)/ { print $1; exit }')
		[ -z "$label" ] || abort_reason="its label ${label##*/} has the value in it, so each result begins another alert"
	fi
	return 1
}

# seconds_needed PATH NAME FOR INTERVAL QUERY: how long the alert may take to fire.
seconds_needed() {
	echo "$3 $4" | awk '{ printf "%.0f\n", $1 + 2 * $2 + 60 }'
}

# longest SETTING: the longest time that the setting of a route has in Alertmanager, in seconds.
longest() {
	alertmanager_config | awk -v name="$1:" '
		$1 == name {
			seconds = 0
			text = $2
			while (match(text, /^[0-9]+[a-z]+/)) {
				part = substr(text, 1, RLENGTH)
				text = substr(text, RLENGTH + 1)
				seconds += (part + 0) * (part ~ /ms$/ ? 0.001 : part ~ /h$/ ? 3600 : part ~ /m$/ ? 60 : part ~ /s$/ ? 1 : 86400)
			}
			if (seconds > most) most = seconds
		}
		END { printf "%.0f\n", most }'
}

# mail_state NAME SINCE: what Alertmanager knows of that alert on this model: a line that begins with active or with
# suppressed, and says why or to whom.
mail_state() {
	known=$(get --get --data-urlencode "filter=alertname=\"$1\"" "$alertmanager/api/v2/alerts" 2>/dev/null | json_values)
	silence=$(printf '%s\n' "$known" | of_model status/silencedBy/0)
	since=$(printf '%s\n' "$known" | of_model startsAt | cut -c 1-19)
	receivers=$(for n in 0 1 2 3; do printf '%s\n' "$known" | of_model receivers/$n/name; done)
	if [ -n "$silence" ]; then
		echo "suppressed the alert is silenced, expire the silence: $alertmanager/#/silences/$silence > Expire > Confirm"
	elif [ "$(printf '%s\n' "$known" | of_model status/state)" = suppressed ]; then
		echo "suppressed the alert is inhibited or muted, see inhibit_rules: and time intervals in its configuration"
	elif [ -n "$since" ] && is_older "$since" "$2"; then
		echo "suppressed Alertmanager knows this alert since ${since#*T} UTC, and mailed it then"
	elif [ -n "$receivers" ]; then
		reached=$(printf '%s\n' "$receivers" | while IFS= read -r name; do ! has_address "$name" || echo "$name"; done)
		[ -n "$reached" ] && echo "active $(echo "$reached" | paste -s -d ' ' -)" ||
			echo "suppressed the receiver $(echo "$receivers" | paste -s -d ' ' -) has no address"
	fi
}

# new_mails SINCE NAME...: the subject and the beginning of the mails since then that have these names in subject or
# text and don't tell of an end, newest first. Mailpit shows times in its own time zone, and marks a mail as read if a
# request gets its text: a search does neither.
new_mails() {
	terms="after:\"$(echo "$1" | tr T ' ')\""
	shift
	for name in "$@"; do
		terms="$terms \"$name\""
	done
	get --get --data-urlencode "query=$terms" --data-urlencode tz=UTC "$mailpit/api/v1/search" 2>/dev/null |
		json_values | below messages | awk -F '\t' '
			{ n = $1; sub(/\/.*/, "", n) }
			$1 ~ /^[0-9]+\/(Subject|Snippet)$/ { text[n] = text[n] " " $2; count = n + 1 }
			END { for (n = 0; n < count; n++) if (text[n] !~ /RESOLVED/) print text[n] }'
}

# has_mail: for wait_for: whether a mail of one of the alerts in $firing has come, or can't be seen: sets $mailed to yes
# or hidden. Sets $came to the newest mail, with any names, and $response to the receiver of the alerts. It
# gives up if no mail can come soon.
has_mail() {
	fires
	abort_reason='' response='' reasons='' came='' mailed=no
	if ! get -o /dev/null "$mailpit/api/v1/messages" 2>/dev/null; then
		[ "$(metric "$alertmanager" alertmanager_notifications_total)" = 0 ] || mailed=hidden
		[ $mailed = hidden ]
		return
	fi
	while IFS=$tab read -r _ active alert named; do
		became=$(mail_state "$alert" "$active")
		case $became in
		suppressed*) reasons=${became#* } ;;
		?*) response=${became#* } ;;
		*) response="not in Alertmanager" ;;
		esac
		came=${came:-$(new_mails "$active" | head -n 1)}
		[ -z "$(new_mails "$active" "$alert" ${named:+"$named"})" ] || mailed=yes
	done <<END
${firing:-$firing_before}
END
	[ $mailed = no ] || return 0
	[ -n "$response" ] || abort_reason=$reasons
	if [ "$waited" -ge 20 ]; then
		[ -z "$came" ] || abort_reason="only another mail came:$came"
		[ "$(longest group_interval)" -lt 60 ] || ! waits_for_group || abort_reason="its group is mailed every group_interval"
	fi
	return 1
}

# waits_for_group: whether Alertmanager has one of the alerts in $firing in a group with an older alert.
waits_for_group() {
	alert=$(printf '%s\n' "${firing:-$firing_before}" | head -n 1 | cut -f 3)
	get "$alertmanager/api/v2/alerts/groups" 2>/dev/null | json_values | alert="$alert" awk -F '\t' '
		{ group = $1; sub(/\/.*/, "", group) }
		$1 !~ /^[0-9]+\/alerts\/[0-9]+\/labels\/alertname$/ { next }
		$2 == ENVIRON["alert"] { is_in[group] = 1; next }
		{ has_other[group] = 1 }
		END { for (group in is_in) if (group in has_other) found = 1; exit !found }'
}

check_alert() {
	require_http "a result is high" "$exporter/metrics" "$start_model" || return
	for service in prometheus alertmanager mailpit; do
		find_container $service
		require_http "$(service_field 6 $service) is ready" "$address$(service_field 4 $service)" "$start" || return
		case $service in
		prometheus) prometheus=$address ;;
		alertmanager) alertmanager=$address ;;
		mailpit) mailpit=$address ;;
		esac
	done
	load_rule
	limit=$(printf '%s\n' "$limits" | head -n 1)
	criterion="a result passes ${limit:-the limit of the rule}"
	[ -n "$alerts_on_model" ] ||
		verdict FAIL "$criterion" "Prometheus hasn't loaded an alert on model_result" "$page_4" || return
	alert=$(printf '%s\n' "$alerts_on_model" | head -n 1 | cut -f 3)
	# Rules that tell nothing don't count, if another one does.
	useful=$(useful_alerts)
	[ -n "$useful" ] || verdict FAIL "$criterion" "$(each_alert rule_problem_of | head -n 1)" \
		"correct expr: of $alert, then $restart; see $page_4" || return
	alerts_on_model=$useful
	wait_for 12 "Prometheus scrapes the model" has_scraped
	wait_for 12 "Prometheus has the model's samples" find_model ||
		verdict FAIL "$criterion" "Prometheus doesn't scrape the model" "scripts/check.sh prometheus" || return

	wait_for 600 "$criterion" is_high ||
		verdict FAIL "$criterion" "${abort_reason:-none in $waited s, the last was $response}" \
			"start the model: $(model_command --value 0.95); if it runs that way, see expr: of $alert" || return
	verdict ok "$criterion" "$result after $waited s"
	criterion="the alert fires"
	pending_since=
	if [ "$(each_alert seconds_needed | sort -n | head -n 1)" -gt 900 ]; then
		verdict open "$criterion" "its for: and interval: need more than 15 minutes" \
			"shorten them, or look at $prometheus/alerts"
		return
	fi
	wait_for "$(each_alert seconds_needed | sort -n | tail -n 1)" "$criterion" fires ||
		verdict FAIL "$criterion" "${abort_reason:-not within $waited s${response:+, it is $response}}" \
			"keep the result high for longer than for: in the rule: $(model_command --value 0.95)" || return
	verdict ok "$criterion" "$(printf '%s\n' "$firing" | head -n 1 | cut -f 3) after $waited s more"
	check_mail
}

# useful_alerts: the lines of $alerts_on_model whose query tells something about the result.
useful_alerts() {
	printf '%s\n' "$alerts_on_model" | while IFS= read -r line; do
		case $(rule_problem "$(printf '%s\n' "$line" | cut -f 7)") in
		"it "*) ;;
		*) printf '%s\n' "$line" ;;
		esac
	done
}

# rule_problem_of PATH NAME FOR INTERVAL QUERY: the problem of that rule.
rule_problem_of() {
	rule_problem "$5"
}

# check_mail: checks that a mail of an alert in $firing arrives.
check_mail() {
	criterion="the mail arrives"
	firing_before=$firing
	find_container alertmanager
	if wait_for $((60 + $(longest group_wait))) "$criterion" has_mail; then
		[ "$mailed" != yes ] || { verdict ok "$criterion" "at $mailpit after $waited s more" && return; }
		find_container mailpit
		verdict open "$criterion" "Alertmanager has sent it, and Mailpit doesn't show its mails without a password" \
			"see $(address_settings mailpit | paste -s -d ' ' -), and look at $mailpit"
		return
	fi
	load_notifications
	seen=${abort_reason:-not within $waited s}
	todo="start the model with --value 0.5, wait for the mail RESOLVED, then let it fire again"
	[ -z "$response" ] || [ -n "$abort_reason$reason" ] || seen="$seen, Alertmanager sends it to the receiver $response"
	case $abort_reason in
	*"has no address") todo="give it email_configs:, then $restart; see $page_4" ;;
	"only another mail"*)
		verdict open "$criterion" "$seen" "name the alert and its instance in the mail, or look at $mailpit"
		return
		;;
	*group_interval)
		verdict open "$criterion" "$seen, and has other alerts" \
			"wait, or lower group_interval: in Alertmanager's configuration"
		return
		;;
	esac
	[ -z "$reason" ] || todo="correct that"
	verdict FAIL "$criterion" "$seen${reason:+; $reason}" "$todo; scripts/check.sh alertmanager says more"
}
