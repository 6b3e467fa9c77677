"""The code: cargo's own tests, its form, and the size of the program."""

import os
import random
import shutil
import socket
import subprocess
import tempfile

import pytest

from lab import ROOT, fetch, free_ports, modelmock, needs_root, run, terminate
from rust import add_target, assert_all_pass, needs_component


def test_cargo(subtests):
    """In the background and behind nohup, signals are ignored; the tests must run there, too."""
    command = "trap '' HUP INT; exec cargo test --locked --no-fail-fast"
    assert_all_pass(run("sh", "-c", command, cwd=ROOT, timeout=600, code=None), subtests)


def test_the_program_has_at_most_800_kb(record_property):
    size = modelmock().stat().st_size
    record_property("measured", f"bytes of modelmock: {size}, at most 800000")
    assert size <= 800000


def test_the_code_is_formatted():
    needs_component("fmt", "rustfmt", "rustfmt")
    run("cargo", "fmt", "--check", cwd=ROOT)


@pytest.mark.parametrize("target", ["", "x86_64-pc-windows-gnu", "aarch64-apple-darwin"])
def test_clippy_finds_nothing(target):
    needs_component("clippy", "clippy", "rust-clippy")
    command = "cargo clippy --quiet --all-targets --locked".split()
    if target:
        add_target(target)
        command += ["--target", target]
    run(*command, "--", "-D", "warnings", cwd=ROOT)


def test_a_scrape_is_answered_if_the_system_refuses_threads(process):
    """A container's pids limit and ulimit -u refuse threads; root is exempt from the latter."""
    needs_root()
    # A user without other processes, and a folder that this user can read.
    user, port = random.randrange(100000, 200000), free_ports(1)[0]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(modelmock(), folder)
        # As another user, so the limit comes first.
        command = ["prlimit", "--nproc=20", "setpriv", f"--reuid={user}", "--clear-groups", program, "--quiet"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        exporter = process(*command, "--listen", f"127.0.0.1:{port}", cwd="/", **pipes)
        assert exporter.stdout.readline(), "the exporter doesn't start"
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        for _ in range(40):
            # Takes the place that an ended connection may have left.
            idle.append(socket.create_connection(("127.0.0.1", port)))
            assert "model_result " in fetch(f"http://127.0.0.1:{port}/metrics")
    terminate(exporter)
    errors = exporter.stderr.read().decode()
    assert errors.count("\n") == 1 and "ulimit -u" in errors, errors
