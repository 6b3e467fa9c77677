"""A student's way through the stack on a real engine. The tests build on each other, as the lab's steps do."""

import contextlib
import time

import pytest

from lab import docker, fetch, fetch_json, has_image, listens, needs, one_line, run, until

SERVICES = ["prometheus", "alertmanager", "mailpit"]


@pytest.fixture(scope="module")
def lab(make_lab):
    """All services whose image is here, with a model that is high for its first two results."""
    lab = make_lab("stack")
    lab.services = SERVICES + ["grafana"] * has_image("grafana/grafana")
    lab.model.start("--seed", "3")
    lab.said = lab.up(*lab.services)
    return lab


def test_it_comes_up(lab):
    assert f"http://localhost:{lab.ports[9090]}" in lab.said
    assert (lab.stack / ".env").stat().st_mode & 0o777 == 0o600
    until(20, "the target is up", lambda: lab.ask('count(up{job="model_mock"} == 1)') == 1)
    print(lab.run("check", "exporter", *lab.services))
