#!/bin/sh
# kit.sh [SERVICE...]: makes one file for laptops without Rust and without a network: the kit.
#
# SERVICE is prometheus, alertmanager, mailpit or grafana; all four by default. In the file are the
# README, stack/, the scripts of the lab, the exporter as a static program, the images of the
# services, and the exporter as an image of its own. An image that is missing here is pulled first.
# A student unpacks it anywhere; scripts/up.sh then loads the images and asks no network.
# It prints the file's path, its size and its SHA-256 sum.

set -u
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# shellcheck source=scripts/images.sh
. "$root/scripts/images.sh"
folder=
child=

case ${1-} in
-h | --help)
	print_help
	exit
	;;
-*) usage_error "unknown flag '$1'" ;;
esac
wanted=$(services "$@") || exit
case " $wanted " in
*" exporter "*) usage_error "the exporter is in every kit" ;;
esac
command -v rustc >/dev/null || die "Rust is missing, which makes the static exporter: https://rustup.rs"
for tool in curl gzip tar; do
	command -v $tool >/dev/null || die "$tool is missing: install the package $tool"
done
require_docker

clean_up() {
	[ -z "$child" ] || kill "$child" 2>/dev/null
	[ -z "$folder" ] || rm -rf "$folder"
}
trap clean_up EXIT
trap 'echo "kit.sh: interrupted: no file is made" >&2; exit 1' INT TERM HUP

# run_interruptible COMMAND...: it, so that a signal need not wait for its end.
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

# pack SERVICE IMAGE: the image as a file of the kit, and its line in the list.
pack() {
	file=$kit/images/$1.tar
	docker image inspect -f "$1 $2 {{.Id}} {{.Architecture}} {{.Size}} {{range .RootFS.Layers}}{{.}},{{end}}" "$2" >>"$kit/images/list" ||
		die "the image $2 is gone again: try again"
	if ! run_interruptible docker save -o "$file" "$2" || ! run_interruptible gzip "$file"; then
		die "cannot write $file: is the disk full?"
	fi
	# The engine keeps what it writes to the user who asked.
	chmod a+r "$file.gz"
	echo "packed $2: $(megabytes "$file.gz")"
}

echo "making the static exporter"
made=$("$root/scripts/dist.sh") || exit
exporter=$root/$(printf '%s\n' "$made" | head -n 1)
version=${exporter##*/modelmock-}
machine=${version#*-linux-}
version=${version%-linux-*}
# shellcheck disable=SC2086 # the names are words
get_images $wanted

mkdir -p "$root/target/kit" || die "cannot write $root/target/kit"
folder=$(mktemp -d "$root/target/kit/.making.XXXXXX") || die "cannot write $root/target/kit"
name=modelmock-lab-$version-linux-$machine
kit=$folder/modelmock-lab-$version
mkdir -p "$kit/scripts" "$kit/images"
for script in common images up down check store; do
	cp "$root/scripts/$script.sh" "$kit/scripts/" || die "cannot write $kit"
done
cp "$exporter" "$kit/modelmock" || die "cannot write $kit"
cp -R "$root/README.md" "$root/stack" "$kit/" || die "cannot write $kit"
# The password of this machine's own stack.
rm -rf "$kit"/stack/.env* "$kit/stack/logs"
find "$kit/stack" "$kit/README.md" -type f \( -name '*.yml' -o -name '*.md' \) | while read -r text; do
	sed '/^<!-- not in the kit -->$/,/^<!-- \/not in the kit -->$/d; s|cargo run --release -- |./modelmock |g; s|cargo run --release|./modelmock|g; s|target/release/modelmock|./modelmock|g' "$text" >"$folder/text" &&
		cat "$folder/text" >"$text" || exit 1
done || die "cannot write $kit"
chmod -R a+rX "$kit"

image=$(image exporter)
before=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null)
tar -C "$kit" -cf "$folder/exporter.tar" modelmock || die "cannot write $folder"
docker import -c 'USER 65534:65534' -c 'ENTRYPOINT ["/modelmock"]' "$folder/exporter.tar" "$image" >/dev/null ||
	die "the engine does not take the exporter as an image: what it said is above"
rm "$folder/exporter.tar"
# A name that somebody gave to the one before keeps it.
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
run_interruptible tar -C "$folder" -cf "$folder/$name.tar" "${kit##*/}" || die "cannot write $folder/$name.tar: is the disk full?"
sum=$(sha256 "$folder/$name.tar") || exit
file=target/kit/$name.tar
mv "$folder/$name.tar" "$root/$file" || die "cannot write $root/$file"
bytes=$(wc -c <"$root/$file" | tr -d ' ')
echo "$file"
echo "$bytes bytes ($(megabytes "$root/$file"))"
echo "SHA-256 ${sum%% *}"
for service in $(services); do
	case " $wanted " in
	*" $service "*) ;;
	*) echo "It lacks $service: scripts/up.sh says so there." ;;
	esac
done
