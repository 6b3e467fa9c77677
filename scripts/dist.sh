#!/bin/sh
# dist.sh [PLATFORM...]: makes the programs that a teacher hands out, each one file, in target/dist.
#
# PLATFORM is linux-x86_64, linux-arm64 or windows-x86_64; by default, Linux for this machine's processor.
# A Linux program is static: it runs on any Linux of that processor. For each program, dist.sh prints
# its path, its size and its SHA-256 sum, and target/dist/SHA256SUMS holds all sums. It starts and
# scrapes each program that runs here: natively, with qemu-user-static, or with wine.
# It can't make a program for macOS: on a Mac, cargo run --release builds and starts the model.

set -eu
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# The C library's part of a static file is some 0.9 MB, and grows from release to release.
max_bytes=1800000
dist=$root/target/dist
folder=
exporter=

clean_up() {
	# The shell would report that the program was terminated.
	[ -z "$exporter" ] || { kill "$exporter" && wait "$exporter"; } 2>/dev/null || true
	exporter=
	# Wine's server ends some seconds after the program, and writes until then.
	while [ -n "$folder" ] && ! rm -rf "$folder" 2>/dev/null; do sleep 1; done
	folder=
}

has_target() {
	[ -d "$(rustc --print target-libdir --target "$1" 2>/dev/null)" ]
}

# compiler_flags [FLAG]: Rust's flags, with which the program names no folder of this machine. Cargo separates them with
# a control character, as folders may have blanks.
compiler_flags() {
	[ $# -eq 0 ] || printf '%s\037' "$1"
	printf '%s\037%s\037%s' "--remap-path-prefix=$root=modelmock" \
		"--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" "--remap-path-prefix=$(rustc --print sysroot)=rust"
}

# build PLATFORM: the program, by cargo; sets $target and $built.
build() {
	static='' linker='' built=modelmock
	case $1 in
	windows-*) target=x86_64-pc-windows-gnu built=modelmock.exe ;;
	linux-x86_64) target=x86_64-unknown-linux-musl ;;
	linux-arm64) target=aarch64-unknown-linux-musl ;;
	esac
	if [ "$1" = $host ]; then
		# A bare Rust can't link for musl; it can link the C library of this machine into the program.
		has_target "$target" || target=${target%musl}gnu static=-Ctarget-feature=+crt-static
	elif [ "${1%-*}" = linux ]; then
		# Rust's own linker: the one of this machine links for one processor only.
		linker=rust-lld
	elif ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
		die "the linker for $1 is missing: install the package gcc-mingw-w64-x86-64"
	fi
	has_target "$target" || die "Rust lacks the target $target: run rustup target add $target"
	variable=CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER
	# Windows' import libraries can't be made in a folder whose path has blanks, so cargo gets a link without blanks.
	folder=$(mktemp -d)
	ln -s "$root/target" "$folder/target"
	env CARGO_ENCODED_RUSTFLAGS="$(compiler_flags $static)" CARGO_TARGET_DIR="$folder/target" \
		${linker:+"$variable=$linker"} cargo build --quiet --release --locked --target "$target"
	clean_up
	built=target/$target/release/$built
	bytes=$(wc -c <"$built" | tr -d ' ')
	[ "$bytes" -le $max_bytes ] || die "$built has $bytes bytes, more than $max_bytes"
}

# smoke_test [EMULATOR]: starts the program, scrapes it, and sees that it is static. In a folder of its own, as wine
# can't read each path.
smoke_test() {
	folder=$(mktemp -d)
	cp "$built" "$folder/"
	: >"$folder/stdout"
	(
		cd "$folder"
		export WINEPREFIX="$folder/wine" WINEDEBUG=-all
		exec "$@" "./${built##*/}" --listen 127.0.0.1:0 >stdout 2>stderr
	) &
	exporter=$!
	tries=0
	# Wine makes its folders at its first start, which takes up to a minute.
	until url=$(sed -n 's/.*\(http:[^;]*\);.*/\1/p' "$folder/stdout") && [ -n "$url" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 600 ] || ! kill -0 $exporter 2>/dev/null; then
			cat "$folder/stderr" >&2
			die "$built doesn't start: see the output above"
		fi
		sleep 0.2
	done
	get "$url" | grep -q '^model_result ' || die "$built doesn't answer a scrape at $url"
	# Qemu and wine have libraries of their own. They start a Linux program only if it is static.
	[ $# -gt 0 ] || ! grep -q '\.so' "/proc/$exporter/maps" ||
		die "$built is not static: it uses libraries of this machine"
	clean_up
}

main() {
	case ${1-} in
	-h | --help)
		print_help
		exit
		;;
	esac
	for platform in "$@"; do
		case $platform in
		linux-x86_64 | linux-arm64 | windows-x86_64) ;;
		*) usage_error "unknown platform '$platform': choose from linux-x86_64, linux-arm64, windows-x86_64" ;;
		esac
	done
	require_curl
	command -v cargo >/dev/null || die "cargo is missing: install Rust (README, Start)"
	case $(rustc -vV | sed -n 's/^host: //p') in
	x86_64-*-linux-*) host=linux-x86_64 ;;
	aarch64-*-linux-*) host=linux-arm64 ;;
	'') die "cannot ask Rust for this machine's platform: see the output above" ;;
	*) die "it makes programs on Linux only, with an x86_64 or arm64 processor: here, use cargo build --release" ;;
	esac
	[ $# -gt 0 ] || set -- $host
	cd "$root"
	trap clean_up EXIT
	trap 'exit 1' INT TERM HUP

	mkdir -p "$dist" || die "cannot write $dist: make the folder writable, or the disk less full"
	version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
	for platform in "$@"; do
		build "$platform"
		emulator=
		case $platform in
		"$host") ;;
		linux-x86_64) emulator=qemu-x86_64-static ;;
		linux-arm64) emulator=qemu-aarch64-static ;;
		windows-*) emulator=wine ;;
		esac
		if [ -z "$emulator" ] || command -v $emulator >/dev/null; then
			smoke_test $emulator
			verdict="started and scraped${emulator:+ with $emulator}"
		else
			verdict="built, not run: $emulator isn't installed"
		fi
		file=target/dist/modelmock-$version-$platform
		[ "${platform%-*}" = linux ] || file=$file.exe
		# The program gets its name when it is complete and tested.
		if ! cp "$built" "$file.new" || ! mv "$file.new" "$file"; then
			rm -f "$file.new"
			die "cannot write $file: is the disk full?"
		fi
		echo "$file"
		echo "$bytes bytes, for $target: $verdict"
		echo "SHA-256 $(sha256 "$file" | cut -d ' ' -f 1)"
	done
	(cd "$dist" && for file in modelmock-"$version"-*; do sha256 "$file"; done >SHA256SUMS) ||
		die "cannot write $dist/SHA256SUMS: is the disk full?"
}

main "$@"
