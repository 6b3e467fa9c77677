# shellcheck shell=sh disable=SC2154
# The kit, as a class gets it: made here, unpacked elsewhere, loaded into a second engine that has
# nothing, in a network where nothing else is. The steps build on each other.

COMPOSE_PROJECT_NAME="modelmock-kit"
export COMPOSE_PROJECT_NAME
class="$work/a class"
socket=$work/engine.sock
services="prometheus alertmanager mailpit"

# step NAME FUNCTION: where it fails there is no sense in going on.
step() {
	run "the kit: $1" "$2" || exit
}

# in_class COMMAND...: where there is the second engine, no network and no Rust.
in_class() {
	"$work/in_class" "$@"
}

# unpack: the kit, as it was made.
unpack() {
	rm -rf "$class"
	mkdir "$class"
	tar -C "$class" -xf "$work/kit.tar"
}

can_run() {
	(require_docker) || exit 3
	[ "$(id -u) $(uname)" = "0 Linux" ] || lacks "only root may start a second engine, and only on Linux: sudo -E scripts/test.sh kit"
	for tool in dockerd ip nsenter unshare; do
		command -v $tool >/dev/null || lacks "there is no $tool to start a second engine with: install Docker Engine, iproute2 and util-linux"
	done
	! PATH=$without_rust command -v cargo >/dev/null || lacks "Rust lies in a folder that also has the shell's tools"
	for service in $services; do
		has_image "$(image ".*/$service")" || lacks "the image $(image ".*/$service") cannot be had here: docker pull it"
	done
}

an_interrupted_kit_is_none() {
	# The exporter is packed first, and Prometheus takes some seconds.
	start scripts/kit.sh prometheus >"$work/said" 2>&1
	within 120 "the first image" grep -q "packed" "$work/said"
	stop "$pid"
	[ -z "$(ls -A target/kit)" ] || broken "it leaves $(ls -A target/kit)"
}

it_is_made() {
	# shellcheck disable=SC2086 # the names are words
	works scripts/kit.sh $services
	made=$(sed -n 's|^\(target/kit/modelmock-lab-.*-linux-.*\.tar\)$|\1|p' "$work/said")
	says "SHA-256 $(sha256 "$made" | cut -d' ' -f1)"
	says "$(wc -c <"$made" | tr -d ' ') bytes"
	says "It lacks grafana"
	echo "measured: $(grep ' bytes ' "$work/said") without Grafana"
	mv "$made" "$work/kit.tar"
	[ -z "$(ls -A target/kit)" ] || broken "it leaves $(ls -A target/kit)"
	unpack
	cd "$class"/* || exit
	[ ! -e stack/.env ] || broken "stack/.env is in it"
	while read -r sum file; do
		[ "$(sha256 "$file")" = "$sum  $file" ] || broken "the sum of $file is another"
	done <sums
	[ "$(find . -type f ! -name sums | grep -c .)" = "$(grep -c . sums)" ] || broken "files without a sum"
	! grep -rn "cargo run --release" README.md stack || broken "it tells students to use cargo"
	grep -q "Start it with: ./modelmock" stack/prometheus/rules/model.yml || broken "the alert does not say how to start the model"
}

# On a disk in memory, as small as a test wants it.
start_engine() {
	mkdir "$work/disk"
	mount -t tmpfs -o size=100m none "$work/disk"
	at_the_end "umount '$work/disk'"
	# Not by start, as it outlives this test.
	unshare --net sh -c "ip link set lo up; exec dockerd -H 'unix://$socket' --data-root '$work/disk/docker' \
		--exec-root '$work/exec' --pidfile '$work/engine.pid' --iptables=false --bridge=none" >"$work/engine.log" 2>&1 &
	within 30 "the second engine" docker -H "unix://$socket" version
	[ -z "$(docker -H "unix://$socket" image ls -q)" ] || broken "it has images"
	# One process, so that a test that starts something there can stop it.
	cat >"$work/in_class" <<-END
		#!/bin/sh
		exec nsenter --net=/proc/$(cat "$work/engine.pid")/ns/net env DOCKER_HOST="unix://$socket" PATH="$without_rust" "\$@"
	END
	chmod +x "$work/in_class"
}

# holds_nothing: no image and no container came of what was refused.
holds_nothing() {
	[ -z "$(in_class docker image ls -q)$(in_class docker ps -aq)" ] || broken "something is half done"
}

what_cannot_work_is_said_first() {
	cd "$class"/* || exit
	mkdir "$work/stick" "$work/bin"
	mount --bind . "$work/stick" && mount -o remount,bind,noexec "$work/stick"
	fails "is mounted without that right" in_class sh "$work/stick/scripts/up.sh" mailpit
	one_line
	umount "$work/stick"

	cat >"$work/bin/docker" <<-END
		#!/bin/sh
		case "\$*" in
		*Server.Arch*) echo 19.03.15 amd64 ;;
		*) exec $(command -v docker) "\$@" ;;
		esac
	END
	chmod +x "$work/bin/docker"
	fails "engine is too old: it is 19.03.15" in_class env PATH="$work/bin:$without_rust" scripts/up.sh mailpit
	one_line

	sed -i.before 's/ amd64 / s390x /; s/ arm64 / s390x /' images/list
	fails "is for the processor s390x" in_class scripts/up.sh mailpit
	one_line
	mv images/list.before images/list

	fails "made without grafana" in_class scripts/up.sh
	one_line

	printf '\377' | dd of=images/mailpit.tar.gz bs=1 seek=0 conv=notrunc 2>/dev/null
	# shellcheck disable=SC2086
	fails "images/mailpit.tar.gz of the kit is damaged" in_class scripts/up.sh $services
	one_line
	unpack
	cd "$class"/* || exit
	# shellcheck disable=SC2086
	fails "too little disk" in_class scripts/up.sh $services
	says "$work/disk"
	one_line
	holds_nothing
	mount -o remount,size=1500m "$work/disk"
}

the_lab_passes() {
	cd "$class"/* || exit
	start "$work/in_class" ./modelmock --value 0.95 --quiet
	# shellcheck disable=SC2086
	works in_class scripts/up.sh $services
	for service in $services; do
		says "loading $(image ".*/$service")"
	done
	says_not "pulling"
	within 20 "the target is up" in_class scripts/check.sh prometheus >/dev/null
	# shellcheck disable=SC2086
	works in_class scripts/check.sh exporter $services
	works in_class scripts/check.sh --alert
	cat "$work/said"
}

the_next_step_is_without_rust() {
	cd "$class"/* || exit
	within 20 "the target is down" in_class sh -c "scripts/check.sh prometheus | grep -q 'connection refused'"
	fails "start the model: ./modelmock" in_class scripts/check.sh exporter prometheus
	says_not cargo
	works in_class scripts/up.sh prometheus
	says "start it with ./modelmock"
}

a_second_start_loads_nothing() {
	cd "$class"/* || exit
	# shellcheck disable=SC2086
	works in_class scripts/up.sh $services
	says_not loading
	says_not "stays as it is"
}

the_exporter_is_a_container() {
	cd "$class"/* || exit
	version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
	[ "$(exporter_image)" = "modelmock:$version" ] || broken "the image in stack/compose.yaml is $(exporter_image), not of version $version"
	works in_class env MODELMOCK_FLAGS="--value 0.25" scripts/up.sh exporter
	says "loading modelmock:$version"
	in_class curl -s http://127.0.0.1:5000/ >"$work/said"
	says "model_result 0.25"
	id=$(in_class docker ps -q --filter name=exporter)
	in_class docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.NetworkMode}}' "$id" >"$work/said"
	says "65534:65534 true [ALL] host"
	in_class docker image ls --format '{{.Size}}' modelmock >"$work/said"
	echo "measured: the exporter's image: $(cat "$work/said")"
}

another_image_of_that_name_stays() {
	cd "$class"/* || exit
	works in_class scripts/down.sh
	! in_class docker ps -a | grep -q exporter || broken "down.sh leaves the exporter"
	touch -d 2020-01-01 modelmock
	tar -cf "$work/other.tar" modelmock
	works in_class docker import -c 'ENTRYPOINT ["/modelmock"]' "$work/other.tar" "$(exporter_image)"
	other=$(in_class docker image inspect -f '{{.Id}}' "$(exporter_image)")
	works in_class scripts/up.sh exporter
	says "another $(exporter_image) is here than the kit's: it stays as it is"
	[ "$(in_class docker image inspect -f '{{.Id}}' "$(exporter_image)")" = "$other" ] || broken "it is replaced"
	works in_class scripts/down.sh --volumes
	[ -z "$(in_class docker ps -aq)" ] || broken "down.sh leaves a container"
}

without_rust=$(echo "$PATH" | tr : '\n' | while read -r folder; do
	[ -x "$folder/cargo" ] || printf '%s:' "$folder"
done)
without_rust=${without_rust%:}
step "what it needs" can_run
# A kit that a teacher made is none of the tests'.
mkdir -p target/kit
mv target/kit "$work/kit.before"
mkdir target/kit
at_the_end "rm -rf '$root/target/kit'; mv '$work/kit.before' '$root/target/kit'"
at_the_end "export DOCKER_HOST='unix://$socket'; docker rm -f \$(docker ps -aq)"
at_the_end "kill \$(cat '$work/engine.pid'); for n in 1 2 3 4 5 6 7 8 9 10; do [ -e '$work/engine.pid' ] && sleep 1; done"
at_the_end "umount '$work/exec/netns/default'"
step "interrupted, kit.sh leaves nothing" an_interrupted_kit_is_none
step "it is made, with sums of everything, and says what it lacks" it_is_made
step "a second engine starts, empty, without a network" start_engine
step "a stick that runs nothing, an old engine, another processor, a missing service, a flipped byte, too little disk: one line, nothing done" what_cannot_work_is_said_first
step "without Rust and network the lab passes up to the mail" the_lab_passes
step "what to do next is said without Rust" the_next_step_is_without_rust
step "a second start loads nothing" a_second_start_loads_nothing
step "the exporter as a container, bounded" the_exporter_is_a_container
step "another image of a name in the kit stays as it is" another_image_of_that_name_stays
