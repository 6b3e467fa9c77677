# shellcheck shell=sh
# For the scripts that start a stack: one run at a time, and the owner of a port. They source this file after common.sh.

# take_lock FILE WHAT: dies if another run of this script is at work in this folder; WHAT says at what. The exit of this
# run releases the lock. Sets $lock.
take_lock() {
	lock=$1
	tries=0
	until (set -C && echo $$ >"$lock") 2>/dev/null; do
		holder=$(cat "$lock" 2>/dev/null)
		! kill -0 "$holder" 2>/dev/null ||
			die "another ${0##*/} is $2 (process $holder): wait until it ends, or remove $lock"
		if [ -z "$holder" ] && [ $tries -lt 3 ]; then
			# Another run may be about to write its number there, or to end.
			sleep 1
		# Another run may have removed it and made its own by now. While this folder is there, no other run removes one.
		elif mkdir "$lock.stale" 2>/dev/null; then
			[ "$(cat "$lock" 2>/dev/null)" != "$holder" ] || rm -f "$lock" 2>/dev/null
			rmdir "$lock.stale"
		else
			sleep 1
		fi
		tries=$((tries + 1))
		[ $tries -le 5 ] ||
			die "cannot write $lock: make the folder writable, or the disk less full, and remove $lock.stale if it is there"
	done
	trap 'rm -f "$lock"' EXIT
}

# port_owner PORT: the program that listens there, if this user may see it.
port_owner() (
	name=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 " (process " $2 ")" }')
	[ -n "$name" ] || name=$(ss -ltnpH "sport = :$1" 2>/dev/null |
		sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p')
	printf '%s\n' "${name:-another program}"
)
