# shellcheck shell=sh
# The table of hand-ins, for grade.sh, which sources this file: it reads the files, compares their results with those of
# the model and with each other, and prints the table, the values for a spreadsheet, the answers, or the feedback.
# shellcheck disable=SC2154 # grade.sh and common.sh set the other variables

model=$CARGO_TARGET_DIR/release/modelmock
# The model draws 100 results a second; the slowest machine may take this many tenths of a second.
max_tries=1200

# read_files FILE...: makes $folder/N.txt of each file, where N is its number in $folder/list, from 1001 on.
read_files() {
	n=1000
	: >"$folder/list"
	for file in "$@"; do
		n=$((n + 1))
		flag=-
		: >"$folder/$n.txt"
		if [ "$(wc -c <"$file")" -gt "$max_hand_in_bytes" ]; then
			flag=too-large
		elif [ ! -s "$file" ]; then
			flag=empty
		else
			read_file "$file"
		fi
		printf '%s\t%s\t%s\n' "$n" "$flag" "$(line_of $((n - 1000)) <"$folder/names")" >>"$folder/list" || return
	done
}

# without_marks FILE: its text. Editors and systems that collect files may change the ends of lines, add a mark at the
# beginning, or lose the last newline.
without_marks() {
	tr -d '\r' <"$1" | awk 'NR == 1 { sub(/^\357\273\277/, "") } { print }'
}

# read_file FILE: writes $folder/$n.txt, and sets $flag if the file was changed after hand-in.sh wrote it.
read_file() {
	without_marks "$1" >"$folder/whole" || return
	sed '/^sum: /d' "$folder/whole" >"$folder/summed"
	[ "$(sed -n 's/^sum: //p' "$folder/whole")" = "$(sha256 "$folder/summed" | cut -d ' ' -f 1)" ] || flag=edited
	strip_controls <"$folder/whole" >"$folder/$n.txt"
}

# draw_results: draws the results of each number that a hand-in has, into $folder/NUMBER.results, with all models at the
# same time.
draw_results() {
	[ -x "$model" ] || cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" ||
		die "cannot build the model: see the output above"
	awk -v max="$max_results" -f "$library/needed.awk" "$folder"/*.txt >"$folder/needed" || return
	while read -r number count; do
		: >"$folder/$number.results" || return
		"$model" --seed "$number" --interval 0.01 --listen 127.0.0.1:0 >"$folder/$number.results" 2>"$folder/error" &
		children="$children $!"
	done <"$folder/needed"
	tries=0
	while read -r number count; do
		until [ "$(wc -l <"$folder/$number.results")" -gt "$count" ]; do
			tries=$((tries + 1))
			[ $tries -le $max_tries ] ||
				die "the model doesn't draw the results of number $number: stop other programs, or grade fewer files at a time" \
					"($(tail -n 1 "$folder/error"))"
			sleep 0.1
		done
	done <"$folder/needed"
	# shellcheck disable=SC2086 # process IDs
	[ -z "$children" ] || { kill $children && wait $children; } 2>/dev/null
	children=
}

# lab_text: the letters and digits of the lab's own pages, in one line.
lab_text() {
	find "$root/README.md" "$root/stack" -name '*.md' -exec cat {} + |
		tr -d '\000-\057\072-\100\133-\140\173-\177' | tr '[:upper:]' '[:lower:]'
	echo
}

# make_rows: writes $folder/rows, a line for each hand-in, sorted by number.
make_rows() {
	awk -f "$library/answers.awk" "$folder"/*.txt >"$folder/answers" || return
	: >"$folder/none.results"
	awk -v max="$max_results" -f "$library/runs.awk" "$folder"/*.results "$folder"/*.txt >"$folder/runs" || return
	lab_text >"$folder/lab"
	awk -f "$library/copies.awk" kind=lab "$folder/lab" kind=answers "$folder/answers" kind=runs "$folder/runs" \
		kind= "$folder"/*.txt >"$folder/copies" || return
	for file in class verdicts; do
		: >"$folder/$file"
	done
	[ -z "$class" ] || without_marks "$class" | strip_controls >"$folder/class" || return
	[ -z "$verdicts" ] || strip_controls <"$verdicts" >"$folder/verdicts" || return
	awk -v minutes="$minutes" -v due="$due" -v scripts="$(scripts_sum)" -f "$library/rows.awk" \
		kind=criteria "$library/criteria.txt" kind=class "$folder/class" kind=verdicts "$folder/verdicts" \
		kind=finished "$root/stack/compose.yaml" kind=list "$folder/list" kind=runs "$folder/runs" \
		kind=copies "$folder/copies" kind=answers "$folder/answers" kind= "$folder"/*.txt >"$folder/unsorted" || return
	head -n 1 "$folder/unsorted" >"$folder/rows" && tail -n +2 "$folder/unsorted" | sort >>"$folder/rows"
}

# write_feedback: a text for each student, named after the hand-in, in the folder of --feedback.
write_feedback() {
	while IFS=$tab read -r id flag name; do
		text=$feedback/${name%.*}-feedback.txt
		mkdir -p "${text%/*}" || die_plain "cannot write ${text%/*}: choose a folder in which you may write"
		awk -v id="$id" -f "$library/feedback.awk" kind=criteria "$library/criteria.txt" kind=rows "$folder/rows" \
			kind= "$folder/$id.txt" >"$text" || die_plain "cannot write $text: is the disk full?"
	done <"$folder/list"
}

# grade FILE...: all that isn't about rules.
grade() {
	tab=$(printf '\t')
	if ! read_files "$@" || ! draw_results || ! make_rows; then
		die "cannot write $folder: is the disk full?"
	fi
	[ -z "$feedback" ] || write_feedback
	case $action in
	table) awk -f "$library/table.awk" "$folder/rows" ;;
	csv) awk -f "$library/csv.awk" "$folder/rows" ;;
	answers)
		awk -v wanted="$wanted" -f "$library/show_answers.awk" kind=rows "$folder/rows" kind=answers "$folder/answers"
		;;
	esac >"$folder/output" || die "cannot write $folder: is the disk full?"
	cat "$folder/output" || die "cannot write the output: is the disk full?"
}
