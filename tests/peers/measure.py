"""What tests/bench.sh measures, once all is built: measure.py FOLDER [--quick]."""

import contextlib
import glob
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

HEADERS = {
    "User-Agent": "Prometheus/3.13.4",
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "5",
}
WORK = pathlib.Path(sys.argv[1])
ANSWER = WORK / "answer"
# What it is called, its command but for the address, and what it has on disk.
PEERS = {
    "modelmock": ("modelmock", "target/release/modelmock --quiet --listen", "target/release/modelmock"),
    "mock": ("Python mock", f"{WORK}/venv/bin/python tests/peers/mock.py", f"{WORK}/venv"),
    "naive": ("loop over tiny_http::Server", "target/peers/release/naive", "target/peers/release/naive"),
    "bare": ("bare loop on std", f"target/peers/release/bare {ANSWER}", "target/peers/release/bare"),
    "metrics_exporter": ("metrics-exporter-prometheus", "target/peers/release/metrics_exporter", "target/peers/release/metrics_exporter"),
    "prometheus_exporter": ("prometheus_exporter", "target/peers/release/prometheus_exporter", "target/peers/release/prometheus_exporter"),
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Peer:
    """A peer that runs until the end of its block."""

    def __init__(self, name):
        self.title, command, self.files = PEERS[name]
        self.port = free_port()
        self.command = [*command.split(), f"127.0.0.1:{self.port}"]
        self.client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)

    def __enter__(self):
        begun = time.perf_counter()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        while True:
            try:
                self.scrape()
                break
            except ConnectionRefusedError:
                self.client.close()
                if self.process.poll() is not None or time.perf_counter() - begun > 20:
                    self.process.kill()
                    sys.exit(f"{self.title} gives no answer on port {self.port}")
                time.sleep(0.0002)
        self.started_in = time.perf_counter() - begun
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def scrape(self):
        self.client.request("GET", "/metrics", headers=HEADERS)
        answer = self.client.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    def cpu(self):
        """The kernel's clock of the process, with its threads that have ended: clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def switches(self):
        """Those of the threads that there are; those of threads that ended are lost."""
        statuses = [pathlib.Path(path).read_text() for path in glob.glob(f"/proc/{self.process.pid}/task/*/status")]
        return sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", "".join(statuses))))

    def memory(self, pattern, file="smaps_rollup"):
        """In MiB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/{file}").read_text()
        return sum(map(int, re.findall(rf"{pattern}:\s*(\d+)", text))) / 1024

    def load(self, connections, seconds):
        """What wrk says, the scrapes a second, and the CPU time for each in µs."""
        before = self.cpu()
        wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{self.port}/metrics"]
        said = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
        number = int(re.search(r"(\d+) requests in", said)[1])
        return said, number / seconds, (self.cpu() - before) * 1e6 / number


def at_rest(peers, seconds):
    """Each peer's CPU time (ms) and context switches a minute, scraped every 5 s as Prometheus does."""

    def scrape_all():
        for peer in peers:
            peer.scrape()
            time.sleep(0.1)

    def figures():
        return [(peer.cpu() * 1000, peer.switches()) for peer in peers]

    scrape_all()
    time.sleep(2)
    before, begun = figures(), time.monotonic()
    for scrapes in range(seconds // 5):
        time.sleep(max(0, begun + scrapes * 5 - time.monotonic()))
        scrape_all()
    time.sleep(max(0, begun + seconds - time.monotonic()))
    minutes = (time.monotonic() - begun) / 60
    return [[(new - old) / minutes for old, new in zip(*each)] for each in zip(before, figures())]


def quick():
    passed = True

    def at_most(limit, figure, what):
        nonlocal passed
        print(f"measured: {what}: {figure:.1f}, at most {limit:.1f}")
        passed &= figure <= limit

    with Peer("modelmock") as ours, Peer("mock") as mock, Peer("bare") as bare:
        (spent, switches), (mock_spent, _) = at_rest([ours, mock], 30)
        at_most(mock_spent / 8, spent, f"ms of CPU time a minute at rest (the Python mock: {mock_spent:.1f})")
        at_most(50, switches, "context switches a minute at rest")
        costs = {peer: [] for peer in (mock, bare, ours)}
        for rounds in range(1, 11):
            for peer, seen in costs.items():
                seen.append(peer.load(4, 2)[2])
            mocks, bares, cost = map(statistics.median, costs.values())
            if rounds >= 3 and cost <= mocks / 60 and cost <= bares * 1.5:
                break
    what = f"µs of CPU time for a scrape, the median of {rounds} rounds"
    at_most(mocks / 60, cost, f"{what} (the Python mock: {mocks:.1f})")
    at_most(bares * 1.5, cost, f"{what} (a bare loop on std: {bares:.1f})")
    sys.exit(not passed)


def table(*head):
    print("\n| " + " | ".join(head) + " |\n| --- |" + " ---: |" * (len(head) - 1))


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def all_peers():
    print(time.strftime("%Y-%m-%d", time.gmtime()) + f", {os.uname().sysname} {os.uname().machine}, {os.cpu_count()} cores, wrk with one thread on the same machine, 5 s for each figure.")
    table("scraped every 5 s", "CPU time a minute", "context switches a minute", "private memory", "first answer after", "on disk")
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(name)) for name in PEERS]
        figures = [(*each, peer.memory(r"Private_\w+")) for peer, each in zip(peers, at_rest(peers, 120))]
    for name, (spent, switches, memory) in zip(PEERS, figures):
        starts = []
        for _ in range(10):
            with Peer(name) as peer:
                starts.append(peer.started_in * 1000)
        disk = subprocess.run(["du", "-sk", peer.files], capture_output=True, text=True, check=True).stdout
        row(peer.title, f"{spent:.1f} ms", f"{switches:.0f}", f"{memory:.2f} MiB", f"{statistics.median(starts):.1f} ms", f"{int(disk.split()[0]) / 1024:.1f} MiB")
    table("under load", "connections", "scrapes/s", "CPU time for a scrape", "median", "99th percentile", "peak of memory")
    costs = {}
    for name in PEERS:
        with Peer(name) as peer:
            for connections in (1, 4, 32):
                said, rate, cost = peer.load(connections, 5)
                median, last = (re.search(rf"{share}%\s+(\S+)", said)[1] for share in (50, 99))
                costs[name, connections] = cost
                row(peer.title, connections, f"{rate:.0f}", f"{cost:.1f} µs", median, last, f"{peer.memory('VmHWM', 'status'):.1f} MiB")
    ours, mock, bare = (costs[name, 4] for name in ("modelmock", "mock", "bare"))
    print(f"\nAt 4 connections a scrape of the exporter takes 1/{mock / ours:.0f} of the Python mock's CPU time, and {ours / bare:.2f} times that of the bare loop.")


def grow(number, image):
    """So many exporters under one Prometheus."""
    with contextlib.ExitStack() as stack:
        exporters = [stack.enter_context(Peer("modelmock")) for _ in range(number)]
        for exporter in exporters:
            exporter.client.close()
        targets = [f"127.0.0.1:{exporter.port}" for exporter in exporters]
        # What is JSON is YAML, too.
        scrape = {"job_name": "model_mock", "static_configs": [{"targets": targets}]}
        (WORK / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": "5s"}, "scrape_configs": [scrape]}))
        WORK.chmod(0o755)
        name, port = f"modelmock-bench-{os.getpid()}", free_port()
        mount = f"{WORK}/prometheus.yml:/prometheus.yml:ro"
        stack.callback(subprocess.run, ["docker", "rm", "-fv", name], stdout=subprocess.DEVNULL)
        flags = ["--config.file=/prometheus.yml", "--storage.tsdb.path=/prometheus", f"--web.listen-address=127.0.0.1:{port}"]
        subprocess.run(["docker", "run", "-d", "--name", name, "--network", "host", "-v", mount, image, *flags], check=True, stdout=subprocess.DEVNULL)
        time.sleep(31)

        def ask(expression):
            url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
            with urllib.request.urlopen(url) as answer:
                return float(json.load(answer)["data"]["result"][0]["value"][1])

        inspect = ["docker", "inspect", "-f", "{{.State.Pid}}", name]
        pid = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        held = re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]
        memory = sum(exporter.memory("Pss") for exporter in exporters)
        median, longest = (ask(f"{most}scrape_duration_seconds)") * 1000 for most in ("quantile(0.5, ", "max("))
        row(number, f"{ask('count(up == 1)'):.0f}", f"{memory:.1f} MiB", f"{int(held) / 1024:.1f} MiB", f"{median:.1f} ms", f"{longest:.1f} ms")


def main():
    with Peer("modelmock") as exporter:
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        ANSWER.write_bytes(subprocess.run(["curl", "-si", "--noproxy", "*", url], capture_output=True, check=True).stdout)
    if sys.argv[2:]:
        quick()
    all_peers()
    image = re.search(r"image: *(prom/prometheus:\S+)", pathlib.Path("stack/compose.yaml").read_text())[1]
    try:
        subprocess.run(["docker", "image", "inspect", image], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit(f"left out: many exporters under one Prometheus, as Docker does not have {image}")
    table("exporters, scraped every 5 s", "targets up", "memory of all exporters (shared memory counted once)", "memory of Prometheus", "median scrape", "longest scrape")
    for number in (1, 50, 200, 1000):
        grow(number, image)


main()
