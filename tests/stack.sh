# shellcheck shell=sh disable=SC2154
# A student's way through the stack on a real engine, and the wrong ways.
#
# It works on a copy of stack/ and scripts/ under a Compose project name of its own, so it touches no
# stack that runs. It needs the stack's ports and port 5000. The steps build on each other: where one
# fails, the rest is not run.

COMPOSE_PROJECT_NAME="modelmock-test"
export COMPOSE_PROJECT_NAME
# As a student's folder may be called.
lab="$work/the lab ü"
up=$lab/scripts/up.sh
down=$lab/scripts/down.sh
check=$lab/scripts/check.sh
rules=$lab/stack/prometheus/rules/model.yml

# step NAME FUNCTION: where it fails there is no sense in going on.
step() {
	run "the stack: $1" "$2" && return
	docker logs --tail 20 "$(container_of alertmanager)" 2>&1 | sed 's/^/      alertmanager: /'
	exit
}

can_run() {
	(require_docker) || exit 3
	! get http://localhost:5000/metrics 2>/dev/null | grep -q '^modelmock_build_info' ||
		lacks "a model runs on port 5000: stop it with Ctrl+C, then test again"
	for port in 5000 9090 9093 9094 1025 8025 3000; do
		! listens $port || lacks "port $port is taken: stop what uses it (a stack of yours: scripts/down.sh), then test again"
	done
}

# find_services: sets $services, those whose image is here or can be had.
find_services() {
	services=
	for image in $(image ".*"); do
		service=${image##*/}
		service=${service%%:*}
		if has_image "$image"; then
			services="$services $service"
		elif [ "$service" = grafana ]; then
			leave_out "the stack: Grafana" "its image $image cannot be had here"
		else
			skip "the stack" "the image $image cannot be had: docker pull $image"
			exit
		fi
	done
	services=${services# }
}

make_lab() {
	mkdir -p "$lab/stack"
	cp -R "$root/scripts" "$lab/scripts"
	(cd "$root/stack" && tar -cf - --exclude=./.env --exclude='./.applied-*' .) | (cd "$lab/stack" && tar -xf -)
	chmod -R a+rX "$work"
	at_the_end "GRAFANA_PASSWORD=none docker compose -p $COMPOSE_PROJECT_NAME --env-file /dev/null -f '$lab/stack/compose.yaml' down --volumes"
}

# model ARGUMENT...: the model on its own port.
model() {
	start_model --listen 127.0.0.1:5000 "$@"
}

# ask EXPRESSION: the stack's Prometheus.
ask() {
	query http://localhost:9090 "$1"
}

answers() {
	[ "$(ask "$1")" = "$2" ]
}

# mailed SUBJECT: how many mails of the stack's mailbox have a subject that begins so.
mailed() {
	mails http://localhost:8025 "$1" | grep -c .
}

has_mail() {
	[ "$(mailed "$1")" -ge "${2:-1}" ]
}

# is_over ALERT: whether the latest mail about it says so; the mailbox lists the latest first. Prometheus
# tells of an end again after a minute, so a mail that got lost on a busy machine comes by then.
is_over() {
	get 'http://localhost:8025/api/v1/messages?limit=500' 2>/dev/null | grep -o "\"Subject\":\"[A-Z]* $1" | head -n 1 | grep -q RESOLVED
}

container_of() {
	GRAFANA_PASSWORD=none docker compose --env-file /dev/null -f "$lab/stack/compose.yaml" ps -aq "$1"
}

what_docker_lacks_is_said() {
	mkdir "$work/bin"
	for tool in sh dirname sed id; do
		ln -s "$(command -v $tool)" "$work/bin/$tool"
	done
	fails "curl is missing" env PATH="$work/bin" "$up"
	one_line
	ln -s "$(command -v curl)" "$work/bin/curl"
	fails "Docker is missing" env PATH="$work/bin" "$up"
	one_line
	fails "engine is not running" env DOCKER_HOST="unix://$work/none.sock" "$up"
	one_line
	if ! DOCKER_CONFIG=$work docker compose version >/dev/null 2>&1; then
		fails "docker compose of version 2 or later is missing" env DOCKER_CONFIG="$work" "$up"
		one_line
	fi
	if [ "$(id -u)" -eq 0 ] && su -s /bin/sh -c "docker compose version" nobody >/dev/null 2>&1; then
		fails "no permission for Docker's socket" su -s /bin/sh -c "$up" nobody
		one_line
	fi
	"$up" nonsense >"$work/said" 2>&1
	[ $? -eq 2 ] || broken "an unknown service is wrong usage"
	says "there is no service 'nonsense'"
}

a_taken_port_is_named() {
	start_model --listen 127.0.0.1:9093
	fails "port 9093" "$up" alertmanager
	says "alertmanager"
	if command -v lsof >/dev/null || command -v ss >/dev/null; then
		says "modelmock"
	fi
}

an_unreadable_file_is_named() {
	chmod go-r "$rules"
	fails "$rules" "$up" prometheus
	chmod go+r "$rules"
}

# In a network of its own a script sees the engine, but not what listens on the engine's host network.
another_network_is_named() {
	unshare --net true 2>/dev/null || lacks "only root may make a network of its own, and only on Linux"
	fails "Docker's host network is not this machine's" unshare --net "$up" mailpit
	works "$down" --volumes
}

an_interrupted_start_leaves_nothing() {
	start "$up" prometheus mailpit >"$work/said" 2>&1
	until grep -q "Creating" "$work/said" || has_ended "$pid"; do
		sleep 0.1
	done
	stop "$pid"
	says "interrupted"
	[ -z "$(docker ps -aq --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)" ] || broken "a container is left"
	works "$down" --volumes
}

another_folder_is_refused() {
	other="$work/other"
	mkdir -p "$other"
	cp -R "$lab/scripts" "$lab/stack" "$other"
	fails "$lab/stack" "$other/scripts/up.sh" mailpit
	one_line
	fails "$lab/stack" "$other/scripts/down.sh" --volumes
	one_line
	[ -n "$(container_of prometheus)" ] || broken "the stack is gone"
}

nothing_runs() {
	fails "cargo run --release" "$check" exporter prometheus
	says "scripts/up.sh prometheus"
}

it_comes_up() {
	# The first two results of this seed are above 0.9: an alert fires while all starts.
	model --seed 3
	# shellcheck disable=SC2086 # the names are words
	works "$up" $services
	says "http://localhost:9090"
	[ "$(find "$lab/stack/.env" -perm 600)" ] || broken "stack/.env is not of mode 600"
	within 20 "the target is up" answers 'count(up{job="model_mock"} == 1)' 1
	# shellcheck disable=SC2086
	works "$check" exporter $services
	cat "$work/said"
}

it_listens_here_alone() {
	needs ss iproute2
	ss -ltnH >"$work/said"
	for port in 9090 9093 8025 1025 3000; do
		! awk '{ print $4 }' "$work/said" | grep ":$port\$" | grep -qv '^127\.0\.0\.1:' || broken "port $port"
	done
	! listens 9094 || broken "port 9094 listens"
}

containers_are_bounded() {
	for service in $services; do
		docker inspect -f '{{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.RestartPolicy.Name}} {{index .HostConfig.LogConfig.Config "max-size"}} {{.HostConfig.ReadonlyRootfs}}' "$(container_of "$service")" >"$work/said"
		says "[ALL] [no-new-privileges:true] unless-stopped 1m true"
		docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.Config.Healthcheck.Interval}}' "$(container_of "$service")" >"$work/said"
		grep -Eq '^(134217728|536870912) 256 1m0s$' "$work/said" || broken "$service is not bounded"
	done
}

up_again_does_no_harm() {
	before=$(container_of prometheus)
	password=$(cat "$lab/stack/.env")
	# shellcheck disable=SC2086
	works "$up" $services
	[ "$(container_of prometheus)" = "$before" ] || broken "Prometheus' container is another"
	[ "$(cat "$lab/stack/.env")" = "$password" ] || broken "stack/.env is another"
}

no_alert() {
	get http://localhost:9090/api/v1/alerts 2>/dev/null | grep -qF '"alerts":[]'
}

a_high_result_is_mailed() {
	model --value 0.5
	within 45 "no alert" no_alert
	within 90 "the mail of the end of the alert" is_over ModelResultHigh

	stop "$pid"
	model --value 0.95
	works "$check" --alert
	cat "$work/said"
	within 10 "Prometheus has the page's value" answers model_result 0.95
	get http://localhost:8025/api/v1/messages >"$work/said"
	grep -q 'FIRING ModelResultHigh at localhost:5000 since [0-9:]* UTC: the result of the model is 0.95, above 0.9' "$work/said" ||
		broken "no mail says in words what happened"

	stop "$pid"
	model --value 0.5
	within 90 "the mail of the end" is_over ModelResultHigh
}

a_short_high_result_is_mailed() {
	count=$(mailed "FIRING ModelResultHigh")
	model --value 0.95
	sleep 5
	stop "$pid"
	model --value 0.5
	within 5 "its mail" has_mail "FIRING ModelResultHigh" $((count + 1))
}

data_outlives_down() {
	model --value 0.5
	within 45 "no alert" no_alert
	count=$(mailed "FIRING ModelResultHigh")
	samples=$(ask 'count_over_time(model_result[1h])')
	password=$(cat "$lab/stack/.env")
	works "$down"
	! listens 9090 || broken "Prometheus still listens"
	# shellcheck disable=SC2086
	works "$up" $services
	within 20 "a sample more" answers "count_over_time(model_result[1h]) > bool $samples" 1
	has_mail "FIRING ModelResultHigh" "$count" || broken "the mail is gone"
	[ "$(cat "$lab/stack/.env")" = "$password" ] || broken "stack/.env is another"
}

a_dead_model_is_mailed() {
	within 20 "the target is down" answers 'up{job="model_mock"}' 0
	fails "cargo run --release" "$check" exporter prometheus
	says "connection refused"
	within 45 "its mail" has_mail "FIRING ModelMockDown"
	model
	within 90 "the mail of its end" is_over ModelMockDown
}

started_again() {
	[ "$(docker inspect -f '{{.RestartCount}}' "$(container_of prometheus)")" = 1 ] &&
		get -o /dev/null http://localhost:9090/-/ready 2>/dev/null
}

prometheus_outlives_a_kill() {
	model
	moment=$(date +%s)
	samples=$(ask "count_over_time(model_result[1h] @ $moment)")
	pid_of_prometheus=$(docker inspect -f '{{.State.Pid}}' "$(container_of prometheus)")
	works container --user 0 --pid host --entrypoint /bin/sh "$(image prom/prometheus)" -c "kill -9 $pid_of_prometheus"
	within 60 "Prometheus runs again" started_again
	within 10 "all $samples samples" answers "count_over_time(model_result[1h] @ $moment)" "$samples"
}

a_changed_rule_is_applied() {
	sed -i.before 's/above 0\.9"/above nine tenths"/' "$rules"
	works "$up" prometheus
	get 'http://localhost:9090/api/v1/rules' >"$work/said"
	says "above nine tenths"
}

a_broken_rule_is_shown() {
	cp "$rules" "$work/rules"
	echo '      - alert: [' >>"$rules"
	fails "does not take its configuration" "$up" prometheus
	says "rules/model.yml"
	works docker compose -f "$lab/stack/compose.yaml" --env-file "$lab/stack/.env" stop prometheus
	fails "does not run" "$up" prometheus
	says "rules/model.yml"
	cp "$work/rules" "$rules"
	works "$up" prometheus
}

# says_of_targets TEXT: what check.sh says of the targets.
says_of_targets() {
	"$check" prometheus >"$work/said" 2>&1
	grep "its target is up" "$work/said" | grep -qF -- "$1"
}

# put FILE: writes it anew in its place, as an editor does.
put() {
	cat >"$1.new" && mv "$1.new" "$1"
	chmod a+r "$1"
}

targets_are_told() {
	model
	class=$lab/stack/prometheus/targets/class.yml
	cp "$class" "$work/class"
	echo '- targets: ["localhost:5001"]' | cat "$work/class" - | put "$class"
	within 10 "what stands below the []" says_of_targets "Prometheus does not know localhost:5001"
	says "in the place of the []"
	sleep 1
	printf -- '- targets: ["localhost:5001"]\n   labels:\n' | put "$class"
	within 10 "the file that is no YAML" says_of_targets "Prometheus cannot read targets/class.yml"
	echo '- targets: ["localhost:5001", "localhost:5002"]' | put "$class"
	within 20 "two targets that are down" says_of_targets "1 of 3 up (Get"
	says "connection refused"
	put "$class" <"$work/class"
	within 10 "that they are gone" says_of_targets "1 of 1 up"
}

what_is_not_loaded_is_told() {
	model
	within 20 "that all is well" "$check" prometheus
	cp "$rules" "$work/rules"
	yaml=$lab/stack/prometheus/prometheus.yml
	cp -p "$yaml" "$work/yaml"
	sed 's/} > 0\.9$/} > 0.8/' "$work/rules" | put "$rules"
	fails "differs from the file: ModelResultHigh, expr" "$check" prometheus
	# Said in another way, it is the same.
	sed 's/} > 0\.9$/}    >  0.90 # worth a look/; s/keep_firing_for: 15s/keep_firing_for: 0m15s/' "$work/rules" | put "$rules"
	works "$check" prometheus
	put "$rules" <"$work/rules"
	sed 's/evaluation_interval: 5s/evaluation_interval: 4s/' "$work/yaml" | put "$yaml"
	fails "it lacks evaluation_interval:4" "$check" prometheus
	echo "nonsense: [" | put "$yaml"
	docker kill -s HUP "$(container_of prometheus)" >/dev/null
	sleep 1
	cp -p "$work/yaml" "$yaml"
	fails "Prometheus refused its configuration" "$check" prometheus
	docker kill -s HUP "$(container_of prometheus)" >/dev/null
	within 20 "that all is well again" "$check" prometheus
}

the_threshold_is_found() {
	cp "$rules" "$work/rules"
	sed 's/} > 0\.9$/} >= 0.6 # a comment/' "$work/rules" >"$work/changed"
	cat >>"$work/changed" <<-EOF
		      - alert: ModelResultLow
		        expr: model_result{job="model_mock"} < 0.1
		      - alert: ModelResultVeryHigh
		        expr: model_result{job="model_mock"} > 0.99
	EOF
	put "$rules" <"$work/changed"
	works "$up" prometheus
	model --value 0.6
	works "$check" --alert
	says "ok    a result passes 0.6"
	put "$rules" <"$work/rules"
	works "$up" prometheus
}

a_silence_is_told() {
	model --value 0.5
	within 90 "the mail of the end" is_over ModelResultHigh
	has_mail "FIRING ModelResultHigh" || broken "there is no older mail"
	get -H 'Content-Type: application/json' -d '{"matchers": [{"name": "instance", "value": "localhost:5000", "isRegex": false}], "startsAt": "2001-01-01T00:00:00Z", "endsAt": "2999-01-01T00:00:00Z", "createdBy": "test", "comment": "test"}' \
		http://localhost:9093/api/v2/silences >"$work/said"
	silence=$(sed 's/.*"silenceID":"\([^"]*\)".*/\1/' "$work/said")
	stop "$pid"
	model --value 0.95
	fails "the alert is silenced" "$check" --alert
	says "expire the silence: http://localhost:9093/#/silences/$silence"
	get -X DELETE "http://localhost:9093/api/v2/silence/$silence"
	works "$check" --alert
}

# Prometheus was away while the alert fired: Alertmanager takes it for the one that it has mailed.
a_remembered_alert_is_told() {
	model --value 0.95
	works "$check" --alert
	docker restart "$(container_of prometheus)" >/dev/null
	within 30 "Prometheus" get -o /dev/null http://localhost:9090/-/ready
	fails "Alertmanager knows this alert since" "$check" --alert
	says "--value 0.5"
	stop "$pid"
	model --value 0.5
	within 90 "the mail of the end" is_over ModelResultHigh
	stop "$pid"
	model --value 0.95
	works "$check" --alert
}

no_check_waits_in_vain() {
	begun=$(date +%s)
	fails "cargo run --release" "$check" --alert
	at_most 10 $(($(date +%s) - begun)) "seconds until --alert says that there is no model"
	model --interval 86400
	begun=$(date +%s)
	start "$check" exporter >"$work/checked"
	waiting=$pid
	sleep 2
	kill -STOP "$(sed -n 1p "$work/pids")"
	wait "$waiting"
	kill -CONT "$(sed -n 1p "$work/pids")"
	cp "$work/checked" "$work/said"
	says "no new result in"
	at_most 18 $(($(date +%s) - begun)) "seconds of a wait of 10 s for a model that hangs"
}

# said_of_notifications WORDS: what check.sh says of them.
said_of_notifications() {
	"$check" alertmanager >"$work/said" 2>&1
	grep "no notification failed" "$work/said" | grep -qF -- "$1"
}

# send_alert NAME: straight to Alertmanager.
send_alert() {
	works get -H 'Content-Type: application/json' -d '[{"labels": {"alertname": "'"$1"'", "instance": "test"}}]' http://localhost:9093/api/v2/alerts
}

notifications_are_told() {
	works "$up" alertmanager
	said_of_notifications "none was sent yet" || broken "it should say that none was sent"
	says "open  "
	send_alert First
	within 30 "the failure" said_of_notifications "since Alertmanager started"
	says "FAIL"
	works "$up" mailpit
	within 30 "the mail" has_mail "FIRING First"
	sleep 1
	"$check" alertmanager >/dev/null
	send_alert Second
	within 10 "the next mail" has_mail "FIRING Second"
	within 10 "that all is well again" said_of_notifications "sent since the last failure"
	works "$down" --volumes
}

# save_dashboard TITLE REFRESH MAX THRESHOLD STYLE: as somebody who clicked it together does.
save_dashboard() {
	cat >"$work/dashboard.json" <<-EOF
		{"overwrite": true, "dashboard": {"title": "$1", "refresh": "$2", "time": {"from": "now-15m", "to": "now"}, "panels": [
		{"type": "timeseries", "title": "New panel", "targets": [{"refId": "A", "expr": "model_result", "datasource": {"type": "prometheus", "uid": "prometheus"}}],
		"fieldConfig": {"overrides": [], "defaults": {"min": 0, $3 "custom": {"thresholdsStyle": {"mode": "$5"}},
		"thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": 0}, {"color": "red", "value": $4}]}}}}]}}
	EOF
	password=$(sed -n 's/^GRAFANA_PASSWORD=//p' "$lab/stack/.env")
	works get -u "admin:$password" -H 'Content-Type: application/json' -d @"$work/dashboard.json" http://localhost:3000/api/dashboards/db
}

a_dashboard_of_ones_own_is_found() {
	fails "there is none" "$check" --own
	save_dashboard First "" "" 80 off
	fails "First, panel New panel: refresh is not 5s" "$check" --own
	says "Max is not 1 (Standard options)"
	says "no red threshold at 0.9 (Thresholds)"
	says "Show thresholds: As lines"
	says_not "Min is not"
	# It speaks of the one that lacks least.
	save_dashboard Second 5s '"max": 1,' 0.9 off
	fails "Second, panel New panel: the threshold is not shown as a line" "$check" --own
	says_not "refresh"
	save_dashboard Third 5s '"max": 1,' 0.9 line
	works "$check" --own
	says "ok    a dashboard of your own, with a red line: Third"
}

# Whoever opens Connections lets Grafana's server ask for the list of all plugins.
grafana_asks_nobody() {
	password=$(sed -n 's/^GRAFANA_PASSWORD=//p' "$lab/stack/.env")
	curl -s --noproxy '*' -u "admin:$password" -o /dev/null -w '%{http_code}\n' http://localhost:3000/api/gnet/plugins >"$work/said"
	says 502
	docker logs "$(container_of grafana)" 2>&1 | grep "Proxy request failed" >"$work/said"
	says "dial tcp 127.0.0.1:9: connect: connection refused"
}

the_readme_resets_the_password() {
	model
	within 20 "that all is well" "$check" grafana
	# shellcheck disable=SC2016 # the marks are the README's
	command=$(sed -n 's/.*`\(docker compose [^`]*reset-admin-password [^`]*\)`.*/\1/p' "$root/README.md")
	[ -n "$command" ] || broken "the README has no such line"
	(cd "$lab" && works sh -c "$command") || exit
	fails "the password in stack/.env works" "$check" grafana
	echo "GRAFANA_PASSWORD=${command##* }" | (umask 077 && cat >"$lab/stack/.env")
	works "$check" grafana
}

down_with_volumes_leaves_nothing() {
	works "$down" --volumes
	[ -z "$(docker ps -aq --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)" ] || broken "a container is left"
	[ -z "$(docker volume ls -q --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)" ] || broken "a volume is left"
	for port in 9090 9093 1025 8025 3000; do
		! listens $port || broken "port $port still listens"
	done
	[ ! -e "$lab/stack/.env" ] || broken "stack/.env is left"
}

a_password_of_the_user_stays() {
	(umask 077 && echo "GRAFANA_PASSWORD=of-the-user" >"$lab/stack/.env")
	works "$up" mailpit
	[ "$(cat "$lab/stack/.env")" = "GRAFANA_PASSWORD=of-the-user" ] || broken "stack/.env is another"
	works "$down" --volumes
}

step "what it needs" can_run
find_services
make_lab
step "without Docker, an engine, Compose or permission, up.sh says so in one line" what_docker_lacks_is_said
step "a taken port is named, with what holds it" a_taken_port_is_named
step "a file that the containers may not read is named" an_unreadable_file_is_named
step "where Docker's host network is not this machine's, up.sh says so" another_network_is_named
step "a start that is interrupted leaves no container" an_interrupted_start_leaves_nothing
step "check.sh with nothing running fails and says what to do" nothing_runs
step "model, up.sh, check.sh" it_comes_up
step "all listens on the loopback address alone, and no cluster port" it_listens_here_alone
step "each container is bounded: no capabilities, no new privileges, restarts, short logs, memory and processes, a read-only root" containers_are_bounded
step "a stack of the same name from another folder is left alone" another_folder_is_refused
step "up.sh again does no harm" up_again_does_no_harm
step "a result above 0.9 is mailed, and its end; in words" a_high_result_is_mailed
step "a result that is high for one refresh sends its notification within 10 s" a_short_high_result_is_mailed
step "down.sh and up.sh: the samples and the mail of before are still there" data_outlives_down
step "the model killed: check.sh says what to do, ModelMockDown fires and is mailed" a_dead_model_is_mailed
step "Prometheus killed in mid-write: the engine starts it again, and nothing before it is lost" prometheus_outlives_a_kill
step "a rule that changed is applied by up.sh" a_changed_rule_is_applied
step "a broken rule file: up.sh fails and shows why, whether Prometheus runs or not" a_broken_rule_is_shown
step "check.sh tells which rule or setting is not loaded, however it is written" what_is_not_loaded_is_told
step "check.sh tells of a target file that is no YAML, and forgets targets that are gone" targets_are_told
step "the threshold is read from the rule, with >=, a comment and other rules around" the_threshold_is_found
step "check.sh --alert tells of a silence, though an older mail is there" a_silence_is_told
step "check.sh --alert tells what to do where Alertmanager remembers the alert" a_remembered_alert_is_told
step "check.sh waits by the clock, and not for what is not there" no_check_waits_in_vain
case " $services " in
*" grafana "*)
	step "check.sh --own tells what a dashboard of one's own lacks, and where to set it" a_dashboard_of_ones_own_is_found
	step "Grafana asks nobody for the list of plugins" grafana_asks_nobody
	step "the README's line for a forgotten password works as it stands" the_readme_resets_the_password
	;;
esac
step "down.sh --volumes leaves nothing: no container, no volume, no port, no password" down_with_volumes_leaves_nothing
step "check.sh tells that no notification was sent, that one failed, and that the next arrived" notifications_are_told
step "a .env that stands is not changed" a_password_of_the_user_stays
