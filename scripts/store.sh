#!/bin/sh
# store.sh up [thanos]: starts two sites and the store that both write to, and says where they are. The
# store is one Prometheus; with thanos it is a cluster, which may lose one of three and loses no sample.
# store.sh down [--volumes]: stops them and keeps their data; with --volumes it removes the data.
#
# Each site scrapes the exporters that its file names: stack/store/site-a/targets.yml and site-b's.
# Where the lab's Grafana runs it gets the store as a data source, named Store, and loses it at the end.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# shellcheck source=scripts/images.sh
. "$root/scripts/images.sh"
grafana=$(url grafana)
project=$project-store
engine=

# store_compose ARGUMENT...: the lab's Compose file, which this one builds on, wants Grafana's password.
store_compose() {
	GRAFANA_PASSWORD=none docker compose --env-file /dev/null --project-name "$project" --project-directory "$root/stack/store" \
		--file "$root/stack/store/compose.yaml" ${engine:+--file "$root/stack/store/$engine.yaml"} "$@"
}

# grafana_runs: whether the lab's Grafana does and the password for it is known, and sets $password.
grafana_runs() {
	get -o /dev/null "$(readiness grafana)" 2>/dev/null && (read_password) && read_password
}

is_ready() {
	get -o /dev/null "http://localhost:$(store_port "$1")/-/ready" 2>/dev/null
}

up() {
	get_images prometheus
	for image in $(store_compose config --images | sort -u); do
		has_image "$image" || die "the image $image cannot be had: is this machine online? ($why)"
	done
	ours=$(docker ps --no-trunc --filter "label=com.docker.compose.project=$project" --format '{{.Command}}')
	for port in $(store_compose config | sed -n 's/.*-address=127.0.0.1:\([1-9][0-9]*\)$/\1/p'); do
		case $ours in *"-address=127.0.0.1:$port"*) continue ;; esac
		! listens "$port" || die "port $port, which the store needs, is taken: stop what uses it, or change the port in stack/store"
	done
	# What only the other engine has is stopped, and its data stays.
	store_compose up -d --pull never --remove-orphans || die "Docker could not start the store: what it said is above"
	for name in store site-a site-b; do
		if ! wait_for 60 "$name is ready" is_ready $name; then
			store_compose logs --no-log-prefix --tail 15 $name >&2
			die "$name does not answer after $waited s; the end of its log is above"
		fi
	done
	echo
	echo "The store  http://localhost:$(store_port store)"
	echo "Site a     http://localhost:$(store_port site-a)"
	echo "Site b     http://localhost:$(store_port site-b)"
	if ! grafana_runs; then
		echo "Grafana does not run: start it with scripts/up.sh, then this again, and it can ask the store."
		return
	fi
	as_admin "$password" -o /dev/null -X DELETE "$grafana/api/datasources/uid/store"
	code=$(as_admin "$password" -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' --data '{
		"name": "Store", "uid": "store", "type": "prometheus", "access": "proxy",
		"url": "http://127.0.0.1:'"$(store_port store)"'",
		"jsonData": {"httpMethod": "POST", "prometheusType": "Prometheus", "timeInterval": "5s"}
	}' "$grafana/api/datasources")
	[ "$code" = 200 ] || die "Grafana does not take the store as a data source (HTTP $code): is the password in $env_file right?"
	echo "Grafana has the data source Store: choose it at the top of the dashboard of the class."
}

down() {
	if grafana_runs; then
		as_admin "$password" -o /dev/null -X DELETE "$grafana/api/datasources/uid/store"
	fi
	# By its name alone, away from the files: whichever engine runs, and the data of both.
	(cd / && docker compose --project-name "$project" down --remove-orphans "$@") || die "Docker could not stop the store: what it said is above"
	if [ $# -eq 1 ]; then
		echo "The store and its sites are down; their data is gone."
	else
		echo "The store and its sites are down; their data is kept. scripts/store.sh up starts them again."
	fi
}

case $* in
-h | --help)
	print_help
	exit
	;;
up | down | "down --volumes") ;;
"up thanos") engine=thanos ;;
*) usage_error "it takes up, up thanos, down or down --volumes, not '$*'" ;;
esac
require_curl
require_docker
require_project_dir "$project" "$root/stack/store"
"$@"
