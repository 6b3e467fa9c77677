#!/bin/sh
# kit.sh [--platform PLATFORM] [SERVICE...]: makes one file for laptops without Rust or a network: the kit.
#
# SERVICE is prometheus, alertmanager, mailpit, grafana or logging; the first four by default. The kit holds
# the README, stack/ and the lab's scripts, as committed in git; the model as a static program, for
# Windows, and as an image; and the images of the services. kit.sh pulls images that are missing here.
# PLATFORM is linux/amd64 or linux/arm64 (Apple silicon); the one of Docker's engine by default.
# A student unpacks the kit anywhere; scripts/up.sh then loads the images without a network.
# kit.sh prints the file's path, its size, its SHA-256 sum, and the space that a student needs.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# shellcheck source=scripts/images.sh
. "$root/scripts/images.sh"
folder=
platform=
kept=

case ${1-} in
-h | --help)
	print_help
	exit
	;;
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
command -v rustc >/dev/null || die "Rust is missing, and the kit needs a static exporter: install Rust from https://rustup.rs"
for tool in curl git gzip tar; do
	command -v $tool >/dev/null || die "$tool is missing: install the package $tool"
done
require_docker
git -C "$root" rev-parse -q --verify HEAD >/dev/null ||
	die "git can't read $root, and the kit holds the committed files: make the kit in a clone of the project"

clean_up() {
	end_pull
	[ -z "$folder" ] || rm -rf "$folder"
	for service in $kept; do
		docker image rm "$(image "$service")" >/dev/null 2>&1
		docker tag "modelmock-kept:$service" "$(image "$service")"
		docker image rm "modelmock-kept:$service" >/dev/null
	done
}
trap clean_up EXIT
trap 'echo "kit.sh: interrupted before it made the file: run it again" >&2; exit 1' INT TERM HUP

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

# set_aside SERVICE: gives this machine's image another name until the end, if it is for another processor.
set_aside() {
	case $(docker image inspect -f '{{.Architecture}}' "$(image "$1")" 2>/dev/null) in
	'' | "${platform#*/}") ;;
	*)
		docker tag "$(image "$1")" "modelmock-kept:$1" || die "cannot rename $(image "$1"): see the output above"
		kept="$kept $1"
		docker image rm "$(image "$1")" >/dev/null || die "cannot set $(image "$1") aside: see the output above"
		;;
	esac
}

# pack SERVICE IMAGE: the image as a file of the kit, and its line in the list.
pack() {
	file=$kit/images/$1.tar
	fields="{{.Id}} {{.Architecture}} {{.Size}} {{range .RootFS.Layers}}{{.}},{{end}}"
	docker image inspect -f "$1 $2 $fields" "$2" >>"$kit/images/list" ||
		die "the image $2 is gone again: try again"
	[ "$(docker image inspect -f '{{.Architecture}}' "$2")" = "${platform#*/}" ] ||
		die "the image $2 is not for $platform: run docker image rm $2, then try again"
	if ! run_interruptible docker save -o "$file" "$2" || ! run_interruptible gzip "$file"; then
		die "cannot write $file: is the disk full?"
	fi
	# Docker's client lets only the user who asked read the file.
	chmod a+r "$file.gz"
	echo "packed $2: $(megabytes "$file.gz")"
}

engine=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}')
platform=${platform:-$engine}
case $platform in
linux/amd64) program=linux-x86_64 ;;
linux/arm64) program=linux-arm64 ;;
*) die "Docker's engine is for $engine, and kits are for linux/amd64 or linux/arm64: see --platform" ;;
esac
packed="README.md stack scripts :!scripts/kit.sh :!scripts/dist.sh :!scripts/grade.sh :!scripts/test.sh"
# shellcheck disable=SC2086 # the names are words, here and below
git -C "$root" status --porcelain --ignored --untracked-files=all -- $packed src 'Cargo.*' |
while read -r state path; do
	case $state,$path in
	*,src/* | *,Cargo.*) echo "the program is built from your changed $path" ;;
	[?!]*) echo "not in the kit, as git doesn't have it: $path" ;;
	*) echo "in the kit as committed, without your changes: $path" ;;
	esac
done

mkdir -p "$root/target/kit" || die "cannot write $root/target/kit"
folder=$(mktemp -d "$root/target/kit/.making.XXXXXX") || die "cannot write $root/target/kit"
echo "making the static exporter"
made=$("$root/scripts/dist.sh" $program) || exit
exporter=$root/$(printf '%s\n' "$made" | head -n 1)
made=$("$root/scripts/dist.sh" windows-x86_64 2>"$folder/why") ||
	echo "no modelmock.exe in the kit: $(tail -n 1 "$folder/why")"
windows=$(printf '%s\n' "$made" | head -n 1)
version=${exporter##*/modelmock-}
version=${version%-linux-*}
for service in exporter $wanted; do
	set_aside "$service"
done
# shellcheck disable=SC2086 # the names are words
DOCKER_DEFAULT_PLATFORM=$platform get_images $wanted

name=modelmock-lab-$version
# A kit with other services has a name and a folder of its own.
[ "$wanted" = "$(services)" ] || name=$name-$(echo "$wanted" | tr ' ' -)
kit=$folder/$name
mkdir -p "$kit/images" "$folder/image" || die "cannot write $kit"
# shellcheck disable=SC2086 # words
git -C "$root" archive HEAD $packed | tar -C "$kit" -xf - || die "cannot write $kit: see the output above"
cp "$exporter" "$kit/modelmock" || die "cannot write $kit"
[ -z "$windows" ] || cp "$root/$windows" "$kit/modelmock.exe" || die "cannot write $kit"
lacks=$(for service in $(services prometheus alertmanager mailpit grafana logging); do
	case " $wanted " in
	*" $service "*) ;;
	*) service_field 6 "$service" ;;
	esac
done | paste -s -d , - | sed 's/,/, /g')
# The text is for students without Rust, and without the section of a program that the kit lacks.
find "$kit/stack" "$kit/README.md" -type f \( -name '*.yml' -o -name '*.md' \) | while read -r text; do
	sed '/^<!-- not in the kit -->$/,/^<!-- \/not in the kit -->$/d
		s|cargo run --release -- |./modelmock |g; s|cargo run --release|./modelmock|g
		s|target/release/modelmock|./modelmock|g' "$text" |
		awk -v lacks=", $lacks, " -v readme="$([ "$text" != "$kit/README.md" ] || echo yes)" '
			/^##/ { drop = readme && $1 == "###" && index(lacks, ", " $3 ", ") }
			!drop { print }
			readme && NR == 1 && lacks != ", , " {
				printf "\n> This kit lacks %s: leave out the steps that need it.\n", substr(lacks, 3, length(lacks) - 4)
			}
		' >"$folder/text" && cat "$folder/text" >"$text" || exit 1
done || die "cannot write $kit"
chmod -R a+rX "$kit"

image=$(image exporter)
before=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null)
cp "$kit/modelmock" "$folder/image/" || die "cannot write $folder/image"
# Docker prints warnings even if it succeeds.
said=$(printf 'FROM scratch\nCOPY modelmock /modelmock\nUSER 65534:65534\nENTRYPOINT ["/modelmock"]\n' |
	docker build -q --platform "$platform" -t "$image" -f - "$folder/image" 2>&1) ||
	die "the engine can't make the image $image: $(printf '%s\n' "$said" | grep . | tail -n 1)"
# An earlier one that still has a name stays.
[ "$(docker image inspect -f '{{len .RepoTags}}' "$before" 2>/dev/null)" != 0 ] || docker image rm "$before" >/dev/null
pack exporter "$image"
for service in $wanted; do
	pack "$service" "$(image "$service")"
done
(cd "$kit" && find . -type f ! -name sums | sed 's|^\./||' | sort | while read -r file; do
	sha256 "$file" || exit 1
done) >"$folder/sums" || die "cannot write $folder/sums"
mv "$folder/sums" "$kit/sums"

echo "writing the kit"
run_interruptible tar -C "$folder" -cf "$folder/$name.tar" "$name" ||
	die "cannot write $folder/$name.tar: is the disk full?"
sum=$(sha256 "$folder/$name.tar") || exit
file=target/kit/$name-$program.tar
mv "$folder/$name.tar" "$root/$file" || die "cannot write $root/$file"
bytes=$(wc -c <"$root/$file" | tr -d ' ')
echo "$file"
echo "$bytes bytes ($(megabytes "$root/$file"))"
echo "SHA-256 ${sum%% *}"
# While an image is loaded it is on the disk twice.
awk -v kit="$bytes" '{ sum += $5; if ($5 > max) max = $5 } END { printf "%.1f", (2 * kit + sum + max) / 1e9 }' \
	"$kit/images/list" | sed 's/.*/A student needs & GB of disk: the kit, the unpacked kit, and the images in Docker.\
/'
[ -z "$lacks" ] || echo "It lacks $lacks, as its README says."
