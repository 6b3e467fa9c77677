#!/bin/sh
# dist.sh: makes the file that a teacher hands out: the exporter, fully static, for any Linux.
#
# It proves it, too: the file runs in an empty root directory and is scraped there. It prints the
# file's path, its size and its SHA-256 sum.

set -eu
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh"
# glibc's share of a static file is some 0.9 MB, and grows from release to release.
most_bytes=1800000

take_no_argument "$@"
require_curl
command -v cargo >/dev/null || die "cargo is missing: install Rust (README, Start)"
cd "$root"

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
*-linux-*) ;;
*) die "a static file is made on Linux only, and this is $host: cargo build --release makes a file for this system" ;;
esac
machine=${host%%-*}
target=$machine-unknown-linux-musl
flags=
if [ ! -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
	target=$machine-unknown-linux-gnu
	flags="-C target-feature=+crt-static"
fi
RUSTFLAGS=$flags cargo build --quiet --release --locked --target "$target"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
file=target/dist/modelmock-$version-linux-$machine
built=target/$target/release/modelmock
bytes=$(wc -c <"$built" | tr -d ' ')
[ "$bytes" -le $most_bytes ] || die "$built has $bytes bytes, more than $most_bytes"

# Only root may change the root directory; anybody else may in a user namespace.
if [ "$(id -u)" -eq 0 ]; then
	in_root=chroot
else
	in_root="unshare --user --map-root-user chroot"
fi
empty=$(mktemp -d)
exporter=
trap '[ -z "$exporter" ] || kill "$exporter" 2>/dev/null; rm -rf "$empty" "$file.new"' EXIT
trap 'exit 1' INT TERM HUP
cp "$built" "$empty/modelmock"
# It is looked into from now on, whether the background has begun or not.
: >"$empty/stdout"
# shellcheck disable=SC2086 # the words are a command
$in_root "$empty" /modelmock --listen 127.0.0.1:0 >"$empty/stdout" &
exporter=$!
tries=0
until url=$(sed -n 's/.*\(http:[^;]*\);.*/\1/p' "$empty/stdout") && [ -n "$url" ]; do
	tries=$((tries + 1))
	[ $tries -le 50 ] || die "$built does not start in an empty root directory: it is not static"
	sleep 0.1
done
get "$url" | grep -q '^model_result ' || die "$built is not scraped in an empty root directory"
# It has its name once it is whole and proved.
mkdir -p target/dist
if ! cp "$built" "$file.new" || ! mv "$file.new" "$file"; then
	die "cannot write $file: is the disk full?"
fi

echo "$file"
echo "$bytes bytes, for $target; it ran in an empty root directory and was scraped there"
sha256 "$file" | sed 's/^\([0-9a-f]*\).*/SHA-256 \1/'
