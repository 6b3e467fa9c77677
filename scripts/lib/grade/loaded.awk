# Which files Prometheus loads: awk -f loaded.awk kind=patterns PATTERNS kind= NAMES prints the names whose last part
# one of the patterns names. A pattern with an asterisk may name any file.

kind == "patterns" {
	sub(/.*\//, "")
	pattern[++count] = $0
	next
}
{
	name = $0
	sub(/.*\//, "", name)
	for (n = 1; n <= count; n++)
		if (pattern[n] == name || pattern[n] ~ /[*?]/) {
			print
			next
		}
}
