# Compares hand-ins with each other:
# awk -f copies.awk kind=lab LAB kind=answers ANSWERS kind=runs RUNS kind= HANDIN.txt...
#
# LAB is the lab's own text, as letters and digits in one line; ANSWERS comes from answers.awk, and RUNS from runs.awk.
# Prints HANDIN copy FLAG OTHER-HANDIN; with the flag number-twice, the other one is -.

kind == "lab" { lab = lab $0; next }
kind == "runs" {
	if ($2 == "shares")
		is_same_run[$1, $3] = 1
	next
}
kind == "answers" {
	tab = index($0, "\t")
	i = substr($0, 1, tab - 1)
	rest = substr($0, tab + 1)
	tab = index(rest, "\t")
	n = substr(rest, 1, tab - 1)
	text = letters_of(substr(rest, tab + 1))
	if (!((i, n) in answer)) {
		answers[i] = answers[i] " " n
		sub(/^(think|answer|question)?[0-9]+/, "", text)
	}
	answer[i, n] = answer[i, n] text
	next
}
FNR == 1 {
	i = FILENAME
	sub(/.*\//, "", i)
	sub(/\..*/, "", i)
	hand_in[++count] = i
}
/^== / { is_quoted = 1 }
FNR == 1 { is_quoted = 0 }
# The facts come first, and the samples last.
/^sample: / { is_quoted = 0 }
is_quoted { next }
/^number: [0-9]+$/ && length($2) <= 18 { number[i] = without_zeros($2); times[number[i]]++ }
/^with: [0-9]+$/ && length($2) <= 18 { partner[i] = without_zeros($2) }
/^(host|user|engine): / { computer[i] = computer[i] $0 "\n" }
/^sample: [0-9]/ {
	minute = int($2 / 60)
	if (!((i, minute) in worked)) {
		worked[i, minute] = 1
		minutes[i] = minutes[i] " " minute
	}
}
END {
	for (a = 1; a <= count; a++)
		owners[computer[hand_in[a]]]++
	for (a = 1; a <= count; a++) {
		if ((hand_in[a] in number) && times[number[hand_in[a]]] > 1)
			print hand_in[a], "copy", "number-twice", "-"
		for (b = 1; b < a; b++)
			compare(hand_in[b], hand_in[a])
	}
}

function compare(a, b) {
	if (is_pair(a, b))
		return
	if ((a, b) in is_same_run)
		print_both(a, "same-run-as", b)
	if (same_answers(a, b))
		print_both(a, "same-answers-as", b)
	if (is_same_computer(a, b))
		print_both(a, "same-computer-as", b)
}

function print_both(a, flag, b) {
	print a, "copy", flag, b
	print b, "copy", flag, a
}

# is_pair: whether one of them says that they worked together.
function is_pair(a, b) {
	if ((a in partner) && (b in number) && partner[a] == number[b])
		return 1
	return (b in partner) && (a in number) && partner[b] == number[a]
}

# same_answers: whether two or more answers, or a text without numbers, are equal and too long for chance. Copies of the
# lab's own text don't count.
function same_answers(a, b, n, part, i, size, sum, equal) {
	size = split(answers[a], part, " ")
	for (i = 1; i <= size; i++) {
		n = part[i]
		if (!((b, n) in answer) || answer[a, n] != answer[b, n] || length(answer[a, n]) < 30)
			continue
		if (index(lab, answer[a, n]))
			continue
		equal += n == 0 ? 2 : 1
		sum += length(answer[a, n])
	}
	return equal >= 2 && sum >= 100
}

# is_same_computer: whether two numbers worked with one user on one computer. If both had a model at the same time, then
# these are two computers with the same names, such as copies of a virtual machine; so are more than three.
function is_same_computer(a, b, minute, size, i, together) {
	if (computer[a] != computer[b] || owners[computer[a]] > 3 || computer[a] !~ /host: .*user: /)
		return 0
	if (number[a] == number[b])
		return 0
	size = split(minutes[a], minute, " ")
	for (i = 1; i <= size; i++)
		if ((b, minute[i]) in worked)
			together++
	return together < 2 || ((a, b) in is_same_run)
}

function without_zeros(text) {
	sub(/^0+/, "", text)
	return text == "" ? "0" : text
}

# letters_of: the text without blanks and punctuation, in small letters. Other alphabets stay as they are.
function letters_of(text) {
	text = tolower(text)
	# A list and no ranges: some awks take the backslash of an escape for the end of a range.
	gsub(/[] !"#$%&'()*+,.\/:;<=>?@[\\^_`{|}~\t-]/, "", text)
	return text
}
