# shellcheck shell=sh
# Questions that incidents ask the programs of the copy. incident.sh sources this file.
# shellcheck disable=SC2154 # incident.sh sets these

# of_model SELECTOR: the PromQL selector of that metric of the model that incident.sh starts.
of_model() {
	printf '%s{instance=~".*:%s"}\n' "$1" "$port"
}

# has_value EXPRESSION: whether Prometheus answers the query with one value.
has_value() {
	[ -n "$(query "$(url prometheus)" "$1")" ]
}

# is_scraped: whether Prometheus reaches the model.
is_scraped() {
	has_value "max($(of_model up)) == 1"
}

# has_high_result: whether the model's result in Prometheus is high.
has_high_result() {
	has_value "max($(of_model model_result)) > 0.9"
}

# has_alert: whether Prometheus has the alert ModelResultHigh.
has_alert() {
	get "$(url prometheus)/api/v1/alerts" 2>/dev/null | json_values | values data/alerts/N/labels/alertname |
		grep -qx ModelResultHigh
}

# has_no_alert: fails, too, if Prometheus doesn't answer.
has_no_alert() {
	get -o /dev/null "$(url prometheus)/api/v1/alerts" 2>/dev/null && ! has_alert
}

# alerts_in STATE: how many alerts ModelResultHigh Alertmanager has in that state: active or suppressed.
alerts_in() {
	get --get --data-urlencode 'filter=alertname="ModelResultHigh"' "$(url alertmanager)/api/v2/alerts" 2>/dev/null |
		json_values | values N/status/state | grep -cxF -- "$1"
}

# is_alerted: whether both Prometheus and Alertmanager have the alert.
is_alerted() {
	has_alert && [ "$(alerts_in active)" -gt 0 ]
}

# is_forgotten: whether Alertmanager doesn't have the alert any longer.
is_forgotten() {
	[ "$(alerts_in active)" = 0 ]
}

# is_idle SERVICE: whether the program doesn't answer.
is_idle() {
	! get -o /dev/null "$(readiness "$1")" 2>/dev/null
}

# source_health: what Grafana says about its connection to Prometheus: OK or ERROR; empty if Grafana doesn't answer.
source_health() {
	as_admin "$(fact password)" "$(url grafana)/api/datasources/uid/prometheus/health" 2>/dev/null | json_values |
		values status
}

# high_mails: how many mails say that the model's result is high.
high_mails() {
	get "$(url mailpit)/api/v1/messages?limit=500" 2>/dev/null | json_values | values messages/N/Subject |
		grep FIRING | grep -c ModelResultHigh
}
