"""The code: its form, the size of the program, cargo's own tests, and the programs for other systems."""

import os
import pathlib
import random
import re
import resource
import shutil
import socket
import subprocess
import tempfile

import pytest

from lab import ENVIRONMENT, ROOT, end, fetch, free_ports, modelmock, needs, run, serves, start

# Each of these needs only the program's address and its output.
FOREIGN_TESTS = """
a_scrape_is_answered_next_to_60_idle_connections idle_connections_end_for_newcomers
a_slow_client_is_disconnected_after_5_s
a_mistake_gets_a_line_of_text_and_ends_the_connection a_request_may_come_in_pieces
a_connection_stays_open_if_both_sides_keep_it a_body_ends_the_connection_after_the_response
get_and_head_work_at_both_paths
the_seed_and_the_drift_determine_the_results
""".split()


def add_target(target):
    if target in run("rustc", "-vV"):
        return
    if pathlib.Path(run("rustc", "--print", "target-libdir", "--target", target).strip()).exists():
        return
    command = ["rustup", "target", "add", target]
    if not shutil.which("rustup") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"Rust's target {target} is missing: run rustup target add {target}")


def test_the_program_has_at_most_800_kb(record_property):
    size = modelmock().stat().st_size
    record_property("measured", f"bytes of modelmock: {size}, at most 800000")
    assert size <= 800000


def test_the_code_is_formatted():
    needs("cargo-fmt", "rustfmt (rustup component add rustfmt)")
    run("cargo", "fmt", "--check", cwd=ROOT)


@pytest.mark.parametrize("target", ["", "x86_64-pc-windows-gnu", "aarch64-apple-darwin"])
def test_clippy_finds_nothing(target):
    needs("cargo-clippy", "rust-clippy (rustup component add clippy)")
    command = "cargo clippy --quiet --all-targets --locked".split()
    if target:
        add_target(target)
        command += ["--target", target]
    run(*command, "--", "-D", "warnings", cwd=ROOT, timeout=600)


def assert_all_pass(output, subtests, number=0):
    """Each of cargo's tests counts: an ignored one as skipped, and a file of tests that ends early as failed."""
    results = re.findall(r"^test (\S+).* \.\.\. (ok|FAILED|ignored.*)$", output, re.M)
    for name, result in results:
        with subtests.test(name):
            if result.startswith("ignored"):
                pytest.skip(result)
            assert result == "ok", output.partition(f"---- {name} stdout ----")[2].partition("\n---- ")[0]
    assert len(results) == sum(map(int, re.findall(r"^running (\d+) tests?$", output, re.M))) > 0, output
    assert output.count("test result: ok.") == len(re.findall(r"^ +Running ", output, re.M)), output[-300:]
    assert number in (0, len(results)), output


def test_cargo(subtests):
    """In the background and behind nohup, signals are ignored; the tests must run there, too."""
    command = "trap '' HUP INT; exec cargo test --locked --no-fail-fast"
    assert_all_pass(run("sh", "-c", command, cwd=ROOT, timeout=600, code=None), subtests)


@pytest.mark.parametrize("target, runner, package, linker", [
    ("x86_64-pc-windows-gnu", "wine", "wine", "x86_64-w64-mingw32-gcc"),
    ("aarch64-unknown-linux-musl", "qemu-aarch64-static", "qemu-user-static", "rust-lld"),
])
def test_other_systems(target, runner, package, linker, subtests):
    needs(runner, package)
    if linker != "rust-lld":
        needs(linker, "gcc-mingw-w64-x86-64")
    add_target(target)
    folder = ROOT / "target" / target / "release"
    variable = f"CARGO_TARGET_{target.upper().replace('-', '_')}_LINKER"
    build = "cargo build --quiet --release --locked --target".split()
    run(*build, target, cwd=ROOT, env=ENVIRONMENT | {variable: linker}, timeout=600)
    program = folder / "modelmock.exe" if runner == "wine" else folder / "modelmock"
    # Wine keeps its settings in a folder, and would ask whether to install Mono.
    wine = {"WINEPREFIX": str(ROOT / "target/wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree=;mshtml="}
    (ROOT / "target/wine").mkdir(exist_ok=True)
    env = ENVIRONMENT | wine | {"MODELMOCK_PROGRAM": str(program), "MODELMOCK_RUNNER": runner}
    run(runner, program, "--version", env=env, timeout=300)
    files = [word for file in ("http", "faults", "model", "page") for word in ("--test", file)]
    command = ["cargo", "test", "--locked", "--no-fail-fast", *files, "--", "--exact", *FOREIGN_TESTS]
    output = run(*command, cwd=ROOT, env=env, timeout=600, code=None)
    assert_all_pass(output, subtests, len(FOREIGN_TESTS))


def test_a_scrape_is_answered_if_the_system_refuses_threads():
    """A container's pids limit and ulimit -u refuse threads; root is exempt from the latter."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a program as another user: run sudo -E scripts/test.sh")
    # A user without other processes, and a folder that this user can read.
    user, port = random.randrange(100000, 200000), free_ports(1)[0]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(modelmock(), folder)
        limit = lambda: resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))
        command = [program, "--listen", f"127.0.0.1:{port}", "--quiet"]
        outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        process = start(*command, user=user, preexec_fn=limit, cwd="/", **outputs)
        try:
            serves(process, port)
            idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
            for _ in range(40):
                # Takes the place that an ended connection may have left.
                idle.append(socket.create_connection(("127.0.0.1", port)))
                assert "model_result " in fetch(f"http://127.0.0.1:{port}/metrics")
            for client in idle:
                client.close()
        finally:
            end(process)
        errors = process.stderr.read().decode()
        assert errors.count("\n") == 1 and "ulimit -u" in errors, errors
