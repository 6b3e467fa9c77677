# Prints the answers of all hand-ins under each other, in the order of the rows:
# awk -v wanted=N -f show_answers.awk kind=rows ROWS kind=answers ANSWERS. Without a number, all answers, one by one.

BEGIN { FS = "\t" }
kind == "rows" {
	if ($1 == "sort" || $2 == "")
		next
	row[++rows] = $2
	title[$2] = $4 ($6 == "" ? "" : "+" $6) ($5 == "" ? "" : " " $5) " (" $3 ")"
	next
}
{
	text = substr($0, length($1) + length($2) + 3)
	lines[$1, $2] = lines[$1, $2] text "\n"
	if ($2 + 0 > last)
		last = $2 + 0
}
END {
	# An 08 means 8.
	first = wanted == "" ? 0 : wanted + 0
	if (wanted != "")
		last = first
	for (n = first; n <= last; n++)
		show(n)
}

function show(n, i, given) {
	for (i = 1; i <= rows; i++)
		given += ((row[i], n) in lines)
	# Few hand-ins have text without a number.
	if (given == 0 && wanted == "")
		return
	print "==== " (n == 0 ? "Without a number" : "Answer " n) ": " given + 0 " of " rows
	for (i = 1; i <= rows; i++) {
		print ""
		print "== " title[row[i]]
		if ((row[i], n) in lines)
			printf "%s", lines[row[i], n]
		else
			print "-"
	}
	print ""
}
