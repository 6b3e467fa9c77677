#!/bin/sh
# report.sh NUMBER: writes your hand-in, the text file report-NUMBER.txt, which you send to your teacher.
#
# NUMBER is your own number, the one after --seed. Start your stack and the model first. The file holds the
# lines of check.sh, the files of my-stack without passwords, your dashboards, and the traces of your work
# in Prometheus, Alertmanager and Mailpit. The word none replaces a part that doesn't exist. Before it writes,
# report.sh says what the file holds about you, and asks for your Grafana's password, unless
# GRAFANA_PASSWORD holds it.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# shellcheck source=scripts/grafana.sh
. "$root/scripts/grafana.sh"
exporter=$(url exporter)
prometheus=$(url prometheus)
grafana=$(url grafana)
model="instance=~\".*:${exporter##*:}\""
file=

case ${1-} in
-h | --help) print_help && exit ;;
'' | *[!0-9]* | ???????????????????*) usage_error "it takes your number, of 1 to 18 digits, not '${1-}'" ;;
esac
[ $# -eq 1 ] || usage_error "it takes one number, not '$*'"
require_curl

# fact NAME: the lines that are read, each after its name; without lines, the word none.
fact() {
	awk -v name="$1" 'NF { print name ": " $0; found = 1 } END { if (!found) print name ": none" }'
}

# running FOLDER: the images that run in the stack of that folder.
running() {
	compose_containers | awk -F '\t' -v folder="$root/$1" '$2 == "running" && $5 == folder { print $3 }'
}

# history SELECTOR LABEL: of each sample of the last 14 days, oldest first: time, value, the label's value.
history() {
	get --max-time 60 --get --data-urlencode "query=$1[14d]" "$prometheus/api/v1/query" 2>/dev/null | tr '[' '\n' |
		awk -F '"' -v label="\"$2\":\"" '
			/^[0-9]/ { print $1 $2, name }
			i = index($0, label) { name = substr($0, i + length(label)); sub(/".*/, "", name) }
		' | tr , ' ' | sort -n
}

# utc: the time in seconds that is read, as a date.
utc() {
	read -r seconds && { date -u -d "@$seconds" +%FT%TZ 2>/dev/null || date -u -r "$seconds" +%FT%TZ; }
}

# episodes: how often each alert of the history that is read fired. A gap of more than two of its intervals ends it.
episodes() {
	awk '
		$3 in last && (!($3 in gap) || $1 - last[$3] < gap[$3]) { gap[$3] = $1 - last[$3] }
		{ last[$3] = time[NR] = $1; name[NR] = $3 }
		END {
			for (i = 1; i <= NR; i++) {
				if (!(name[i] in times) || time[i] - before[name[i]] > 2.5 * gap[name[i]]) times[name[i]]++
				before[name[i]] = time[i]
			}
			for (each in times) print times[each], each
		}'
}

# hide_password: the text that is read, without Grafana's password and without control characters.
hide_password() {
	tr -d '\000-\010\013-\037\177' | awk '{
		secret = ENVIRON["GRAFANA_PASSWORD"]
		for (done = ""; length(secret) > 3 && (i = index($0, secret)); $0 = substr($0, i + length(secret)))
			done = done substr($0, 1, i - 1) "(left out)"
		print done $0
	}'
}

# quote TITLE: the text that is read, each line behind a bar, without the values of keys that hold secrets.
quote() {
	echo "== $1"
	awk '
		/-----BEGIN/, /-----END/ { next }
		{ match($0, /^[ -]*/) }
		# The value of such a key may go on in the lines below, which are indented more.
		secret != "" && (RLENGTH > secret || !NF) { next }
		{ secret = ""; indent = RLENGTH }
		match(tolower($0), /(passw|secret|token|credential|webhook|api_?url|api_?key)[^ :=]*[ "]*[:=]/) {
			$0 = substr($0, 1, RSTART + RLENGTH - 1) " (left out)"
			secret = indent
		}
		{ gsub(/:\/\/[^\/@ ]*@/, "://(left out)@"); print "| " $0 }
	'
}

# hand_in: the whole text, but for its sum.
# shellcheck disable=SC2031 # common.sh sets the password in a subshell only
hand_in() {
	echo "modelmock hand-in 1"
	echo "$number" | fact number
	date -u +%FT%TZ | fact written
	uname -nsm | fact host
	id -un | fact user
	docker version --format '{{.Server.Version}} {{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null | fact engine
	for stack in my-stack stack; do
		running "$stack" | sed "s/$/ in $stack/"
	done | fact image
	get "$exporter/metrics" 2>/dev/null |
		sed -n 's/^modelmock_build_info{version="\([^"]*\)".*/modelmock \1/p' | fact model
	for part in '' --own; do
		# shellcheck disable=SC2086 # no word, or one
		"$root/scripts/check.sh" $part 2>&1 </dev/null | fact check
	done

	history "up{$model}" job >"$traces"
	awk '$2 == 1 { printf "%.0f\n", $1; exit }' "$traces" | utc | fact first-scrape
	# Between two scrapes, at most 15 s count, with any scrape interval.
	awk '$2 == 1 { gap = $1 - last; sum += gap < 15 ? gap : 15; last = $1 } END { if (NR) printf "%.0f\n", sum / 60 }' \
		"$traces" | fact minutes-scraped
	awk '$2 == 0 && up { times++ } { up = $2 } END { if (NR) print times + 0 }' "$traces" | fact times-down
	history 'ALERTS{alertstate="firing"}' alertname | episodes | sort -k 2 | fact fired
	get "$(url mailpit)/api/v1/messages?limit=500" 2>/dev/null | grep -Eo '"Subject":"[^"]*"' |
		sed 's/.*:"//; s/"$//; s/[][]//g; s/^\([A-Z]*\):[0-9]*/\1/' |
		awk '{ count[$1 " " $2]++ } END { for (kind in count) print count[kind], kind }' | sort -k 2 | fact mails
	get "$(url alertmanager)/api/v2/silences" 2>/dev/null | sed 's/{"id":/\
&/g' | sed -n 's/.*"comment":"\(.*\)","createdBy":"\([^"]*\)".*"startsAt":"\([^"]*\)".*/\3 by \2: \1/p' | fact silence

	[ ! -d "$root/my-stack" ] || (cd "$root/my-stack" && find . -type f) | sed 's|^\./||' | sort | while read -r name; do
		case $(echo "$name" | tr '[:upper:]' '[:lower:]') in
		.* | */.* | *passw* | *secret* | *token*) echo "$name" | fact left-out ;;
		*.yml | *.yaml | *.json | *.md)
			if [ "$(wc -c <"$root/my-stack/$name")" -le 100000 ]; then
				quote "my-stack/$name" <"$root/my-stack/$name"
			else
				echo "$name (large)" | fact left-out
			fi
			;;
		*) echo "$name" | fact left-out ;;
		esac
	done
	if [ -n "$GRAFANA_PASSWORD" ]; then
		found=$(as_admin "$GRAFANA_PASSWORD" -f "$grafana/api/search?type=dash-db&limit=5000" 2>/dev/null)
		for uid in $(printf '%s\n' "$found" | grep -Eo '"uid": *"[^"]*"' | sed 's/.*: *"//; s/"$//'); do
			dashboard=$(as_admin "$GRAFANA_PASSWORD" -f "$grafana/api/dashboards/uid/$uid" 2>/dev/null)
			case $dashboard in
			*'"provisioned":true'*) ;;
			*) printf '%s\n' "$dashboard" | sed 's/,"/,\
"/g' | quote "dashboard $uid" ;;
			esac
		done
	fi

	# When the model gave which result: the number of the result is the count of refreshes.
	history "{__name__=~\"model_result|model_refreshes_total\",$model}" __name__ |
		tail -n 10000 | awk '
		$3 == "model_result" { result[$1] = $2 }
		$3 == "model_refreshes_total" { count[$1] = $2 }
		$1 in result && $1 in count {
			if (count[$1] != last) print $1, count[$1], result[$1]
			last = count[$1]
			delete result[$1]
		}
	' | fact sample
}

number=$1
cat <<END
report-$number.txt will hold:
- about you: your number $number, your user name ($(id -un)), the name of this computer ($(uname -n)), and the time;
- about your work: the lines of check.sh, the files of my-stack and your dashboards without passwords, how many
  alerts and mails there were, your silences with creator and comment, and the times of your model's results.
The file can't prove that you did the work yourself: its sum shows accidental changes, and isn't a signature.
END
[ -n "$(running my-stack)" ] || [ -z "$(running stack)" ] ||
	GRAFANA_PASSWORD=$( (read_password && printf '%s\n' "$password") 2>/dev/null)
if [ -z "${GRAFANA_PASSWORD-}" ] && [ -t 0 ]; then
	ask_password "To go on, type the password of Grafana's user admin (leave it empty without Grafana). Ctrl+C ends this: "
	GRAFANA_PASSWORD=$typed
fi
export GRAFANA_PASSWORD="${GRAFANA_PASSWORD-}"
trap 'rm -f ${file:+"$file" "$file.traces"}; exit 1' INT TERM HUP

file=$(mktemp "$root/report-$number.XXXXXX") ||
	die "cannot write in $root: make the folder writable, or the disk less full"
traces=$file.traces
written=yes
hand_in | hide_password >"$file" || written=
rm -f "$traces"
if [ -z "$written" ] ||
	! echo "sum: $(sha256 "$file" | cut -d ' ' -f 1)" >>"$file" || ! mv "$file" "$root/report-$number.txt"; then
	rm -f "$file"
	die "cannot write $root/report-$number.txt: is the disk full?"
fi
size=$(wc -c <"$root/report-$number.txt" | awk '{ printf "%.0f KB", $1 / 1000 }')
echo "$root/report-$number.txt is written: $size. Read it, then send it to your teacher."
