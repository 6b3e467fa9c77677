#!/bin/sh
# down.sh [--volumes]: stops the stack and keeps its data.
#
# With --volumes it removes the data and Grafana's password, too.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

case ${1-} in
-h | --help)
	print_help
	exit
	;;
'' | --volumes) ;;
*) usage_error "unknown argument '$1'" ;;
esac
[ $# -le 1 ] || usage_error "unknown argument '$2'"
require_docker

# shellcheck disable=SC2086 # nothing, or one flag
compose down --remove-orphans ${1-} || die "Docker could not stop the stack: what it said is above"
if [ $# -eq 1 ]; then
	rm -f "$env_file" "$env_file.new" "$root"/stack/.applied-*
	echo "The stack is down; its data and Grafana's password are gone."
else
	echo "The stack is down; its data is kept. scripts/up.sh starts it again."
fi
