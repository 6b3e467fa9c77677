# shellcheck shell=sh
# How the images get into the engine: pulled from a registry, or loaded from a kit. The scripts that start containers or
# pack them source this file after common.sh.
# shellcheck disable=SC2154 # common.sh sets these

# A pull in the background, and the file with its output.
child=
pull_log=

# ensure_image IMAGE: pulls the image, unless the engine has it. Sets $why if it fails.
ensure_image() {
	! docker image inspect "$1" >/dev/null 2>&1 || return 0
	echo "pulling $1"
	pull_log=$(mktemp) || die "cannot write below ${TMPDIR:-/tmp}: is the disk full?"
	docker pull "$1" >"$pull_log" 2>&1 &
	child=$!
	wait_for 86400 "$1 is here" pull_ended
	wait "$child"
	pulled=$?
	child=
	why=$(grep . "$pull_log" | tail -n 1)
	end_pull
	return $pulled
}

# pull_ended: whether the pull has ended; ends it if the registry doesn't answer for a minute.
pull_ended() {
	kill -0 "$child" 2>/dev/null || return 0
	if [ "$waited" -ge 60 ] && [ ! -s "$pull_log" ]; then
		kill "$child"
		echo "its registry does not answer" >"$pull_log"
	fi
	return 1
}

# end_pull: for the traps of scripts that pull.
end_pull() {
	[ -z "$child" ] || kill "$child" 2>/dev/null
	[ -z "$pull_log" ] || rm -f "$pull_log"
	child='' pull_log=''
}

# get_images SERVICE...: pulls the images, or loads them from the kit, before anything starts.
get_images() {
	! in_kit || load_images "$@"
	for service in "$@"; do
		image_name=$(image "$service")
		if [ "$service" = exporter ]; then
			# shellcheck disable=SC2119
			docker image inspect "$image_name" >/dev/null 2>&1 ||
				die "scripts/kit.sh makes the image $image_name: run that first, or start the model with $(model_command)"
			continue
		fi
		ensure_image "$image_name" && continue
		case $why in
		*"manifest unknown"* | *"manifest for"* | *"not found"*)
			todo="the registry does not have this version: see image: in stack/compose.yaml" ;;
		*oomanyrequests* | *"rate limit"*)
			todo="the registry's limit for today is reached: wait some hours, or run docker login" ;;
		*"no space left"*) todo="the disk is full: docker system df shows how much Docker uses" ;;
		*) todo="is this machine online? Behind a proxy, Docker's engine needs it too (stack/README.md#troubleshooting)" ;;
		esac
		die "the image $image_name can't be pulled: $todo ($why)"
	done
}

# manifest_field SERVICE N: the Nth word of its line in the kit's list of images.
manifest_field() {
	awk -v service="$1" -v n="$2" '$1 == service { print $n }' "$root/images/list"
}

# load_images SERVICE...: loads the kit's images that the engine does not have. All checks come before the first load.
load_images() {
	for file in images/list sums; do
		[ -s "$root/$file" ] || die "$file of the kit is missing: copy and unpack the kit again"
	done
	[ "$(uname)" != Linux ] || [ -x "$root/modelmock" ] ||
		die "$root/modelmock may not be run, as on a stick that is mounted without that right (noexec): copy the folder to" \
			"your home folder and go on there"
	architecture=$(docker version --format '{{.Server.Arch}}')
	missing=
	for service in "$@"; do
		image_name=$(manifest_field "$service" 2)
		[ -n "$image_name" ] ||
			die "this kit was made without $service: it holds $(cut -d ' ' -f 1 "$root/images/list" | paste -s -d ' ' -)"
		processor=$(manifest_field "$service" 4)
		[ "$processor" = "$architecture" ] ||
			die "this kit is for the processor $processor, and Docker's engine here has $architecture: ask for a kit that" \
				"was made for $architecture"
		if ! here=$(docker image inspect -f '{{.Id}} {{range .RootFS.Layers}}{{.}},{{end}}' "$image_name" 2>/dev/null); then
			missing="$missing $service"
		# Engines number images in two ways; the layers are the same in both.
		elif [ "${here% *}" != "$(manifest_field "$service" 3)" ] &&
			[ "${here#* }" != "$(manifest_field "$service" 6)" ]; then
			echo "the engine already has another $image_name: it stays as it is, and the kit's isn't loaded"
		fi
	done
	[ -n "$missing" ] || return 0
	for file in modelmock images/list $(for service in $missing; do echo "images/$service.tar.gz"; done); do
		sum=$(cd "$root" && sha256 "$file" 2>/dev/null)
		grep -qxF -- "${sum:-none}" "$root/sums" || die "$file of the kit is damaged: copy and unpack the kit again"
	done
	# While the engine loads an image, it holds it twice: packed and unpacked.
	needed=$(for service in $missing; do manifest_field "$service" 5; done |
		awk '{ sum += $1; if ($1 > most) most = $1 } END { printf "%.0f", (sum + most) / 1000000 }')
	engine_folder=$(docker info --format '{{.DockerRootDir}}')
	# Docker Desktop's engine has a disk of its own, which df can't see.
	free=$(df -Pk "$engine_folder" 2>/dev/null | awk 'NR == 2 { printf "%.0f", $4 * 1.024 / 1000 }')
	[ "${free:-$needed}" -ge "$needed" ] ||
		die "too little disk: the images need $needed MB, and Docker's folder $engine_folder has $free MB left:" \
			"delete some files (docker system df shows how much Docker uses)"
	for service in $missing; do
		image_name=$(manifest_field "$service" 2)
		echo "loading $image_name ($(manifest_field "$service" 5 | awk '{ printf "%.0f", $1 / 1000000 }') MB)"
		# Podman's API can't load a packed file.
		gzip -dc "$root/images/$service.tar.gz" | docker load >/dev/null ||
			die "the engine can't load $image_name: see the output above"
		docker image inspect "$image_name" >/dev/null 2>&1 ||
			die "images/$service.tar.gz doesn't hold $image_name: ask for another kit"
	done
}
