#!/bin/sh
# down.sh [--volumes]: stops the stack and keeps its data.
#
# With --volumes it removes the data and Grafana's password, too: the engine's data of the project's name,
# whichever folder it is from. The lines in stack/logs stay.

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
require_project_dir "$project" "$root/stack"

compose down --remove-orphans ${1:+"$1"} || die "Docker could not stop the stack: what it said is above"
if [ "${1-}" = --volumes ]; then
	rm -f "$env_file" "$env_file.new"
	echo "The stack is down; its data and Grafana's password are gone."
else
	echo "The stack is down; its data is kept. scripts/up.sh starts it again."
fi
