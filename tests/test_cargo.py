"""The code: its form, what its build costs, and cargo's own tests."""

import re

from lab import ROOT, modelmock, needs, run


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
            assert result == "ok", said.partition(f"---- {name} stdout ----")[2].partition("\n---- ")[0]
    # What ended early, or did not build, has fewer results than it has tests.
    assert len(results) == sum(map(int, re.findall(r"^running (\d+) tests?$", said, re.M))) > 0, said
    assert said.count("test result: ok.") == len(re.findall(r"^ +Running ", said, re.M)), said[-300:]
