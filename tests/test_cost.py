"""What the exporter costs to run."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from lab import ENVIRONMENT, ROOT, WORK, fetch, free_ports, modelmock, needs, start, until


def test_private_memory_is_at_most_600_kib(model, record_property):
    if sys.platform != "linux":
        pytest.skip("memory is read from procfs, which only Linux has")
    exporter = model()
    for _ in range(3):
        fetch(f"http://127.0.0.1:{exporter.port}/metrics")
    time.sleep(1)
    status = pathlib.Path(f"/proc/{exporter.process.pid}/status").read_text()
    # The rest of its memory are pages of files, such as the C library, which differ from system to system.
    private = int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])
    record_property("measured", f"KiB of private memory at rest: {private}, at most 600")
    assert private <= 600


@pytest.mark.parametrize("kind, most", [("new", 35), ("kept", 3)])
def test_a_scrape_takes_few_system_calls(kind, most, record_property):
    """A pause of 0.12 s is longer than the process metrics are cached, so each new connection reads procfs."""
    needs("strace", "strace")
    needs("curl", "curl")
    port, counts = free_ports(1)[0], []
    address = f"http://127.0.0.1:{port}/metrics"
    curl = ["curl", "-q", "--noproxy", "*", "-sf", "-o", "/dev/null"]
    for scrapes in (1, 41):
        log = WORK / f"strace-{kind}-{scrapes}"
        command = [modelmock(), "--quiet", "--interval", "86400", "--listen", f"127.0.0.1:{port}"]
        process = start("strace", "-f", "-o", log, *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(10, "the traced exporter", lambda: process.poll() is None and fetch(address))
        if kind == "kept":
            # One curl keeps its connection for all its transfers.
            subprocess.run([*curl, *[address, "-o", "/dev/null"] * scrapes], check=True)
        else:
            for _ in range(scrapes):
                subprocess.run([*curl, address], check=True)
                time.sleep(0.12)
        time.sleep(0.5)
        # If strace itself is stopped, the program runs on.
        os.kill(int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()), signal.SIGTERM)
        process.wait(10)
        counts.append(sum(not re.search(r" resumed>| --- | \+\+\+ ", line) for line in log.read_text().splitlines()))
    calls = (counts[1] - counts[0]) / 40
    record_property("measured", f"system calls for a scrape over a {kind} connection: {calls:.1f}, at most {most}")
    assert 1.5 <= calls <= most


def test_it_costs_a_fraction_of_a_mock_in_python(record_property):
    command = ROOT / "tests/bench.sh"
    done = subprocess.run([command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    if done.returncode == 3:
        pytest.skip(done.stdout.splitlines()[-1])
    for figure in re.findall(r"^measured: (.*)", done.stdout, re.M):
        record_property("measured", figure)
    assert done.returncode == 0, done.stdout + done.stderr
