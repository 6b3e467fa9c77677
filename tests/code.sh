# shellcheck shell=sh disable=SC2154
# Cargo's own tests, which drive the built exporter.

run "cargo test" cargo test --quiet --release --locked -- --nocapture
