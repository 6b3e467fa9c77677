"""The kit, as a class gets it: made here, unpacked elsewhere, loaded into a second engine that has nothing, in
a network where nothing else is. The tests build on each other, with the lab's own ports."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

from lab import LABEL, docker, edit, end, image, names_what_is_there, one_line, run, start, until

SERVICES = ["prometheus", "alertmanager", "mailpit"]
WITHOUT_RUST = ":".join(folder for folder in os.environ["PATH"].split(":") if not pathlib.Path(folder, "cargo").exists())


@pytest.fixture(scope="module")
def lab(make_lab):
    """Where the teacher makes it; the exporter's image has a name of its own, as a teacher may have one."""
    lab = make_lab("kit", own_ports=False)
    edit(lab.stack / "compose.yaml", "image: modelmock:", f"image: {lab.project}:")
    lab.kits = lab.root / "target/kit"
    return lab


@pytest.fixture(scope="module")
def laptop(lab):
    """The second engine, in a network, with processes and with a disk in memory of its own, as small as a
    test wants it. All of that ends with one process."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root may start a second engine, and only on Linux: sudo -E scripts/test.sh kit")
    if missing := [tool for tool in ("dockerd", "ip", "nsenter", "unshare") if not shutil.which(tool)]:
        pytest.skip(f"there is no {missing[0]}: install Docker Engine, iproute2 and util-linux")
    if missing := [tool for tool in ("sh", "curl", "docker") if not shutil.which(tool, path=WITHOUT_RUST)]:
        pytest.skip(f"Rust lies in the folder of {missing[0]}")
    engine = "ip link set lo up && mount -t tmpfs -o size=100m none /mnt && exec dockerd -H unix:///mnt/engine.sock"
    engine += " --data-root /mnt/docker --exec-root /mnt/run --pidfile /mnt/pid --iptables=false --bridge=none"
    spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (lab.work / "engine.log").open("wb") as log:
        process = start("unshare", *spaces, "sh", "-c", engine, stdout=log, stderr=log)
    laptop = Laptop(lab, process)
    try:
        until(30, "the second engine", lambda: subprocess.run(laptop.command("docker", "version"), capture_output=True).returncode == 0)
        yield laptop
    finally:
        process.kill()
        process.wait()


class Laptop:
    """A student's: without Rust, with an engine that has nothing, and with a kit unpacked."""

    def __init__(self, lab, process):
        self.lab, self.root = lab, lab.work / "a class"
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self.first = until(10, "its first process", children.read_text).strip()

    def command(self, *command, **env):
        given = [f"{name}={value}" for name, value in {"PATH": WITHOUT_RUST, "DOCKER_HOST": "unix:///mnt/engine.sock", **env}.items()]
        there = next(iter(self.root.glob("*/")), "/")
        entered = ["nsenter", "--target", self.first, "--net", "--mount", "env", *given]
        return [str(word) for word in [*entered, "sh", "-c", 'cd "$0" && exec "$@"', there, *command]]

    def run(self, *command, code=0, env=(), **named):
        return run(*self.command(*command, **dict(env)), code=code, **named)

    def unpack(self):
        shutil.rmtree(self.root, ignore_errors=True)
        with tarfile.open(next(self.lab.kits.glob("*.tar"))) as kit:
            kit.extractall(self.root, filter="fully_trusted")
        self.folder = next(self.root.glob("*/"))

    def refuses(self, words, *command, **env):
        """It ends with one line, and nothing is half done."""
        said = self.run(*command, code=1, env=env)
        assert words in said
        one_line(said)
        assert self.run("docker", "image", "ls", "-q") == self.run("docker", "ps", "-aq") == ""


def test_the_static_file(lab, record_property):
    if sys.platform != "linux":
        pytest.skip("a static file is made on Linux only")
    said = lab.run("dist", env={"CARGO_TARGET_DIR": str(lab.work / "elsewhere")})
    record_property("measured", "; ".join(said.strip().splitlines()[-2:]))
    assert (lab.root / said.splitlines()[0]).stat().st_size <= 1800000


def test_interrupted_kit_sh_leaves_nothing(lab):
    image("prom/prometheus")
    log = lab.work / "said"
    with log.open("wb") as said:
        kit = start(lab.root / "scripts/kit.sh", "prometheus", env=lab.env, stdout=said, stderr=said)
    # The exporter is packed first, and Prometheus takes some seconds.
    until(120, "the first image", lambda: "packed" in log.read_text() or kit.poll() is not None)
    assert kit.poll() is None
    end(kit)
    assert not list(lab.kits.iterdir())


def test_it_is_made_with_sums_of_everything_and_says_what_it_lacks(lab, record_property):
    for service in SERVICES:
        image(f".*/{service}")
    # A stack of that name from another folder, which a kit does not touch.
    labels = [f"com.docker.compose.project={lab.project}", "com.docker.compose.project.working_dir=/home/other/lab/stack", LABEL]
    other = docker("create", *(word for label in labels for word in ("--label", label)), image("axllent/mailpit"))
    said = lab.run("kit", *SERVICES, env={"CARGO_TARGET_DIR": str(lab.work / "elsewhere")})
    docker("rm", "-v", other)
    [made] = lab.kits.iterdir()
    assert re.fullmatch(r"modelmock-lab-.*-linux-.*\.tar", made.name) and f"target/kit/{made.name}" in said
    assert f"SHA-256 {hashlib.sha256(made.read_bytes()).hexdigest()}" in said
    assert f"{made.stat().st_size} bytes" in said and "It lacks grafana" in said
    record_property("measured", f"the kit without Grafana: {made.stat().st_size} bytes")


def test_what_is_in_it(lab, laptop):
    laptop.unpack()
    files = {str(file.relative_to(laptop.folder)) for file in laptop.folder.rglob("*") if file.is_file()} - {"sums"}
    sums = dict(reversed(line.split("  ")) for line in (laptop.folder / "sums").read_text().splitlines())
    assert files == set(sums) and "stack/.env" not in files
    for file, known in sums.items():
        assert hashlib.sha256((laptop.folder / file).read_bytes()).hexdigest() == known, file
    texts = [(laptop.folder / file).read_text() for file in files if file.endswith((".md", ".yml", ".yaml"))]
    assert not [text for text in texts if "cargo run --release" in text], "it tells students to use cargo"
    assert not [text for text in texts if "not in the kit" in text]
    names_what_is_there(laptop.folder, laptop.folder.rglob("*.md"))
    assert "Start it with: ./modelmock" in (laptop.folder / "stack/prometheus/rules/model.yml").read_text()


def test_what_cannot_work_is_said_in_one_line_before_anything_is_done(lab, laptop):
    stick = lab.work / "stick"
    stick.mkdir()
    laptop.run("sh", "-c", 'mount --bind . "$0" && mount -o remount,bind,noexec "$0"', stick)
    laptop.refuses("is mounted without that right", "sh", stick / "scripts/up.sh", "mailpit")
    laptop.run("umount", stick)

    old = lab.work / "old"
    old.mkdir()
    (old / "docker").write_text(f'#!/bin/sh\ncase "$*" in\n*Server.Arch*) echo 19.03.15 amd64 ;;\n*) exec {shutil.which("docker")} "$@" ;;\nesac\n')
    (old / "docker").chmod(0o755)
    laptop.refuses("engine is too old: it is 19.03.15", "scripts/up.sh", "mailpit", PATH=f"{old}:{WITHOUT_RUST}")

    edit(laptop.folder / "images/list", " (amd64|arm64) ", " s390x ")
    laptop.refuses("is for the processor s390x", "scripts/up.sh", "mailpit")
    laptop.unpack()
    laptop.refuses("made without grafana", "scripts/up.sh")
    with (laptop.folder / "images/mailpit.tar.gz").open("r+b") as packed:
        packed.write(b"\xff")
    laptop.refuses("images/mailpit.tar.gz of the kit is damaged", "scripts/up.sh", *SERVICES)
    laptop.unpack()
    laptop.refuses("too little disk", "scripts/up.sh", *SERVICES)
    laptop.run("mount", "-o", "remount,size=1500m", "/mnt")


@pytest.fixture
def model(laptop, process):
    """The kit's own model, by its own port."""
    process(*laptop.command("./modelmock", "--value", "0.95", "--quiet"), stdout=subprocess.DEVNULL)


def test_without_rust_and_network_the_lab_passes_up_to_the_mail(laptop, model):
    said = laptop.run("scripts/up.sh", *SERVICES)
    for service in SERVICES:
        assert f"loading {image(f'.*/{service}')}" in said
    assert "pulling" not in said
    until(30, "the target is up", lambda: "1 of 1 up" in laptop.run("scripts/check.sh", "prometheus", code=None))
    laptop.run("scripts/check.sh", "exporter", *SERVICES)
    laptop.run("scripts/check.sh", "--alert")


def test_the_store_needs_no_more_than_the_kit(laptop):
    assert "Site b     http://localhost:19092" in laptop.run("scripts/store.sh", "up")
    laptop.run("scripts/store.sh", "down", "--volumes")


def test_what_to_do_next_is_said_without_rust(laptop):
    until(30, "the target is down", lambda: "connection refused" in laptop.run("scripts/check.sh", "prometheus", code=None))
    said = laptop.run("scripts/check.sh", "exporter", "prometheus", code=1)
    assert "start the model: ./modelmock" in said and "cargo" not in said
    assert "start it with ./modelmock" in laptop.run("scripts/up.sh", "prometheus")


def test_a_second_start_loads_nothing(laptop):
    said = laptop.run("scripts/up.sh", *SERVICES)
    assert "loading" not in said and "stays as it is" not in said


def test_the_exporter_is_a_container_bounded(lab, laptop, record_property):
    said = laptop.run("scripts/up.sh", "exporter", env={"MODELMOCK_FLAGS": "--value 0.25"})
    assert f"loading {lab.project}:" in said
    assert "model_result 0.25" in laptop.run("curl", "-s", "http://127.0.0.1:5000/")
    form = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.NetworkMode}}"
    assert laptop.run("docker", "inspect", "-f", form, "modelmock-exporter-1") == "65534:65534 true [ALL] host\n"
    size = laptop.run("docker", "image", "ls", "--format", "{{.Size}}", lab.project).strip()
    record_property("measured", f"the exporter's image: {size}")


def test_another_image_of_a_name_in_the_kit_stays_as_it_is(lab, laptop):
    laptop.run("scripts/down.sh")
    assert "exporter" not in laptop.run("docker", "ps", "-a")
    os.utime(laptop.folder / "modelmock", (0, 0))
    laptop.run("tar", "-cf", lab.work / "other.tar", "modelmock")
    [name] = re.findall(rf"{lab.project}:\S+", (laptop.folder / "stack/compose.yaml").read_text())
    laptop.run("docker", "import", "-c", 'ENTRYPOINT ["/modelmock"]', lab.work / "other.tar", name)
    other = laptop.run("docker", "image", "inspect", "-f", "{{.Id}}", name)
    said = laptop.run("scripts/up.sh", "exporter")
    assert f"another {name} is here than the kit's: it stays as it is" in said
    assert laptop.run("docker", "image", "inspect", "-f", "{{.Id}}", name) == other
    laptop.run("scripts/down.sh", "--volumes")
    assert laptop.run("docker", "ps", "-aq") == ""


def test_where_the_host_network_is_another_the_exporter_is_told_so(lab, laptop):
    """Its image has no program that could ask it from inside."""
    said = run("unshare", "--net", lab.root / "scripts/up.sh", "exporter", env=lab.env, code=1)
    assert "Docker's host network is not this machine's" in said and "template" not in said
