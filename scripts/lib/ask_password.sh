# shellcheck shell=sh
# Asks for the password of Grafana, for the scripts that source this file: check.sh and hand-in.sh.
# shellcheck disable=SC2154 # common.sh sets root

# ask_password QUESTION: sets $typed to the password as it is typed, unseen. However it ends, the terminal gets its
# settings back; Ctrl+Z is off until then. Replaces the traps of a script.
ask_password() {
	settings=$(stty -g)
	trap 'stty "$settings"' EXIT
	trap 'exit 130' INT TERM HUP
	printf %s "$1" >&2
	stty -echo susp undef
	# shellcheck disable=SC2034 # for the script that sources this file
	IFS= read -r typed
	stty "$settings"
	trap - EXIT INT TERM HUP
	echo >&2
}

# is_common_password PASSWORD: whether it is a word in the lab's own files, or a number as short as a year: texts have
# it, so to leave it out of a text would give it away.
is_common_password() {
	case $1 in
	*[!0-9]*) ;;
	????????*) ;;
	*) return 0 ;;
	esac
	# On its standard input, the password stays out of the list of processes.
	printf '%s\n' "$1" |
		find "$root/stack" "$root/scripts" -type f \( -name '*.md' -o -name '*.y*ml' -o -name '*.json' -o -name '*.sh' \) \
			-exec grep -lwF -f /dev/stdin {} + 2>/dev/null | grep -q .
}
