# Prints each value of a JSON document in a line: its path, a tab, the value. json_values in common.sh runs this
# program, which reads one token of the document from each line. The variable newline replaces new lines in a value;
# other control characters become blanks.

/^[[{]$/ { is_list[++depth] = /\[/; is_named[depth] = is_list[depth]; key[depth] = 0; next }
/^[]}]$/ { depth--; next }
/^,$/ {
	if (is_list[depth])
		key[depth]++
	else
		is_named[depth] = 0
	next
}
/^:$/ { next }
/^"/ {
	$0 = substr($0, 2, length($0) - 2)
	# An escaped backslash must not escape the next character.
	gsub(/\\\\/, "\001")
	gsub(/\\n/, newline)
	gsub(/\\[bfrt]/, " ")
	gsub(/\\u003c/, "<")
	gsub(/\\u003e/, ">")
	gsub(/\\u0026/, "\\&")
	gsub(/\\"/, "\"")
	gsub(/\\\//, "/")
	# Awks disagree on a backslash in a replacement.
	count = split($0, piece, "\001")
	$0 = piece[1]
	for (i = 2; i <= count; i++)
		$0 = $0 "\\" piece[i]
}
!is_named[depth] { key[depth] = $0; is_named[depth] = 1; next }
{
	path = key[1]
	for (i = 2; i <= depth; i++)
		path = path "/" key[i]
	print path "\t" $0
}
