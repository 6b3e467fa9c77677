# shellcheck shell=sh disable=SC2154
# The code: its form, and cargo's own tests, which drive the built exporter.

release_build() {
	cargo build --release --locked
}

run "format" cargo fmt --check
run "clippy, warnings as errors" cargo clippy --quiet --all-targets -- -D warnings
run "release build" release_build
run "cargo test" cargo test --quiet --release --locked -- --nocapture
