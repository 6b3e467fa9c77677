# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# A route sends warnings to a receiver without an address.

notice() {
	cat <<'END'
"The alert on high results is in Alertmanager, and isn't silenced. But its mail doesn't come. When I stop the model, the
mail about that does come."
END
}

plant() {
	replace alertmanager/alertmanager.yml '  routes:' "  routes:
    - matchers: ['severity = \"warning\"']
      receiver: office-hours"
	replace alertmanager/alertmanager.yml 'receivers:' 'receivers:
  - name: office-hours'
}

is_visible() {
	[ "$(alerts_in active)" -gt 0 ] && [ "$(high_mails)" = 0 ]
}

# By the configuration that Alertmanager runs with: one of each alert's receivers has an address.
# ModelResultStale has the same severity.
is_repaired() {
	is_routed ModelResultHigh && is_routed ModelResultStale
}

is_routed() {
	in_copy exec -T alertmanager amtool --alertmanager.url="$alertmanager" config routes test \
		alertname="$1" severity=warning job=model_mock "instance=localhost:$port" </dev/null | tr , '\n' |
		while IFS= read -r name; do
			! has_address "$name" || echo "$name"
		done | grep -q .
}

hints() {
	cat <<'END'
Which receiver has the alert? Alertmanager's page can show the alerts of one receiver only.
Ask the program: docker compose exec alertmanager amtool --alertmanager.url=http://localhost:9093 config routes test alertname=ModelResultHigh severity=warning
In alertmanager/alertmanager.yml, the first route sends warnings to office-hours, a receiver without an address.
END
}

story() {
	cat <<'END'
What happened: a new first route took all warnings, and its receiver had no address. That is legal: Alertmanager
then notifies without an address, and counts no failure.
How to see it: amtool config routes test names the receiver of an alert; ModelMockDown is critical and took another route.
What would have prevented it: that command after each change of the routes, as their unit test.
For answers.md: with continue: true in the new route, would the mail have come? Why?
END
}
