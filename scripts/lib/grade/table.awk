# The rows of rows.awk as a table for a terminal.

BEGIN { FS = "\t" }
NR == 1 {
	for (n = 1; n <= NF; n++) {
		column[$n] = n
		title[n] = $n
	}
	next
}
{
	rows++
	for (n = 1; n <= NF; n++)
		cell[rows, n] = $n
	file_width = larger(file_width, length(of(rows, "file")))
	name_width = larger(name_width, length(of(rows, "name")))
	number_width = larger(number_width, length(number_of(of(rows, "number"), of(rows, "with"))))
	if (of(rows, "max") != "")
		max = of(rows, "max")
}
END {
	first = column["max"] + 1
	last = column["rule verdict"] - 1
	number_width = larger(number_width, length("number"))
	file_width = larger(file_width, length("file"))
	if (name_width > 0)
		name_width = larger(name_width, length("name"))
	form = "%-" number_width "s "
	form = form (name_width > 0 ? "%-" name_width "s " : "%s")
	criteria_width = larger(last - first + 1, length("criteria"))
	form = form "%-16s %6s %-" criteria_width "s %4s %4s %3s %3s %4s %4s %4s %6s %5s %8s %6s  %-" file_width "s  %s\n"
	printf form, "number", (name_width > 0 ? "name" : ""), "written (UTC)", "points", "criteria", "rule", "test", "inc",
		"ans", "min", "seed", "down", "alerts", "mails", "silences", "boards", "file", "look at"
	for (row = 1; row <= rows; row++)
		print_row(row)
	printf "\nPoints of at most %s, without those for the answers. Criteria, in their order:", (max == "" ? "-" : max)
	for (n = first; n <= last; n++)
		printf " %s", title[n]
	print ""
}

function print_row(row, n, criteria) {
	for (n = first; n <= last; n++)
		criteria = criteria (cell[row, n] == "" ? "-" : cell[row, n])
	printf form, number_of(of(row, "number"), of(row, "with")), of(row, "name"), of(row, "written"), of(row, "points"),
		criteria, first_word(of(row, "rule verdict")), first_word(of(row, "test verdict")), of(row, "incidents"),
		of(row, "answers"), of(row, "minutes"), percent(of(row, "seed")), of(row, "down"), of(row, "alerts"),
		of(row, "mails"), of(row, "silences"), of(row, "boards"), of(row, "file"),
		(of(row, "look at") == "" ? "-" : of(row, "look at"))
}

function larger(a, b) {
	return a > b ? a : b
}

function of(row, name) {
	return cell[row, column[name]]
}

function number_of(number, partner) {
	return partner == "" ? number : number "+" partner
}

function first_word(text) {
	sub(/:.*/, "", text)
	return text == "" ? "-" : text
}

function percent(text) {
	return text ~ /^[0-9]+$/ ? text "%" : text
}
