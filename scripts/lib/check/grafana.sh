# shellcheck shell=sh
# The parts of check.sh, which sources this file, on Grafana: the password, the data source, and with --own a dashboard.
# shellcheck disable=SC2034,SC2154 # the files of check.sh share their variables

# log_in CRITERION: sets $password: from stack/.env for the finished stack, otherwise from GRAFANA_PASSWORD or as it is
# typed. As five wrong ones lock the user, it tries each of them once; a FAIL if Grafana refuses it. Sets $login to the
# user's name, and $grafana_user and $grafana_session for as_admin.
log_in() {
	# A new container without a volume has forgotten the password.
	[ "$container" = "$login_container" ] || login=
	login_container=$container
	grafana_user=$(variable GF_SECURITY_ADMIN_USER)
	grafana_user=${grafana_user:-admin}
	todo="try once, then look it up: five wrong ones lock $grafana_user"
	if [ "$stack" = stack ]; then
		todo="$todo; see 'forgotten Grafana password' in stack/README.md"
	else
		todo="$todo; see 'Invalid username or password' in $page_messages"
	fi
	[ "$login" != refused ] || verdict FAIL "$1" "Grafana refused the password" "$todo" || return
	[ -z "$login" ] || return 0
	if [ "$stack" = stack ]; then
		response=$( (read_password) 2>&1) || verdict FAIL "$1" "${response#*: }" "correct the file" || return
		read_password
		typed=$password
	elif [ -z "$typed" ] && [ -t 0 ]; then
		ask_password "Password of Grafana's user $grafana_user (five wrong ones lock it, so try once): "
	fi
	password=$typed
	if [ -z "$password" ]; then
		verdict open "$1" "your password isn't known" "type it: run scripts/check.sh at a terminal"
		return 1
	fi
	if [ "$password" = admin ]; then
		ask_again
		verdict FAIL "$1" "it is the default" "change it at $grafana/profile/password"
		return
	fi
	load_login
	[ "$login" = refused ] || return 0
	ask_again
	verdict FAIL "$1" "Grafana refuses the password" "$todo"
}

# ask_again: forgets a password that was typed, so that the next round of --watch asks for it.
ask_again() {
	[ "$stack" = stack ] || [ ! -t 0 ] || typed='' login=''
}

# load_login: sets $login to the name of the user that logs in, or to refused; and $grafana_session, as the page of the
# login does, if a setting forbids a password in each request. Sets $grafana_user to admin if that one logs in.
load_login() {
	[ "$(variable GF_AUTH_BASIC_ENABLED)" != false ] || open_session
	login=$(as_admin "$password" -f "$grafana/api/user" 2>/dev/null | json_values | values login | grep . || echo refused)
	# A name that was set after the first start has no effect.
	if [ "$login" = refused ] && [ "$grafana_user" != admin ]; then
		grafana_user="admin"
		load_login
	fi
}

# open_session: sets $grafana_session.
open_session() {
	json=$(printf '%s\n' "$password" | sed 's/[\\"]/\\&/g')
	grafana_session=$(printf '{"user": "%s", "password": "%s"}' "$grafana_user" "$json" |
		request -o /dev/null -c - -H 'Content-Type: application/json' --data @- "$grafana/login" 2>/dev/null |
		awk '$6 == "grafana_session" { print $7 }')
}

check_grafana() {
	page=$page_3
	check_ready grafana healthy || return
	grafana=$address
	data=$(variable GF_PATHS_DATA)
	check_kept "${data:-/var/lib/grafana}" "$page_3"

	criterion="your password works, and is not the default"
	response=$(request -o /dev/null -w '%{http_code}' "$grafana/api/search")
	[ "$response" = 401 ] || verdict FAIL "$criterion" "without a password, Grafana answers with HTTP $response, not 401" \
		"remove GF_AUTH_ANONYMOUS_ENABLED from the Compose file, then $start" || return
	log_in "$criterion" || return
	verdict ok "$criterion" "of the user $login"

	load_sources
	criterion="a data source answers model_result"
	settings="Connections > Data sources at $grafana"
	if [ -z "$data_sources" ] && [ "$stack" = my-stack ]; then
		verdict open "$criterion" "you haven't added one of the type Prometheus yet" "$page_3"
		return
	fi
	[ -n "$sources" ] ||
		verdict FAIL "$criterion" "$(source_errors)" "$settings: Save & test; scripts/check.sh prometheus" || return
	verdict ok "$criterion" "$(printf '%s\n' "$sources" | cut -f 3 | paste -s -d ' ' -)"
	slow=$(printf '%s\n' "$sources" | awk -F '\t' '
		$2 !~ /^([1-5]|[0-4][.][0-9]+)s$|^[1-4]?[0-9]?[0-9]?[0-9]ms$|^5000ms$/ { print $3 ": " $2; exit }')
	[ -z "$slow" ] || verdict FAIL "its scrape interval is 5s" "$slow" \
		"$settings > Interval behaviour > Scrape interval: 5s, then Save & test" || return
	verdict ok "its scrape interval is 5s" "as Prometheus scrapes"
}

# load_sources: sets $data_sources to those of the type Prometheus, a line each: UID, interval, name, URL, and default
# for the default one; and $sources to the lines of those that answer model_result, as they answer a panel.
load_sources() {
	# Directly after a start, the data sources can't answer yet.
	wait_for 12 "Prometheus scrapes the model" has_scraped
	data_sources=$(as_admin "$password" "$grafana/api/datasources" | json_values | awk -F '\t' -v OFS='\t' '
		{ split($1, part, "/"); value[$1] = $2 }
		function field(path, empty) { return value[n "/" path] == "" ? empty : value[n "/" path] }
		END { for (n = 0; n <= part[1]; n++) if (value[n "/type"] == "prometheus")
			print value[n "/uid"], field("jsonData/timeInterval", "15s, the default"), value[n "/name"],
				field("url", "an empty URL"), (value[n "/isDefault"] == "true" ? "default" : "-") }')
	sources=$(printf '%s\n' "$data_sources" | grep . | while IFS= read -r line; do
		! panel_answer "${line%%"$tab"*}" | grep -qF "results/A/frames/0/data/values/1/0$tab" || printf '%s\n' "$line"
	done)
}

# panel_answer UID: the lines of json_values of what Grafana answers a panel with the query model_result.
panel_answer() {
	as_admin "$password" -H 'Content-Type: application/json' "$grafana/api/ds/query" --data '{
		"from": "now-1m", "to": "now", "queries": [{"refId": "A", "datasource": {"uid": "'"$1"'"}, "expr": "model_result",
		"instant": true, "intervalMs": 5000, "maxDataPoints": 100}]}' 2>/dev/null | json_values
}

# source_errors: the errors of the data sources, as Save & test shows them, if none answers model_result.
source_errors() {
	printf '%s\n' "$data_sources" | grep . | while IFS=$tab read -r uid _ name place _; do
		error=$(panel_answer "$uid" | values results/A/error | head -n 1)
		[ -n "$error" ] ||
			error=$(as_admin "$password" "$grafana/api/datasources/uid/$uid/health" | json_values | values message)
		case $error in
		*"unsupported protocol scheme"*) error="$error (the URL must begin with http://)" ;;
		esac
		echo "$name at $place: $(printf '%s\n' "$error" |
			sed 's/^[A-Z][a-z]* "[^"]*": //; s/ - There was an error.*//; s/^Success.*/it answers, but not model_result/')"
	done | paste -s -d ';' - | sed 's/;/; /g'
}

# judge_dashboard LIMITS SOURCES [DESCRIPTION]: reads the JSON of a dashboard and prints what dashboard.awk says of it.
judge_dashboard() {
	json_values "$(printf '\036')" | limits="$1" sources="$2" description="${3-}" \
		awk -f "$root/scripts/lib/check/dashboard.awk"
}

# check_own: judges the best dashboard of those that didn't come with the lab.
check_own() {
	criterion="a dashboard of your own meets the four requirements"
	find_container prometheus
	prometheus=$address
	find_container grafana
	grafana=$address
	require_http "$criterion" "$grafana$(service_field 4 grafana)" "$start" || return
	log_in "$criterion" || return
	load_sources
	load_rule
	limits=$(echo "${limits:-0.9}" | sort -u | paste -s -d ' ' -)
	from_lab=$(json_values <"$root/stack/grafana/dashboards/model.json" | values panels/0/description)
	best=$(as_admin "$password" "$grafana/api/search?type=dash-db&limit=5000" | json_values | values N/uid |
		while IFS= read -r uid; do
			dashboard=$(as_admin "$password" "$grafana/api/dashboards/uid/$uid")
			# The finished stack provides dashboards; in your own stack, a provided one is yours.
			[ "$stack" = my-stack ] || ! printf '%s\n' "$dashboard" | json_values | grep -qxF "meta/provisioned${tab}true" ||
				continue
			judged=$(printf '%s\n' "$dashboard" | judge_dashboard "$limits" "$sources" "$from_lab")
			printf '%s\t%s\n' "$judged" "$grafana/d/$uid"
		done | sort -n | head -n 1)
	reasons=$(printf '%s\n' "$best" | cut -f 2)
	shown=$(printf '%s\n' "$best" | cut -f 3)
	place=${best##*"$tab"}
	case $best in
	'') verdict FAIL "$criterion" "you haven't saved one" "Dashboards > New > New dashboard at $grafana, as on $page_3" ;;
	0"$tab"*)
		# A label may select no series; Grafana replaces a variable, which begins with a dollar sign.
		case $shown in
		*'$'*) ;;
		*) [ -n "$(query "$prometheus" "count($shown)")" ] || verdict FAIL "$criterion" "Prometheus doesn't find $shown" \
			"scripts/check.sh prometheus; otherwise Edit at $place, then Save dashboard" || return ;;
		esac
		verdict ok "$criterion" "$place"
		;;
	?"$tab"* | ??"$tab"*) verdict open "$criterion" "it can't be judged: $reasons" \
		"look at $place: model_result as a graph from 0 to 1, 15 minutes, every 5 s, a red line at $limits" ;;
	*) verdict FAIL "$criterion" "$reasons" "Edit at $place, then Save dashboard" ;;
	esac
}
