# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# The changed rules are invalid, so that Prometheus keeps its old ones.

model_flags="--value 0.85"

notice() {
	cat <<'END'
"An hour ago I lowered the threshold of ModelResultHigh from 0.9 to 0.8, and I did save the file. The results are 0.85,
and the alert stays INACTIVE."
END
}

lower_threshold() {
	replace prometheus/rules/model.yml 'model_result{job="model_mock"} > 0.9' 'model_result{job="model_mock"} > 0.8'
}

plant_running() {
	lower_threshold
	replace prometheus/rules/model.yml '        labels:' '       labels:'
}

is_visible() {
	[ "$(metric "$(url prometheus)" prometheus_config_last_reload_successful)" = 0 ] &&
		has_value "max($(of_model model_result)) > 0.8" && has_no_alert
}

# The alert is active at 0.85, and not because every result is high.
is_repaired() {
	[ "$(metric "$(url prometheus)" prometheus_config_last_reload_successful)" = 1 ] && has_alert
}

# The colleague wanted the lower threshold.
repair_running() {
	lower_threshold
}

hints() {
	cat <<'END'
Which threshold does Prometheus use? Compare the rule on its page Alerts with the file.
Did Prometheus take the file? Ask docker compose logs prometheus, or its metric prometheus_config_last_reload_successful.
In prometheus/rules/model.yml, a space is missing before the first labels: its column must be that of annotations:.
END
}

story() {
	cat <<'END'
What happened: the change also moved a line by one space, so the file was invalid. Prometheus logged the error and kept
its old rules. After a restart, it wouldn't have started at all. The mail now says 0.85 is above 0.9: the summary has
the threshold a second time.
How to see it: the page Alerts shows the rules that Prometheus uses; prometheus_config_last_reload_successful was 0.
What would have prevented it: promtool check rules after each change, and an alert on that metric.
For answers.md: Prometheus keeps its old rules if the new ones are invalid. Why is that better than stopping?
END
}
