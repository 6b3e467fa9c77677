# shellcheck shell=sh
# The parts of check.sh, which sources this file, on Grafana: the password, the data source, and with --own a dashboard.
# report.sh sources it, too, and asks for the password.
# shellcheck disable=SC2154 # check.sh and common.sh set the other variables

# ask_password QUESTION: sets $typed to the password as it is typed, unseen. However it ends, the terminal gets its
# settings back; Ctrl+Z is off until then. Replaces the traps of a script.
ask_password() {
	settings=$(stty -g)
	trap 'stty "$settings"' EXIT
	trap 'exit 130' INT TERM HUP
	printf %s "$1" >&2
	stty -echo susp undef
	IFS= read -r typed
	stty "$settings"
	trap - EXIT INT TERM HUP
	echo >&2
}

# log_in CRITERION: sets $password: from stack/.env for the finished stack, otherwise from GRAFANA_PASSWORD or as it is
# typed. As five wrong ones lock admin, it tries once in a run; a FAIL if Grafana refuses it.
log_in() {
	todo="try once, then look it up: five wrong ones lock admin (stack/README.md, 'forgotten Grafana password')"
	[ "$login" != refused ] || report FAIL "$1" "Grafana refused the password" "$todo" || return
	[ -z "$login" ] || return 0
	if [ "$stack" = stack ]; then
		response=$( (read_password) 2>&1) || report FAIL "$1" "${response#*: }" "correct the file" || return
		read_password
		typed=$password
	elif [ -z "$typed" ] && [ -t 0 ]; then
		ask_password "Password of Grafana's user admin (five wrong ones lock it, so try once): "
	fi
	password=$typed
	[ -n "$password" ] ||
		{ report open "$1" "your password isn't known" "type it: run scripts/check.sh at a terminal" && return 1; }
	[ "$password" != admin ] || report FAIL "$1" "it is the default" "change it at $grafana/profile/password" || return
	login=$(as_admin "$password" -f "$grafana/api/user" 2>/dev/null | json_values | values login | grep . || echo refused)
	[ "$login" != refused ] || report FAIL "$1" "Grafana refuses the password" "$todo"
}

check_grafana() {
	check_ready grafana healthy || return
	check_kept "$(inspect '{{range .Config.Env}}{{println .}}{{end}}' | sed -n 's/^GF_PATHS_DATA=//p')" 5.3

	criterion="your password works, and is not the default"
	response=$(request -o /dev/null -w '%{http_code}' "$grafana/api/search")
	[ "$response" = 401 ] || report FAIL "$criterion" "without a password, Grafana answers with HTTP $response, not 401" \
		"remove GF_AUTH_ANONYMOUS_ENABLED from the Compose file, then $start" || return
	log_in "$criterion" || return
	report ok "$criterion" "of the user $login"

	load_sources
	criterion="a data source answers model_result"
	[ -n "$all" ] || [ "$stack" = stack ] ||
		{ report open "$criterion" "you haven't added one of the type Prometheus yet" "section 5.3" && return; }
	report_value "$criterion" "$(printf '%s\n' "$sources" | cut -f 3 | paste -s -d ' ' -)" "$(source_errors)" \
		"Connections > Data sources at $grafana: Save & test; scripts/check.sh prometheus" || return
	slow=$(printf '%s\n' "$sources" | awk -F '\t' '$2 != "5s" { print $3 ": " $2; exit }')
	report_value "its scrape interval is 5s" "$([ -n "$slow" ] || echo "as Prometheus scrapes")" "$slow" \
		"Connections > Data sources at $grafana > Interval behaviour > Scrape interval: 5s, then Save & test"
}

# load_sources: sets $all to the data sources of the type Prometheus, a line each: UID, interval, name and URL; and
# $sources to the lines of those that answer model_result.
load_sources() {
	# Directly after a start, the data sources can't answer yet.
	wait_for 12 "Prometheus scrapes the model" has_scraped
	all=$(as_admin "$password" "$grafana/api/datasources" | json_values | awk -F '\t' -v OFS='\t' '
		{ split($1, part, "/"); value[$1] = $2 }
		function field(path, empty) { return value[n "/" path] == "" ? empty : value[n "/" path] }
		END { for (n = 0; n <= part[1]; n++) if (value[n "/type"] == "prometheus")
			print value[n "/uid"], field("jsonData/timeInterval", "15s, the default"), value[n "/name"],
				field("url", "an empty URL") }')
	sources=$(printf '%s\n' "$all" | while IFS= read -r line; do
		address=$grafana/api/datasources/proxy/uid/${line%%"$tab"*}/api/v1/query
		[ -z "$(as_admin "$password" --get --data-urlencode 'query=count(model_result)' "$address" | one_value)" ] ||
			printf '%s\n' "$line"
	done)
}

# source_errors: the errors of the data sources, as Save & test shows them, if none answers model_result.
source_errors() {
	[ -n "$sources" ] || printf '%s\n' "$all" | while IFS=$tab read -r uid _ name address; do
		error=$(as_admin "$password" "$grafana/api/datasources/uid/$uid/health" | json_values | values message |
			sed 's/^[A-Z][a-z]* "[^"]*": //; s/ - There was an error.*//; s/^Success.*/it answers, but not model_result/')
		echo "$name at $address: $error"
	done | paste -s -d ';' - | sed 's/;/; /g'
}

# check_own: judges the best dashboard of those that didn't come with the lab.
check_own() {
	criterion="a dashboard of your own meets the four requirements"
	require_http "$criterion" "$(readiness grafana)" "$start" || return
	log_in "$criterion" || return
	load_sources
	load_rule
	limit=${limit:-0.9}
	uids=$(printf '%s\n' "$sources" | cut -f 1 | paste -s -d ' ' -)
	from_lab=$(json_values <"$root/stack/grafana/dashboards/model.json" | values panels/0/description)
	best=$(as_admin "$password" "$grafana/api/search?type=dash-db&limit=5000" | json_values | values N/uid |
		while read -r uid; do
			dashboard=$(as_admin "$password" "$grafana/api/dashboards/uid/$uid")
			printf '%s\n' "$dashboard" | json_values | grep -qx "meta/provisioned${tab}true" ||
				printf '%s\t%s\n' "$(printf '%s\n' "$dashboard" | judge_dashboard "$limit" "$uids" "$from_lab")" \
					"$grafana/d/$uid"
		done | sort -n | head -n 1)
	reasons=$(printf '%s\n' "$best" | cut -f 2)
	shown=$(printf '%s\n' "$best" | cut -f 3)
	address=${best##*"$tab"}
	case $best in
	'') report FAIL "$criterion" "you haven't saved one" \
		"Dashboards > New > New dashboard at $grafana, as in section 5.3" ;;
	# A label may select no series; Grafana replaces a variable, which begins with a dollar sign.
	0"$tab"*[$]*) report ok "$criterion" "$address" ;;
	0"$tab"*) report_value "$criterion" "$(query "$prometheus" "count($shown)" | sed "s|.*|$address|")" \
		"Prometheus doesn't find $shown" "scripts/check.sh prometheus; otherwise Edit at $address, then Save dashboard" ;;
	?"$tab"*) report open "$criterion" "it can't be judged: $reasons" \
		"look at $address: model_result as a graph from 0 to 1, 15 minutes, every 5 s, a red line at $limit" ;;
	*) report FAIL "$criterion" "$reasons" "Edit at $address, then Save dashboard" ;;
	esac
}
