#!/bin/sh
# hand-in.sh [--with NUMBER] NUMBER: writes your hand-in, the text file hand-in-NUMBER.txt, which you send to your
# teacher.
#
# NUMBER is your own number, the one after --seed; after --with, it is the number of the person with whom you share
# this laptop. Start your stack and the model first. The file holds the lines of check.sh, the files of my-stack
# without passwords, your dashboards, the incidents that you solved, and the traces of your work in Prometheus,
# Alertmanager and Mailpit. The word none replaces a part that doesn't exist. Before it writes, hand-in.sh says what
# the file holds about you, warns if something isn't there, and asks for your Grafana's password, unless
# GRAFANA_PASSWORD holds it.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/ask_password.sh
. "$root/scripts/lib/ask_password.sh"
# shellcheck source=scripts/lib/teacher.sh
. "$root/scripts/lib/teacher.sh"
# How check.sh finds the programs, the user of Grafana, and the model.
# shellcheck source=scripts/lib/check/stack.sh
. "$root/scripts/lib/check/stack.sh"
# shellcheck source=scripts/lib/check/grafana.sh
. "$root/scripts/lib/check/grafana.sh"
# shellcheck source=scripts/lib/check/alerts.sh
. "$root/scripts/lib/check/alerts.sh"
exporter=$(url exporter)
tab=$(printf '\t')
library=$root/scripts/lib/hand-in
targets='' # for find_model
max_file_bytes=100000
# The rest of the file is much smaller.
max_quoted_bytes=4000000
temporary=

# is_number TEXT: whether it can be a student's number.
is_number() {
	case $1 in
	'' | *[!0-9]* | ???????????????????*) return 1 ;;
	esac
}

# facts NAME: the lines that are read, each after its name; without lines, the word none.
facts() {
	awk -v name="$1" 'NF { print name ": " $0; found = 1 } END { if (!found) print name ": none" }'
}

# look_around: sets $docker_error, what load_containers and choose_stack set, $own and $finished to a container of the
# student's and of the finished stack that runs, the programs' addresses, $selector to a selector of the model's series
# in Prometheus, and $grafana_user.
look_around() {
	docker_error=$( (require_docker) 2>&1) && docker_error=
	load_containers
	choose_stack
	own=$(container_in "$my_stack" running)
	finished=$(container_in "$root/stack" running)
	prometheus=$(find_container prometheus && echo "$address")
	alertmanager=$(find_container alertmanager && echo "$address")
	mailpit=$(find_container mailpit && echo "$address")
	# The last one, as load_login looks at $container.
	find_container grafana
	grafana=$address
	grafana_user=$(variable GF_SECURITY_ADMIN_USER)
	grafana_user=${grafana_user:-admin}
	selector="instance=~\".*:${exporter##*:}\""
	# The model may have another label now. A dot replaces each character that means something in a pattern.
	! find_model || selector="instance=~\".*:${exporter##*:}|$(printf '%s\n' "$instance" | tr -c 'A-Za-z0-9:_\n-' .)\""
}

# answers_file: the name of the student's answers, if they are there.
answers_file() {
	find "$my_stack" -type f -size +0 2>/dev/null | grep -Ei '/answers?[.](md|txt)$' | head -n 1
}

# warn TEXT: one line for each part that the hand-in will lack; sets $lacking.
warn() {
	lacking=yes
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# warn_of_missing_parts: warns of each part of the work that isn't there. Sets $lacking.
warn_of_missing_parts() {
	lacking=
	if [ -n "$docker_error" ]; then
		warn "the hand-in will lack your stack, as ${docker_error#*: }"
	elif [ -z "$own" ] && [ -n "$finished" ]; then
		warn "the finished stack runs, and not yours: run scripts/down.sh, then docker compose up -d in my-stack," \
			"then hand-in.sh again"
	elif [ -z "$own" ]; then
		warn "nothing runs in my-stack: run docker compose up -d there, then hand-in.sh again"
	elif ! get -o /dev/null "$prometheus$(service_field 4 prometheus)" 2>/dev/null; then
		warn "Prometheus doesn't answer at $prometheus: run scripts/check.sh prometheus, then hand-in.sh again"
	fi
	get -o /dev/null "$exporter/metrics" 2>/dev/null ||
		warn "the model doesn't answer at $exporter: run $(model_command --seed "$number"), then hand-in.sh again"
	[ -n "$(answers_file)" ] ||
		warn "my-stack/answers.md is missing or empty: write your answers there, then run hand-in.sh again"
}

# load_password: sets $hidden to the password of Grafana, which the file must not show, and $accepted_password to it if
# Grafana doesn't refuse it: five wrong ones lock the user, so it is tried once. Dies if the password is so common a
# word that leaving it out would show it. Sets $lacking, too. It exports nothing: Compose files may use such a variable.
# shellcheck disable=SC2031 # read_password sets the password in a subshell only
load_password() {
	hidden=${GRAFANA_PASSWORD-}
	[ -n "$own" ] || [ -z "$finished" ] || hidden=$( (read_password && printf '%s\n' "$password") 2>/dev/null)
	if [ -z "$hidden" ] && [ -t 0 ]; then
		ask_password "To go on, type the password of Grafana's user $grafana_user (empty without Grafana). Ctrl+C ends this: "
		hidden=$typed
	fi
	[ -z "$hidden" ] || [ "$hidden" = admin ] || ! is_common_password "$hidden" ||
		die "your Grafana's password is a word of the lab, or a short number, so that its gaps in the file would show it:" \
			"change it at $grafana/profile/password, then run hand-in.sh again"
	accepted_password=$hidden
	# A Grafana that doesn't answer hasn't refused it.
	if [ -n "$hidden" ] && get -o /dev/null "$grafana$(service_field 4 grafana)" 2>/dev/null; then
		password=$hidden
		load_login
		[ "$login" = refused ] || return 0
		accepted_password=
		warn "Grafana refuses the password, and five wrong ones lock $grafana_user: look it up, then run hand-in.sh again"
	fi
}

# history SELECTOR LABEL: of each sample of the last 14 days, oldest first: time, value, the label's value.
history() {
	get --max-time 60 --get --data-urlencode "query=$1[14d]" "$prometheus/api/v1/query" 2>/dev/null | tr '[' '\n' |
		awk -F '"' -v label="\"$2\":\"" '
			/^[0-9]/ { print $1 $2, name }
			i = index($0, label) { name = substr($0, i + length(label)); sub(/".*/, "", name) }
		' | tr , ' ' | sort -n
}

# scraped_for: the minutes in which the samples of up that are read are 1. Between two scrapes, at most 15 s count, with
# any scrape interval.
scraped_for() {
	awk '
		$2 == 1 { gap = $1 - last; sum += gap < 15 ? gap : 15; last = $1 }
		END { if (NR) printf "%.0f\n", sum / 60 }'
}

# shellcheck disable=SC2119 # json_values needs no argument here, and below
# mails: how many mails of each kind and alert there are.
mails() {
	get "$mailpit/api/v1/messages?limit=500" 2>/dev/null | json_values | values messages/N/Subject |
		sed 's/[][]//g; s/^\([A-Z]*\):[0-9]*/\1/' |
		awk '{ count[$1 " " $2]++ } END { for (kind in count) print count[kind], kind }' | sort -k 2
}

# shellcheck disable=SC2119
# silences: a line for each: when, by whom, why.
silences() {
	get "$alertmanager/api/v2/silences" 2>/dev/null | json_values | awk -F '\t' '
		{ n = $1 + 0; sub(/^[0-9]+\//, "", $1) }
		$1 == "comment" { comment[n] = $2 }
		$1 == "createdBy" { creator[n] = $2 }
		$1 == "startsAt" { start[n] = $2 }
		END { for (n in start) print start[n] " by " creator[n] ": " comment[n] }' | sort | quote config | sed 's/^| //'
}

# quote KIND: the text that is read, each line behind a bar, without secrets. KIND is prose or config.
quote() {
	hidden=$hidden awk -v kind="$1" -f "$library/quote.awk"
}

# quote_part NAME KIND: a section with the text that is read, unless the file would be too large; sets $quoted_bytes.
quote_part() {
	quote "$2" >"$temporary.quoted"
	bytes=$(wc -c <"$temporary.quoted")
	if [ $((quoted_bytes + bytes)) -gt "$max_quoted_bytes" ]; then
		echo "${1#my-stack/} (large)" | facts left-out
	else
		quoted_bytes=$((quoted_bytes + bytes))
		echo "== $1"
		cat "$temporary.quoted"
	fi
}

# quote_file NAME: that file of my-stack, or its name if it may hold secrets, isn't a text, or is too large.
quote_file() {
	case $(printf '%s\n' "$1" | tr '[:upper:]' '[:lower:]') in
	# The facts name the incidents.
	incidents.txt) return ;;
	.* | */.* | *passw* | *pwd* | *secret* | *token* | *credential* | *auth[./_-]*) kind= ;;
	*.yml | *.yaml | *.json) kind=config ;;
	*.md | answer.txt | answers.txt | */answer.txt | */answers.txt | notes.txt | readme.txt) kind=prose ;;
	*) kind= ;;
	esac
	if [ -z "$kind" ]; then
		printf '%s\n' "$1" | facts left-out
	elif [ "$(wc -c <"$my_stack/$1")" -gt "$max_file_bytes" ]; then
		echo "$1 (large)" | facts left-out
	else
		quote_part "my-stack/$1" "$kind" <"$my_stack/$1"
	fi
}

# quote_dashboard UID: that dashboard, if it is the student's: the finished stack provides some, and in the student's
# own stack, a provided one is the student's.
quote_dashboard() {
	as_admin "$accepted_password" -f "$grafana/api/dashboards/uid/$1" 2>/dev/null | sed 's/,"/,\
"/g' >"$temporary.dashboard"
	[ "$stack" = my-stack ] || ! grep -q '^"provisioned":true' "$temporary.dashboard" || return 0
	quote_part "dashboard $1" config <"$temporary.dashboard"
}

# shellcheck disable=SC2119
# quote_all: the files of my-stack and the dashboards, and the names of those that are left out.
quote_all() {
	quoted_bytes=0
	{
		[ ! -d "$my_stack" ] || (cd "$my_stack" && find . -type f 2>/dev/null | sort)
		[ -z "$accepted_password" ] || as_admin "$accepted_password" -f "$grafana/api/search?type=dash-db&limit=5000" \
			2>/dev/null | json_values | values N/uid
	} | while IFS= read -r name; do
		case $name in
		./*) quote_file "${name#./}" ;;
		*) quote_dashboard "$name" ;;
		esac
	done
}

# hand_in: the whole text, but for its sum.
hand_in() {
	echo "modelmock hand-in 1"
	echo "$number" | facts number
	[ -z "$partner" ] || echo "$partner" | facts with
	date -u +%FT%TZ | facts written
	scripts_sum | facts scripts
	uname -nsm | facts host
	id -un | facts user
	docker version --format '{{.Server.Version}} {{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null | facts engine
	compose_containers | awk -F '\t' '$2 == "running" && $6 != "" { print $3 " in " $6 }' | facts image
	get "$exporter/metrics" 2>/dev/null |
		sed -n 's/^modelmock_build_info{version="\([^"]*\)".*/modelmock \1/p' | facts model
	for part in '' --own; do
		# shellcheck disable=SC2086 # no word, or one
		GRAFANA_PASSWORD_OF_HAND_IN=$accepted_password "$root/scripts/check.sh" $part 2>&1 </dev/null | quote prose |
			sed 's/^| //' | facts check
	done

	history "up{$selector}" job >"$temporary.up"
	first=$(awk '$2 == 1 { printf "%.0f\n", $1; exit }' "$temporary.up")
	{ [ -z "$first" ] || echo "$(utc "$first")Z"; } | facts first-scrape
	scraped_for <"$temporary.up" | facts minutes-scraped
	awk '$2 == 0 && up { times++ } { up = $2 } END { if (NR) print times + 0 }' "$temporary.up" | facts times-down
	history 'ALERTS{alertstate="firing"}' alertname | awk -f "$library/episodes.awk" | sort -k 2 | facts fired
	mails | facts mails
	silences | facts silence
	awk '$1 == "solved" { print $2, $3, $4, $5 }' "$my_stack/incidents.txt" 2>/dev/null | facts incident

	quote_all
	history "{__name__=~\"model_result|model_refreshes_total\",$selector}" __name__ |
		awk -v max="$max_results" -f "$library/samples.awk" | tail -n 10000 | facts sample
}

# write_file: writes the hand-in, and its sum, under another name first.
write_file() {
	# Without control characters: a hand-in is read in a terminal.
	hand_in | tr -d '\000-\010\013-\037\177' >"$temporary" || return
	echo "sum: $(sha256 "$temporary" | cut -d ' ' -f 1)" >>"$temporary" || return
	mv "$temporary" "$destination"
}

clean_up() {
	[ -z "$temporary" ] || rm -f "$temporary" "$temporary".*
}

main() {
	partner=
	case ${1-} in
	-h | --help) print_help && exit ;;
	--with)
		is_number "${2-}" || usage_error "--with takes the other one's number, of 1 to 18 digits, not '${2-}'"
		partner=$2
		shift 2
		;;
	esac
	is_number "${1-}" || usage_error "it takes your number, of 1 to 18 digits, not '${1-}'"
	[ $# -eq 1 ] || usage_error "it takes one number, not '$*'"
	number=$1
	[ "$number" != "$partner" ] || usage_error "--with takes the other one's number, not your own"
	require_curl
	destination=$root/hand-in-$number.txt

	numbers="your number $number"
	[ -z "$partner" ] || numbers="$numbers, the number $partner of the person with whom you work"
	cat <<-END
		hand-in-$number.txt will hold:
		- about you: $numbers, your user name ($(id -un)), the name of this computer ($(uname -n)), and the time;
		- about your work: the lines of check.sh, the files of my-stack and your dashboards without passwords, how many
		  alerts and mails there were, your silences with creator and comment, the incidents that you solved, the times of
		  your model's results, and a sum of the lab's scripts.
		The file can't prove that you did the work yourself: its sum shows accidental changes, and isn't a signature.
	END
	look_around
	warn_of_missing_parts
	load_password
	trap clean_up EXIT
	trap 'exit 1' INT TERM HUP
	temporary=$root/hand-in-$number.$$
	[ -w "$root" ] || die "cannot write in $root: make the folder writable"
	write_file || die "cannot write $destination: is the disk full?"
	lacks=${lacking:+It lacks parts of your work: see above. }
	bytes=$(wc -c <"$destination")
	[ "$bytes" -le "$max_hand_in_bytes" ] ||
		warn "your teacher's program reads files of at most $max_hand_in_bytes bytes: move large files out of my-stack, and" \
			"delete dashboards that you don't need, then run hand-in.sh again"
	size=$(echo "$bytes" | awk '{ printf "%.0f KB", $1 / 1000 }')
	echo "$destination is written: $size. ${lacks}Read it, then send it to your teacher."
}

main "$@"
