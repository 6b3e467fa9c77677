#!/bin/sh
# test.sh: all tests: the code, what it costs, the real tools, and a student's way through the stack.
#
# What a machine lacks is skipped, aloud, with how to get it; with CI=true a skip is a failure, apart
# from what cannot be had without an image registry. It ends with a count.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

take_no_argument "$@"
cd "$root" || exit
stack=$root/stack
passed=0
failed=0
skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# run NAME COMMAND...: one test. What it measures is shown; where it fails, all that it said.
run() {
	name=$1
	shift
	begun=$(date +%s)
	"$@" >"$work/output" 2>&1 </dev/null
	code=$?
	took=$(($(date +%s) - begun))
	if [ $code -eq 3 ]; then
		skip "$name" "$(tail -n 1 "$work/output")"
	elif [ $code -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok    $name ($took s)"
		grep -Eo '^  .*|^ok .*|measured: .*' "$work/output" | sed 's/^/      /'
		while read -r left_out; do
			[ -n "$left_out" ] || continue
			skipped=$((skipped + 1))
			echo "skip  $left_out"
		done <<-EOF
			$(sed -n 's/.*left out: //p' "$work/output")
		EOF
	else
		failed=$((failed + 1))
		echo "FAIL  $name ($took s); it said:"
		tail -n 60 "$work/output" | sed 's/^/      /'
	fi
}

# skip NAME WHY
skip() {
	if [ "${CI-}" = true ]; then
		failed=$((failed + 1))
		echo "FAIL  $1: skipped, which CI may not: $2"
	else
		skipped=$((skipped + 1))
		echo "skip  $1: $2"
	fi
}

# tool IMAGE TOOL ARGUMENT...: promtool or amtool out of the image that the stack uses, or this
# machine's own; code 3 where there is neither.
tool() {
	image=$(image "prom/$1")
	tool=$2
	shift 2
	if has_image "$image"; then
		docker run --rm -i --network none --user 0 -v "$stack:/stack:ro" -w /stack --entrypoint "/bin/$tool" "$image" "$@"
	elif command -v "$tool" >/dev/null; then
		(cd "$stack" && "$tool" "$@")
	else
		echo "there is no $tool: install Docker (the README says how), or the package that has $tool"
		return 3
	fi
}

# start_exporter ARGUMENT...: sets $exporter and $address.
start_exporter() {
	target/release/modelmock --listen 127.0.0.1:0 --quiet "$@" >"$work/first" &
	exporter=$!
	address=
	tries=0
	while [ -z "$address" ] && [ $tries -lt 50 ]; do
		sleep 0.1
		address=$(sed -n 's|.*http://\([^/]*\)/.*|\1|p' "$work/first")
		tries=$((tries + 1))
	done
	[ -n "$address" ]
}

# at_most LIMIT FIGURE WHAT
at_most() {
	echo "measured: $3: $2, at most $1"
	awk "BEGIN { exit !($2 <= $1) }"
}

cost_of_the_build() {
	crates=$(cargo tree --edges normal,build --prefix none --format '{p}' | awk '{ print $1, $2 }' | sort -u | grep -c .)
	at_most 14 "$crates" "crates that a clean build compiles" || return
	at_most 800000 "$(wc -c <target/release/modelmock | tr -d ' ')" "bytes of target/release/modelmock" || return
	packages=$(cargo tree --edges normal --depth 1 --prefix none --format '{p}' | awk 'NR > 1 { print $1 }' | sort | tr '\n' ' ')
	echo "measured: run-time packages: $packages"
	[ "$packages" = "ctrlc fastrand tiny_http " ]
}

resident_memory() {
	[ -d /proc/self ] || {
		echo "resident memory is read from procfs, which only Linux has"
		return 3
	}
	start_exporter || return
	for _ in 1 2 3; do
		get -o /dev/null "http://$address/metrics" || return
	done
	sleep 6
	kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$exporter/status")
	kill "$exporter"
	at_most 2.6 "$(awk "BEGIN { printf \"%.2f\", $kib / 1024 }")" "MiB of resident memory at rest"
}

page_is_clean() {
	start_exporter || return
	get "http://$address/metrics" >"$work/page"
	kill "$exporter"
	findings=$(tool prometheus promtool check metrics <"$work/page" 2>&1)
	code=$?
	echo "$findings"
	[ $code -eq 0 ] || return $code
	[ -z "$findings" ]
}

# A Prometheus scrapes the exporter and answers the query model_result with the value on the page.
prometheus_scrapes_it() {
	start_exporter --seed 1 --interval 86400 || return
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
		docker run --rm --name modelmock-test-scrape --network host -v "$work/prometheus:/etc/prometheus:ro" "$(image prom/prometheus)" \
			--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus "$listen" &
	elif command -v prometheus >/dev/null; then
		prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" "$listen" &
	else
		kill "$exporter"
		echo "there is no Prometheus: install Docker (the README says how), or Prometheus"
		return 3
	fi
	scraper=$!
	expected=$(get "http://$address/metrics" | awk '$1 == "model_result" { print $2 }')
	answer=
	tries=0
	while [ "$answer" != "$expected" ] && [ $tries -lt 30 ]; do
		sleep 1
		answer=$(query "http://127.0.0.1:$port" model_result)
		tries=$((tries + 1))
	done
	kill "$exporter"
	docker stop modelmock-test-scrape >/dev/null 2>&1 || kill $scraper
	echo "measured: the page says $expected, Prometheus answers $answer"
	[ -n "$answer" ] && [ "$answer" = "$expected" ]
}

# free_port: one that nothing listens on.
free_port() {
	port=19090
	while listens $port; do
		port=$((port + 1))
	done
	echo $port
}

shell_is_clean() {
	command -v shellcheck >/dev/null || {
		echo "there is no shellcheck: install the package shellcheck"
		return 3
	}
	shellcheck -x scripts/*.sh .ci/run
}

compose_file_is_valid() {
	docker compose version >/dev/null 2>&1 || {
		echo "there is no docker compose: install Docker (the README says how)"
		return 3
	}
	GRAFANA_PASSWORD=none docker compose -f stack/compose.yaml config --quiet
}

static_file() {
	[ "$(uname)" = Linux ] || {
		echo "a static file is made on Linux only"
		return 3
	}
	scripts/dist.sh || return
	at_most 1600000 "$(wc -c <"$(ls target/dist/modelmock-*)" | tr -d ' ')" "bytes of the static file"
}

# The configurations that the README shows, each in the place that its first line names.
configurations_of_the_readme() (
	stack=$work/readme
	mkdir -p "$stack/blocks"
	cp -R stack/prometheus "$stack/prometheus"
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
			tool alertmanager amtool check-config alertmanager.yml || return
			;;
		"# prometheus.yml"*)
			cat stack/prometheus/prometheus.yml "$block" >"$stack/prometheus/prometheus.yml"
			tool prometheus promtool check config prometheus/prometheus.yml || return
			;;
		"# targets/class.yml"*)
			cp "$block" "$stack/prometheus/targets/class.yml"
			tool prometheus promtool check config prometheus/prometheus.yml || return
			;;
		*)
			echo "nothing checks this block of the README"
			return 1
			;;
		esac
	done
	echo "measured: configurations checked: $checked"
)

help_of_each_script() {
	for script in scripts/*.sh; do
		[ "$script" = scripts/common.sh ] && continue
		"$script" -h | grep -q "^${script#scripts/}" || {
			echo "$script -h does not say what it does"
			return 1
		}
		"$script" --no-such-flag >/dev/null 2>&1
		[ $? -eq 2 ] || {
			echo "$script takes any flag"
			return 1
		}
	done
}

stack_way() {
	(require_docker) || return 3
	scripts/test-stack.sh
}

run "format" cargo fmt --check
run "clippy, warnings as errors" cargo clippy --quiet --all-targets -- -D warnings
run "release build" cargo build --release --locked
run "cargo test" cargo test --quiet --release --locked -- --nocapture
run "what the build costs" cost_of_the_build
run "resident memory" resident_memory
run "what a scrape costs, beside the Python mock" scripts/bench.sh --quick
run "shellcheck" shell_is_clean
run "-h of each script" help_of_each_script
run "promtool check metrics" page_is_clean
run "a real Prometheus scrapes the exporter" prometheus_scrapes_it
run "the static file" static_file
run "docker compose config" compose_file_is_valid
run "promtool check config" tool prometheus promtool check config prometheus/prometheus.yml
run "promtool test rules" tool prometheus promtool test rules prometheus/tests/model.yml
run "amtool check-config" tool alertmanager amtool check-config alertmanager/alertmanager.yml
run "the README's configurations" configurations_of_the_readme
run "a student's way through the stack" stack_way

echo
if [ $skipped -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ $failed -eq 0 ]
