# Says what a rule's query needs. query_facts in alerts.sh runs this program, which reads the lines of json_values of
# Prometheus' answer to /api/v1/parse_query: the query as a tree. It prints "limit X" for each figure that a result must
# pass, "always" or "never" if the result doesn't matter, "result" if the query gives each result from 0 to 1, and
# "selector TEXT" for each set of series that it reads.
# From the environment: models, the names of the metrics that are the result, from 0 to 1.

# bound: the least (side 0) or the most (side 1) that the node at the path gives; empty if that isn't known.
function bound(path, side,   kind, op, left, right) {
	kind = type[path]
	op = value[path "/op"]
	if (kind ~ /Selector$/)
		return index(" " models " ", " " name_of(path) " ") ? side : ""
	if (kind == "numberLiteral")
		return value[path "/val"] + 0
	if (kind ~ /^(parenExpr|subquery)$/ || (kind == "aggregation" && op ~ /^(max|min|avg|quantile|topk|bottomk)$/))
		return bound(path "/expr", side)
	if (kind == "call" && value[path "/func/name"] ~ /^(max|min|avg|last|first)_over_time$/)
		return bound(path "/args/0", side)
	if (kind == "call" && value[path "/func/name"] == "quantile_over_time")
		return bound(path "/args/1", side)
	if (kind != "binaryExpr")
		return ""
	if (op ~ /^(and|unless)$/ || (op ~ /^([<>]=?|[=!]=)$/ && value[path "/bool"] != "true"))
		return bound(path "/lhs", side)
	left = bound(path "/lhs", side)
	right = bound(path "/rhs", side)
	if (left == "" || right == "" || (type[path "/lhs"] != "numberLiteral" && type[path "/rhs"] != "numberLiteral"))
		return ""
	if (op == "+") return left + right
	if (op == "-" && type[path "/rhs"] == "numberLiteral") return left - right
	if (op == "*" && left >= 0 && right >= 0) return left * right
	if (op == "/" && type[path "/rhs"] == "numberLiteral" && right > 0) return left / right
	return ""
}

# both: what "a and b" gives, of always, never and "" for sometimes.
function both(a, b) {
	return a == "never" || b == "never" ? "never" : a == "always" && b == "always" ? "always" : ""
}

# passes: whether the node gives an answer at any value of the result: always, never, or "" for sometimes.
function passes(path,   kind, op, a, b, n, left, right, swap) {
	kind = type[path]
	op = value[path "/op"]
	if (kind ~ /Literal$/) return "always"
	if (kind ~ /Selector$/) return bound(path, 1) == "" ? "" : "always"
	if (kind == "call") {
		if (value[path "/func/name"] ~ /^absent/) return ""
		for (a = "always"; (path "/args/" n + 0) in type; n++)
			a = both(a, passes(path "/args/" n + 0))
		return a
	}
	if (kind != "binaryExpr")
		return (path "/expr") in type ? passes(path "/expr") : ""
	a = passes(path "/lhs")
	b = passes(path "/rhs")
	if (op == "or") return a == "always" || b == "always" ? "always" : a == "never" && b == "never" ? "never" : ""
	if (op == "unless") return a == "never" ? "never" : ""
	if (op !~ /^[<>]=?$/ || value[path "/bool"] == "true") return op ~ /^[=!]=$/ ? "" : both(a, b)
	left = path (op ~ /^>/ ? "/lhs" : "/rhs")
	right = path (op ~ /^>/ ? "/rhs" : "/lhs")
	# In the left one is to be greater. Some results may be exactly 0, so that > 0 is always.
	if (bound(left, 0) != "" && bound(right, 1) != "" && bound(left, 0) >= bound(right, 1)) return both(a, b)
	if (bound(left, 1) != "" && bound(right, 0) != "" &&
		(bound(left, 1) < bound(right, 0) || (op ~ /^.$/ && bound(left, 1) == bound(right, 0)))) return "never"
	return a == "never" || b == "never" ? "never" : ""
}

# name_of: the name of the metric that a selector selects.
function name_of(path,   n) {
	for (n = 0; (path "/matchers/" n "/name") in value; n++)
		if (value[path "/matchers/" n "/name"] == "__name__" && value[path "/matchers/" n "/type"] == "=")
			return value[path "/matchers/" n "/value"]
	return value[path "/name"]
}

# quoted: the text as a string of a query.
function quoted(text,   n, c, result) {
	for (n = 1; n <= length(text); n++) {
		c = substr(text, n, 1)
		result = result (c == "\\" || c == "\"" ? "\\" c : c)
	}
	return "\"" result "\""
}

# selector: the text of a selector.
function selector(path,   n, text, matcher) {
	for (n = 0; (path "/matchers/" n "/name") in value; n++) {
		matcher = path "/matchers/" n
		if (value[matcher "/name"] != "__name__" || value[path "/name"] == "")
			text = text ", " value[matcher "/name"] value[matcher "/type"] quoted(value[matcher "/value"])
	}
	return value[path "/name"] (text == "" ? "" : "{" substr(text, 3) "}")
}

BEGIN { FS = "\t"; models = ENVIRON["models"] }
{ value[$1] = substr($0, length($1) + 2) }
$1 ~ /(^|\/)type$/ && $1 !~ /matchers/ {
	path = substr($1, 1, length($1) - 5)
	type[path] = $2
	paths[++count] = path
}
END {
	for (n = 1; n <= count; n++) {
		path = paths[n]
		if (type[path] ~ /Selector$/)
			print "selector " selector(path)
		op = value[path "/op"]
		if (type[path] != "binaryExpr" || op !~ /^[<>]=?$/ || value[path "/bool"] == "true")
			continue
		left = path (op ~ /^>/ ? "/lhs" : "/rhs")
		right = path (op ~ /^>/ ? "/rhs" : "/lhs")
		# A result that is shown as 0 to 100 has its limit there, too.
		if (type[right] == "numberLiteral" && bound(left, 0) == "0" && bound(left, 1) > 0)
			print "limit " value[right "/val"] / bound(left, 1)
	}
	if (count && passes("data") != "")
		print passes("data")
	if (count && passes("data") == "always" && bound("data", 0) == "0" && bound("data", 1) == "1")
		print "result"
}
