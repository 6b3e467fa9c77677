"""The kit, used with a second engine without images and without a network. The tests build on each other."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

from engine import Engine
from lab import (
    ROOT,
    assert_one_line,
    docker,
    edit,
    replace_file,
    require_image,
    require_whole,
    run,
    start,
    terminate,
    until,
    without,
)
from links import assert_links_exist

SERVICES = ["prometheus", "alertmanager", "mailpit"]
NOT_IN_THE_KIT = {"kit.sh", "dist.sh", "grade.sh", "test.sh", "README.md"}


@pytest.fixture(scope="module")
def lab(make_lab):
    """The teacher's clone of the project, with changes and secrets that git doesn't have."""
    assert all(require_image(f".*/{service}") for service in SERVICES)
    lab = make_lab("kit", own_ports=False)
    edit(lab.stack / "compose.yaml", "image: modelmock:", f"image: {lab.project}:")
    files = "README.md LICENSE CHANGELOG.md stack scripts src Cargo.toml Cargo.lock"
    for words in ("init -q", f"add {files}", "commit -q -m Begin"):
        run("git", "-c", "user.name=teacher", "-c", "user.email=teacher@lab.example", *words.split(), cwd=lab.root)
    edit(lab.stack / "alertmanager/alertmanager.yml", "^( *)smarthost:", r"\1auth_password: REAL-SECRET\n\g<0>")
    edit(lab.stack / "prometheus/targets/class.yml", r"\Z", "# REAL-SECRET\n")
    for name in ("alertmanager/smtp-password", ".env"):
        replace_file(lab.stack / name, "REAL-SECRET\n")
    return lab


@pytest.fixture(scope="module")
def made(lab):
    return lab.run("kit", *SERVICES)


@pytest.fixture(scope="module")
def laptop(lab, made):
    laptop = Laptop(lab)
    yield laptop
    laptop.engine.stop()


class Laptop:
    """A student's: without Rust, with an engine that lacks images and has a small disk, and with a kit unpacked."""

    def __init__(self, lab):
        self.lab, self.root, self.engine = lab, lab.work / "a class", Engine("laptop", disk="100m")
        self.without_rust = without(lab.work / "tools", "cargo", "rustc")
        self.unpack()

    def command(self, *command, **env):
        # The folder again, as a mount namespace begins in its root.
        there = ["sh", "-c", 'cd "$0" && exec "$@"', self.folder, *command]
        return [str(word) for word in self.engine.command(*there, **self.without_rust, **env)]

    def run(self, *command, code=0, env=(), **named):
        return run(*self.command(*command, **dict(env)), code=code, **named)

    def unpack(self):
        shutil.rmtree(self.root, ignore_errors=True)
        with tarfile.open(next(self.lab.root.glob("target/kit/*.tar"))) as kit:
            kit.extractall(self.root, filter="fully_trusted")
        self.folder = next(self.root.glob("*/"))

    def refuses(self, words, *command):
        output = self.run(*command, code=1)
        assert words in output
        assert_one_line(output)
        assert self.run("docker", "image", "ls", "-q") == self.run("docker", "ps", "-aq") == ""


def find(pattern, text):
    """The part of the text that the pattern matches."""
    found = re.search(pattern, text, re.M)
    assert found, f"{pattern} isn't in:\n{text}"
    return found[0]


def test_it_says_what_it_made_and_what_it_left_out(lab, made, record_property):
    file = lab.root / find("^target/kit/.*", made)
    find(r"modelmock-lab-[\d.]+-prometheus-alertmanager-mailpit-linux-(x86_64|arm64)\.tar$", file.name)
    assert f"SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in made and f"{file.stat().st_size} bytes" in made
    find(r"^A student needs 0\.[3-9] GB of disk", made)
    assert "It lacks Grafana, Loki, Fluent-Bit, Node-exporter, as its README says." in made
    for name in ("alertmanager/alertmanager.yml", "prometheus/targets/class.yml"):
        assert f"in the kit as committed, without your changes: stack/{name}\n" in made
    for name in (".env", "alertmanager/smtp-password"):
        assert f"not in the kit, as git doesn't have it: stack/{name}\n" in made
    record_property("measured", " ".join(made.splitlines()[-3:-1]))


def test_it_holds_what_git_has_and_sums_of_everything(lab, made, laptop):
    files = {str(file.relative_to(laptop.folder)) for file in laptop.folder.rglob("*") if file.is_file()} - {"sums"}
    sums = dict(reversed(line.split("  ")) for line in (laptop.folder / "sums").read_text().splitlines())
    assert files == set(sums)
    for file, known in sums.items():
        content = (laptop.folder / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == known and b"REAL-SECRET" not in content, file
    scripts = {file.removeprefix("scripts/") for file in files if file.startswith("scripts/")}
    assert {file.name for file in (lab.root / "scripts").iterdir() if file.is_file()} - scripts == NOT_IN_THE_KIT
    assert not [file for file in scripts if file.startswith(("lib/grade/", "lib/kit/"))]
    assert "lib/check/dashboard.awk" in scripts and "LICENSE" in files
    assert (laptop.folder / "modelmock").read_bytes().startswith(b"\x7fELF")
    windows = laptop.folder / "modelmock.exe"
    assert "no modelmock.exe in the kit" in made or windows.read_bytes().startswith(b"MZ")


def test_it_names_nobody(lab, made, laptop):
    """Neither the archive nor a file in it says who made it, where, or when."""
    commit = int(run("git", "log", "-1", "--format=%ct", cwd=lab.root))
    with tarfile.open(lab.root / find("^target/kit/.*", made)) as kit:
        for member in kit:
            owner = (member.uid, member.gid, member.uname, member.gname)
            assert owner == (0, 0, "", "") and member.mtime == commit, member.name
            assert member.mode & 0o777 == (0o755 if member.isdir() or member.mode & 0o100 else 0o644), member.name
    names = [str(path).encode() for path in (lab.root, lab.work, ROOT, pathlib.Path.home()) if len(str(path)) > 1]
    for file in laptop.folder.rglob("*"):
        if file.is_file() and file.suffix != ".gz":
            assert not [name for name in names if name in file.read_bytes()], file


def test_two_kits_of_one_commit_are_the_same(lab, made):
    sums = []
    for mask in ("077", "022"):
        command = ["sh", "-c", 'umask "$0" && "$@"', mask, lab.root / "scripts/kit.sh", "mailpit"]
        sums.append(find("^SHA-256 .*", run(*command, env=lab.env, cwd=lab.root)))
        # Cargo's files and the image of the exporter are made again.
        docker("image", "rm", find(rf"{lab.project}:\S+", (lab.stack / "compose.yaml").read_text()))
    assert sums[0] == sums[1]


def test_its_texts_know_what_it_holds(laptop):
    for file in laptop.folder.rglob("*.[my]*"):
        for words in ("cargo run --release", "not in the kit", "target/release/modelmock"):
            assert words not in file.read_text(), file
    lab_pages = laptop.folder / "stack/lab"
    lacks = "\n> This kit lacks Grafana, Loki, Fluent-Bit, Node-exporter: leave out the pages and steps that need it.\n"
    readme = (laptop.folder / "README.md").read_text()
    assert lacks in readme and (lab_pages / "1-model.md").read_text().count("This kit lacks") == 0
    note = "> This kit lacks Grafana: read this page, and go on with the next one."
    assert note in (lab_pages / "3-grafana.md").read_text()
    # The README is the lab's first page.
    first_page = (lab_pages / "README.md").read_text().splitlines()
    assert readme.splitlines()[0] == first_page[0] and "](stack/lab/1-model.md)" in readme
    assert_links_exist(laptop.folder, laptop.folder.rglob("*.md"))
    assert "./modelmock" in (laptop.folder / "stack/prometheus/rules/model.yml").read_text()


def test_its_texts_name_only_scripts_that_it_has(laptop):
    for file in [laptop.folder / "README.md", *laptop.folder.glob("stack/**/*.md")]:
        for script in NOT_IN_THE_KIT - {"README.md"}:
            assert not re.search(rf"(?<![\w-]){re.escape(script)}", file.read_text()), f"{file} names {script}"


def test_what_cannot_work_is_said_in_one_line_before_anything_is_done(lab, laptop):
    stick = lab.root / "tests"
    laptop.run("sh", "-c", 'mount --bind . "$0" && mount -o remount,bind,noexec "$0"', stick)
    laptop.refuses("is mounted without that right", "sh", stick / "scripts/up.sh", "mailpit")
    laptop.run("umount", stick)
    laptop.refuses("made without grafana", "scripts/up.sh", "grafana")
    with (laptop.folder / "images/mailpit.tar.gz").open("r+b") as packed:
        packed.write(b"\xff")
    laptop.refuses("images/mailpit.tar.gz of the kit is damaged", "scripts/up.sh", *SERVICES)
    laptop.unpack()
    laptop.refuses("too little disk", "scripts/up.sh", *SERVICES)
    laptop.run("mount", "-o", "remount,size=1500m", laptop.engine.folder / "data")


def test_without_rust_and_network_the_lab_passes_up_to_the_mail(laptop, process):
    process(*laptop.command("./modelmock", "--value", "0.95", "--quiet"), stdout=subprocess.DEVNULL)
    output = laptop.run("scripts/up.sh")
    for service in SERVICES:
        assert f"loading {require_image(f'.*/{service}')}" in output
    assert "pulling" not in output and "grafana" not in laptop.run("docker", "ps")
    until(60, "the target is up", lambda: "1 of 1 up" in laptop.run("scripts/check.sh", "prometheus", code=None))
    laptop.run("scripts/check.sh", "exporter", *SERVICES)
    require_whole("axllent/mailpit")
    laptop.run("scripts/check.sh", "--alert")


def test_the_store_the_hand_in_and_the_hints_work_in_a_kit(laptop, process):
    model = process(*laptop.command("./modelmock", "--value", "0.95", "--quiet"), stdout=subprocess.DEVNULL)
    assert "Site b     http://localhost:19092" in laptop.run("scripts/store.sh", "up")
    laptop.run("scripts/store.sh", "down", "--volumes")
    assert "is written" in laptop.run("scripts/hand-in.sh", "7")
    terminate(model)
    output = laptop.run("scripts/check.sh", "exporter", code=1)
    assert "start the model: ./modelmock" in output and "cargo" not in output
    output = laptop.run("scripts/up.sh", *SERVICES)
    assert "start it with ./modelmock" in output and "loading" not in output and "stays as it is" not in output


def test_the_exporter_is_a_container_with_limits_and_another_image_stays(lab, laptop):
    output = laptop.run("scripts/up.sh", "exporter", env={"MODELMOCK_FLAGS": "--value 0.25"})
    assert f"loading {lab.project}:" in output
    assert "model_result 0.25" in laptop.run("curl", "-s", "http://127.0.0.1:5000/")
    form = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}"
    assert laptop.run("docker", "inspect", "-f", form, "modelmock-exporter-1") == "65534:65534 true [ALL]\n"
    # An image of the same name, with one more layer.
    [name] = re.findall(rf"{lab.project}:\S+", (laptop.folder / "stack/compose.yaml").read_text())
    other = laptop.run("docker", "commit", "modelmock-exporter-1", name)
    laptop.run("scripts/down.sh")
    assert "stays as it is" in laptop.run("scripts/up.sh", "exporter")
    assert laptop.run("docker", "image", "inspect", "-f", "{{.Id}}", name) == other


def test_a_kit_for_another_processor_leaves_the_images_here_as_they_are(lab):
    """An image of that platform is here; another is for this processor, so kit.sh has to pull it, and can't."""
    targets = os.listdir(run("rustc", "--print", "sysroot").strip() + "/lib/rustlib")
    if docker("version", "-f", "{{.Server.Arch}}") != "amd64" or "aarch64-unknown-linux-musl" not in targets:
        pytest.skip("run rustup target add aarch64-unknown-linux-musl, on an x86_64 machine")
    edit(lab.stack / "compose.yaml", "image: axllent/.*", f"image: {lab.project}-mailpit:1")
    edit(lab.stack / "compose.yaml", "image: prom/prometheus.*", f"image: {lab.project}-prometheus:1")
    (lab.work / "image").mkdir()
    replace_file(lab.work / "image/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    docker("build", "-q", "--platform", "linux/arm64", "-t", f"{lab.project}-mailpit:1", lab.work / "image")
    run("tar", "-C", lab.work / "image", "-cf", lab.work / "image.tar", "Dockerfile")
    docker("import", lab.work / "image.tar", f"{lab.project}-prometheus:1")
    ours = lambda lines: sorted(line for line in lines if lab.project in line or "kept" in line)
    images = lambda: ours(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines())
    before = images()
    made = lab.run("kit", "--platform", "linux/arm64", "mailpit")
    with tarfile.open(lab.root / find("^target/kit/.*-mailpit-linux-arm64.tar$", made)) as kit:
        folder = kit.getnames()[0]
        assert kit.extractfile(f"{folder}/images/list").read().count(b" arm64 ") == 2
        assert kit.extractfile(f"{folder}/modelmock").read()[18] == 183
    lab.run("kit", "--platform", "linux/arm64", "prometheus", code=1)
    assert images() == before
    # A registry that has the image: this machine couldn't run it, so it doesn't stay.
    edit(lab.stack / "compose.yaml", "image: prom/alertmanager.*", f"image: {lab.project}-alertmanager:1")
    build = f"docker build -q --platform linux/arm64 -t \"$2\" '{lab.work}/image'"
    replace_file(lab.work / "docker", f'#!/bin/sh\nPATH=${{PATH#*:}}\n[ "$1" != pull ] || exec {build}\nexec docker "$@"\n')
    run("chmod", "+x", lab.work / "docker")
    pulls = lab.env | {"PATH": f"{lab.work}:{os.environ['PATH']}"}
    assert "pulling " in lab.run("kit", "--platform", "linux/arm64", "alertmanager", env=pulls)
    assert images() == before
    (lab.work / "docker").unlink()
    # Interrupted while it packs, with a gzip that doesn't end.
    replace_file(lab.work / "gzip", '#!/bin/sh\ntouch "$0.runs"\nexec sleep 300\n')
    run("chmod", "+x", lab.work / "gzip")
    env = lab.env | {"PATH": f"{lab.work}:{os.environ['PATH']}"}
    kit = start(lab.root / "scripts/kit.sh", "--platform", "linux/arm64", "mailpit", env=env)
    until(120, "gzip", (lab.work / "gzip.runs").exists)
    terminate(kit)
    assert images() == before and not list(lab.root.glob("target/kit/.making*"))
