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

from lab import ROOT, WORK, fetch, free_ports, modelmock, needs, run, start, until

COUNTERS = {
    "strace": "strace -f -y --output=",
    "valgrind": "valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file=",
}
MOCK = [sys.executable, ROOT / "tests/peers/mock.py"]


def scrape(client):
    client.request("GET", "/metrics")
    return client.getresponse().read()


def trace(counter, command, scrapes, new_connections=False):
    """What strace or valgrind writes about a program that is scraped this often."""
    needs(counter, counter)
    port = free_ports(1)[0]
    log = WORK / f"{counter}-{port}"
    process = start(*f"{COUNTERS[counter]}{log}".split(), *command, f"127.0.0.1:{port}", stdout=subprocess.DEVNULL)
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


def test_at_rest_it_wakes_up_at_most_50_times_a_minute(model, record_property):
    """Scraped every 5 s, as by Prometheus. Each wake-up follows a voluntary context switch."""
    if sys.platform != "linux":
        pytest.skip("context switches are read from procfs, which only Linux has")
    exporter = model()
    threads = pathlib.Path(f"/proc/{exporter.process.pid}/task")
    count = lambda: sum(
        int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", file.read_text(), re.M)[1])
        for file in threads.glob("*/status")
    )
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", exporter.port)) as client:
        scrape(client)
        time.sleep(1)
        before = count()
        for _ in range(4):
            time.sleep(5)
            scrape(client)
        switches = (count() - before) * 3
    record_property("measured", f"context switches a minute at rest: {switches}, at most 50")
    assert 12 <= switches <= 50


def test_a_scrape_takes_few_system_calls(record_property, tmp_path):
    """A kept-alive connection takes at most 1.5 times those of a bare loop: three calls, if the loop needs two."""
    new, _ = system_calls(exporter("--interval", "86400"), new_connections=True)
    _, kept = system_calls(exporter("--interval", "86400"))
    run("rustc", "--edition", "2024", "-o", tmp_path / "bare", ROOT / "tests/peers/bare.rs")
    (tmp_path / "response").write_text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx\n")
    _, bare = system_calls([tmp_path / "bare", tmp_path / "response"])
    record_property("measured", f"system calls for a scrape over a new connection: {new:.1f}, at most 35")
    kept_text = f"system calls for a scrape over a kept-alive connection, without procfs: {kept:.1f}"
    record_property("measured", f"{kept_text}, at most {bare * 1.5:.1f} (bare loop: {bare:.1f})")
    assert 10 <= new <= 35
    assert 1.5 <= kept <= bare * 1.5


def test_a_scrape_takes_a_quarter_of_the_instructions_of_a_mock_in_python(record_property):
    """With a result for each scrape, as at the default interval. The mock, too, reads its process metrics."""
    count = lambda *arguments: int(re.search(r"Collected : (\d+)", trace("valgrind", *arguments))[1])
    ours, mock = [
        (count(command, 41) - count(command, 1)) / 40 for command in (exporter("--interval", "0.12"), MOCK)
    ]
    record_property("measured", f"instructions for a scrape: {ours:.0f}, at most {mock / 4:.0f} (mock: {mock:.0f})")
    assert 1000 <= ours <= mock / 4
