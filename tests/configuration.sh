# shellcheck shell=sh disable=SC2154
# What stands in stack/ and in the README, held against the real tools.

stack=$root/stack

compose_file_is_valid() {
	docker compose version >/dev/null 2>&1 || lacks "there is no docker compose: install Docker (the README says how)"
	GRAFANA_PASSWORD=none docker compose -f "$stack/compose.yaml" config --quiet || exit
	docker compose -f "$stack/store/compose.yaml" config --quiet
}

# Grafana publishes full versions only, and any shorter tag means another program next month.
images_are_pinned() {
	images=$(image ".*")
	[ "$(echo "$images" | grep -c .)" -ge 4 ] || broken "the images were not found"
	loose=$(echo "$images" | grep -Ev ':v?[0-9]+\.[0-9]+\.[0-9]+$')
	[ -z "$loose" ] || broken "not pinned to a full version: $loose"
	# Every place that names an image names the one of the Compose file.
	git ls-files -z >"$work/files" 2>/dev/null || lacks "the list of files is read from a git checkout"
	named=$(xargs -0 grep -IhoE '(prom/(prometheus|alertmanager)|axllent/mailpit|grafana/grafana):v?[0-9][0-9.]*[0-9]' <"$work/files" | sort -u)
	[ "$named" = "$(echo "$images" | sort -u)" ] || broken "the files name these images: $named"
}

page_is_clean() {
	start_model
	works get "http://$address/metrics"
	cp "$work/said" "$work/page"
	findings=$(tool prometheus promtool check metrics <"$work/page" 2>&1)
	code=$?
	echo "$findings"
	[ $code -eq 0 ] || exit $code
	[ -z "$findings" ]
}

has_value() {
	answer=$(query "http://127.0.0.1:$port" model_result)
	[ "$answer" = "$expected" ]
}

# A Prometheus scrapes the exporter and answers the query model_result with the value on the page.
prometheus_scrapes_it() {
	start_model --seed 1 --interval 86400
	port=$(free_port)
	mkdir -p "$work/prometheus"
	cat >"$work/prometheus/prometheus.yml" <<-EOF
		global:
		  scrape_interval: 1s
		scrape_configs:
		  - job_name: model_mock
		    static_configs:
		      - targets: ["$address"]
	EOF
	chmod -R a+rX "$work"
	listen=--web.listen-address=127.0.0.1:$port
	if has_image "$(image prom/prometheus)"; then
		start container --network host -v "$work/prometheus:/etc/prometheus:ro" "$(image prom/prometheus)" \
			--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus "$listen"
	elif command -v prometheus >/dev/null; then
		start prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" "$listen"
	else
		lacks "there is no Prometheus: install Docker (the README says how), or Prometheus"
	fi
	expected=$(get "http://$address/metrics" | awk '$1 == "model_result" { print $2 }')
	[ -n "$expected" ] || broken "there is no model_result on the page"
	within 30 "Prometheus' answer $expected" has_value
	echo "measured: the page says $expected, Prometheus answers $answer"
}

# route LABEL...: sets $route, the matchers of the route that an alert with these labels takes.
route() {
	tool alertmanager amtool config routes test --tree --verify.receivers=mailbox \
		--config.file=alertmanager/alertmanager.yml "$@" >"$work/said" 2>&1 || broken "it does not go to the mailbox: $*"
	route=$(sed -n 's/.*── \(.*\)  receiver: mailbox/\1/p' "$work/said")
}

alerts_take_their_routes() {
	for alert in ModelResultHigh ModelMockDown ModelResultStale; do
		route alertname=$alert instance=localhost:5000
		[ "$route" = default-route ] || broken "$alert of one model takes the route $route"
	done
	for alert in ModelResultHigh ModelResultStale; do
		route alertname=$alert instance=localhost:5001 class=monitoring-a
		[ "$route" = '{class!=""}' ] || broken "$alert of a class takes the route $route"
	done
	route alertname=ModelMockDown instance=localhost:5001 class=monitoring-a
	[ "$route" = '{alertname="ModelMockDown"}' ] || broken "ModelMockDown of a class takes the route $route"
}

# The configurations that the README shows, each in the place that its first line names.
configurations_of_the_readme() {
	mkdir -p "$work/readme/blocks"
	cp -R "$stack/prometheus" "$work/readme/prometheus"
	stack=$work/readme
	awk -v folder="$stack/blocks" '
		/^ *```yaml$/ { n++; inside = 1; match($0, /^ */); indent = RLENGTH; next }
		/^ *```$/ { inside = 0 }
		inside { print substr($0, indent + 1) >(folder "/" n) }
	' README.md
	chmod -R a+rX "$work"
	checked=0
	for block in "$stack"/blocks/*; do
		head -n 1 "$block"
		checked=$((checked + 1))
		case $(head -n 1 "$block") in
		"# alertmanager.yml"*)
			{
				printf 'route:\n  receiver: mailbox\n'
				cat "$block"
			} >"$stack/alertmanager.yml"
			tool alertmanager amtool check-config alertmanager.yml || exit
			;;
		"# prometheus.yml: in the place of alerting")
			sed '/^alerting:/,/^$/d' "$root/stack/prometheus/prometheus.yml" | cat - "$block" >"$stack/prometheus/prometheus.yml"
			tool prometheus promtool check config prometheus/prometheus.yml || exit
			;;
		"# prometheus.yml"*)
			cat "$root/stack/prometheus/prometheus.yml" "$block" >"$stack/prometheus/prometheus.yml"
			tool prometheus promtool check config prometheus/prometheus.yml || exit
			;;
		"# targets/class.yml"*)
			cp "$block" "$stack/prometheus/targets/class.yml"
			tool prometheus promtool check config prometheus/prometheus.yml || exit
			;;
		*) broken "nothing checks this block of the README" ;;
		esac
	done
	echo "measured: configurations checked: $checked"
}

run "promtool check metrics" page_is_clean
run "a real Prometheus scrapes the exporter" prometheus_scrapes_it
run "docker compose config" compose_file_is_valid
run "every image is pinned, and named alike everywhere" images_are_pinned
run "promtool check config" tool prometheus promtool check config prometheus/prometheus.yml
run "promtool check config, of the store" tool prometheus promtool check config store/store.yml
run "promtool check config, of its sites" tool prometheus promtool check config store/site.yml
run "promtool test rules" tool prometheus promtool test rules prometheus/tests/model.yml
run "amtool check-config" tool alertmanager amtool check-config alertmanager/alertmanager.yml
run "amtool config routes test" alerts_take_their_routes
run "the README's configurations" configurations_of_the_readme
