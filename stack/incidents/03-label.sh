# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# The selector of the rule matches no series.

notice() {
	cat <<'END'
"The model's results are above 0.9, everybody sees it in Grafana, and the alert on high results stays INACTIVE. I find
no error in any log."
END
}

plant() {
	replace prometheus/rules/model.yml 'model_result{job="model_mock"} > 0.9' 'model_result{job="model-mock"} > 0.9'
}

is_visible() {
	has_high_result && has_no_alert
}

# With a job of another name, the other rules would be silent.
is_repaired() {
	has_alert && get "$(url prometheus)/api/v1/targets?state=active" | json_values |
		values data/activeTargets/N/labels/job | grep -qx model_mock
}

hints() {
	cat <<'END'
An alert fires if its query has an answer. Copy the rule's query from the page Alerts, and run it on the page Query.
Take the query apart: what does it answer without > 0.9, and what without the braces?
In prometheus/rules/model.yml, the label is job="model-mock"; the target has job="model_mock".
END
}

story() {
	cat <<'END'
What happened: the rule asked for job="model-mock", and the job's name is model_mock. The query found no series.
How to see it: the rule's query is empty on the page Query, and has an answer without the braces.
What would have prevented it: a unit test of the rule. An empty answer isn't an error in PromQL: a rule on it is silent.
For answers.md: write a rule that fires if model_result doesn't exist at all. (absent)
END
}
