#!/bin/sh
# store.sh up [thanos]: starts two sites and the store that both write to, and prints their addresses. The
# store is one Prometheus; with thanos it is a cluster, which needs only two of its three receivers.
# store.sh down [--volumes]: stops them and keeps their data; with --volumes it deletes their data.
#
# Each site scrapes the exporters in its file: stack/store/site-a/targets.yml and site-b's.
# If the lab's Grafana is running, "up" gives it the data source Store, and "down" takes it away.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
. "$root/scripts/lib/images.sh"
grafana=$(url grafana)
store_project=$project-store
engine=

# store_compose ARGUMENT...: Compose for the store. Its file extends the lab's, which wants Grafana's password.
store_compose() {
	set -- --project-directory "$root/stack/store" ${engine:+--file "$root/stack/store/$engine.yaml"} "$@"
	GRAFANA_PASSWORD=none docker compose --env-file /dev/null --project-name "$store_project" \
		--file "$root/stack/store/compose.yaml" "$@"
}

# load_grafana: fails if the lab's Grafana isn't running or its password isn't known. Sets $password. Another Grafana at
# this address would refuse the password, and five wrong ones lock its user.
load_grafana() {
	[ -n "$(compose ps -q --status running grafana 2>/dev/null)" ] && get -o /dev/null "$(readiness grafana)" 2>/dev/null &&
		(read_password) 2>/dev/null && read_password
}

is_ready() {
	get -o /dev/null "http://localhost:$(store_port "$1")/-/ready" 2>/dev/null
}

up() {
	trap 'end_pull; die "interrupted: run scripts/store.sh down to stop the containers that run"' INT TERM HUP
	get_images prometheus
	for image_name in $(store_compose config --images | sort -u); do
		ensure_image "$image_name" || die "the image $image_name can't be pulled: is this machine online? ($why)"
	done
	ours=$(docker ps --no-trunc --filter "label=com.docker.compose.project=$store_project" --format '{{.Command}}')
	for port in $(store_compose config | sed -n 's/.*-address=127.0.0.1:\([1-9][0-9]*\)$/\1/p'); do
		case $ours in *"-address=127.0.0.1:$port"*) continue ;; esac
		! listens "$port" ||
			die "port $port, which the store needs, is taken: stop the program that uses it, or change it in stack/store"
	done
	# Services that only the other kind of store has are removed; their data stays.
	store_compose up -d --pull never --remove-orphans || die "Docker can't start the store: see the output above"
	for name in store site-a site-b; do
		if ! wait_for 60 "$name is ready" is_ready $name; then
			store_compose logs --no-log-prefix --tail 15 $name >&2
			die "$name doesn't answer after $waited s: see the end of its log above"
		fi
	done
	echo
	echo "The store  http://localhost:$(store_port store)"
	echo "Site a     http://localhost:$(store_port site-a)"
	echo "Site b     http://localhost:$(store_port site-b)"
	if ! load_grafana; then
		echo "Grafana isn't running. To query the store in Grafana, run scripts/up.sh, then scripts/store.sh up again."
		return
	fi
	as_admin "$password" -o /dev/null -X DELETE "$grafana/api/datasources/uid/store"
	code=$(as_admin "$password" -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' --data '{
		"name": "Store", "uid": "store", "type": "prometheus", "access": "proxy",
		"url": "http://127.0.0.1:'"$(store_port store)"'",
		"jsonData": {"httpMethod": "POST", "prometheusType": "Prometheus", "timeInterval": "5s"}
	}' "$grafana/api/datasources")
	[ "$code" = 200 ] ||
		die "Grafana can't add the store as a data source (HTTP $code): check the password in $env_file"
	echo "Grafana has the data source Store: choose it at the top of the dashboard of the class."
}

down() {
	if load_grafana; then
		as_admin "$password" -o /dev/null -X DELETE "$grafana/api/datasources/uid/store"
	fi
	# Without the files, so that it finds the containers and the data of both kinds of store.
	(unset COMPOSE_FILE && cd / && docker compose --project-name "$store_project" down --remove-orphans "$@") ||
		die "Docker can't stop the store: see the output above"
	if [ $# -eq 1 ]; then
		echo "The store and its sites are down; their data is deleted."
	else
		echo "The store and its sites are down; their data is kept. scripts/store.sh up starts them again."
	fi
}

main() {
	case $* in
	-h | --help)
		print_help
		exit
		;;
	up | down | "down --volumes") ;;
	"up thanos") engine=thanos ;;
	*) usage_error "use up, up thanos, down or down --volumes, not '$*'" ;;
	esac
	require_curl
	require_docker
	require_project_dir "$store_project" "$root/stack/store"
	"$@"
}

main "$@"
