# shellcheck shell=sh disable=SC2154
# The code's form, and the build that all other tests use.

is_formatted() {
	cargo fmt --version >/dev/null 2>&1 || lacks "there is no cargo fmt: install rustfmt (Debian: rustfmt; rustup: rustup component add rustfmt)"
	cargo fmt --check
}

clippy_finds_nothing() {
	cargo clippy --version >/dev/null 2>&1 || lacks "there is no cargo clippy: install clippy (Debian: rust-clippy; rustup: rustup component add clippy)"
	cargo clippy --quiet --all-targets --locked -- -D warnings
}

run "format" is_formatted
run "clippy, warnings as errors" clippy_finds_nothing
run "release build" cargo build --release --locked
