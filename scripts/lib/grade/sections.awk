# The YAML files of my-stack that a hand-in quotes: without $wanted, their names, one a line; with $wanted, the lines of
# that file. The names become paths, so each part begins with a letter or a digit; a name comes once.

/^== / {
	name = ""
	if (/^== my-stack\/[A-Za-z0-9][A-Za-z0-9_.-]*(\/[A-Za-z0-9][A-Za-z0-9_.-]*)*$/ && tolower($0) ~ /\.ya?ml$/)
		name = substr($0, 13)
	if (name in is_known)
		name = ""
	if (name != "") {
		is_known[name] = 1
		if (ENVIRON["wanted"] == "")
			print name
	}
	next
}
/^sample: / { name = "" }
name != "" && name == ENVIRON["wanted"] && /^\|/ { print substr($0, 3) }
