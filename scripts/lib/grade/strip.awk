# The text without characters that would change the terminal, or the direction of the text: hand-ins are other people's
# files. Control characters of one byte are gone already; these have two or three, in UTF-8. Tabs become blanks.

{
	gsub(/\t/, " ")
	gsub(/\302[\200-\237]/, "")
	gsub(/\342\200[\216\217\250-\256]/, "")
	gsub(/\342\201[\246-\251]/, "")
	print
}
