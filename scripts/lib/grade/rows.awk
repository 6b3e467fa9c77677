# One line for each hand-in, with tabs between its fields; the first line names them. The first field is for sorting.
# awk -v minutes=N -v due=TIME -v scripts=SUM -f rows.awk kind=criteria FILE kind=class FILE kind=verdicts FILE
#   kind=finished COMPOSE-FILE kind=list FILE kind=runs FILE kind=copies FILE kind=answers FILE kind= HANDIN.txt...
#
# The files come from table.sh and from the other programs in this folder. A line of the list is a hand-in's number in
# the list, its flag or -, and its file's name, with tabs between.

BEGIN { FS = "\t" }
kind == "criteria" {
	if (/^  /)
		lines_of[criteria] = lines_of[criteria] (lines_of[criteria] == "" ? "" : ";") substr($0, 3)
	else if (/^[a-z]/) {
		split($0, part, " ")
		criterion[++criteria] = part[1]
		points_of[criteria] = part[2]
	}
	next
}
kind == "class" {
	split($0, part, /[ \t]+/)
	if (part[1] ~ /^[0-9]+$/) {
		n = without_zeros(part[1])
		name_of[n] = $0
		sub(/^[ \t]*[0-9]+[ \t]*/, "", name_of[n])
		in_class[++class_size] = n
	}
	next
}
kind == "verdicts" { read_verdict($0); next }
kind == "finished" {
	gsub(/^ +| +$/, "")
	if ($0 != "" && !/^#/ && !($0 in is_finished)) {
		is_finished[$0] = 1
		finished_size++
	}
	next
}
kind == "list" {
	hand_in[++count] = $1
	file[$1] = $3
	files_of[last_part($3)]++
	flag($1, $2)
	next
}
kind == "runs" || kind == "copies" {
	split($0, part, " ")
	if (part[2] == "seed")
		seed[part[1]] = part[3]
	else if (part[2] == "flag")
		flag(part[1], part[3])
	else if (part[2] == "copy")
		copies[part[1]] = copies[part[1]] " " part[3] " " part[4]
	next
}
kind == "answers" {
	text = tolower($3)
	sub(/^[#*_> ]*(think|answer|question)?[ #]*[0-9]*[.):*_ ]*/, "", text)
	# A number or a bar alone isn't an answer.
	if (text ~ /[^] !"#$%&'()*+,.\/:;<=>?@[\\^_`{|}~-]/ && !(($1, $2) in is_answered)) {
		is_answered[$1, $2] = 1
		answers[$1]++
	}
	next
}

FNR == 1 {
	i = FILENAME
	sub(/.*\//, "", i)
	sub(/\..*/, "", i)
	is_quoted = is_own = 0
	split("", seen_line)
	seen_count = 0
	if ($0 != "modelmock hand-in 1" && flags[i] !~ /too-large/)
		flag(i, "not-a-hand-in")
}
/^== / { end_section(); is_quoted = 1; next }
/^sample: / { end_section(); is_quoted = 0 }
is_quoted {
	text = substr($0, 3)
	gsub(/^ +| +$/, "", text)
	if ((text in is_finished) && !(text in seen_line)) {
		seen_line[text] = 1
		seen_count++
	}
	next
}
/^number: [0-9]+$/ && length($0) <= 26 { number[i] = without_zeros(substr($0, 9)) }
/^with: [0-9]+$/ && length($0) <= 24 { partner[i] = without_zeros(substr($0, 7)) }
/^written: [0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+Z$/ { written[i] = substr($0, 10) }
/^scripts: / { scripts_of[i] = substr($0, 10) }
/^image: .* in my-stack$/ { has_own[i] = 1 }
/^image: .* in stack$/ { has_finished[i] = 1 }
/^check: This checks / { is_own = /own stack/ ? 1 : 0 }
/^check: (ok|FAIL|open) / {
	verdict = substr($0, 8, 4)
	sub(/ +$/, "", verdict)
	name = substr($0, 14)
	sub(/: .*/, "", name)
	# The same lines of the finished stack aren't the student's work; the model and the dashboard are.
	if (is_own || name ~ /^(exporter|model_result|a dashboard of your own)/)
		verdicts[i, verdict, name]++
}
/^minutes-scraped: [0-9]+$/ && length($0) <= 24 { scraped[i] = substr($0, 18) }
/^times-down: [0-9]+$/ && length($0) <= 19 { down[i] = substr($0, 13) }
/^fired: [0-9]+ / && length($0) <= 200 {
	split($0, part, " ")
	fired[i] += part[2]
	has_fired[i, part[3]] = 1
}
/^mails: [0-9]+ / && length($0) <= 200 {
	split($0, part, " ")
	mails[i] += part[2]
	if (part[3] == "FIRING")
		mailed[i] = mailed[i] " " part[4]
	if (part[3] == "RESOLVED")
		is_resolved[i] = 1
}
/^silence: [0-9]/ {
	silences[i]++
	if ($0 ~ /^silence: [^ ]+ by .*: *[^ ]/)
		has_reason[i] = 1
}
/^incident: [0-9]/ {
	split($0, part, " ")
	if (part[3] != "" && !((i, part[3]) in is_solved)) {
		is_solved[i, part[3]] = 1
		incidents[i]++
	}
}
/^== dashboard / { boards[i]++ }
END {
	end_section()
	for (n = 1; n <= count; n++)
		if (hand_in[n] in number)
			times[number[hand_in[n]]]++
	max = 0
	for (c = 1; c <= criteria; c++)
		if (counts(c))
			max += points_of[c]
	header = "sort\tid\tfile\tnumber\tname\twith\twritten\tpoints\tmax"
	for (c = 1; c <= criteria; c++)
		header = header "\t" criterion[c]
	header = header "\trule verdict\ttest verdict\tincidents\tanswers\tminutes\tseed\tdown\talerts\tmails"
	print header "\tsilences\tboards\tlook at"
	for (n = 1; n <= count; n++)
		print_row(hand_in[n])
	for (n = 1; n <= class_size; n++)
		if (!(in_class[n] in handed_in))
			print_missing(in_class[n])
}

# read_verdict: a line of grade.sh --rule: the file's name, ok, FAIL or open, rule or test, and the reason.
function read_verdict(line, name, verdict, about, reason) {
	if (!match(line, /: (ok  |FAIL|open)  (rule|test): /))
		return
	name = substr(line, 1, RSTART - 1)
	verdict = substr(line, RSTART + 2, 4)
	sub(/ +$/, "", verdict)
	about = substr(line, RSTART + 8, 4)
	reason = substr(line, RSTART + RLENGTH)
	has_verdicts = 1
	if (!((name, about) in rule_verdict)) {
		verdicts_of[last_part(name), about]++
		place_of[last_part(name), about] = name
	}
	rule_verdict[name, about] = verdict
	rule_reason[name, about] = verdict ": " reason
}

function last_part(name) {
	sub(/.*\//, "", name)
	return name
}

# counts: whether the criterion counts now: two of them need the verdicts.
function counts(c) {
	return has_verdicts || lines_of[c] !~ /^@(rule|test)$/
}

function end_section() {
	if (finished_size > 0 && seen_count >= 0.8 * finished_size)
		flag(i, "finished-stack")
	split("", seen_line)
	seen_count = 0
}

function flag(i, name) {
	if (name != "-" && index("," flags[i] ",", "," name ",") == 0)
		flags[i] = flags[i] == "" ? name : flags[i] "," name
}

# label: how a flag names another hand-in: by its number, or by its file if the number isn't enough.
function label(i) {
	if (!(i in number))
		return file[i]
	return times[number[i]] > 1 ? number[i] "(" file[i] ")" : number[i]
}

# is_met: whether the hand-in meets criterion c.
function is_met(i, c, line, size, n, name, wanted) {
	if (lines_of[c] ~ /^@/)
		return is_fact(i, lines_of[c])
	size = split(lines_of[c], line, ";")
	for (n = 1; n <= size; n++) {
		name = line[n]
		wanted = 1
		if (match(name, / x [0-9]+$/)) {
			wanted = substr(name, RSTART + 3) + 0
			name = substr(name, 1, RSTART - 1)
		}
		if (verdicts[i, "ok", name] < wanted || verdicts[i, "FAIL", name] > 0 || verdicts[i, "open", name] > 0)
			return 0
	}
	return 1
}

function is_fact(i, fact, name, n, part) {
	if (fact == "@mailed") {
		for (n = split(mailed[i], part, " "); n > 0; n--)
			if ((i, part[n]) in has_fired)
				return 1
		return 0
	}
	if (fact == "@silenced")
		return i in has_reason
	if (fact == "@resolved")
		return i in is_resolved
	return verdict_of(i, substr(fact, 2)) == "ok"
}

# verdict_of: ok, FAIL or open, of the rule or of its test.
function verdict_of(i, about) {
	return rule_verdict[key_of_verdict(i, about), about]
}

# key_of_verdict: the file's name for grade.sh --rule, which may have had more or fewer folders. The last part of the
# name is enough if it means one file in both.
function key_of_verdict(i, about, name) {
	name = last_part(file[i])
	if (!((file[i], about) in rule_verdict) && files_of[name] == 1 && verdicts_of[name, about] == 1)
		return place_of[name, about]
	return file[i]
}

function print_row(i, c, part, n, size, points, points_each, row) {
	if (match(flags[i], /not-a-hand-in|too-large|empty/)) {
		row = sort_key(i) "\t" i "\t" file[i] "\t" (i in number ? number[i] : "?")
		for (c = 1; c <= criteria + 16; c++)
			row = row "\t"
		print row "\t" substr(flags[i], RSTART, RLENGTH)
		return
	}
	if (has_finished[i] && !has_own[i])
		flag(i, "finished-stack")
	size = split(copies[i], part, " ")
	for (n = 1; n < size; n += 2)
		flag(i, part[n + 1] == "-" ? part[n] : part[n] "-" label(part[n + 1]))
	if (due != "" && written[i] > due)
		flag(i, "late")
	if (scraped[i] + 0 < minutes + 0)
		flag(i, "short")
	if (answers[i] + 0 == 0)
		flag(i, "no-answers")
	if (scripts_of[i] != scripts)
		flag(i, "other-scripts")
	if (class_size > 0 && !(number[i] in name_of))
		flag(i, "not-in-class")
	handed_in[number[i]] = handed_in[partner[i]] = 1
	for (c = 1; c <= criteria; c++) {
		if (!counts(c))
			points_each = points_each "\t"
		else {
			points_each = points_each "\t" (is_met(i, c) ? points_of[c] : 0)
			points += is_met(i, c) ? points_of[c] : 0
		}
	}
	row = sort_key(i) "\t" i "\t" file[i] "\t" (i in number ? number[i] : "?") "\t" names(i) "\t" partner[i]
	row = row "\t" substr(written[i], 1, 16) "\t" points + 0 "\t" max points_each
	row = row "\t" rule_reason[key_of_verdict(i, "rule"), "rule"] "\t" rule_reason[key_of_verdict(i, "test"), "test"]
	row = row "\t" incidents[i] + 0 "\t" answers[i] + 0 "\t" scraped[i] + 0 "\t" (seed[i] == "" ? "-" : seed[i])
	row = row "\t" down[i] + 0 "\t" fired[i] + 0 "\t" mails[i] + 0 "\t" silences[i] + 0 "\t" boards[i] + 0
	print row "\t" flags[i]
}

function print_missing(n, c, row) {
	row = sprintf("%19s", n) "\t\t\t" n "\t" name_of[n]
	for (c = 1; c <= criteria + 15; c++)
		row = row "\t"
	print row "\tmissing"
}

function names(i, text) {
	text = name_of[number[i]]
	if ((i in partner) && name_of[partner[i]] != "")
		text = text (text == "" ? "" : ", ") name_of[partner[i]]
	return text
}

# sort_key: the number with blanks before it, as awks compute with 15 digits only.
function sort_key(i) {
	return i in number ? sprintf("%19s", number[i]) : "~"
}

function without_zeros(text) {
	sub(/^0+/, "", text)
	return text == "" ? "0" : text
}
