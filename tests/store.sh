# shellcheck shell=sh disable=SC2154
# One store behind two sites, on a real engine: what is scraped arrives, whatever is killed, and what
# does not is known. It works on a copy with ports of its own, where a scrape is due each second. The
# steps build on each other.

COMPOSE_PROJECT_NAME="modelmock-test-sites"
export COMPOSE_PROJECT_NAME
lab=$work/lab
store_sh=$lab/scripts/store.sh
check=$lab/scripts/check.sh

# step NAME FUNCTION: where it fails there is no sense in going on.
step() {
	run "the store: $1" "$2" || exit
}

can_run() {
	(require_docker) || exit 3
	has_image "$(image prom/prometheus)" || lacks "the image $(image prom/prometheus) cannot be had here: docker pull it"
}

# next_port: one that is free, and none of those before.
next_port() {
	last=$((last + 1))
	while listens $last; do
		last=$((last + 1))
	done
}

make_lab() {
	mkdir "$lab"
	cp -R "$root/scripts" "$lab/scripts"
	cp -R "$root/stack" "$lab/stack"
	rm -f "$lab"/stack/.env* "$lab"/stack/.applied-*
	last=23000
	: >"$work/ports"
	for old in 19090 19091 19092 5001 5002 3000 9093; do
		next_port
		echo "s/$old/$last/g" >>"$work/ports"
		eval "port_$old=$last"
	done
	echo 's/_interval: 5s/_interval: 1s/' >>"$work/ports"
	for file in "$lab"/stack/store/*.* "$lab"/stack/store/site-*/targets.yml "$lab/stack/compose.yaml" "$lab"/scripts/*.sh; do
		sed "$(cat "$work/ports")" "$file" >"$work/new" && cat "$work/new" >"$file"
	done
	chmod -R a+rX "$work"
	store=http://127.0.0.1:$port_19090
	site_a=http://127.0.0.1:$port_19091
	site_b=http://127.0.0.1:$port_19092
	at_the_end "docker compose --env-file /dev/null -p $COMPOSE_PROJECT_NAME-store -f '$lab/stack/store/compose.yaml' down --volumes"
}

# models: that of each site; the second's result is too high.
models() {
	start_model --listen "127.0.0.1:$port_5001" --interval 1
	start_model --listen "127.0.0.1:$port_5002" --value 0.95
}

container_of() {
	docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME-store" --filter "label=com.docker.compose.service=$1"
}

answers() {
	[ "$(query "$1" "$2")" = "$3" ]
}

# scrapes_since URL TIME: whether it scraped after that.
scrapes_since() {
	answers "$1" "max(timestamp(up)) > bool $2" 1
}

# samples URL SITE FROM TO: all that it has of the site in that time, a line each: series, time, value.
samples() {
	selector='{job="model_mock"}'
	[ "$1" != "$store" ] || selector="{job=\"model_mock\",site=\"$2\"}"
	get --max-time 20 --get --data-urlencode "query=${selector}[$(($4 - $3))s]" --data-urlencode "time=$4" "$1/api/v1/query" |
		sed 's/{"metric":/\
/g' | sed -n "s/,\"site\":\"$2\"//; s/\"site\":\"$2\",//; s/,\"values\":\[\[/ /p" |
		awk '{ series = $1; sub(/^[^ ]* /, ""); n = split($0, parts, /\],\[/); for (i = 1; i <= n; i++) { sub(/\].*/, "", parts[i]); print series, parts[i] } }' | sort
}

# compare SITE FROM TO: sets $scraped, and $lost, which the site has and the store has not.
compare() {
	url=$site_a
	[ "$1" = a ] || url=$site_b
	samples "$url" "$1" "$2" "$3" >"$work/site"
	samples "$store" "$1" "$2" "$3" >"$work/store"
	comm -23 "$work/site" "$work/store" >"$work/lost"
	scraped=$(grep -c . "$work/site")
	lost=$(grep -c . "$work/lost")
	added=$(comm -13 "$work/site" "$work/store" | grep -c .)
	echo "site $1 from $2 to $3: $scraped samples, $lost not in the store, $added only there"; head -n 3 "$work/lost"
}

# same SITE FROM TO: whether the store has each sample of that time as the site has it, and no other.
same() {
	compare "$1" "$2" "$3"
	[ "$scraped" -gt 0 ] && [ "$lost" = 0 ] && [ "$added" = 0 ]
}

# none_failed: no sample of any site was refused.
none_failed() {
	for url in $site_a $site_b; do
		get "$url/metrics" | awk '/^prometheus_remote_storage_samples_failed_total/ { n += $2 } END { exit n > 0 }' || broken "samples failed at $url"
	done
}

it_comes_up() {
	models
	works "$store_sh" up
	says "http://localhost:$port_19090"
	says "Grafana does not run"
	within 30 "both sites are in the store" answers "$store" 'count(count by (site) (model_result) == 1)' 2
	answers "$store" 'model_result{site="b"}' 0.95 || broken "site b's result is another in the store"
	works "$check" store
	says "what site-a writes arrives"
	works "$store_sh" up
	docker inspect -f '{{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.NetworkMode}}' "$(container_of store)" >"$work/said"
	says "[ALL] true 536870912 host"
}

a_killed_store_gets_all() {
	models
	sleep 5
	begun=$(date +%s)
	sleep 2
	works docker kill -s KILL "$(container_of store)"
	sleep 17
	fails "what site-a writes arrives" "$check" store
	says "nothing is lost while site-a runs"
	until [ "$(date +%s)" -ge $((begun + 27)) ]; do sleep 0.5; done
	answers "$site_b" 'ALERTS{alertname="ModelResultHigh",alertstate="firing"}' 1 || broken "site b does not alert without its store"
	works docker start "$(container_of store)"
	sleep 3
	ended=$(date +%s)
	within 30 "all of site a is in the store" same a "$begun" "$ended"
	echo "measured: 25 s without the store: $scraped samples of site a, $lost of them not in the store afterwards"
	within 30 "all of site b is in the store" same b "$begun" "$ended"
	none_failed
	within 20 "check.sh is content" "$check" store
}

a_killed_site_loses_nothing_it_sent() {
	models
	sleep 3
	begun=$(date +%s)
	sleep 5
	last_sent=$(date +%s)
	within 10 "the store has caught up" same a "$begun" "$last_sent"
	works docker kill -s KILL "$(container_of site-a)"
	sleep 3
	works docker start "$(container_of site-a)"
	within 30 "site a scrapes" scrapes_since "$site_a" $((last_sent + 3))
	within 10 "what it had is in the store" same a "$begun" "$last_sent"
	begun=$(($(date +%s) + 1))
	sleep 4
	within 20 "what it scrapes now is in the store" same a "$begun" $((begun + 3))
	none_failed
}

# The limit of this: what was not sent stays in the site, which does not send it any more.
a_site_killed_without_its_store_loses() {
	models
	sleep 3
	begun=$(date +%s)
	works docker kill -s KILL "$(container_of store)"
	sleep 10
	works docker kill -s KILL "$(container_of site-a)"
	killed=$(date +%s)
	works docker start "$(container_of site-a)"
	works docker start "$(container_of store)"
	within 30 "site a scrapes" scrapes_since "$site_a" $((killed + 1))
	back=$(($(date +%s) + 1))
	sleep 4
	within 20 "what it scrapes now is in the store" same a "$back" $((back + 3))
	compare a "$begun" "$killed"
	echo "measured: a site killed after 10 s without its store: $lost of its $scraped samples of that time never arrive"
	[ "$lost" -gt 0 ] || broken "nothing is lost, and the README says otherwise"
	within 20 "site b, which ran, lost nothing" same b "$begun" "$killed"
}

a_full_store_is_noticed() {
	[ "$(id -u) $(uname)" = "0 Linux" ] || lacks "only root may make a small disk, and only on Linux"
	works "$store_sh" down --volumes
	mkdir "$work/small"
	mount -t tmpfs -o size=64m,mode=777 none "$work/small"
	at_the_end "umount '$work/small'"
	awk -v disk="$work/small" '{ print } $0 == "  store-data:" { printf "    driver_opts: {type: none, o: bind, device: \"%s\"}\n", disk }' \
		"$lab/stack/store/compose.yaml" >"$work/new" && cat "$work/new" >"$lab/stack/store/compose.yaml"
	models
	works "$store_sh" up
	within 30 "both sites are in the store" answers "$store" 'count(count by (site) (model_result) == 1)' 2
	works "$check" store
	begun=$(date +%s)
	dd if=/dev/zero of="$work/small/fill" bs=64k 2>/dev/null
	within 60 "check.sh says that writing fails" writing_fails
	says "what site-b writes arrives"
	answers "$site_a" 'up' 1 || broken "site a does not scrape"
	answers "$site_b" 'ALERTS{alertname="ModelResultHigh",alertstate="firing"}' 1 || broken "site b does not alert"
	rm "$work/small/fill"
	works docker restart "$(container_of store)"
	ended=$(date +%s)
	sleep 3
	within 30 "what was scraped while it was full is there" same a "$begun" "$ended"
	none_failed
	echo "measured: a full store for $((ended - begun)) s: $scraped samples of site a, $lost of them not in the store afterwards"
}

writing_fails() {
	! "$check" store >"$work/said" 2>&1 && grep -q "^FAIL  what site-a writes" "$work/said"
}

# A store that takes no writes says so for good: the samples are not tried again.
a_refusing_store_is_noticed() {
	models
	works "$store_sh" down --volumes
	sed '/enable-remote-write-receiver/d' "$lab/stack/store/compose.yaml" >"$work/new" && cat "$work/new" >"$lab/stack/store/compose.yaml"
	works "$store_sh" up
	within 30 "check.sh says that writing fails" writing_fails
	says "samples were refused and are lost"
	within 20 "site a scrapes" answers "$site_a" 'up' 1
	within 20 "site b alerts" answers "$site_b" 'ALERTS{alertname="ModelResultHigh",alertstate="firing"}' 1
}

grafana_asks_it() {
	has_image "$(image grafana/grafana)" || lacks "the image $(image grafana/grafana) cannot be had here"
	at_the_end "GRAFANA_PASSWORD=none docker compose --env-file /dev/null -f '$lab/stack/compose.yaml' down --volumes"
	models
	works "$store_sh" up
	within 30 "both sites are in the store" answers "$store" 'count(count by (site) (model_result) == 1)' 2
	works "$lab/scripts/up.sh" grafana
	works "$store_sh" up
	says "Grafana has the data source Store"
	works "$store_sh" up
	asked=$(asks_grafana)
	[ "$asked" = 2 ] || broken "Grafana answers '$asked' through the data source Store"
	works "$store_sh" down
	asked=$(asks_grafana)
	[ -z "$asked" ] || broken "the data source outlives its store"
	works "$lab/scripts/down.sh" --volumes
}

asks_grafana() (
	# shellcheck disable=SC2034 # read_password reads it
	env_file=$lab/stack/.env
	read_password
	as_admin "$password" --get --data-urlencode 'query=count(count by (site) (model_result))' \
		"http://127.0.0.1:$port_3000/api/datasources/proxy/uid/store/api/v1/query" | one_value
)

down_leaves_nothing() {
	works "$store_sh" down --volumes
	[ -z "$(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME-store")" ] || broken "a container is left"
	[ -z "$(docker volume ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME-store")" ] || broken "a volume is left"
}

step "what it needs" can_run
make_lab
step "two sites write, and are told apart" it_comes_up
step "the store killed for 25 s: nothing is lost, and check.sh says that writing waits" a_killed_store_gets_all
step "a site killed: what it had is in the store" a_killed_site_loses_nothing_it_sent
step "a site killed while the store is away: what was not sent is lost" a_site_killed_without_its_store_loses
if has_image "$(image grafana/grafana)"; then
	step "Grafana has it as a data source while it runs" grafana_asks_it
else
	leave_out "the store: Grafana" "its image $(image grafana/grafana) cannot be had here"
fi
run "the store: full: the sites go on, check.sh says it, and nothing is lost" a_full_store_is_noticed
step "it refuses: the sites go on, and check.sh says what is lost" a_refusing_store_is_noticed
step "down --volumes leaves nothing" down_leaves_nothing
