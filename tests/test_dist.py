"""The programs that a teacher hands out: each is started and scraped, if this machine can run it."""

import hashlib
import pathlib
import re
import shlex
import shutil
import sys

import pytest

from lab import ENVIRONMENT, ROOT, assert_one_line, modelmock, needs, replace_file, run, without
from rust import add_target, assert_all_pass

PLATFORMS = [
    ("linux-arm64", "aarch64-unknown-linux-musl", "qemu-aarch64-static", b"\x7fELF"),
    ("windows-x86_64", "x86_64-pc-windows-gnu", "wine", b"MZ"),
]
# Each of these needs only the program's address and its output.
FOREIGN_TESTS = """
a_scrape_is_answered_next_to_60_idle_connections a_scrape_is_answered_next_to_50_halves_of_requests
idle_connections_end_for_newcomers
a_slow_client_is_disconnected_after_5_s
a_mistake_gets_a_line_of_text_and_ends_the_connection a_request_may_come_in_pieces
a_connection_stays_open_if_both_sides_keep_it a_body_ends_the_connection_after_the_response
get_and_head_work_at_both_paths
the_seed_and_the_drift_determine_the_results
""".split()


@pytest.fixture(scope="module")
def lab(make_lab):
    if sys.platform != "linux":
        pytest.skip("dist.sh makes programs on Linux only")
    return make_lab("dist")


def folders_in(content):
    """The folders of this machine that the program names."""
    folders = [str(folder).encode() for folder in (pathlib.Path.home(), ROOT)]
    return [folder for folder in folders if len(folder) > 1 and folder in content]


def test_without_an_argument_it_makes_the_static_program_of_this_machine(lab, record_property):
    output = lab.run("dist", env={"CARGO_TARGET_DIR": str(lab.work / "elsewhere")}).splitlines()
    program = lab.root / output[0]
    assert re.fullmatch(r"target/dist/modelmock-[\d.]+-linux-(x86_64|arm64)", output[0]) and len(output) == 3
    assert output[1].endswith(": started and scraped")
    assert program.stat().st_size == int(output[1].split()[0]) <= 1_800_000
    assert output[2] == f"SHA-256 {hashlib.sha256(program.read_bytes()).hexdigest()}"
    assert not folders_in(program.read_bytes())
    # An ELF file without an interpreter (type 3 of its program headers) loads no library.
    assert "INTERP" not in run("readelf", "-lW", program)
    record_property("measured", "; ".join(output[1:]))


@pytest.mark.parametrize("platform, target, emulator, magic", PLATFORMS)
def test_programs_of_other_systems_pass_cargos_tests(
    lab, platform, target, emulator, magic, subtests, tmp_path, record_property
):
    add_target(target)
    needs(emulator, "wine" if emulator == "wine" else "qemu-user-static")
    if platform.startswith("windows"):
        needs("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64")
    output = lab.run("dist", platform).splitlines()
    assert output[0].removesuffix(".exe").endswith(platform)
    assert output[1].endswith(f"started and scraped with {emulator}")
    assert output[0].endswith(".exe") == platform.startswith("windows")
    content = (lab.root / output[0]).read_bytes()
    assert content.startswith(magic) and not folders_in(content)
    sums = [line.split() for line in (lab.root / "target/dist/SHA256SUMS").read_text().splitlines()]
    made = sorted((lab.root / "target/dist").glob("modelmock-*"))
    assert sums == [[hashlib.sha256(file.read_bytes()).hexdigest(), file.name] for file in made]
    record_property("measured", f"{platform}: {output[1]}")
    again = lab.run("dist", platform, env=without(lab.work / platform, emulator))
    assert f"built, not run: {emulator} isn't installed" in again
    # Wine can't read each path, keeps its settings in a folder, and would ask whether to install Mono.
    program = shutil.copy(lab.root / output[0], tmp_path)
    env = {"WINEPREFIX": str(ROOT / "target/wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree=;mshtml="}
    env |= ENVIRONMENT | {"MODELMOCK_PROGRAM": program, "MODELMOCK_RUNNER": emulator}
    run(emulator, program, "--version", env=env)
    files = [word for file in ("http", "faults", "model", "page") for word in ("--test", file)]
    command = ["cargo", "test", "--locked", "--no-fail-fast", *files, "--", "--exact", *FOREIGN_TESTS]
    assert_all_pass(run(*command, cwd=ROOT, env=env, timeout=500, code=None), subtests, len(FOREIGN_TESTS))


def test_a_program_that_uses_libraries_of_this_machine_is_not_static(lab):
    """With a bare Rust, which lacks the target for musl, and a cargo that links as usual."""
    tools, rustc = lab.work / "bin", shlex.quote(shutil.which("rustc"))
    tools.mkdir()
    replace_file(tools / "rustc", f'#!/bin/sh\ncase "$*" in *musl*) echo /nowhere ;; *) exec {rustc} "$@" ;; esac\n')
    made, program = '"$CARGO_TARGET_DIR/$last/release"', shlex.quote(str(modelmock()))
    replace_file(tools / "cargo", f"#!/bin/sh\nfor last; do :; done\nmkdir -p {made}\ncp {program} {made}/\n")
    run("chmod", "+x", tools / "rustc", tools / "cargo")
    output = lab.run("dist", env={"PATH": f"{tools}:{ENVIRONMENT['PATH']}"}, code=1)
    assert_one_line(output)
    assert "is not static: it uses libraries of this machine" in output
    output = lab.run("dist", "linux-arm64", env={"PATH": f"{tools}:{ENVIRONMENT['PATH']}"}, code=1)
    assert "run rustup target add aarch64-unknown-linux-musl\n" in output


def test_a_program_that_cannot_be_made_is_said_in_one_line(lab):
    assert_one_line(lab.run("dist", "macos", code=2))
    needs("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64")
    output = lab.run("dist", "windows-x86_64", env=without(lab.work / "few", "x86_64-w64-mingw32-gcc"), code=1)
    assert_one_line(output)
    assert "install the package gcc-mingw-w64-x86-64" in output
