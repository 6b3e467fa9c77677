# Counts how often each alert fired. Reads its samples, oldest first: time, value, name. A gap of more than two of the
# alert's intervals ends an episode.

NF < 3 { next }
{ count++; at[count] = $1; name[count] = $3 }
$3 in last && (!($3 in interval) || $1 - last[$3] < interval[$3]) { interval[$3] = $1 - last[$3] }
{ last[$3] = $1 }
END {
	for (i = 1; i <= count; i++) {
		if (!(name[i] in times) || at[i] - before[name[i]] > 2.5 * interval[name[i]])
			times[name[i]]++
		before[name[i]] = at[i]
	}
	for (each in times)
		print times[each], each
}
