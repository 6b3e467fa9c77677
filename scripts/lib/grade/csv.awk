# The rows of rows.awk as comma-separated values, the file's name first. A spreadsheet takes a cell that begins with one
# of = + - @ for a formula, so such a cell gets an apostrophe before it.

BEGIN { FS = "\t" }
{
	line = ""
	for (n = 3; n <= NF; n++)
		line = line (n > 3 ? "," : "") quoted($n)
	print line
}

function quoted(text) {
	if (text == "-")
		text = ""
	if (text ~ /^[=+@-]/)
		text = "'" text
	gsub(/"/, "\"\"", text)
	return text ~ /^[0-9]+$/ && length(text) < 16 ? text : "\"" text "\""
}
