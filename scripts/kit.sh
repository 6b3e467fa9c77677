#!/bin/sh
# kit.sh [--platform PLATFORM] [SERVICE...]: makes one file for laptops without Rust or a network: the kit.
#
# SERVICE is prometheus, alertmanager, mailpit, grafana, logging or machine; the first four by default. The kit holds
# the lab's pages, stack/ and the students' scripts, as committed in git; the model as a static program, for Windows,
# and as an image; and the images of the services. kit.sh pulls images that are missing here. PLATFORM is linux/amd64 or
# linux/arm64 (Apple silicon); the one of Docker's engine by default. A student unpacks the kit anywhere; scripts/up.sh
# then loads the images without a network. kit.sh prints the file's path, its size, its SHA-256 sum, and the space that
# a student needs.
#
# The file names nobody, and has the time of the commit. Two kits of one commit have the same sum if Rust, the images
# and the version of Docker's engine are the same.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
. "$root/scripts/lib/images.sh"
# shellcheck source=scripts/lib/teacher.sh
. "$root/scripts/lib/teacher.sh"
folder=
kept=    # services whose images have another name until the end
foreign= # images for another platform, which were not here before

clean_up() {
	end_pull
	[ -z "$folder" ] || rm -rf "$folder"
	for name in $foreign; do
		docker image rm "$name" >/dev/null 2>&1
	done
	for service in $kept; do
		docker image rm "$(image "$service")" >/dev/null 2>&1
		docker tag "modelmock-kept:$service" "$(image "$service")"
		docker image rm "modelmock-kept:$service" >/dev/null
	done
}

# run_interruptible COMMAND...: runs it so that a signal needn't wait for its end.
run_interruptible() {
	"$@" &
	child=$!
	wait "$child"
	ended=$?
	child=
	return $ended
}

# megabytes FILE
megabytes() {
	wc -c <"$1" | awk '{ printf "%.1f MB", $1 / 1000000 }'
}

# tar_fixed FILE FOLDER NAME...: makes the archive of these names in the folder, in a form that depends on their content
# and on the commit only.
tar_fixed() {
	archive=$1
	from=$2
	shift 2
	chmod -R u=rwX,go=rX "$from" || return
	run_interruptible tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$commit_time" \
		-C "$from" -cf "$archive" "$@"
}

# set_aside SERVICE: gives this machine's image another name until the end, if it is for another processor. Without one,
# the kit's image goes at the end if this machine can't run it.
set_aside() {
	case $(docker image inspect -f '{{.Architecture}}' "$(image "$1")" 2>/dev/null) in
	"${platform#*/}") ;;
	'') [ "$platform" = "$engine" ] || foreign="$foreign $(image "$1")" ;;
	*)
		docker tag "$(image "$1")" "modelmock-kept:$1" || die "cannot rename $(image "$1"): see the output above"
		kept="$kept $1"
		docker image rm "$(image "$1")" >/dev/null || die "cannot set $(image "$1") aside: see the output above"
		;;
	esac
}

# make_image NAME: loads an image into the engine that has only the exporter. It is made of its parts, so that it names
# no time but the commit's, and needs no builder.
make_image() {
	before=$(docker image inspect -f '{{.Id}}' "$1" 2>/dev/null)
	made=$(date -u -d "@$commit_time" +%FT%TZ)
	if ! mkdir -p "$folder/image/layer" || ! cp "$kit/modelmock" "$folder/image/layer/" ||
		! tar_fixed "$folder/image/layer.tar" "$folder/image/layer" modelmock; then
		die "cannot write $folder/image: is the disk full?"
	fi
	layer=$(sha256 "$folder/image/layer.tar") || exit
	printf '{"architecture":"%s","os":"linux","created":"%s",' "${platform#*/}" "$made" >"$folder/image/config.json"
	printf '"config":{"User":"65534:65534","Entrypoint":["/modelmock"]},' >>"$folder/image/config.json"
	printf '"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s","created_by":"kit.sh"}]}\n' \
		"${layer%% *}" "$made" >>"$folder/image/config.json"
	printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$1" >"$folder/image/manifest.json"
	tar_fixed "$folder/image.tar" "$folder/image" config.json layer.tar manifest.json ||
		die "cannot write $folder/image.tar: is the disk full?"
	output=$(docker load -i "$folder/image.tar" 2>&1) ||
		die "the engine can't load the image $1: $(printf '%s\n' "$output" | grep . | tail -n 1)"
	# An earlier one that still has a name stays.
	[ "$(docker image inspect -f '{{len .RepoTags}}' "$before" 2>/dev/null)" != 0 ] || docker image rm "$before" >/dev/null
}

# pack SERVICE IMAGE: the image as a file of the kit, and its line in the list.
pack() {
	file=$kit/images/$1.tar
	fields="{{.Id}} {{.Architecture}} {{.Size}} {{range .RootFS.Layers}}{{.}},{{end}}"
	docker image inspect -f "$1 $2 $fields" "$2" >>"$kit/images/list" ||
		die "the image $2 is gone again: try again"
	[ "$(docker image inspect -f '{{.Architecture}}' "$2")" = "${platform#*/}" ] ||
		die "the image $2 is not for $platform: run docker image rm $2, then try again"
	rm -rf "$folder/saved"
	# The engine gives the files in its archive the time of now.
	if ! mkdir "$folder/saved" || ! run_interruptible docker save -o "$folder/saved.tar" "$2" ||
		! run_interruptible tar -C "$folder/saved" -xf "$folder/saved.tar" || ! rm "$folder/saved.tar" ||
		! tar_fixed "$file" "$folder/saved" . || ! run_interruptible gzip -n "$file"; then
		die "cannot write $file: is the disk full?"
	fi
	rm -rf "$folder/saved"
	echo "packed $2: $(megabytes "$file.gz")"
}

# say_what_is_left_out: names the files that are not in the kit as they are here.
say_what_is_left_out() {
	# shellcheck disable=SC2086 # words
	git -C "$root" status --porcelain --ignored --untracked-files=all -- $packed src 'Cargo.*' |
		while read -r state path; do
			case $state,$path in
			*,src/* | *,Cargo.*) echo "the program is built from your changed $path" ;;
			[?!]*) echo "not in the kit, as git doesn't have it: $path" ;;
			*) echo "in the kit as committed, without your changes: $path" ;;
			esac
		done
}

# make_programs: makes the model for Linux, and for Windows if that is possible. Sets $exporter and $windows to their
# paths, and $version.
make_programs() {
	echo "making the static exporter"
	made=$("$root/scripts/dist.sh" $program) || exit
	exporter=$root/$(printf '%s\n' "$made" | head -n 1)
	made=$("$root/scripts/dist.sh" windows-x86_64 2>"$folder/why") ||
		echo "no modelmock.exe in the kit: $(tail -n 1 "$folder/why")"
	windows=$(printf '%s\n' "$made" | head -n 1)
	version=${exporter##*/modelmock-}
	version=${version%-linux-*}
}

# lacking_titles: the titles of the programs that the kit lacks, with commas between them.
lacking_titles() {
	for service in $(services prometheus alertmanager mailpit grafana logging machine); do
		case " $wanted " in
		*" $service "*) ;;
		*) service_field 6 "$service" ;;
		esac
	done | paste -s -d , - | sed 's/,/, /g'
}

# write_texts: the committed files, and the texts as they are for students without Rust.
write_texts() {
	# shellcheck disable=SC2086 # words
	git -C "$root" archive HEAD $packed | tar -C "$kit" -xf - || return
	awk -v lacks="$lacks" -v is_readme=1 -f "$root/scripts/lib/kit/text.awk" "$kit/stack/lab/README.md" \
		>"$kit/README.md" || return
	find "$kit/stack" -type f \( -name '*.yml' -o -name '*.md' \) | while IFS= read -r text; do
		awk -v lacks="$lacks" -f "$root/scripts/lib/kit/text.awk" "$text" >"$folder/text" && cat "$folder/text" >"$text" ||
			exit 1
	done
}

# write_sums: the sums of all files of the kit.
write_sums() {
	(cd "$kit" && find . -type f ! -name sums | sed 's|^\./||' | sort | while IFS= read -r file; do
		sha256 "$file" || exit 1
	done) >"$folder/sums" || return
	mv "$folder/sums" "$kit/sums"
}

# write_kit: the file, and what there is to know about it.
write_kit() {
	echo "writing the kit"
	if ! mkdir "$folder/whole" || ! mv "$kit" "$folder/whole/" ||
		! tar_fixed "$folder/$kit_name.tar" "$folder/whole" "$kit_name"; then
		die "cannot write $folder/$kit_name.tar: is the disk full?"
	fi
	sum=$(sha256 "$folder/$kit_name.tar") || exit
	file=target/kit/$kit_name-$program.tar
	mv "$folder/$kit_name.tar" "$root/$file" || die "cannot write $root/$file: is the disk full?"
	bytes=$(wc -c <"$root/$file" | tr -d ' ')
	echo "$file"
	echo "$bytes bytes ($(megabytes "$root/$file"))"
	echo "SHA-256 ${sum%% *}"
	# While an image is loaded it is on the disk twice.
	awk -v kit="$bytes" '
		{ sum += $5; if ($5 > max) max = $5 }
		END {
			gigabytes = sprintf("%.1f", (2 * kit + sum + max) / 1e9)
			print "A student needs " gigabytes " GB of disk: the kit, the unpacked kit, and the images in Docker."
		}' "$folder/whole/$kit_name/images/list"
	[ -z "$lacks" ] || echo "It lacks $lacks, as its README says."
}

# require_tools: dies if a tool is missing.
require_tools() {
	command -v rustc >/dev/null ||
		die "Rust is missing, and the kit needs a static exporter: install Rust from https://rustup.rs"
	for tool in curl git gzip tar; do
		command -v $tool >/dev/null || die "$tool is missing: install the package $tool"
	done
	tar --version 2>/dev/null | grep -q GNU ||
		die "this tar can't write an archive that is always the same: install GNU tar (the package tar)"
	require_docker
	commit_time=$(git -C "$root" log -1 --format=%ct 2>/dev/null) ||
		die "git can't read $root, and the kit holds the committed files: make the kit in a clone of the project"
}

main() {
	platform=
	case ${1-} in
	-h | --help) print_help && exit ;;
	--platform)
		case ${2-} in
		linux/amd64 | linux/arm64) platform=$2 ;;
		*) usage_error "--platform takes linux/amd64 or linux/arm64, not '${2-}'" ;;
		esac
		shift 2
		;;
	-*) usage_error "unknown flag '$1'" ;;
	esac
	wanted=$(services "$@") || exit
	case " $wanted " in
	*" exporter "*) usage_error "the exporter is in every kit" ;;
	esac
	require_tools
	trap clean_up EXIT
	trap 'echo "kit.sh: interrupted before it made the file: run it again" >&2; exit 1' INT TERM HUP
	engine=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}')
	platform=${platform:-$engine}
	case $platform in
	linux/amd64) program=linux-x86_64 ;;
	linux/arm64) program=linux-arm64 ;;
	*) die "Docker's engine is for $engine, and kits are for linux/amd64 or linux/arm64: see --platform" ;;
	esac
	packed="LICENSE CHANGELOG.md stack scripts"
	for script in $teacher_scripts; do
		packed="$packed :!$script"
	done
	say_what_is_left_out

	folder=$root/target/kit/.making.$$
	mkdir -p "$folder" || die "cannot write $root/target/kit: make the folder writable, or the disk less full"
	make_programs
	for service in exporter $wanted; do
		set_aside "$service"
	done
	# shellcheck disable=SC2086 # words
	DOCKER_DEFAULT_PLATFORM=$platform get_images $wanted
	kit_name=modelmock-lab-$version
	# A kit with other services has a name and a folder of its own.
	[ "$wanted" = "$(services)" ] || kit_name=$kit_name-$(echo "$wanted" | tr ' ' -)
	kit=$folder/$kit_name
	lacks=$(lacking_titles)
	mkdir -p "$kit/images" || die "cannot write $kit: is the disk full?"
	write_texts || die "cannot write $kit: see the output above"
	cp "$exporter" "$kit/modelmock" || die "cannot write $kit: is the disk full?"
	[ -z "$windows" ] || cp "$root/$windows" "$kit/modelmock.exe" || die "cannot write $kit: is the disk full?"
	make_image "$(image exporter)"
	pack exporter "$(image exporter)"
	for service in $wanted; do
		pack "$service" "$(image "$service")"
	done
	chmod -R u=rwX,go=rX "$kit"
	write_sums || die "cannot write $folder/sums: is the disk full?"
	write_kit
}

main "$@"
