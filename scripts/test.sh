#!/bin/sh
# test.sh [KIND...]: all tests: the code, what it costs, the real tools, and a student's way through the stack.
#
# KIND is the name of a file in tests/ without its .sh; all by default but limit, which takes minutes
# and tells how many exporters one Prometheus scrapes. What a machine lacks is
# skipped, aloud, with how to get it; with CI=true a skip is a failure, apart from what cannot be had
# without an image registry. It ends with a count.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
kinds="code cost configuration scripts accidents class kit store stack walk"

case ${1-} in
-h | --help)
	print_help
	exit
	;;
esac
for kind in "$@"; do
	case " $kinds limit " in
	*" $kind "*) ;;
	*) usage_error "there is no kind '$kind' of tests: there are $kinds limit" ;;
	esac
done
cd "$root" || exit
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"

# shellcheck disable=SC2086 # the names are words
[ $# -gt 0 ] || set -- $kinds
for kind in "$@"; do
	(
		trap - EXIT
		# shellcheck source=/dev/null
		. "$root/tests/$kind.sh"
	)
done

count() {
	grep -c "^$1" "$work/results"
}
echo
if [ "$(count skip)" -gt 0 ]; then
	echo "$(count ok) passed, $(count FAIL) failed, $(count skip) skipped"
else
	echo "$(count ok) passed, $(count FAIL) failed"
fi
[ "$(count FAIL)" -eq 0 ]
