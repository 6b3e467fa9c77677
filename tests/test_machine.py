"""The option machine of the finished stack: node_exporter, its target, its check, and the values of its dashboard."""

import json

import pytest

from lab import ROOT, fetch_json, replace_file, require_image, until
from promtool import promtool

DASHBOARD = ROOT / "stack/grafana/dashboards/machine.json"
MACHINE = 'job="machine", instance="localhost:9100"'
SERIES = {
    'node_cpu_seconds_total{%s, cpu="0", mode="idle"}': "0+5x20",
    'node_cpu_seconds_total{%s, cpu="1", mode="idle"}': "0+2.5x20",
    "node_memory_MemAvailable_bytes{%s}": "6x20",
    "node_memory_MemTotal_bytes{%s}": "8x20",
    'node_filesystem_avail_bytes{%s, device="disk", fstype="ext4", mountpoint="/"}': "25x20",
    'node_filesystem_size_bytes{%s, device="disk", fstype="ext4", mountpoint="/"}': "100x20",
    'node_filesystem_avail_bytes{%s, device="disk", fstype="ext4", mountpoint="/twice"}': "25x20",
    'node_filesystem_size_bytes{%s, device="disk", fstype="ext4", mountpoint="/twice"}': "100x20",
    'node_filesystem_avail_bytes{%s, device="memory", fstype="tmpfs", mountpoint="/tmp"}': "5x20",
    'node_filesystem_size_bytes{%s, device="memory", fstype="tmpfs", mountpoint="/tmp"}': "10x20",
    'ALERTS{alertname="MachineBusy", alertstate="firing", %s}': "1x20",
    'ALERTS{alertname="MachineDiskFills", alertstate="pending", %s}': "1x20",
}
VALUES = {
    "Processor": [{MACHINE: 0.25}],
    "Memory in use": [{MACHINE: 0.25}],
    "Disks in use": [{'device="disk"': 0.75}],
    "Alerts": [{"": 2}, {"": 1}],
}


def test_each_query_of_the_dashboard_gives_the_expected_value(tmp_path):
    tests = []
    panels = {panel["title"]: panel["targets"] for panel in json.loads(DASHBOARD.read_text())["panels"]}
    assert set(panels) == set(VALUES)
    for title, targets in panels.items():
        for target, values in zip(targets, VALUES[title], strict=True):
            samples = [{"labels": f"{{{labels}}}", "value": value} for labels, value in values.items()]
            tests.append({"expr": f"round({target['expr']}, 0.000001)", "eval_time": "60s", "exp_samples": samples})
    series = [{"series": name % MACHINE, "values": values} for name, values in SERIES.items()]
    test = {"interval": "5s", "input_series": series, "promql_expr_test": tests}
    rules = ROOT / "stack/prometheus/rules/machine.yml"
    replace_file(tmp_path / "machine.yml", rules.read_text())
    whole = {"rule_files": ["machine.yml"], "evaluation_interval": "5s", "tests": [test]}
    replace_file(tmp_path / "values.yml", json.dumps(whole))
    promtool("test", "rules", "values.yml", folder=tmp_path)


@pytest.fixture(scope="module")
def lab(make_lab):
    require_image("prom/node-exporter")
    lab = make_lab("machine")
    lab.up("prometheus")
    return lab


def targets(lab):
    found = fetch_json(f"{lab.prometheus}/api/v1/targets?state=active")["data"]["activeTargets"]
    return {target["labels"]["job"]: target["health"] for target in found}


def test_the_machine_is_a_target_only_while_its_exporter_runs(lab):
    until(60, "the model is scraped", lambda: targets(lab) == {"model_mock": "up"})
    lab.run("up", "machine")
    until(60, "the machine is scraped", lambda: targets(lab).get("machine") == "up")
    # The disks of the machine, not those of the container.
    root = 'node_filesystem_size_bytes{job="machine", mountpoint="/"}'
    until(60, "the size of the disk", lambda: lab.ask(root))
    output = lab.run("check", "machine")
    assert output.count("\nok ") == 4 and "4 passed, 0 failed" in output, output
    assert "its processor is" in output and "1 found" in output, output
    lab.run("down")
    lab.up("prometheus")
    until(60, "the model is scraped", lambda: targets(lab) == {"model_mock": "up"})
    assert "node-exporter" in lab.run("check", "machine", code=1)
