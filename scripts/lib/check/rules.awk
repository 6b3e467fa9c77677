# Finds the rules on the model's result. load_rule in alerts.sh runs this program, which reads the lines of json_values
# of Prometheus' answer and prints a line for each such rule, with tabs between: its type, its path in the answer, its
# name, its for: and its group's interval in seconds, its error, and its query. A rule on what another rule records of
# the result counts, too.

# mentions: whether the query has that name, and not only as a part of another one.
function mentions(query, name,   at) {
	while (at = index(query, name)) {
		if ((at == 1 || substr(query, at - 1, 1) !~ /[A-Za-z0-9_:]/) &&
			substr(query, at + length(name), 1) !~ /[A-Za-z0-9_:]/)
			return 1
		query = substr(query, at + length(name))
	}
	return 0
}

BEGIN { FS = "\t" }
{ value[$1] = substr($0, length($1) + 2) }
$1 ~ /^data.groups.[0-9]+.rules.[0-9]+.query$/ { rules[++count] = substr($1, 1, length($1) - 6) }
END {
	names[known = 1] = "model_result"
	# A rule may come before the one that records for it.
	do {
		more = 0
		for (n = 1; n <= count; n++)
			for (i = 1; i <= known && !(n in is_on_model); i++)
				if (mentions(value[rules[n] "/query"], names[i])) {
					is_on_model[n] = more = 1
					if (value[rules[n] "/type"] == "recording")
						names[++known] = value[rules[n] "/name"]
				}
	} while (more)
	for (n = 1; n <= count; n++) {
		path = rules[n]
		group = path
		sub(/.rules.*/, "", group)
		if (n in is_on_model)
			print value[path "/type"] "\t" path "\t" value[path "/name"] "\t" value[path "/duration"] + 0 "\t" \
				value[group "/interval"] + 0 "\t" value[path "/lastError"] "\t" value[path "/query"]
	}
}
