# A text for one student: awk -v id=ID -f feedback.awk kind=criteria CRITERIA kind=rows ROWS kind= HANDIN.txt. ID is the
# hand-in's number in the list. It says nothing about copies or forgeries: those are the teacher's to judge.

BEGIN { FS = "\t" }
kind == "criteria" {
	if (/^[a-z]/) {
		split($0, part, " ")
		criterion[++criteria] = part[1]
		points_of[part[1]] = part[2]
		text_of[part[1]] = substr($0, length(part[1]) + length(part[2]) + 3)
	}
	next
}
kind == "rows" {
	if ($1 == "sort")
		for (n = 1; n <= NF; n++)
			title[n] = $n
	else if ($2 == id)
		for (n = 1; n <= NF; n++)
			cell[title[n]] = $n
	next
}
/^== / { is_quoted = 1 }
!is_quoted && /^check: (FAIL|open) / && !($0 in is_known) { is_known[$0] = 1; todo[++todos] = substr($0, 8) }
END {
	heading = "Hand-in " cell["number"]
	if (cell["with"] != "")
		heading = heading " and " cell["with"]
	if (cell["name"] != "")
		heading = heading ", " cell["name"]
	if (cell["written"] != "")
		heading = heading ", written at " cell["written"] " (UTC)"
	print heading
	print ""
	if (cell["max"] == "") {
		print "This file isn't a hand-in: run scripts/hand-in.sh with your number, and send the file that it writes."
		exit
	}
	print "Points: " cell["points"] " of " cell["max"] ", without the points for your answers."
	for (c = 1; c <= criteria; c++)
		if (cell[criterion[c]] != "")
			print "  " cell[criterion[c]] " of " points_of[criterion[c]] "  " text_of[criterion[c]]
	print ""
	if (cell["rule verdict"] != "")
		print "Your rule on drift: " cell["rule verdict"]
	if (cell["test verdict"] != "")
		print "Its unit test: " cell["test verdict"]
	print "Incidents that you solved: " cell["incidents"]
	if (has_flag("finished-stack"))
		print "The stack in your hand-in is the finished one, so its lines don't count as yours."
	if (has_flag("no-answers"))
		print "Your hand-in has no answers: write them into my-stack/answers.md."
	if (has_flag("short"))
		print "Prometheus scraped your model for " cell["minutes"] " minutes, less than the task asks for."
	if (has_flag("late"))
		print "Your hand-in is late."
	if (todos > 0) {
		print ""
		print "What scripts/check.sh said, and the next step:"
		for (n = 1; n <= todos; n++)
			print "  " todo[n]
	}
}

function has_flag(name) {
	return index("," cell["look at"] ",", "," name ",") > 0
}
