"""The finished stack's own tests a second time, on Podman without root, in which the lab has its real ports."""

import json

import pytest

from engine import Engine
from finished_stack import *
from lab import docker, run


@pytest.fixture(scope="module", autouse=True)
def engine():
    with Engine("podman", program="podman") as engine:
        yield engine


def test_each_container_has_no_rights_and_stays_down_after_a_reboot(lab, engine):
    """By what the processes may do. On cgroup v1, Podman without root ignores limits of memory."""
    for service in lab.services:
        container = json.loads(docker("inspect", lab.container(service)))[0]
        status = run(*engine.command("cat", f"/proc/{container['State']['Pid']}/status"))
        assert "\nCapEff:\t0000000000000000\n" in status and "\nNoNewPrivs:\t1\n" in status, service
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"] and host["RestartPolicy"]["Name"] == "on-failure", service
        # Root in the container is the student, and not root on the machine.
        assert int(status.split("\nUid:\t")[1].split()[0]) >= 4242, service
