#!/bin/sh
# down.sh [--volumes] [--images]: stops the finished stack and keeps its data and its images.
#
# With --volumes, it also removes the data and Grafana's password: all volumes of this Compose project. It refuses
# if up.sh has not made the password in this folder. The lines in stack/logs stay. With --images, it also removes
# the images of stack/compose.yaml that no container uses.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"

# require_own_data: dies if the data may be another copy's: all copies of the lab have the same volumes, and the copy
# that made them has a password.
require_own_data() {
	[ ! -f "$env_file" ] || return 0
	others=$(docker volume ls -q --filter "label=com.docker.compose.project=$project" | paste -s -d ' ' -)
	[ -z "$others" ] ||
		die "the data may be another copy's, as $env_file is missing: run this in the folder whose up.sh made the" \
			"data, or, if that folder is gone, docker volume rm $others"
}

# remove_images: removes the images of the stack, but for those that a container uses.
remove_images() {
	for service in $(printf '%s\n' "$service_table" | cut -d ' ' -f 1); do
		image_name=$(image "$service")
		docker image inspect "$image_name" >/dev/null 2>&1 || continue
		if docker image rm "$image_name" >/dev/null 2>&1; then
			echo "removed the image $image_name"
		else
			echo "the image $image_name stays, as a container uses it"
		fi
	done
}

main() {
	volumes='' images=''
	for argument in "$@"; do
		case $argument in
		-h | --help)
			print_help
			exit
			;;
		--volumes) volumes=$argument ;;
		--images) images=$argument ;;
		*) usage_error "unknown argument '$argument'" ;;
		esac
	done
	require_docker
	require_project_dir "$project" "$root/stack"
	[ -z "$volumes" ] || require_own_data
	compose down --remove-orphans ${volumes:+"$volumes"} || die "Docker could not stop the stack: see the output above"
	# Prometheus would find this target down.
	rm -f "$root/stack/prometheus/machine.yml"
	[ -z "$images" ] || remove_images
	if [ -n "$volumes" ]; then
		rm -f "$env_file" "$env_file.new" || die "the data is gone, but Grafana's password is not: remove $env_file"
		echo "The stack is down; its data and Grafana's password are gone."
	else
		echo "The stack is down; its data is kept. scripts/up.sh starts it again."
	fi
	[ ! -d "$root/my-stack" ] || echo "To start your own stack: docker compose up -d in my-stack"
}

main "$@"
