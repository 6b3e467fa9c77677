"""What the exporter costs to run: counted, as a count is the same on a busy machine, unlike a time."""

import contextlib
import http.client
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from lab import WORK, free_ports, modelmock, needs, start, until

# The words before the name of the file that gets the counts.
COUNTERS = {
    "strace": ["strace", "-f", "-y", "--output="],
    "valgrind": ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-file="],
}
# The same model in Python. Its address is the next argument.
MOCK = """
import random, sys, time, prometheus_client
result = prometheus_client.Gauge("model_result", "The latest result of the model")
prometheus_client.start_http_server(int(sys.argv[1].split(":")[1]), addr="127.0.0.1")
while True:
    result.set(random.random())
    time.sleep(5)
"""


def scrape(client):
    client.request("GET", "/metrics")
    return client.getresponse().read()


def trace(counter, command, scrapes, new_connections=False):
    """What strace or valgrind writes about a program that is scraped this often."""
    needs(counter, counter, only="linux")
    port = free_ports(1)[0]
    log = WORK / f"{counter}-{port}"
    *words, option = COUNTERS[counter]
    process = start(*words, f"{option}{log}", *command, f"127.0.0.1:{port}", stdout=subprocess.DEVNULL)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        until(60, "the traced program", lambda: client.close() or scrape(client))
        for _ in range(scrapes):
            # Longer than the process metrics are cached, so each scrape reads procfs.
            time.sleep(0.12)
            if new_connections:
                client.close()
            scrape(client)
    time.sleep(0.5)
    # strace is another process than the program; if it is stopped, the program runs on.
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    os.kill(int(children or process.pid), signal.SIGTERM)
    process.wait(20)
    return log.read_text()


def system_calls(command, **named):
    """The system calls of a scrape, and those of them that don't read procfs: 41 scrapes less one."""
    counts = []
    for scrapes in (41, 1):
        lines = [
            line for line in trace("strace", command, scrapes, **named).splitlines()
            if not re.search(r" resumed>| --- | \+\+\+ ", line)
        ]
        counts.append((len(lines), sum("/proc/" not in line for line in lines)))
    return [(many - few) / 40 for many, few in zip(*counts)]


def exporter(*flags):
    return [modelmock(), "--quiet", *flags, "--listen"]


def test_at_rest_it_holds_at_most_600_kib_and_wakes_up_at_most_50_times_a_minute(model, record_property):
    """Scraped every 5 s, as by Prometheus. Each wake-up follows a voluntary context switch."""
    if sys.platform != "linux":
        pytest.skip("memory and context switches are read from procfs, which only Linux has")
    exporter = model()
    process = pathlib.Path(f"/proc/{exporter.process.pid}")
    number = lambda field, file: int(re.search(rf"^{field}:\s*(\d+)", file.read_text(), re.M)[1])
    count = lambda: sum(number("voluntary_ctxt_switches", file) for file in process.glob("task/*/status"))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", exporter.port)) as client:
        scrape(client)
        time.sleep(1)
        before = count()
        for _ in range(4):
            time.sleep(5)
            scrape(client)
        switches = (count() - before) * 3
    # The rest of its memory are pages of files, such as the C library, which differ from system to system.
    private = number("RssAnon", process / "status")
    record_property("measured", f"KiB of private memory at rest: {private}, at most 600")
    record_property("measured", f"context switches a minute at rest: {switches}, at most 50")
    assert 12 <= switches <= 50 and private <= 600


def test_a_scrape_takes_few_system_calls(record_property):
    """Over a kept-alive connection, the least is two: one call reads the request, and one writes the response."""
    new, _ = system_calls(exporter("--interval", "86400"), new_connections=True)
    _, kept = system_calls(exporter("--interval", "86400"))
    record_property("measured", f"system calls for a scrape over a new connection: {new:.1f}, at most 35")
    record_property("measured", f"system calls over a kept-alive one, without procfs: {kept:.1f}, at most 3")
    assert 10 <= new <= 35
    assert 1.5 <= kept <= 3


def test_a_scrape_takes_a_quarter_of_the_instructions_of_a_mock_in_python(record_property):
    """With a result for each scrape, as at the default interval. The mock, too, reads its process metrics."""
    count = lambda *arguments: int(re.search(r"Collected : (\d+)", trace("valgrind", *arguments))[1])
    commands = exporter("--interval", "0.12"), [sys.executable, "-c", MOCK]
    ours, mock = [(count(command, 41) - count(command, 1)) / 40 for command in commands]
    record_property("measured", f"instructions for a scrape: {ours:.0f}, at most {mock / 4:.0f} (mock: {mock:.0f})")
    assert 1000 <= ours <= mock / 4
