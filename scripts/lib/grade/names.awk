# Paths, one a line, without the folder that all of them are in.

{
	path[NR] = $0
	size = split($0, part, "/")
	if (NR == 1) {
		common = size - 1
		for (n = 1; n < size; n++)
			first[n] = part[n]
	}
	if (size - 1 < common)
		common = size - 1
	for (n = 1; n <= common; n++)
		if (part[n] != first[n])
			common = n - 1
}
END {
	for (line = 1; line <= NR; line++) {
		for (n = 1; n <= common; n++)
			sub(/^[^\/]*\//, "", path[line])
		print path[line]
	}
}
