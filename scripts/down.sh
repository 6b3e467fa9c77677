#!/bin/sh
# down.sh [--volumes]: stops the stack and keeps its data.
#
# With --volumes it removes the data and Grafana's password, too.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

case $* in
-h | --help)
	print_help
	exit
	;;
'' | --volumes) ;;
*) usage_error "unknown argument '$*'" ;;
esac
require_docker
require_own "$project" "$root/stack"

compose down --remove-orphans "$@" || die "Docker could not stop the stack: what it said is above"
if [ $# -eq 1 ]; then
	rm -f "$env_file" "$env_file.new"
	echo "The stack is down; its data and Grafana's password are gone."
else
	echo "The stack is down; its data is kept. scripts/up.sh starts it again."
fi
