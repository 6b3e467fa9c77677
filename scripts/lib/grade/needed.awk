# The number of each hand-in, and how many of its results are needed: at most MAX. Each number once, with the most.

FNR == 1 { number = "" }
/^number: [0-9]+$/ && length($2) <= 18 {
	number = $2
	sub(/^0+/, "", number)
	if (number == "")
		number = "0"
}
/^sample: [0-9.]+ [0-9]+ / && length($3) <= 9 && number != "" {
	needed = $3 < max ? $3 + 0 : max
	if (needed > most[number])
		most[number] = needed
}
END {
	for (number in most)
		print number, most[number]
}
