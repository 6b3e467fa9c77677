"""The client that measures, and is there before what it measures.

scraper.py rest SECONDS NAME=PID=URL...  scrapes each URL every 5 s as Prometheus does, and prints for
                                         each name, tab-separated: CPU time (ms a minute), context
                                         switches a minute, private memory (MiB)
scraper.py start ROUNDS URL COMMAND...   starts the command and prints the median time until its first
                                         answer (ms)
scraper.py cpu PID                       prints the CPU time of a process so far (ns)
"""

import glob
import http.client
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse

HEADERS = {
    "User-Agent": "Prometheus/3.13.4",
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "5",
}


def cpu(pid):
    """The kernel's clock of a whole process, with the threads that have ended: clock_getcpuclockid(3)."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def switches(pid):
    """The context switches of the threads that there are; those of threads that ended are lost."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path) as status:
            total += sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", status.read())))
    return total


def private_memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as memory:
        return sum(map(int, re.findall(r"Private_\w+:\s*(\d+)", memory.read()))) / 1024


class Scraper:
    def __init__(self, url):
        url = urllib.parse.urlsplit(url)
        self.path = url.path
        self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)

    def scrape(self):
        self.connection.request("GET", self.path, headers=HEADERS)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status


def rest(seconds, *targets):
    targets = [target.split("=", 2) for target in targets]
    targets = [(name, int(pid), Scraper(url)) for name, pid, url in targets]

    def scrape_all():
        for _, _, scraper in targets:
            scraper.scrape()
            time.sleep(0.1)

    def figures():
        return [(cpu(pid), switches(pid)) for _, pid, _ in targets]

    scrape_all()
    time.sleep(2)
    before = figures()
    begun = time.monotonic()
    for scrapes in range(int(seconds) // 5):
        time.sleep(max(0, begun + scrapes * 5 - time.monotonic()))
        scrape_all()
    time.sleep(max(0, begun + int(seconds) - time.monotonic()))
    minutes = (time.monotonic() - begun) / 60
    for (name, pid, _), old, new in zip(targets, before, figures()):
        spent = (new[0] - old[0]) / 1e6 / minutes
        switched = (new[1] - old[1]) / minutes
        print(f"{name}\t{spent:.1f}\t{switched:.0f}\t{private_memory(pid):.2f}")


def start(rounds, url, *command):
    address = urllib.parse.urlsplit(url)
    took = []
    for _ in range(int(rounds)):
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            while True:
                try:
                    with socket.create_connection((address.hostname, address.port)) as client:
                        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        assert client.recv(1)
                    break
                except ConnectionRefusedError:
                    if server.poll() is not None:
                        sys.exit(f"{command[0]} ended with code {server.returncode}")
                    time.sleep(0.0002)
            took.append(time.perf_counter() - begun)
            server.terminate()
    print(f"{statistics.median(took) * 1000:.1f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rest", *arguments]:
            rest(*arguments)
        case ["start", *arguments]:
            start(*arguments)
        case ["cpu", pid]:
            print(cpu(int(pid)))
        case _:
            sys.exit(__doc__)
