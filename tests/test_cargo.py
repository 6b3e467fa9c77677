"""The code: its form, cargo's own tests, and what the exporter costs to build, to keep and to run."""

import pathlib
import re
import subprocess
import time

import pytest

from lab import ENVIRONMENT, ROOT, fetch, modelmock, needs, run


def test_build(record_property):
    size = modelmock().stat().st_size
    record_property("measured", f"bytes of modelmock: {size}, at most 800000")
    assert size <= 800000


def test_fmt():
    needs("cargo-fmt", "rustfmt (rustup component add rustfmt)")
    run("cargo", "fmt", "--check", cwd=ROOT)


def test_clippy():
    needs("cargo-clippy", "rust-clippy (rustup component add clippy)")
    run("cargo", "clippy", "--quiet", "--all-targets", "--locked", "--", "-D", "warnings", cwd=ROOT, timeout=600)


def test_cargo(subtests):
    """Each of cargo's own tests counts. They are built for debugging, with which overflows are found."""
    said = run("cargo", "test", "--locked", "--no-fail-fast", cwd=ROOT, timeout=600, code=None)
    results = re.findall(r"^test (\S+).* \.\.\. (ok|FAILED|ignored.*)$", said, re.M)
    for name, result in results:
        with subtests.test(name):
            assert result == "ok", said
    assert len(results) == sum(map(int, re.findall(r"^running (\d+) tests?$", said, re.M))) > 0, said
    assert said.count("test result: ok.") == said.count("test result:"), said


def test_what_the_build_costs(record_property):
    tree = ["cargo", "tree", "--locked", "--prefix", "none", "--format", "{p}"]
    crates = {line.removesuffix(" (*)") for line in run(*tree, "--edges", "normal,build", cwd=ROOT).splitlines()}
    record_property("measured", f"crates that a clean build compiles: {len(crates)}, at most 14")
    assert len(crates) <= 14
    packages = run(*tree, "--edges", "normal", "--depth", "1", cwd=ROOT).splitlines()[1:]
    assert sorted(package.split()[0] for package in packages) == ["ctrlc", "fastrand", "tiny_http"]


def test_private_memory(model, record_property):
    if not pathlib.Path("/proc/self").exists():
        pytest.skip("memory is read from procfs, which only Linux has")
    exporter = model()
    for _ in range(3):
        fetch(f"http://127.0.0.1:{exporter.port}/metrics")
    time.sleep(1)
    status = pathlib.Path(f"/proc/{exporter.process.pid}/status").read_text()
    # What is its own; the rest are pages of files, the C library's too, which differ from system to
    # system (2.3 to 3.1 MiB were seen in all). Seen were 0.3 MiB.
    private = int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])
    record_property("measured", f"KiB of private memory at rest: {private}, at most 600")
    assert private <= 600


def test_what_it_costs_beside_the_python_mock(record_property):
    bench = next(ROOT.glob("*/bench.sh"))
    done = subprocess.run([bench, "--quick"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    if done.returncode == 3:
        pytest.skip(done.stdout.splitlines()[-1])
    for figure in re.findall(r"^measured: (.*)", done.stdout, re.M):
        record_property("measured", figure)
    assert done.returncode == 0, done.stdout + done.stderr
