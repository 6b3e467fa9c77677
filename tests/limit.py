"""How many models the finished stack's Prometheus, or two sites and the Thanos store, scrape every 5 s on one machine.

No other test depends on it, so it runs only by name: scripts/test.sh limit, or scripts/test.sh limit -k thanos
"""

import json
import re
import time

import pytest

from lab import docker, fetch, fetch_json, image, until, value

CASES = [("one", 2000), ("one", 4000), ("one", 6000), ("thanos", 1000), ("thanos", 2000), ("thanos", 3000)]
FOLDERS = {"one": ["prometheus/targets"], "thanos": ["store/site-a", "store/site-b"]}


@pytest.mark.parametrize("kind, count", CASES)
def test_models_every_5_s(kind, count, make_lab, model, record_property):
    image("prom/prometheus" if kind == "one" else "quay.io/thanos/thanos")
    lab = make_lab(f"limit-{kind}-{count}")
    # A model accepts 50 connections.
    models = [model() for _ in range((count + 49) // 50)]
    groups = [{"targets": [f"127.0.0.1:{models[n // 50].port}"], "labels": {"n": str(n)}} for n in range(count)]
    for number, folder in enumerate(FOLDERS[kind]):
        # JSON is YAML, too.
        (lab.stack / folder / "targets.yml").write_text(json.dumps(groups[number::len(FOLDERS[kind])]))
    lab.run(*(["up", "prometheus"] if kind == "one" else ["store", "up", "thanos"]))
    time.sleep(60)
    ids = docker("ps", "-q", "--filter", f"name={lab.project}-").split()
    memory = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.CPUPerc}}", *ids)
    restarts = sum(map(int, docker("inspect", "-f", "{{.RestartCount}}", *ids).split()))
    url, scrapers = (lab.prometheus, [9090]) if kind == "one" else (lab.store, [19091, 19092])
    pages = [fetch(f"http://127.0.0.1:{lab.ports[port]}/metrics") for port in scrapers]
    name = r'prometheus_target_interval_length_seconds{interval="5s",quantile="0.99"}'
    interval = max(float(re.search(rf"^{name} (\S+)$", page, re.M)[1]) for page in pages)
    up = until(30, "the number of models that are up", lambda: value(url, "sum(up{n!=''})"))
    slowest = 0
    for query in re.findall(r'"expr": "((?:\\.|[^"\\])*)"', (lab.stack / "grafana/dashboards/class.json").read_text()):
        query = re.sub(r"\$\w+", ".*", json.loads(f'"{query}"').replace("$__range", "15m"))
        began = time.monotonic()
        times = {"start": time.time() - 900, "end": time.time(), "step": 5}
        fetch_json(f"{url}/api/v1/query_range", timeout=60, query=query, **times)
        slowest = max(slowest, time.monotonic() - began)
    seen = f"{up:.0f} up, 99 % of the intervals at most {interval} s, the slowest query {slowest:.1f} s"
    seen += f", {restarts} restarts"
    record_property("measured", f"{kind}, {count} models: {seen}, {'; '.join(memory.splitlines())}")
    assert up == count and interval <= 5.5 and slowest <= 5 and not restarts, seen
