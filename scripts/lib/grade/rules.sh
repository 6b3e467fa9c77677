# shellcheck shell=sh
# The rules on drift of hand-ins, for grade.sh, which sources this file: it tries each rule ModelResultDrift, and its
# unit test, with promtool in Prometheus' image, which has no network.
# shellcheck disable=SC2154 # grade.sh and common.sh set the other variables

# Seconds of processor time for each run of promtool, which a busy machine doesn't change, and its memory.
max_seconds=120
max_memory=512m

# lay_out FILE FOLDER: of a hand-in, makes FOLDER/my-stack with the YAML files that it quotes, and FOLDER/names with
# their names; of another file, the file itself as rules.yml.
lay_out() {
	mkdir -p "$2/my-stack" "$2/rules" || return
	tr -d '\r' <"$1" | awk '{ sub(/^(\| )?\357\273\277/, "") } { print }' >"$2/whole" || return
	if [ "$(head -n 1 "$2/whole")" != "modelmock hand-in 1" ]; then
		touch "$2/is-rules"
		echo rules.yml >"$2/names"
		cp "$2/whole" "$2/my-stack/rules.yml"
		return
	fi
	awk -f "$library/sections.awk" "$2/whole" >"$2/names" || return
	while IFS= read -r name; do
		case $name in
		*/*) mkdir -p "$2/my-stack/${name%/*}" || return ;;
		esac
		wanted=$name awk -f "$library/sections.awk" "$2/whole" >"$2/my-stack/$name" || return
	done <"$2/names"
}

# files_of_kind KIND FOLDER: the names of its YAML files that are of that kind.
files_of_kind() {
	while IFS= read -r name; do
		! awk -f "$library/kinds.awk" "$2/my-stack/$name" | grep -qxF "$1" || printf '%s\n' "$name"
	done <"$2/names"
}

# choose_rules FOLDER: copies the files of rules to try into FOLDER/rules. Prints why, if there are none. Of two files
# with the rule, Prometheus' configuration says which one counts; it also names the files with recording rules.
choose_rules() {
	files_of_kind rule "$1" >"$1/with-rule"
	files_of_kind groups "$1" >"$1/with-groups"
	files_of_kind config "$1" | while IFS= read -r name; do
		awk -f "$library/rule_files.awk" "$1/my-stack/$name"
	done >"$1/loaded-patterns"
	awk -f "$library/loaded.awk" kind=patterns "$1/loaded-patterns" kind= "$1/with-groups" >"$1/loaded"
	if [ "$(wc -l <"$1/with-rule")" -gt 1 ]; then
		grep -xFf "$1/loaded" "$1/with-rule" >"$1/chosen"
		if [ "$(wc -l <"$1/chosen")" -ne 1 ]; then
			names=$(paste -s -d , - <"$1/with-rule" | sed 's/,/, /g')
			echo "open  rule: several files have it, $names: leave one of them in a copy"
			return
		fi
	else
		cp "$1/with-rule" "$1/chosen"
	fi
	if [ ! -s "$1/chosen" ]; then
		echo "FAIL  rule: the file lacks an alert ModelResultDrift"
		return
	fi
	grep -xvFf "$1/with-rule" "$1/loaded" >>"$1/chosen"
	n=0
	while IFS= read -r name; do
		n=$((n + 1))
		cp "$1/my-stack/$name" "$1/rules/$n.yml"
	done <"$1/chosen"
}

# choose_tests FOLDER: the paths, in promtool's container, of the unit tests that ask for the rule.
choose_tests() {
	files_of_kind test "$1" | while IFS= read -r name; do
		printf '/my-stack/%s\n' "$name"
	done
}

# promtool FOLDER ARGUMENT...: runs it in the image, with FOLDER/rules, FOLDER/my-stack and the tests. Its errors go to
# FOLDER/errors, without what it says of the files that are right. Sets $status, as rules and tests can print anything: 0
# if all is right, 1 if promtool says that it isn't, 2 if promtool reached a limit, 3 if it said nothing.
promtool() {
	tried=$1
	shift
	docker run --rm --label "modelmock.grade=$$" --network none --memory $max_memory \
		--ulimit "cpu=$max_seconds:$max_seconds" --tmpfs /promtool:mode=1777 -e TMPDIR=/promtool \
		-v "$folder/tests:/tests:ro,z" -v "$tried/rules:/rules:ro,z" -v "$tried/my-stack:/my-stack:ro,z" \
		--entrypoint promtool "$promtool_image" "$@" 2>"$tried/errors" >/dev/null
	status=$?
	reason=$(grep . "$tried/errors" | grep -v 'docker run --help' | tail -n 1 | sed 's/^docker: //')
	case $status in
	0 | 1) ;;
	# The system ended it.
	137)
		status=2
		echo "promtool needs more than $max_seconds s of processor time for it, or $max_memory of memory" >"$tried/errors"
		;;
	125 | 126 | 127)
		status=3
		echo "Docker failed: $reason" >"$tried/errors"
		;;
	*)
		echo "promtool ended with status $status: $reason" >"$tried/errors"
		status=3
		;;
	esac
}

# end_promtools: ends the containers of this run.
end_promtools() {
	ids=$(docker ps -aq --filter "label=modelmock.grade=$$" 2>/dev/null)
	# shellcheck disable=SC2086 # words
	[ -z "$ids" ] || docker rm -f $ids >/dev/null 2>&1
}

# last_line FOLDER: the last line of promtool's errors, without the folders of its container.
last_line() {
	grep . "$1/errors" | tail -n 1 | sed 's|^ *||; s|/rules/[0-9]*[.]yml|the rules|g; s|/my-stack/||g'
}

# print_no_verdict FOLDER ABOUT: the line on the rule or the test if promtool ended without a verdict on it.
print_no_verdict() {
	if [ "$status" -eq 2 ]; then
		echo "FAIL  $2: $(last_line "$1")"
	else
		echo "open  $2: $(last_line "$1")"
	fi
}

# judge_rule FOLDER: prints the verdict on its rules.
judge_rule() {
	missed=
	promtool "$1" test rules /tests/rise.yml /tests/narrow.yml /tests/split.yml
	if [ $status -eq 1 ]; then
		# shellcheck disable=SC2046 # choose_rules gave them numbers as names
		promtool "$1" check rules $(cd "$1/rules" && printf '/rules/%s\n' *.yml)
		if [ $status -eq 1 ]; then
			echo "FAIL  rule: promtool doesn't accept it: $(last_line "$1")"
			return
		fi
		for kind in rise narrow split; do
			[ $status -gt 1 ] || promtool "$1" test rules /tests/$kind.yml
			[ $status -ne 1 ] || missed="$missed${missed:+, }$kind"
		done
		if [ $status -le 1 ]; then
			echo "FAIL  rule: it doesn't fire within 20 minutes of a drift: $missed"
			return
		fi
	fi
	for day in quiet-1 quiet-2; do
		[ $status -ne 0 ] || promtool "$1" test rules /tests/$day.yml
	done
	case $status in
	0) echo "ok    rule: with seed $seed, it fires within 20 minutes of each drift, and not on two days without" ;;
	1) echo "FAIL  rule: it fires on a day without drift" ;;
	*) print_no_verdict "$1" rule ;;
	esac
}

# judge_test FOLDER: prints the verdict on its unit tests: they must pass with the rule, and fail without it.
judge_test() {
	choose_tests "$1" >"$1/tests"
	if [ ! -s "$1/tests" ]; then
		echo "FAIL  test: the hand-in lacks a unit test with ModelResultDrift"
		return
	fi
	# shellcheck disable=SC2046 # sections.awk lets only names without blanks pass
	promtool "$1" test rules $(cat "$1/tests")
	case $status in
	0) ;;
	1) echo "FAIL  test: it fails with the rule: $(last_line "$1")" && return ;;
	*) print_no_verdict "$1" test && return ;;
	esac
	while IFS= read -r name; do
		sed 's/\(alert["'\'']\{0,1\} *: *["'\'']\{0,1\}\)ModelResultDrift/\1LeftOut/' "$1/my-stack/$name" >"$1/new" &&
			cat "$1/new" >"$1/my-stack/$name"
	done <"$1/names"
	# shellcheck disable=SC2046
	promtool "$1" test rules $(cat "$1/tests")
	case $status in
	0) echo "FAIL  test: it passes without the rule, too" ;;
	1) echo "ok    test: it passes with the rule, and fails without it" ;;
	*) print_no_verdict "$1" test ;;
	esac
}

# judge_all: takes one after the other of the keys in $folder/keys that nobody has taken yet, and writes its verdict.
judge_all() {
	while read -r key; do
		mkdir "$folder/$key/taken" 2>/dev/null || continue
		{
			if [ -s "$folder/$key/reason" ]; then cat "$folder/$key/reason"; else judge_rule "$folder/$key"; fi
			[ -e "$folder/$key/is-rules" ] || judge_test "$folder/$key"
		} >"$folder/$key/judging"
		mv "$folder/$key/judging" "$folder/$key/verdict"
	done <"$folder/keys"
}

# start_judges: as many as there are processors, in the background. Sets $children.
start_judges() {
	judges=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
	[ "$judges" -le 4 ] || judges=4
	while [ "$judges" -gt 0 ]; do
		judge_all &
		children="$children $!"
		judges=$((judges - 1))
	done
}

# key_of FOLDER: the sum of its files: equal files get their verdict once.
key_of() {
	(cd "$1" && find is-rules reason my-stack rules -type f 2>/dev/null | sort | while IFS= read -r name; do
		sha256 "$name"
	done) | sha256 - | cut -d ' ' -f 1
}

# lay_out_all FILE...: makes $folder/KEY for each different hand-in, and $folder/keys, a line for each file.
lay_out_all() {
	for file in "$@"; do
		rm -rf "$folder/new"
		lay_out "$file" "$folder/new" && choose_rules "$folder/new" >"$folder/new/reason" || return
		key=$(key_of "$folder/new")
		echo "$key" >>"$folder/keys" || return
		[ -e "$folder/$key" ] || mv "$folder/new" "$folder/$key" || return
	done
}

# try_rules FILE...: prints the verdicts on each file, in order.
try_rules() {
	require_docker
	get_images prometheus
	promtool_image=$(image prometheus)
	[ -n "$seed" ] || seed=$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')
	if ! mkdir "$folder/tests" || ! awk -v seed="$seed" -v folder="$folder/tests" -f "$library/rule_test.awk" ||
		! lay_out_all "$@" || ! chmod -R a+rX "$folder"; then
		die "cannot write $folder: is the disk full?"
	fi
	start_judges
	n=0
	for file in "$@"; do
		n=$((n + 1))
		key=$(line_of "$n" <"$folder/keys")
		until [ -e "$folder/$key/verdict" ]; do
			are_running || [ -e "$folder/$key/verdict" ] || die "cannot write $folder: is the disk full?"
			sleep 1
		done
		while IFS= read -r line; do
			printf '%s: %s\n' "$(line_of "$n" <"$folder/names")" "$(printf '%s\n' "$line" | strip_controls | cut -c 1-200)"
		done <"$folder/$key/verdict" || die "cannot write the output: is the disk full?"
	done
}

# are_running: whether a judge still runs.
are_running() {
	for judge in $children; do
		! kill -0 "$judge" 2>/dev/null || return 0
	done
	return 1
}
