# shellcheck shell=sh
# The part machine of check.sh, which sources this file: node_exporter, its samples in Prometheus, and a rule on them.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

# load_busy: sets $busy to the share of the time in which the cores worked, in percent, if Prometheus has two scrapes.
load_busy() {
	busy=$(query "$prometheus" 'round(100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle"}[30s]))))')
	[ -n "$busy" ]
}

check_machine() {
	page=stack/lab/machine.md
	check_ready node-exporter || return

	criterion="Prometheus scrapes the machine"
	# A new target has a rate after its second scrape.
	wait_for 20 "$criterion" load_busy
	todo="see scrape_configs: in its configuration, and $prometheus/targets"
	[ "$stack" = my-stack ] || todo="scripts/up.sh machine"
	[ -n "$busy" ] || verdict FAIL "$criterion" "no rate of node_cpu_seconds_total" "$todo" || return
	verdict ok "$criterion" "its processor is $busy % busy"

	criterion="a rule asks for the processor"
	found=$(get "$prometheus/api/v1/rules" 2>/dev/null | json_values | values data/groups/N/rules/N/query |
		grep -c node_cpu_seconds_total)
	if [ "$found" = 0 ]; then
		verdict open "$criterion" "Prometheus hasn't loaded one yet" "$page"
	else
		verdict ok "$criterion" "$found found"
	fi
}
