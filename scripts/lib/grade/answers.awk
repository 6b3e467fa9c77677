# The answers in hand-ins, a line each: the hand-in's number in the list, the answer's number, the line. Reads files
# whose names are numbers in the list. Lines before the first numbered answer have the number 0. A number starts an
# answer if it is higher than the number of the answer before: "2.", "2)", "## 2", "**2.**", "Think 2".

FNR == 1 {
	hand_in = FILENAME
	gsub(/.*\/|[.-].*/, "", hand_in)
	is_answers = 0
}
/^== / {
	is_answers = tolower($0) ~ /\/answers?\.(md|txt)$/
	current = 0
}
is_answers && /^\| / {
	text = substr($0, 3)
	number = number_at_start(text)
	if (number > current)
		current = number
	if (text ~ /[^ \t]/)
		print hand_in "\t" current "\t" text
}

# number_at_start: the number with which the line starts an answer, or 0.
function number_at_start(text, has_word) {
	text = tolower(text)
	# A list in an answer is indented.
	if (text ~ /^   /)
		return 0
	sub(/^[#*_> ]+/, "", text)
	has_word = sub(/^(think|answer|question)[ #]*/, "", text)
	if (!match(text, /^[0-9]+/) || RLENGTH > 3)
		return 0
	if (!has_word && substr(text, RLENGTH + 1) !~ /^( *[.):*]| *$)/)
		return 0
	return substr(text, 1, RLENGTH) + 0
}
