"""Measures the exporter and its peers, which tests/bench.sh has built in FOLDER: measure.py FOLDER EXPORTER."""

import glob
import http.client
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

FOLDER, EXPORTER = pathlib.Path(sys.argv[1]), sys.argv[2]
HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": "5"}


class Peer:
    """A program that serves on a port of its own, until the end of the block."""

    def __init__(self, *command):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.command = [*command, f"127.0.0.1:{self.port}"]
        self.client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.scrape()
                return self
            except ConnectionRefusedError:
                self.client.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    sys.exit(f"{self.command[0]} doesn't answer on port {self.port}")
                time.sleep(0.01)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def scrape(self):
        """Returns the response as it was sent, apart from the order of its headers."""
        self.client.request("GET", "/metrics", headers=HEADERS)
        response = self.client.getresponse()
        assert response.status == 200, response.status
        head = "".join(f"{name}: {value}\r\n" for name, value in response.getheaders())
        return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + response.read()

    def cpu(self):
        """CPU time with the threads that have ended (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def switches(self):
        """Context switches of the threads that run."""
        statuses = [pathlib.Path(path).read_text() for path in glob.glob(f"/proc/{self.process.pid}/task/*/status")]
        return sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", "".join(statuses))))

    def load(self):
        """CPU time of a scrape in µs, while four connections send scrapes for two seconds."""
        before = self.cpu()
        wrk = ["wrk", "-t1", "-c4", "-d2s", f"http://127.0.0.1:{self.port}/metrics"]
        output = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
        return (self.cpu() - before) * 1e6 / int(re.search(r"(\d+) requests in", output)[1])


def at_rest(peers, seconds):
    """CPU time (ms) and context switches of each peer in a minute, scraped every 5 s as by Prometheus."""
    for peer in peers:
        peer.scrape()
    time.sleep(2)
    start, before = time.monotonic(), [(peer.cpu() * 1000, peer.switches()) for peer in peers]
    for number in range(seconds // 5):
        time.sleep(max(0, start + number * 5 - time.monotonic()))
        for peer in peers:
            peer.scrape()
    time.sleep(max(0, start + seconds - time.monotonic()))
    after, minutes = [(peer.cpu() * 1000, peer.switches()) for peer in peers], (time.monotonic() - start) / 60
    return [[(new - old) / minutes for old, new in zip(*pair)] for pair in zip(before, after)]


def main():
    results = []

    def at_most(limit, figure, what):
        print(f"measured: {what}: {figure:.1f}, at most {limit:.1f}")
        results.append(figure <= limit)

    with Peer(EXPORTER, "--quiet", "--listen") as ours, Peer(FOLDER / "venv/bin/python", "tests/peers/mock.py") as mock:
        (FOLDER / "response").write_bytes(ours.scrape())
        with Peer(FOLDER / "bare", FOLDER / "response") as bare:
            (spent, switches), (mock_spent, _) = at_rest([ours, mock], 30)
            at_most(mock_spent / 8, spent, f"ms of CPU time a minute at rest (Python mock: {mock_spent:.1f})")
            at_most(50, switches, "context switches a minute at rest")
            costs = {peer: [] for peer in (ours, mock, bare)}
            # More rounds than three only if these are over a limit.
            for rounds in range(1, 11):
                for peer, seen in costs.items():
                    seen.append(peer.load())
                cost, of_mock, of_bare = map(statistics.median, costs.values())
                if rounds >= 3 and cost <= min(of_mock / 60, of_bare * 1.5):
                    break
    what = f"µs of CPU time for a scrape, the median of {rounds} rounds"
    at_most(of_mock / 60, cost, f"{what} (Python mock: {of_mock:.1f})")
    at_most(of_bare * 1.5, cost, f"{what} (bare loop: {of_bare:.1f})")
    sys.exit(not all(results))


main()
