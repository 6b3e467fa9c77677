#!/bin/sh
# test.sh [KIND...]: all tests: the code, what it costs, the real tools, and a student's way through the stack.
#
# KIND is the name of a file in tests/ without its .sh; all but "limit", which measures for a quarter of an
# hour, by default. What a machine lacks is skipped, aloud, with how to get it; with CI=true a skip is
# a failure, apart from what cannot be had without an image registry. It ends with a count.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# The build comes first, and what is measured wants the machine for itself. What mostly waits does so
# beside the rest; what comes last needs the ports that the stack had.
first="build cost"
beside="stack class store kit accidents"
rest="code configuration scripts"
last="walk"

case ${1-} in
-h | --help)
	print_help
	exit
	;;
esac
for kind in "$@"; do
	[ -e "$root/tests/$kind.sh" ] && [ "$kind" != lib ] && continue
	usage_error "there is no kind '$kind' of tests: there are $first $beside $rest $last limit"
done
asked=$*
require_curl
cd "$root" || exit
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"

# wanted KIND...: those of them that were asked for, all where none was.
wanted() {
	for kind in "$@"; do
		case " ${asked:-$kind} " in
		*" $kind "*) echo "$kind" ;;
		esac
	done
}

# shellcheck disable=SC2086 # the names are words, here and below
for kind in $(wanted $first); do
	(tests_of "$kind")
done
# shellcheck disable=SC2086
for kind in $(wanted $beside); do
	if [ "${CI-}" = true ]; then
		# There is time there, and what is tested by itself fails for a reason of its own.
		(tests_of "$kind")
		continue
	fi
	(tests_of "$kind") >"$top/$kind.said" 2>&1 &
	echo "$! $kind" >>"$top/beside"
done
# shellcheck disable=SC2086
for kind in $(wanted $rest); do
	(tests_of "$kind")
done
while read -r pid kind; do
	wait "$pid"
	cat "$top/$kind.said"
done <"$top/beside"
: >"$top/beside"
# shellcheck disable=SC2086
for kind in $(wanted $last) $(echo "$asked" | grep -o limit); do
	(tests_of "$kind")
done

count() {
	grep -c "^$1" "$top/results"
}
echo
if [ "$(count skip)" -gt 0 ]; then
	echo "$(count ok) passed, $(count FAIL) failed, $(count skip) skipped"
else
	echo "$(count ok) passed, $(count FAIL) failed"
fi
[ "$(count FAIL)" -eq 0 ]
