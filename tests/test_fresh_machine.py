"""What scripts/test.sh does on a machine that lacks something. CI also runs it on bare machines: .ci/bare-machine."""

import os
import re
import shutil
import subprocess

import pytest

from lab import ENVIRONMENT, ROOT, WORK, needs_root, run, without

# Nothing of the run that this test belongs to.
ENV = {name: value for name, value in ENVIRONMENT.items() if name not in ("CI", "MODELMOCK_RUN")}
CARGO = """#!/bin/sh
case $1 in
--version) echo "cargo $VERSION (a test)" ;;
fetch) [ "$NETWORK" = up ] ;;
*) exit 101 ;;
esac
"""
RUSTC = """#!/bin/sh
[ "$1" != -vV ] || { echo "host: here"; exit; }
[ "$LINKER" = here ]
"""
PYTHON = """#!/bin/sh
case $* in
*version_info*) exit "$TOO_OLD" ;;
*sys.executable*) echo "$VERSION" ;;
--version) echo "Python $VERSION" ;;
*) exit 1 ;;
esac
"""


class Machine:
    """A copy of the project, and a PATH with the tools of this machine, but without Rust, Python and shellcheck."""

    def __init__(self, folder, tools):
        self.root, self.path = folder / "my lab (1)", folder / "bin"
        for name in ("scripts", "src", "stack", "tests"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__", ".env*"))
        for name in (".pytest.ini", "Cargo.toml", "Cargo.lock"):
            shutil.copy(ROOT / name, self.root)
        shutil.copytree(tools, self.path, symlinks=True)
        self.env = ENV | {"PATH": str(self.path)}

    def add(self, tool, text):
        (self.path / tool).write_text(text)
        (self.path / tool).chmod(0o755)

    def test(self, *arguments, code=0, **env):
        """The output of scripts/test.sh."""
        return run(self.root / "scripts/test.sh", *arguments, cwd=self.root, env=self.env | env, code=code)


@pytest.fixture(scope="module")
def tools():
    folder = WORK / "tools"
    without(folder)
    for tool in [path for name in ("python*", "rust*", "cargo*", "shellcheck") for path in folder.glob(name)]:
        tool.unlink()
    return folder


@pytest.fixture
def machine(tmp_path, tools):
    return Machine(tmp_path, tools)


def test_an_unknown_kind_is_refused_with_the_list_of_kinds():
    for arguments in (["nonsense"], ["files", "nonsense"], ["--tb", "short", "-x", "nonsense"]):
        output = run(ROOT / "scripts/test.sh", *arguments, env=ENV, code=2)
        assert "unknown kind 'nonsense': choose from " in output and " walk_text" in output


def test_a_selection_without_a_test_is_told():
    output = run(ROOT / "scripts/test.sh", "fresh_machine", "-n", "0", "-k", "nonsense", env=ENV, code=5)
    assert output.splitlines()[-2].startswith("no test was selected")
    assert output.splitlines()[-1] == "0 passed, 0 failed, 0 skipped"


def test_skips_are_grouped_by_their_reason_with_a_command_that_installs_what_is_missing(tmp_path):
    env = ENV | without(tmp_path / "bin", "docker", "git")
    output = run(ROOT / "scripts/test.sh", "files", "walk_text", "-n", "0", "-k", "git_leaves or docker or help", env=env)
    reasons = dict(re.findall(r"^skipped (\d+): (.*)$", output, re.M))
    assert len(reasons) == 2, output
    assert [reason for reason in reasons.values() if reason.startswith("Docker is missing")]
    assert [reason for reason in reasons.values() if reason.startswith("git is missing: ")]
    if shutil.which("apt-get"):
        assert re.search(r"^(sudo )?apt install docker.io docker-compose\S* git$", output, re.M), output


def test_without_python_and_rust_nothing_fails(machine):
    output = machine.test()
    assert "test.sh: cargo is missing: install Rust 1." in output and "test.sh: python3 is missing: " in output
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed, [1-9]\d* skipped", output.splitlines()[-1])
    machine.test("files", code=1)


@pytest.mark.parametrize(
    "env, reason",
    [
        ({"VERSION": "1.63.0"}, "cargo 1.63.0 (a test) is too old: install Rust 1."),
        ({"LINKER": ""}, "Rust lacks a C linker: "),
        ({"NETWORK": ""}, "cargo can't download the packages in Cargo.lock: connect to the internet"),
    ],
)
def test_why_rust_is_of_no_use_is_told_and_nothing_fails(machine, env, reason):
    machine.add("cargo", CARGO)
    machine.add("rustc", RUSTC)
    output = machine.test(**{"VERSION": "10.2.0", "LINKER": "here", "NETWORK": "up"} | env)
    assert f"test.sh: {reason}" in output and ", 0 failed, " in output.splitlines()[-1]


def test_a_build_that_fails_counts(machine):
    machine.add("cargo", CARGO)
    machine.add("rustc", RUSTC)
    output = machine.test(VERSION="10.2.0", LINKER="here", NETWORK="up", code=1)
    assert ", 1 failed, " in output.splitlines()[-1]


def test_an_old_python_and_one_without_the_module_venv_are_told(machine):
    machine.add("python3", PYTHON)
    assert "Python 3.9.2 is older than Python 3.10" in machine.test(VERSION="3.9.2", TOO_OLD="1")
    assert "python3 lacks the module venv: " in machine.test(VERSION="3.13.5", TOO_OLD="0")


def test_another_python_gets_another_environment(machine):
    machine.add("python3", PYTHON)
    text = (machine.root / "tests/requirements.txt").read_text() + "3.13.5\n"
    key = run("cksum", input=text.encode()).split()[0]
    python = machine.root / f"target/venv-{key}/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho pytest runs\n")
    python.chmod(0o755)
    (python.parents[1] / "whole").touch()
    assert machine.test(VERSION="3.13.5", TOO_OLD="0").endswith("pytest runs\n")
    assert "python3 lacks the module venv: " in machine.test(VERSION="3.14.0", TOO_OLD="0")


def test_without_a_network_the_package_index_is_named(machine):
    (machine.path / "python3").symlink_to(shutil.which("python3"))
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": ""}
    output = machine.test(**offline)
    assert "test.sh: pip can't reach its package index: connect to the internet\n" in output
    assert ", 0 failed, " in output.splitlines()[-1]


@pytest.mark.parametrize("user", [0, 4242])
def test_in_a_folder_of_another_user_a_copy_is_tested(machine, user, tmp_path):
    """As root, it would leave files that the owner can't replace; as a user, it can't write."""
    needs_root()
    owner = 4242 - user
    run("chown", "-R", f"{owner}:{owner}", machine.root)
    run("chmod", "-R", "a+rX", tmp_path)
    copies = tmp_path / "copies"
    copies.mkdir()
    os.chown(copies, user, user)
    command = ["setpriv", f"--reuid={user}", "--clear-groups", machine.root / "scripts/test.sh"]
    output = run(*command, cwd="/", env=machine.env | {"TMPDIR": str(copies)})
    assert re.match(r"test.sh: the tests run in a copy, \S+: ", output), output
    assert ", 0 failed, " in output.splitlines()[-1]
    assert not (machine.root / "target").exists() and not list(copies.iterdir())
    assert not subprocess.run(["find", machine.root, "!", "-user", str(owner)], capture_output=True).stdout
