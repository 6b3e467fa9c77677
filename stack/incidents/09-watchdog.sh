# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# Prometheus is stopped, so that every alert is silent.

notice() {
	cat <<'END'
"What a quiet week: since Monday, not a single mail about the model. Something must have gone right at last.
Can you confirm that?"
END
}

plant_running() {
	in_copy stop prometheus >"$state/output" 2>&1 || die "Docker can't stop Prometheus: $(tail -n 1 "$state/output")"
}

is_visible() {
	is_idle prometheus
}

is_repaired() {
	get -o /dev/null "$(readiness prometheus)"
}

hints() {
	cat <<'END'
An empty mailbox has two reasons: all is well, or something between the model and the mailbox is broken. Which one is it?
Follow a result from the model to the mail: ask each program on its way for its page.
docker compose ps -a lists Prometheus as Exited: docker compose up -d starts it.
END
}

story() {
	cat <<'END'
What happened: somebody stopped Prometheus. Without it, rules aren't evaluated, so an alert on that can't come from it.
How to see it: docker compose ps -a, or Prometheus' own page. Exit code 0 means a normal stop: Docker doesn't restart it.
What would have prevented it: a watchdog, an alert that always fires, and a script that warns if its mails stop. The page
stack/lab/incidents.md has both.
For answers.md: Docker starts a program again if it crashes (restart:). Why didn't it start Prometheus?
END
}
