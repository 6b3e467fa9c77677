# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# A silence until 2099 covers every alert.

notice() {
	cat <<'END'
"The model's results have been above 0.9 for an hour. Prometheus shows the alert as FIRING, and still the mailbox stays
empty."
END
}

plant_running() {
	begin=$(date -u +%FT%TZ)
	silence='{"matchers": [{"name": "severity", "value": ".+", "isRegex": true, "isEqual": true}],
		"startsAt": "'$begin'", "endsAt": "2099-01-01T00:00:00Z",
		"createdBy": "night shift", "comment": "maintenance, remove in the morning"}'
	response=$(get -H 'Content-Type: application/json' --data "$silence" "$(url alertmanager)/api/v2/silences") ||
		die "Alertmanager doesn't take a silence: see the output above"
	note silence "$(printf '%s\n' "$response" | json_values | values silenceID)"
}

silence_state() {
	get "$(url alertmanager)/api/v2/silence/$(fact silence)" | json_values | values status/state
}

is_visible() {
	[ "$(alerts_in suppressed)" -gt 0 ]
}

# A silence that somebody edits gets a new number, and the old one expires.
is_repaired() {
	get -o /dev/null "$(readiness alertmanager)" && [ "$(silence_state)" != active ] && [ "$(alerts_in suppressed)" = 0 ]
}

repair_running() {
	request -o /dev/null -X DELETE "$(url alertmanager)/api/v2/silence/$(fact silence)"
}

hints() {
	cat <<'END'
Three programs have the alert in turn: Prometheus, Alertmanager, the mailbox. Which is the last one that has it?
Alertmanager's page hides some alerts until you tick one of the boxes next to its search field.
Open Alertmanager's page Silences: one covers every alert until 2099. Expire it.
END
}

story() {
	cat <<'END'
What happened: somebody silenced every alert "until the morning", and the silence ends in 2099.
How to see it: Alertmanager lists the alert only with the box Silenced ticked; the page Silences shows who set it.
What would have prevented it: a silence with the narrowest matchers, two hours at most, and a comment with a name.
For answers.md: how would you find out that a silence covers more than it should, before you need the alert?
END
}
