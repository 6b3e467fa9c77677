#!/bin/sh
# down.sh [--volumes]: stops the finished stack and keeps its data.
#
# With --volumes, it also removes the data and Grafana's password: all volumes of this Compose project. It refuses
# if up.sh has not made the password in this folder. The lines in stack/logs stay.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"

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
if [ "${1-}" = --volumes ] && [ ! -f "$env_file" ]; then
	# All copies of the lab have the same volumes; the copy that made them has a password.
	volumes=$(docker volume ls -q --filter "label=com.docker.compose.project=$project" | paste -s -d ' ' -)
	[ -z "$volumes" ] ||
		die "the data may be another copy's, as $env_file is missing: run this in the folder whose up.sh made the" \
			"data, or, if that folder is gone, docker volume rm $volumes"
fi

compose down --remove-orphans ${1:+"$1"} || die "Docker could not stop the stack: see the output above"
if [ "${1-}" = --volumes ]; then
	rm -f "$env_file" "$env_file.new" || die "the data is gone, but Grafana's password is not: remove $env_file"
	echo "The stack is down; its data and Grafana's password are gone."
else
	echo "The stack is down; its data is kept. scripts/up.sh starts it again."
fi
[ ! -d "$root/my-stack" ] || echo "To start your own stack: docker compose up -d in my-stack"
