#!/bin/sh
# test-stack.sh: a student's way through the stack on a real engine, and the wrong ways.
#
# It works on a copy of stack/ and scripts/ under a Compose project name of its own, so it touches no
# stack that runs. It needs the stack's ports and port 5000; where one is taken it ends with code 3.
# Services whose image cannot be had are left out, and it says which.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
modelmock=$root/target/release/modelmock
COMPOSE_PROJECT_NAME="modelmock-test"
export COMPOSE_PROJECT_NAME

take_no_argument "$@"
require_docker
[ -x "$modelmock" ] || die "there is no $modelmock: cargo build --release"
for port in 5000 9090 9093 9094 1025 8025 3000; do
	if listens $port; then
		echo "port $port is taken: stop what uses it (a stack of yours: scripts/down.sh), then test again"
		exit 3
	fi
done

services=
for image in $(image ".*"); do
	service=${image##*/}
	service=${service%%:*}
	if has_image "$image"; then
		services="$services $service"
	else
		echo "left out: $service, as its image $image cannot be had here"
	fi
done
services=${services# }
for service in prometheus alertmanager mailpit; do
	case " $services " in
	*" $service "*) ;;
	*)
		echo "without the image of $service there is no way through: docker compose -f stack/compose.yaml pull"
		exit 3
		;;
	esac
done

work=$(mktemp -d)
lab=$work/lab
output=$work/output
exporter=
mkdir "$lab" "$lab/stack"
cp -R "$root/scripts" "$lab/scripts"
(cd "$root/stack" && tar -cf - --exclude=./.env --exclude='./.applied-*' .) | (cd "$lab/stack" && tar -xf -)
chmod -R a+rX "$work"

stop_model() {
	[ -z "$exporter" ] || kill "$exporter" 2>/dev/null
	[ -z "$exporter" ] || wait "$exporter" 2>/dev/null
	exporter=
}

clean_up() {
	stop_model
	GRAFANA_PASSWORD=none docker compose -f "$lab/stack/compose.yaml" down --volumes >/dev/null 2>&1
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

step() {
	printf '  %s\n' "$*"
}

broken() {
	printf 'not as it should be: %s\n' "$*"
	[ ! -s "$output" ] || tail -n 40 "$output"
	get http://localhost:8025/api/v1/messages 2>/dev/null | grep -o '"Subject":"[^"]*"'
	exit 1
}

# works COMMAND...
works() {
	"$@" >"$output" 2>&1 || broken "$* ended with code $?"
}

# fails WORDS COMMAND...: it ends with code 1 and says the words.
fails() {
	words=$1
	shift
	"$@" >"$output" 2>&1
	code=$?
	[ $code -eq 1 ] || broken "$* ended with code $code, not 1"
	says "$words"
}

# says WORDS: what ran last did.
says() {
	grep -qF -- "$1" "$output" || broken "these words are missing: $1"
}

# one_line: what ran last said one line.
one_line() {
	[ "$(grep -c . "$output")" -eq 1 ] || broken "it should be one line"
}

# within SECONDS WHAT COMMAND...
within() {
	limit=$1
	what=$2
	shift 2
	waited=0
	until "$@"; do
		[ $waited -lt "$limit" ] || broken "$what: not within $limit s"
		sleep 1
		waited=$((waited + 1))
	done
}

start_model() {
	stop_model
	"$modelmock" --quiet "$@" >/dev/null &
	exporter=$!
	within 5 "the exporter answers" get -o /dev/null http://localhost:5000/metrics
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

container() {
	docker compose -f "$lab/stack/compose.yaml" ps -aq "$1"
}

up=$lab/scripts/up.sh
down=$lab/scripts/down.sh
check=$lab/scripts/check.sh
rules=$lab/stack/prometheus/rules/model.yml

step "without Docker, an engine, Compose or permission, up.sh says so in one line"
mkdir "$work/bin"
for tool in sh dirname sed id; do
	ln -s "$(command -v $tool)" "$work/bin/$tool"
done
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
"$up" nonsense >"$output" 2>&1
[ $? -eq 2 ] || broken "an unknown service is wrong usage"
says "there is no service 'nonsense'"

step "a taken port is named, with what holds it"
"$modelmock" --listen 127.0.0.1:9093 --quiet >/dev/null &
exporter=$!
within 5 "the port is taken" listens 9093
fails "port 9093" "$up" alertmanager
says "alertmanager"
command -v lsof >/dev/null || command -v ss >/dev/null && says "modelmock"
stop_model

step "a file that the containers may not read is named"
chmod go-r "$rules"
fails "$rules" "$up" prometheus
chmod go+r "$rules"

step "check.sh with nothing running fails and says what to do"
fails "cargo run --release" "$check" exporter prometheus
says "scripts/up.sh prometheus"

step "model, up.sh, check.sh"
# The first two results of this seed are above 0.9: an alert fires while all starts.
start_model --seed 3
# shellcheck disable=SC2086 # the names are words
works "$up" $services
says "http://localhost:9090"
[ "$(find "$lab/stack/.env" -perm 600)" ] || broken "stack/.env is not of mode 600"
password=$(cat "$lab/stack/.env")
within 20 "the target is up" answers 'count(up{job="model_mock"} == 1)' 1
# shellcheck disable=SC2086
works "$check" exporter $services
cat "$output"

step "all listens on the loopback address alone, and no cluster port"
if command -v ss >/dev/null; then
	ss -ltnH >"$output"
	for port in 9090 9093 8025 1025 3000; do
		! awk '{ print $4 }' "$output" | grep ":$port\$" | grep -qv '^127\.0\.0\.1:' || broken "port $port"
	done
fi
! listens 9094 || broken "port 9094 listens"

step "each container is bounded: no capabilities, no new privileges, restarts, short logs, a health check"
for service in $services; do
	docker inspect -f '{{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.RestartPolicy.Name}} {{index .HostConfig.LogConfig.Config "max-size"}} {{.State.Health.Status}}' "$(container "$service")" >"$output"
	says "[ALL] [no-new-privileges:true] unless-stopped 1m healthy"
done

step "up.sh again does no harm"
before=$(container prometheus)
# shellcheck disable=SC2086
works "$up" $services
[ "$(container prometheus)" = "$before" ] || broken "Prometheus' container is another"
[ "$(cat "$lab/stack/.env")" = "$password" ] || broken "stack/.env is another"

step "every query of the dashboard has an answer when all is well"
sed -n 's/^ *"expr": "\(.*\)",$/\1/p' "$lab/stack/grafana/dashboards/model.json" | sed 's/\\"/"/g; s/[$]instance/.*/g' >"$work/queries"
[ "$(grep -c . "$work/queries")" -ge 10 ] || broken "the dashboard's queries were not found"
while read -r expression; do
	has_answer() {
		ask "$expression" | grep -q .
	}
	within 30 "an answer to $expression" has_answer
done <"$work/queries"

start_model --value 0.5
no_alert() {
	get http://localhost:9090/api/v1/alerts 2>/dev/null | grep -qF '"alerts":[]'
}
within 30 "no alert" no_alert
all_resolved() {
	[ "$(mailed "FIRING ModelResultHigh")" = "$(mailed "RESOLVED ModelResultHigh")" ]
}
within 10 "the mail of the end of each alert" all_resolved

step "a result held at 0.95 until the mail is in; it says what happened in words"
start_model --value 0.95
works "$check" --alert
cat "$output"
within 10 "Prometheus has the page's value" answers model_result 0.95
get http://localhost:8025/api/v1/messages >"$output"
says 'FIRING ModelResultHigh at localhost:5000: the result of the model is 0.95, above 0.9'

step "when it is over there is one mail more"
start_model --value 0.5
within 45 "the mail of the end" all_resolved

step "a result that is high for one refresh sends its notification within 10 s"
count=$(mailed "FIRING ModelResultHigh")
start_model --value 0.95
sleep 5
start_model --value 0.5
within 5 "its mail" has_mail "FIRING ModelResultHigh" $((count + 1))

step "down.sh and up.sh: the samples and the mail of before are still there"
samples=$(ask 'count_over_time(model_result[1h])')
works "$down"
! listens 9090 || broken "Prometheus still listens"
# shellcheck disable=SC2086
works "$up" $services
within 20 "a sample more" answers "count_over_time(model_result[1h]) > bool $samples" 1
has_mail "FIRING ModelResultHigh" $((count + 1)) || broken "the mail is gone"
[ "$(cat "$lab/stack/.env")" = "$password" ] || broken "stack/.env is another"

step "the model killed: check.sh says what to do, ModelMockDown fires and is mailed"
kill -9 "$exporter"
wait "$exporter" 2>/dev/null
exporter=
within 20 "the target is down" answers 'up{job="model_mock"}' 0
fails "cargo run --release" "$check" exporter prometheus
says "connection refused"
within 45 "its mail" has_mail "FIRING ModelMockDown"
start_model
within 45 "the mail of its end" has_mail "RESOLVED ModelMockDown"

step "Prometheus killed in mid-write: the engine starts it again, and nothing before it is lost"
moment=$(date +%s)
samples=$(ask "count_over_time(model_result[1h] @ $moment)")
pid=$(docker inspect -f '{{.State.Pid}}' "$(container prometheus)")
works docker run --rm --user 0 --pid host --entrypoint /bin/sh "$(image prom/prometheus)" -c "kill -9 $pid"
started_again() {
	[ "$(docker inspect -f '{{.RestartCount}} {{.State.Health.Status}}' "$(container prometheus)")" = "1 healthy" ]
}
within 60 "Prometheus runs again" started_again
within 10 "all $samples samples" answers "count_over_time(model_result[1h] @ $moment)" "$samples"

step "a rule that changed is applied by up.sh"
sed -i.before 's/above 0\.9"/above nine tenths"/' "$rules"
works "$up" prometheus
get 'http://localhost:9090/api/v1/rules' >"$output"
says "above nine tenths"

step "a broken rule file: up.sh fails and shows why, whether Prometheus runs or not"
cp "$rules" "$work/rules"
echo '      - alert: [' >>"$rules"
fails "does not take its configuration" "$up" prometheus
says "rules/model.yml"
works docker compose -f "$lab/stack/compose.yaml" --env-file "$lab/stack/.env" stop prometheus
fails "does not run" "$up" prometheus
says "rules/model.yml"
cp "$work/rules" "$rules"
works "$up" prometheus

step "down.sh --volumes leaves nothing: no container, no volume, no port, no password"
works "$down" --volumes
[ -z "$(docker ps -aq --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)" ] || broken "a container is left"
[ -z "$(docker volume ls -q --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)" ] || broken "a volume is left"
for port in 9090 9093 1025 8025 3000; do
	! listens $port || broken "port $port still listens"
done
[ ! -e "$lab/stack/.env" ] || broken "stack/.env is left"

step "a .env that stands is not changed"
(umask 077 && echo "GRAFANA_PASSWORD=of-the-user" >"$lab/stack/.env")
works "$up" mailpit
[ "$(cat "$lab/stack/.env")" = "GRAFANA_PASSWORD=of-the-user" ] || broken "stack/.env is another"
works "$down" --volumes
echo "the way through the stack went well with: $services"
