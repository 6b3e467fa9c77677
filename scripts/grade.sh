#!/bin/sh
# grade.sh [--minutes N] FILE...: prints a table of hand-ins, the files that report.sh writes, a line each.
# grade.sh --rule FILE...: tries the rule ModelResultDrift of each hand-in, or file of rules, with promtool.
#
# The column seed gives the share of the results that belong to the student's number, without the runs with
# --value. The last column gives reasons for a second look: edited (after report.sh wrote the file; its sum
# shows accidental changes, and isn't a signature), same-run-as-NUMBER (also if a student sent two files),
# not-its-seed, too-fast (results in less time than 5 s each), short (fewer minutes than N), no-answers,
# and not-a-hand-in. A rule must fire within 15 minutes of --drift 600, three times, and must not fire on two
# days without drift. The results are the same each time, so that equal rules get equal verdicts: with random
# ones, even the lab's rule would fail now and then. A rule with a rare false alarm can pass.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# shellcheck source=scripts/images.sh
. "$root/scripts/images.sh"
model=$CARGO_TARGET_DIR/release/modelmock
max_results=2000
minutes=0
models=
folder=

case ${1-} in
-h | --help) print_help && exit ;;
--minutes)
	minutes=${2-}
	case $minutes in '' | *[!0-9]*) usage_error "--minutes takes a whole number, not '$minutes'" ;; esac
	shift 2
	;;
--rule) models=none && shift ;;
-*) usage_error "unknown flag '$1'" ;;
esac
[ $# -gt 0 ] || usage_error "it takes the files of the hand-ins"
for file in "$@"; do
	if [ ! -f "$file" ] || [ ! -r "$file" ]; then
		die "cannot read $file: name the files of the hand-ins"
	fi
done

clean_up() {
	# shellcheck disable=SC2086 # process IDs
	[ -z "$models" ] || kill $models 2>/dev/null
	[ -z "$folder" ] || rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP
folder=$(mkdir -p "$root/target" && mktemp -d "$root/target/grade.XXXXXX") || die "cannot write $root/target"

# plain: the text that is read, without control characters: hand-ins are other people's files.
plain() {
	tr -cd '\n -~'
}

# rule_test: a unit test for promtool, with results of a generator that students don't have.
rule_test() {
	awk '
		function draw() { x = x * 16807 % 2147483647; return int(x / 2147483647 * 1000001) / 1e6 }
		function series(name, values, more) {
			printf "      - series: %s{job=\"model_mock\", instance=\"localhost:5000\"%s}\n", name, more
			printf "        values: \"%s\"\n", values
		}
		# drift is the time of --drift, or 0.
		function test(name, drift, count, fires,   n, sum, value, results, sums, lower, bound, at_most, buckets) {
			for (n = 0; n < count; n++) {
				lower = !drift ? 0 : n * 5 < drift ? 0.5 * n * 5 / drift : 0.5
				value = lower + (1 - lower) * draw()
				results = results sprintf("%.6f ", value)
				sums = sums sprintf("%.6f ", sum += value)
				for (bound = 1; bound <= 10; bound++) buckets[bound] = buckets[bound] (at_most[bound] += value <= bound / 10) " "
			}
			printf "  - name: %s\n    interval: 5s\n    input_series:\n", name
			series("model_result", results)
			series("model_result_distribution_sum", sums)
			series("model_result_distribution_count", "1+1x" count - 1)
			for (bound = 1; bound <= 10; bound++) {
				series("model_result_distribution_bucket", buckets[bound], sprintf(", le=\"%g\"", bound / 10))
				delete buckets[bound]
			}
			series("model_result_distribution_bucket", "1+1x" count - 1, ", le=\"+Inf\"")
			series("model_refreshes_total", "1+1x" count - 1)
			series("up", "1x" count - 1)
			print "    promql_expr_test:"
			print "      - expr: |"
			print "          count(count_over_time(ALERTS{alertname=\"ModelResultDrift\", alertstate=\"firing\"}[1d])) > bool 0"
			print "          or vector(0)"
			printf "        eval_time: %ds\n        exp_samples: [{labels: \"{}\", value: %d}]\n", count * 5 - 5, fires
		}
		BEGIN {
			print "rule_files: [rules.yml]\nevaluation_interval: 5s\ntests:"
			for (x = 1; i++ < 3; ) test("drift", 600, 181, 1)
			for (i = 0; i++ < 2; ) test("quiet", 0, 17280, 0)
		}'
}

if [ -n "$models" ]; then
	models=
	require_docker
	get_images prometheus
	rule_test >"$folder/test.yml"
	for file in "$@"; do
		# Of a hand-in, the part that has the rule; otherwise the file itself.
		awk 'FNR == 1 { hand_in = /^modelmock hand-in/ }
			!hand_in { print; next }
			/^== / { text = "" }
			sub(/^\| /, "") { text = text $0 "\n"; if (/alert: *["'\'']?ModelResultDrift/) found = 1 }
			!/^== / && found { rules = text }
			/^== / { found = 0 }
			END { printf "%s", rules }' <"$file" >"$folder/rules.yml"
		chmod -R a+rX "$folder"
		answer=$(docker run --rm --network none --memory 512m -v "$folder:/rules:ro,z" --entrypoint promtool \
			"$(image prometheus)" test rules /rules/test.yml 2>&1)
		case $answer in
		*SUCCESS*) answer="ok    with these results, it fires within 15 minutes of drift, and not on two days without" ;;
		*"got: {} 1E+00"*) answer="FAIL  it fires on a day without drift" ;;
		*"got: {} 0E+00"*)
			answer="FAIL  it doesn't fire within 15 minutes of drift"
			grep -q ModelResultDrift "$folder/rules.yml" || answer="FAIL  it lacks the rule ModelResultDrift"
			;;
		*) answer="FAIL  $(printf '%s\n' "$answer" | grep . | tail -n 1)" ;;
		esac
		printf '%s: %s\n' "$file" "$answer" | plain | cut -c 1-200
	done
	exit
fi

[ -x "$model" ] || cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" ||
	die "cannot build the model: see the output above"
index=1000
for file in "$@"; do
	index=$((index + 1))
	copy=$folder/$index.txt
	# A system that collects hand-ins may change the ends of lines.
	tr -d '\r' <"$file" >"$copy.whole"
	sed -n '/^sum: /!p' "$copy.whole" >"$copy.summed"
	plain <"$copy.whole" >"$copy"
	# A hand-in may have lost the end of its last line.
	printf '\nfile: %s\n' "${file##*/}" | plain >>"$copy"
	[ "$(sed -n 's/^sum: //p' "$copy")" = "$(sha256 "$copy.summed" | cut -d ' ' -f 1)" ] || echo edited >>"$copy"
	# How many results of which seed this one needs.
	awk -v max=$max_results '
		/^number: [0-9]+$/ && length($2) <= 18 { seed = $2 }
		/^sample: / && $3 > count { count = $3 < max ? $3 : max }
		END { if (seed != "" && count) printf "%s %d\n", seed, count }' "$copy"
done >"$folder/needed"
: >"$folder/none.results"
while read -r seed count; do
	[ -e "$folder/$seed.results" ] || {
		"$model" --seed "$seed" --interval 0.01 --listen 127.0.0.1:0 >"$folder/$seed.results" &
		models="$models $!"
	}
done <"$folder/needed"
# The model draws 100 results a second; all of them run at the same time.
tries=0
while read -r seed count; do
	until [ "$(wc -l <"$folder/$seed.results")" -gt "$count" ]; do
		tries=$((tries + 1))
		[ $tries -le 1200 ] ||
			die "the model doesn't draw the results of seed $seed: stop other programs, or grade fewer files at a time"
		sleep 0.1
	done
done <"$folder/needed"

awk -v minutes="$minutes" -v max=$max_results '
	function flag(name) { if (!index(flags[file] ",", "," name ",")) flags[file] = flags[file] "," name }
	# At the end of a run of the model: one with a single value is a run with --value.
	function end_run() {
		if (varied) { checked[file] += compared; matched[file] += equal }
		if (last_n - first_n >= 3 && last_n - first_n > 0.3 * (last - first)) flag("too-fast")
		varied = compared = equal = 0
	}
	FNR == 1 {
		end_run()
		last_n = first_n = 0
		results = FILENAME ~ /results$/
		seed = FILENAME
		sub(/.*\//, "", seed)
		sub(/\..*/, "", seed)
	}
	results { if ($2 == "model_result" && ++drawn[seed] <= max) result[seed, drawn[seed]] = $3; next }
	FNR == 1 { file++; number[file] = "?"; if ($0 != "modelmock hand-in 1") flag("not-a-hand-in") }
	/^number: [0-9]+$/ && length($2) <= 18 { number[file] = $2 }
	/^file: / && number[file] ~ /^[^0-9]/ { number[file] = $2 }
	/^written: / { written[file] = substr($2, 1, 16) }
	/^check: (ok|FAIL|open) / { verdict[file, $2]++ }
	/^minutes-scraped: / { scraped[file] = $2 + 0 }
	/^times-down: / { down[file] = $2 + 0 }
	/^fired: [0-9]/ { alerts[file] += $2 }
	/^mails: [0-9]/ { mails[file] += $2 }
	/^silence: [0-9]/ { silences[file]++ }
	/^== dashboard / { dashboards[file]++ }
	/^== / { answers = /answers.md$/ }
	answers && /^\| *[^ ]/ { answered[file] = 1 }
	$0 == "edited" { flag("edited") }
	/^sample: / {
		if ($3 <= last_n) { end_run(); last_n = 0 }
		if (!last_n) { first_n = $3; first = $2; value = $4 }
		if ($4 != value) varied = 1
		last_n = $3; last = $2
		if ($3 <= max) {
			compared++
			difference = result[number[file], $3] - $4
			equal += difference < 6e-7 && difference > -6e-7
		}
		key = $2 " " $4
		if (key in of && of[key] != file) same[file] = of[key]
		of[key] = file
	}
	END {
		end_run()
		for (i = 1; i <= file; i++) if (i in same) if (!(same[i] in same)) same[same[i]] = i
		print "number             written (UTC)      ok FAIL open  min  seed down alerts mails silences boards  look at"
		for (i = 1; i <= file; i++) {
			if (flags[i] ~ /not-a-hand-in/) { printf "%-18s %80s  not-a-hand-in\n", number[i], ""; continue }
			if (i in same) flags[i] = flags[i] ",same-run-as-" number[same[i]]
			if (matched[i] * 2 < checked[i] || !checked[i]) flags[i] = flags[i] ",not-its-seed"
			if (scraped[i] < minutes) flags[i] = flags[i] ",short"
			if (!answered[i]) flags[i] = flags[i] ",no-answers"
			printf "%-18s %-16s %4d %4d %4d %4d %4d%% %4d %6d %5d %8d %6d  %s\n", number[i],
				written[i], verdict[i, "ok"], verdict[i, "FAIL"], verdict[i, "open"], scraped[i],
				checked[i] ? 100 * matched[i] / checked[i] : 0, down[i], alerts[i], mails[i], silences[i], dashboards[i],
				flags[i] == "" ? "-" : substr(flags[i], 2)
		}
	}' "$folder"/*.results "$folder"/*.txt
