# A text of the kit: awk -v lacks=TITLES -v is_readme=1 -f text.awk. TITLES are the programs that the kit lacks, with a
# comma and a blank between them. Without the parts that are marked as not in the kit, and with the program's name
# instead of the commands that need Rust. The README is the lab's first page, with links from the kit's own folder.

/^<!-- not in the kit -->$/ { is_left_out = 1 }
/^<!-- \/not in the kit -->$/ { is_left_out = 0; next }
is_left_out { next }
{
	gsub(/cargo run --release -- /, "./modelmock ")
	gsub(/cargo run --release/, "./modelmock")
	gsub(/target\/release\/modelmock/, "./modelmock")
}
is_readme {
	$0 = with_links_from_root($0)
	gsub(/src="pictures\//, "src=\"stack/lab/pictures/")
}
{ print }
NR == 1 && is_readme && lacks != "" {
	print ""
	print "> This kit lacks " lacks ": leave out the pages and steps that need it."
}
NR == 1 && !is_readme && /^# / {
	count = split(lacks, title, ", ")
	for (n = 1; n <= count; n++)
		if (index($0, title[n])) {
			print ""
			print "> This kit lacks " title[n] ": read this page, and go on with the next one."
		}
}

# with_links_from_root: the line, whose links begin in stack/lab, with links that begin in the kit's folder.
function with_links_from_root(text, done, link) {
	while (match(text, /\]\([^)]*\)/)) {
		link = substr(text, RSTART + 2, RLENGTH - 3)
		done = done substr(text, 1, RSTART + 1)
		text = substr(text, RSTART + RLENGTH - 1)
		# An address, or a heading of this page.
		if (link !~ /^#|:/)
			link = "stack/lab/" link
		sub(/^stack\/lab\/\.\.\/\.\.\//, "", link)
		sub(/^stack\/lab\/\.\.\//, "stack/", link)
		done = done link
	}
	return done text
}
