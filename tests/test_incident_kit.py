"""Incidents on other machines: in a kit, with the model as a container, and on Podman without root."""

import re
import shutil

import pytest

from engine import Engine
from lab import docker, edit, modelmock, run, without
from oncall import OnCall


def container_image(folder, name):
    """Makes an image of the model, as the kit holds one."""
    (folder / "image").mkdir()
    shutil.copy(modelmock(), folder / "image/modelmock")
    for library in re.findall(r"(/\S+) \(", run("ldd", modelmock())):
        place = folder / "image" / library[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    (folder / "image/Dockerfile").write_text('FROM scratch\nCOPY . /\nENTRYPOINT ["/modelmock"]\n')
    docker("build", "-q", "-t", name, folder / "image")


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_a_kit_without_cargo_and_without_grafana(make_lab, tmp_path, system):
    """On a Mac, the model is a container."""
    on_call = OnCall(make_lab, f"kit-{system}".lower())
    root, env = on_call.lab.root, without(tmp_path / "few", "cargo")
    shutil.rmtree(root / "target")
    shutil.rmtree(root / "src")
    (root / "Cargo.toml").unlink()
    (root / "images").mkdir()
    services = ["exporter", "prometheus", "alertmanager", "mailpit"]
    processor = docker("version", "-f", "{{.Server.Arch}}")
    (root / "sums").write_text("x\n")
    edit(root / "scripts/lib/common.sh", "^grafana +x ", "grafana  - ")
    if system == "Darwin":
        edit(on_call.lab.stack / "compose.yaml", r"image: modelmock:.*", f"image: {on_call.lab.project}:model")
        container_image(tmp_path, f"{on_call.lab.project}:model")
        (tmp_path / "few/uname").unlink()
        (tmp_path / "few/uname").write_text("#!/bin/sh\necho Darwin\n")
        (tmp_path / "few/uname").chmod(0o755)
    else:
        shutil.copy(modelmock(), root / "modelmock")
    # load_images compares the images by the names of this list.
    compose = (on_call.lab.stack / "compose.yaml").read_text()
    names = {name: re.search(rf"^  {name}:.*?image: (\S+)", compose, re.M | re.S)[1] for name in services}
    (root / "images/list").write_text("".join(f"{name} {names[name]} x {processor} 1 x\n" for name in services))
    assert "this kit lacks grafana" in on_call.do("start", "source", code=1, env=env)
    said = on_call.do("start", "hang", env=env)
    assert ("a container" in said) == (system == "Darwin") and "Grafana" not in said.split("is in incident/")[1]
    assert "FAIL  the cause is still there." in on_call.do("check", code=1, env=env)
    hints = "".join(on_call.do("hint", env=env) for _ in range(3))
    if system == "Darwin":
        assert "docker unpause" in hints
        docker("unpause", on_call.compose("ps", "-q", "exporter").strip())
    else:
        run("kill", "-CONT", re.search(r"kill -CONT (\d+)", hints)[1])
    # Compose by hand doesn't ask for Grafana's image.
    on_call.compose("up", "-d")
    assert "ok    a high result is mailed" in on_call.do("check", env=env)
    on_call.do("end", env=env)
    assert on_call.left() == []


def test_on_podman_without_root(make_lab):
    with Engine("oncall", program="podman"):
        on_call = OnCall(make_lab, "podman", own_ports=False)
        on_call.do("start", "volume")
        assert "FAIL  the cause is still there." in on_call.check(code=1)
        on_call.edit("compose.yaml", "- prometheus-data:/data", "- prometheus-data:/prometheus")
        on_call.compose("up", "-d")
        assert "ok    a high result is mailed" in on_call.check()
        on_call.end()
