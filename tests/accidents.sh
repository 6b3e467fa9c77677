# shellcheck shell=sh disable=SC2154
# Accidents on other machines. Most are told by a docker that does not do what it should: a stand-in
# on the path that keeps what it was asked, so that these tests take no engine and no time.

mkdir -p "$work/bin" "$work/lab"
cp -R "$root/scripts" "$root/stack" "$work/lab"
rm -f "$work/lab/stack/.env" "$work/lab/stack/".applied-*
chmod -R a+rX "$work"
cat >"$work/bin/docker" <<'EOF'
#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
version*)
	[ "$ACCIDENT" != words ] || { echo "$WORDS" >&2 && exit 1; }
	echo 20.10 ;;
"compose version"*) echo 2.40.3 ;;
"ps -a --filter"*) [ "$ACCIDENT" != folder ] || echo /home/other/lab/stack ;;
"image inspect"*) [ "$ACCIDENT" != pull ] && [ "$ACCIDENT" != hang ] ;;
pull*)
	[ "$ACCIDENT" != hang ] || exec sleep 300
	echo "$WORDS" >&2
	exit 1 ;;
"volume inspect"*) exit 1 ;;
"info"*) echo "$WORDS" ;;
"compose"*"ps -q"* | "compose"*"ps -aq"*) echo 0123 ;;
"inspect"*Healthcheck*) printf 'CMD\ntrue\n' ;;
"inspect"*) echo running ;;
esac
EOF
# Nothing listens on this machine.
printf '#!/bin/sh\nexit 7\n' >"$work/bin/curl"
chmod +x "$work/bin/docker" "$work/bin/curl"
export CALLS="$work/calls"

# accident KIND WORDS SCRIPT ARGUMENT...: how it ends where the stand-in does what the kind says.
accident() {
	: >"$CALLS"
	kind=$1
	said_by_docker=$2
	script=$work/lab/scripts/$3
	shift 3
	env PATH="$work/bin:$PATH" ACCIDENT="$kind" WORDS="$said_by_docker" "$script" "$@"
}

# start_accident KIND WORDS SERVICE: up.sh in the background; sets $pid to its own.
start_accident() {
	: >"$CALLS"
	: >"$work/said"
	start env PATH="$work/bin:$PATH" ACCIDENT="$1" WORDS="$2" "$work/lab/scripts/up.sh" "$3" >"$work/said" 2>&1
}

# started: whether the stand-in was asked to start anything.
started() {
	grep -q ' up ' "$CALLS"
}

an_image_that_cannot_be_had() {
	while IFS='|' read -r words todo; do
		fails "$todo" accident pull "$words" up.sh prometheus
		says "prom/prometheus"
		[ "$(grep -c '^up.sh: ' "$work/said")" -eq 1 ] || broken "one line says why"
		! started || broken "something was started"
	done <<-'EOF'
		Error response from daemon: manifest for prom/prometheus:v0 not found: manifest unknown: manifest unknown|no such version
		Error response from daemon: Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host|is this machine online?
		Error response from daemon: toomanyrequests: You have reached your pull rate limit.|registry's limit
		write /var/lib/docker/tmp/GetImageBlob1: no space left on device|the disk is full
	EOF
}

a_registry_that_hangs() {
	start_accident hang "" prometheus
	# It is given a minute.
	within 75 "the line that says so" grep -q "its registry does not answer" "$work/said"
	! started || broken "something was started"
}

a_pull_that_is_interrupted() {
	start_accident hang "" prometheus
	within 5 "the pull" grep -q '^pull' "$CALLS"
	stop "$pid"
	says "interrupted"
	! pgrep -f "^sleep 300$" >/dev/null 2>&1 || broken "the pull goes on"
}

words_of_docker() {
	while IFS='|' read -r words said; do
		fails "$said" accident words "$words" up.sh prometheus
		one_line
	done <<-'EOF'
		Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?|engine is not running
		Error response from daemon: client version 1.52 is too new. Maximum supported API version is 1.41|client version 1.52 is too new
		Failed to initialize: unable to resolve docker endpoint: context "school": context not found|context not found
		error during connect: Get "http://docker.example/v1.41/version": command [ssh -- lab docker system dial-stdio] has exited with exit status 255|exit status 255
	EOF
}

another_folders_stack() {
	fails "/home/other/lab/stack" accident folder "" up.sh prometheus
	one_line
	! started || broken "something was started"
	fails "/home/other/lab/stack" accident folder "" down.sh --volumes
	! grep -q ' down ' "$CALLS" || broken "something was stopped"
}

another_network() {
	while IFS='|' read -r words said; do
		start_accident "" "$words" alertmanager
		within 20 "the end" has_ended "$pid"
		says "$said"
	done <<-'EOF'
		Docker Desktop docker-desktop [name=seccomp,profile=unconfined name=cgroupns]|Enable host networking
		Debian GNU/Linux 13 (trixie) laptop [name=seccomp,profile=builtin name=rootless name=cgroupns]|runs rootless
		Ubuntu 24.04.3 LTS colima [name=apparmor name=seccomp,profile=builtin]|Colima
	EOF
}

passwords_that_read_differently() {
	env_file=$work/lab/stack/.env
	while read -r line; do
		printf '%b' "$line" >"$env_file"
		fails "$env_file must have one line" accident "" "" up.sh prometheus
		one_line
		! started || broken "something was started"
		[ "$(printf '%b' "$line" | cksum)" = "$(cksum <"$env_file")" ] || broken "the file was changed"
		works accident "" "" down.sh
	done <<-'EOF'

		GRAFANA_PASS
		GRAFANA_PASSWORD=\n
		GRAFANA_PASSWORD="of the user"\n
		GRAFANA_PASSWORD='secret'\n
		GRAFANA_PASSWORD=pa$$word\n
		GRAFANA_PASSWORD=secret # of the lab\n
		GRAFANA_PASSWORD=secret\r\n
		GRAFANA_PASSWORD=secret\nGRAFANA_PASSWORD=another\n
		GRAFANA_PASSWORD=one\n
	EOF
}

# What is let through is the same to Compose, which students ask, too, as in docker compose logs.
passwords_that_read_alike() {
	docker compose version >/dev/null 2>&1 || lacks "there is no docker compose: install Docker (the README says how)"
	env_file=$work/lab/stack/.env
	for given in secret 0123456789abcdef 'a_b.c,d:e@f+g=h/i~j^k-l'; do
		printf '# of the lab\n\nGRAFANA_PASSWORD=%s\n' "$given" >"$env_file"
		read_password
		[ "$password" = "$given" ] || broken "the scripts read $password, not $given"
		read_by_compose=$(unset GRAFANA_PASSWORD && docker compose -f "$work/lab/stack/compose.yaml" config | sed -n 's/.*GF_SECURITY_ADMIN_PASSWORD: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p')
		[ "$read_by_compose" = "$given" ] || broken "Compose reads $read_by_compose, not $given"
		exported=$(export GRAFANA_PASSWORD=exported && compose config | grep GF_SECURITY_ADMIN_PASSWORD)
		case $exported in
		*"$given"*) ;;
		*) broken "what is exported is used: $exported" ;;
		esac
	done
}

a_full_disk() {
	rm -f "$work/lab/stack/.env"
	! (ulimit -f 0 && accident "" "" up.sh prometheus) >/dev/null 2>"$work/stderr" || broken "it did not notice"
	[ -z "$(find "$work/lab/stack" -name '.env*')" ] || broken "half a file is left"
}

line_ends_of_windows() {
	git -C "$root" rev-parse HEAD >/dev/null 2>&1 || lacks "a clone needs a git checkout"
	works git -c core.autocrlf=true clone --quiet "$root" "$work/clone"
	works "$work/clone/scripts/up.sh" -h
	! grep -rIlq "$(printf '\r')" "$work/clone/scripts" "$work/clone/stack" || broken "a file has lines that end in CRLF"
}

# Each shell that may be a machine's sh.
shells() {
	tried=
	while read -r shell; do
		# shellcheck disable=SC2086 # a command and its argument
		command -v ${shell%% *} >/dev/null || continue
		tried="$tried, $shell"
		(
			cd "$work" || exit
			export CDPATH="$work"
			# shellcheck disable=SC2086
			works $shell "lab/scripts/up.sh" -h
			says "up.sh [SERVICE...]"
			# shellcheck disable=SC2086
			fails "/home/other/lab/stack" env ACCIDENT=folder WORDS= PATH="$work/bin:$PATH" $shell "lab/scripts/up.sh" prometheus
			one_line
		) || exit
	done <<-EOF
		sh
		dash
		bash --posix
		busybox sh
		zsh --emulate sh
	EOF
	echo "measured: shells: ${tried#, }"
}

run "an image that cannot be had: which, why, and nothing is started" an_image_that_cannot_be_had
run "a pull that is interrupted" a_pull_that_is_interrupted
run "Docker's own words are told apart" words_of_docker
run "a stack of the same name from another folder" another_folders_stack
run "an engine whose host network is not this machine's" another_network
run "passwords that Compose reads differently are refused" passwords_that_read_differently
run "passwords that are taken are the same to Compose" passwords_that_read_alike
run "a full disk leaves no half file" a_full_disk
run "git for Windows changes no line's end" line_ends_of_windows
run "every sh, with CDPATH" shells
run "a registry that hangs" a_registry_that_hangs
