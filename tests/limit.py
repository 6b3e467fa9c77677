"""How many exporters one Prometheus scrapes each 5 s before scrapes are late or fail, and its memory there.

Each exporter has 50 names, as it takes 50 connections; all have the same cores. The container is bounded
as the stack's is; LIMIT_MEMORY bounds it otherwise, LIMIT_TARGETS names other numbers. Nobody's tests
depend on it, so it runs only where it is named: scripts/test.sh limit
"""

import json
import os
import time

import pytest

from lab import LABEL, RUN, docker, fetch, free_ports, image, until, value

MEMORY = os.environ.get("LIMIT_MEMORY", "512m")
TARGETS = [int(number) for number in os.environ.get("LIMIT_TARGETS", "2000 4000 6000").split()]


@pytest.mark.parametrize("targets", TARGETS)
def test_exporters_each_5_s(targets, model, tmp_path, record_property):
    prometheus = image("prom/prometheus")
    addresses = [f"127.0.0.1:{model().port}" for _ in range((targets + 49) // 50)]
    groups = [{"targets": [addresses[n // 50]], "labels": {"n": str(n)}} for n in range(targets)]
    scrape = {"job_name": "model_mock", "file_sd_configs": [{"files": ["/etc/prometheus/targets.json"]}]}
    # What is JSON is YAML, too.
    (tmp_path / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": "5s"}, "scrape_configs": [scrape]}))
    (tmp_path / "targets.json").write_text(json.dumps(groups))
    port, name = free_ports(1)[0], f"{RUN}-limit"
    bounds = ["--memory", MEMORY, "--memory-swap", MEMORY]
    started = ["run", "-d", "--label", LABEL, "--name", name, "--network", "host", *bounds, "-v", f"{tmp_path}:/etc/prometheus:ro"]
    files = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
    docker(*started, prometheus, *files, f"--web.listen-address=127.0.0.1:{port}")
    try:
        url = f"http://127.0.0.1:{port}"
        time.sleep(60)
        memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}, {{.CPUPerc}} of a core", name, code=None)
        up = until(20, "its answer", lambda: value(url, "sum(up)"))
        page = fetch(f"{url}/metrics")
        longest = page.split('prometheus_target_interval_length_seconds{interval="5s",quantile="0.99"} ')[1].split()[0]
        slowest = value(url, "max(scrape_duration_seconds)")
    finally:
        docker("rm", "-f", "-v", name)
    seen = f"{up:.0f} up, 99 % of the intervals at most {longest} s, the longest scrape {slowest} s, memory {memory}"
    record_property("measured", f"{targets} exporters: {seen}")
    assert up == targets and 0 < float(longest) <= 5.5, seen
