"""How many models two sites and the Thanos store take on one machine, until scrapes or answers are late.

Each exporter has 50 names; half of them is site a's. LIMIT_TARGETS names other numbers. Nobody's tests
depend on it, so it runs only where it is named: scripts/test.sh limit_thanos
"""

import json
import os
import re
import time

import pytest

from lab import LABEL, docker, fetch, fetch_json, image, until, value

TARGETS = [int(number) for number in os.environ.get("LIMIT_TARGETS", "1000 2000 3000").split()]
SERVICES = ["store", "router", "receive-1", "receive-2", "receive-3", "site-a", "site-b"]


@pytest.mark.parametrize("targets", TARGETS)
def test_models_each_5_s(targets, make_lab, model, record_property):
    image("prom/prometheus")
    image("quay.io/thanos/thanos")
    lab = make_lab(f"limit-{targets}")
    models = [model() for _ in range((targets + 49) // 50)]
    groups = [{"targets": [f"127.0.0.1:{models[n // 50].port}"], "labels": {"n": str(n), "class": f"class-{n % 2}"}} for n in range(targets)]
    for site, its in (("a", groups[::2]), ("b", groups[1::2])):
        # What is JSON is YAML, too.
        (lab.stack / f"store/site-{site}/targets.yml").write_text(json.dumps(its))
    lab.run("store", "up", "thanos")
    time.sleep(60)
    names = [f"{lab.project}-store-{service}-1" for service in SERVICES]
    memory = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.CPUPerc}}", *names).replace(f"{lab.project}-store-", "")
    disk = ("run", "--rm", "--label", LABEL, "--user", "root", "-v", f"{lab.project}-store_receive-1-data:/disk", "--entrypoint", "du")
    kilobytes = docker(*disk, image("prom/prometheus"), "-sk", "/disk").split()[0]
    restarts = sum(map(int, docker("inspect", "-f", "{{.RestartCount}}", *names).split()))
    pages = [fetch(f"http://127.0.0.1:{lab.ports[port]}/metrics") for port in (19091, 19092)]
    interval = max(metric(page, r'prometheus_target_interval_length_seconds{interval="5s",quantile="0.99"}') for page in pages)
    sent = "prometheus_remote_storage_queue_highest_%stimestamp_seconds{.*}"
    behind = max(metric(page, sent % "") - metric(page, sent % "sent_") for page in pages)
    up = until(30, "its answer", lambda: value(lab.store, "sum(up)"))
    slowest = 0
    for query in re.findall(r'"expr": "((?:\\.|[^"\\])*)"', (lab.stack / "grafana/dashboards/class.json").read_text()):
        query = json.loads(f'"{query}"').replace("$class", ".*").replace("$__range", "15m")
        began = time.monotonic()
        fetch_json(f"{lab.store}/api/v1/query_range", timeout=60, query=query, start=time.time() - 900, end=time.time(), step=5)
        slowest = max(slowest, time.monotonic() - began)
    seen = (
        f"{up:.0f} up, 99 % of the intervals at most {interval} s, written {behind:.0f} s behind, the dashboard's slowest query {slowest:.1f} s, "
        f"{restarts} restarts, {kilobytes} kB at a receiver, {'; '.join(memory.splitlines())}"
    )
    record_property("measured", f"{targets} models: {seen}")
    assert up == targets and interval <= 5.5 and behind <= 15 and slowest <= 5 and not restarts, seen


def metric(page, name):
    return float(re.search(rf"^{name} (\S+)$", page, re.M)[1])
