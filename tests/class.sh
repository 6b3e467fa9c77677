# shellcheck shell=sh disable=SC2154
# A class on one Prometheus: the stack's own configuration, each service on a port that is free, and
# models as a class starts them. Every query of the dashboards is asked, and the mails are counted.

class=$work/class

# start_service NAME IMAGE URL ARGUMENT...: a container of the stack's image, until it answers there.
start_service() {
	service=$1
	image=$(image "$2")
	url=$3
	shift 3
	has_image "$image" || lacks "the image $image cannot be had: docker pull $image"
	start container --network host "$@" >"$work/$service.log" 2>&1
	within 60 "$service" get -o /dev/null "$url" 2>/dev/null
}

# start_services ADDRESS FILE: the stack for the model at the address, and for those that the target
# file lists. It takes the files of the stack, and changes in them nothing but ports.
start_services() {
	docker version >/dev/null 2>&1 || lacks "Docker's engine does not run here: install Docker (the README says how)"
	rm -rf "$class"
	mkdir -p "$class/mail"
	cp -R "$root/stack/prometheus" "$root/stack/alertmanager" "$class"
	cp "$2" "$class/prometheus/targets/class.yml"
	smtp=$(free_port 29090)
	inbox=$(free_port $((smtp + 1)))
	alerts=$(free_port $((inbox + 1)))
	metrics=$(free_port $((alerts + 1)))
	sed "s/localhost:9093/localhost:$alerts/; s/localhost:5000/$1/" "$root/stack/prometheus/prometheus.yml" >"$class/prometheus/prometheus.yml"
	sed "s/127.0.0.1:1025/127.0.0.1:$smtp/" "$root/stack/alertmanager/alertmanager.yml" >"$class/alertmanager/alertmanager.yml"
	chmod -R a+rX "$work"
	start_service Mailpit axllent/mailpit "http://127.0.0.1:$inbox/readyz" --tmpfs /tmp \
		-e MP_SMTP_BIND_ADDR="127.0.0.1:$smtp" -e MP_UI_BIND_ADDR="127.0.0.1:$inbox" -e MP_DISABLE_VERSION_CHECK=true \
		-e MP_DATABASE=/mail/all -v "$class/mail:/mail" "$(image axllent/mailpit)"
	start_service Alertmanager prom/alertmanager "http://127.0.0.1:$alerts/-/ready" \
		-v "$class/alertmanager:/etc/alertmanager:ro" "$(image prom/alertmanager)" --config.file=/etc/alertmanager/alertmanager.yml \
		--storage.path=/alertmanager --web.listen-address="127.0.0.1:$alerts" --cluster.listen-address=
	start_service Prometheus prom/prometheus "http://127.0.0.1:$metrics/-/ready" \
		-v "$class/prometheus:/etc/prometheus:ro" "$(image prom/prometheus)" --config.file=/etc/prometheus/prometheus.yml \
		--storage.tsdb.path=/prometheus --web.listen-address="127.0.0.1:$metrics"
}

# start_models COUNT: random ones; their addresses are in the file addresses, their processes in processes.
start_models() {
	: >"$work/processes"
	for n in $(seq "$1"); do
		start "$modelmock" --listen 127.0.0.1:0 --quiet --seed "$n" >"$work/model.$n"
		echo "$pid" >>"$work/processes"
	done
	within 10 "$1 models" all_models_listen "$1"
	for n in $(seq "$1"); do
		sed -n 's|.*http://\([^/]*\)/.*|\1|p' "$work/model.$n"
	done >"$work/addresses"
}

all_models_listen() {
	[ "$(cat "$work"/model.* | grep -c http://)" -eq "$1" ]
}

ask() {
	query "http://127.0.0.1:$metrics" "$1"
}

answers() {
	[ "$(ask "$1")" = "$2" ]
}

has_answer() {
	ask "$1" | grep -q .
}

# each_query_has_an_answer INSTANCE: of both dashboards, with all classes and that model chosen.
each_query_has_an_answer() {
	for dashboard in model class; do
		sed -n 's/^ *"expr": "\(.*\)",$/\1/p' "$root/stack/grafana/dashboards/$dashboard.json"
	done | sed 's/\\"/"/g; s/[$]instance/'"$1"'/g; s/[$]class/.*/g; s/[$]__range/15m/g' >"$work/queries"
	[ "$(grep -c . "$work/queries")" -ge 20 ] || broken "the dashboards' queries were not found"
	! grep -F '$' "$work/queries" || broken "a variable was not replaced"
	while read -r expression; do
		within 30 "an answer to $expression" has_answer "$expression"
	done <"$work/queries"
	echo "measured: queries asked: $(grep -c . "$work/queries")"
}

one_model_is_shown() {
	start_model --value 0.5
	echo '[]' >"$work/none.yml"
	start_services "$address" "$work/none.yml"
	within 20 "the model is up" answers 'sum(up)' 1
	each_query_has_an_answer "$address"
	answers 'count(ALERTS) or vector(0)' 0 || broken "an alert is active"
}

# mailed TEXT: how many mails there are whose subject begins so.
mailed() {
	mails "http://127.0.0.1:$inbox" "$1" | grep -c .
}

# is_mailed ADDRESS: whether a mail of ModelMockDown lists it.
is_mailed() {
	for id in $(mails "http://127.0.0.1:$inbox" "FIRING ModelMockDown in class class: "); do
		get "http://127.0.0.1:$inbox/api/v1/message/$id" 2>/dev/null | grep -qF "ModelMockDown at $1 is firing" && return
	done
	# What stands in for Mailpit where there is no registry keeps its mails as plain text.
	grep -aqs "ModelMockDown at $1 is firing" "$class/mail/all"
}

# kill_model N: the Nth, until it is mailed that it is down.
kill_model() {
	killed=$(sed -n "$1p" "$work/addresses")
	kill "$(sed -n "$1p" "$work/processes")"
	within 45 "ModelMockDown of $killed" has_answer "ALERTS{alertname=\"ModelMockDown\", instance=\"$killed\", alertstate=\"firing\"}"
	fired=$(date +%s)
	within 60 "the mail of $killed" is_mailed "$killed"
	echo "measured: seconds from the alert of model $1 to its mail: $(($(date +%s) - fired)), at most 60"
}

a_class_is_shown_and_mailed_together() {
	start_models 30
	# The class is not named: the file's name is it.
	awk '{ print "- targets: [\"" $0 "\"]" }' "$work/addresses" >"$work/class.yml"
	start_services 127.0.0.1:9 "$work/class.yml"
	begun=$(date +%s)
	# One of no class is down all the time, and has a mail of its own.
	within 30 "30 models are up" answers 'sum(up{class="class"})' 30
	kill_model 1
	each_query_has_an_answer "$(sed -n 2p "$work/addresses")"
	# The second that dies does not wait for five minutes.
	kill_model 2
	within 20 "who was down, on the dashboard" answers "count($(grep 'min_over\|bottomk' "$work/queries"))" 3
	while [ $(($(date +%s) - begun)) -lt 120 ]; do
		sleep 1
	done
	get "http://127.0.0.1:$inbox/api/v1/messages" | sed 's/"Subject":"/\
/g' | sed -n '2,$s/",".*//p' >"$work/said"
	cat "$work/said"
	at_most 8 "$(mailed "")" "mails in the first two minutes of 30 random models"
	grep -q "^FIRING ModelMockDown at 127.0.0.1:9 since [0-9:]* UTC: Prometheus cannot scrape the model (up is 0)" "$work/said" || broken "the one of no class has no mail"
	grep -q "^FIRING ModelResultHigh in class class: [0-9]* firing" "$work/said" || broken "no mail lists the high results"
}

# state_of ALERT CLASS: what Alertmanager says of it.
state_of() {
	get --get --data-urlencode "filter=alertname=\"$1\"" --data-urlencode "filter=class=\"$2\"" \
		"http://127.0.0.1:$alerts/api/v2/alerts" | sed 's/.*"state":"\([a-z]*\)".*/\1/'
}

is_in_state() {
	[ "$(state_of "$2" "$3")" = "$1" ]
}

a_dead_model_has_no_high_result() {
	echo '[]' >"$work/none.yml"
	start_services 127.0.0.1:9 "$work/none.yml"
	for name in ModelMockDown ModelResultHigh; do
		for labels in '' ', "class": "monitoring-a"'; do
			works get -H 'Content-Type: application/json' -d '[{"labels": {"alertname": "'"$name"'", "instance": "localhost:5001"'"$labels"'}}]' \
				"http://127.0.0.1:$alerts/api/v2/alerts"
		done
	done
	within 10 "ModelResultHigh is inhibited in a class" is_in_state suppressed ModelResultHigh monitoring-a
	is_in_state active ModelMockDown monitoring-a || broken "ModelMockDown is not active"
	is_in_state active ModelResultHigh "" || broken "ModelResultHigh of one model is not active"
}

run "a class: every query of both dashboards has an answer with one model" one_model_is_shown
run "a class: of a model that is gone the latest result is no news" a_dead_model_has_no_high_result
run "a class: every query has an answer with 30 models, which are mailed together, and who dies within a minute" a_class_is_shown_and_mailed_together
