# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# The model's process is stopped.

notice() {
	cat <<'END'
"Prometheus says that the model is down. It isn't: I see its process, and its port is open."
END
}

plant_model() {
	# shellcheck disable=SC2086 # words
	start_model $model_flags
	suspend_model
}

is_visible() {
	has_value "max($(of_model up)) == 0"
}

is_repaired() {
	get -o /dev/null "$(readiness exporter)"
}

repair_running() {
	stop_model
	# shellcheck disable=SC2086 # words
	start_model $model_flags
}

hints() {
	if [ -n "$binary" ]; then
		state_command="ps -o pid,stat,args -p $(fact process), its column STAT"
		meaning="T means stopped: kill -CONT $(fact process) lets the process go on. A new model helps, too."
	else
		state_command="docker ps, its column STATUS"
		meaning="The container is paused: docker unpause, with its name, lets it go on."
	fi
	cat <<END
Read the error on Prometheus' page Target health word by word. "Connection refused" would be another problem.
Ask the model for its page yourself, with curl -m 5. Then look at its process: $state_command.
$meaning
END
}

story() {
	cat <<'END'
What happened: the model's process was stopped (a signal, SIGSTOP): it existed, but did nothing.
How to see it: "context deadline exceeded" means that no answer came in time. An open port only shows that the system
accepts connections for the process; ps shows its state.
What would have prevented it: monitoring answers instead of processes. Prometheus does: the alert was right.
For answers.md: name another reason why a program can have a process and an open port, and still not answer.
END
}
