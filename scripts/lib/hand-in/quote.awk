# Prints a text with a bar before each line, without secrets: awk -v kind=KIND -f quote.awk, with the password in
# $hidden. KIND is prose or config: prose has no keys, so only a config loses the values of keys that hold secrets.

# An encoded key or certificate: lines of one word, and headers, down to its end.
/-----BEGIN [A-Z ]+-----/ { is_encoded = 1; print "| (left out)"; next }
is_encoded && /-----END/ { is_encoded = 0; next }
is_encoded && (NF <= 1 || /^ *[A-Za-z-]+: [^ ]+$/) { next }
{ is_encoded = 0 }

kind == "config" {
	match($0, /^[ -]*/)
	indent = RLENGTH
	# The value of a secret key may go on in the lines below, which are indented more.
	if (is_secret && (indent > secret_indent || !NF))
		next
	is_secret = 0
	size = length_without_secret($0)
	if (size > 0) {
		secret_indent = indent
		# A comment has no lines that belong to it.
		is_secret = !/^ *#/
		$0 = substr($0, 1, size) " (left out)"
	}
}

{
	gsub(/:\/\/[^\/ "']*@/, "://(left out)@")
	# Hashes of passwords; Compose files double the dollar.
	gsub(/\$\$?(2[abxy]|apr1)\$[^ "',]+/, "(left out)")
	print "| " without_password($0)
}

# length_without_secret: the length of the line down to the value of the first key that holds a secret; 0 without one. A
# key ends at a colon, at the equals sign of a variable or of a flag, or at the blank behind a flag. The patterns look
# at few characters, as a line may have a megabyte.
function length_without_secret(line, part, count, n, rest, size, key) {
	count = split(line, part, /[:=]/)
	for (n = 1; n <= count; n++) {
		rest = part[n]
		while (match(rest, /--[A-Za-z0-9_.-]+["']?(,? *["']| +)/)) {
			key = substr(rest, RSTART, RLENGTH)
			size += RSTART + RLENGTH - 1
			rest = substr(rest, RSTART + RLENGTH)
			sub(/["', ]+$/, "", key)
			if (holds_secret(key, "") && !is_switch(substr(line, size + 1, 30)))
				return size
		}
		size += length(rest) + 1
		key = length(rest) > 100 ? substr(rest, length(rest) - 99) : rest
		sub(/["']? *$/, "", key)
		if (n < count && match(key, /[A-Za-z0-9_.-]+$/) && holds_secret(substr(key, RSTART), substr(line, size, 1)) &&
			!is_switch(substr(line, size + 1, 30)))
			return size
	}
	return 0
}

# is_switch: whether a value begins like that of a setting that is on or off.
function is_switch(value) {
	return value ~ /^ *["']?(true|false|yes|no|on|off|[01])["']? *([],}#]|$)/
}

# holds_secret: whether a key of that name has a password or the like. The name of a PromQL label may be key.
function holds_secret(key, mark) {
	key = tolower(key)
	if (key ~ /pass(w|ph|[_.-]|$)|pwd|secret|token|cred(s|ential)|authorization|bearer|webhook|api_?url/)
		return 1
	if (key ~ /auth2?([_.-]|$)/)
		return 1
	return key ~ /([_.-]|api|access|private|license|routing|service|auth)keys?$/ || (key ~ /^keys?$/ && mark == ":")
}

# without_password: the text without the password, if that is a whole word there.
function without_password(text, password, size, i, before, after, kept) {
	password = ENVIRON["hidden"]
	size = length(password)
	while (size > 0 && (i = index(text, password))) {
		before = i > 1 ? substr(text, i - 1, 1) : substr(kept, length(kept), 1)
		after = substr(text, i + size, 1)
		goes_on_before = is_word(before) && is_word(substr(password, 1, 1))
		goes_on_after = is_word(after) && is_word(substr(password, size, 1))
		if (goes_on_before || goes_on_after) {
			kept = kept substr(text, 1, i)
			text = substr(text, i + 1)
		} else {
			kept = kept substr(text, 1, i - 1) "(left out)"
			text = substr(text, i + size)
		}
	}
	return kept text
}

function is_word(character) {
	return character ~ /^[A-Za-z0-9_]$/
}
