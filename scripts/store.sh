#!/bin/sh
# store.sh up: starts two sites and the store that both write to, and says where they are.
# store.sh down [--volumes]: stops them and keeps their data; with --volumes it removes the data.
#
# Each site scrapes the exporters that its file names: stack/store/site-a/targets.yml and site-b's.
# Where the lab's Grafana runs it gets the store as a data source, named Store, and loses it at the end.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
grafana=$(url grafana)
project=$project-store

store_compose() {
	docker compose --env-file /dev/null --project-name "$project" --project-directory "$root/stack/store" \
		--file "$root/stack/store/compose.yaml" "$@"
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
	running=$(store_compose ps --status running --services 2>/dev/null)
	for name in store site-a site-b; do
		printf '%s\n' "$running" | grep -qx "$name" && continue
		! listens "$(store_port $name)" || die "port $(store_port $name), which $name needs, is taken: stop what uses it, or change the port in stack/store"
	done
	store_compose up -d --pull never || die "Docker could not start the store: what it said is above"
	for name in store site-a site-b; do
		if ! wait_for 60 "$name is ready" is_ready $name; then
			store_compose logs --no-log-prefix --tail 15 $name >&2
			die "$name does not answer after $waited s; the end of its log is above"
		fi
		# A site that runs already may have another configuration than the file.
		store_compose kill -s HUP $name >/dev/null 2>&1
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
	store_compose down --remove-orphans "$@" || die "Docker could not stop the store: what it said is above"
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
*) usage_error "it takes up, down or down --volumes, not '$*'" ;;
esac
require_curl
require_docker
require_own "$project" "$root/stack/store"
"$@"
