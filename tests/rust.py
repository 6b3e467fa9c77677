"""Cargo's tests, and what Rust may lack."""

import pathlib
import re
import shutil
import subprocess

import pytest

from lab import ENVIRONMENT, needs_rust, run, to_install


def needs_component(command, component, package):
    """Skips the test if cargo lacks the command, which scripts/test.sh adds if rustup is here."""
    needs_rust()
    # rustup puts a program in the PATH even if the component is missing.
    if subprocess.run(["cargo", command, "--version"], env=ENVIRONMENT, capture_output=True).returncode:
        todo = f"rustup component add {component}" if shutil.which("rustup") else to_install(package)
        pytest.skip(f"{component} is missing: {todo}")


def add_target(target):
    """Adds a platform for which cargo can build, or skips the test."""
    if pathlib.Path(run("rustc", "--print", "target-libdir", "--target", target).strip()).exists():
        return
    command = ["rustup", "target", "add", target]
    if not shutil.which("rustup"):
        pytest.skip(f"Rust's target {target} is missing: install Rust with rustup (https://rustup.rs)")
    if subprocess.run(command, env=ENVIRONMENT, capture_output=True).returncode:
        pytest.skip(f"Rust's target {target} is missing: run rustup target add {target}")


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
