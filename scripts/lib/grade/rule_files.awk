# The files that rule_files: of a Prometheus configuration names, one a line, as paths in the container or patterns.

/^ *#/ { next }
/^ *["']?rule_files["']? *:/ {
	is_list = 1
	sub(/.*rule_files["']? *:/, "")
}
is_list && /^[A-Za-z"']/ { is_list = 0 }
is_list {
	sub(/ #.*/, "")
	gsub(/["',]|\[|\]/, " ")
	for (n = 1; n <= NF; n++)
		if ($n != "-")
			print $n
}
