"""Follows the lab's page on the laptop itself: its exporter, its queries, the load, and the times of the rules."""

import json
import re
import signal

import pytest

import my_stack
from lab import ROOT, docker, fetch, fetch_json, replace_file, start, until, value, vector
from promtool import promtool
from walk import second_laptop

PROMETHEUS, MAILPIT = "http://localhost:9090", "http://localhost:8025"
IMAGES = ["prom/prometheus", "prom/node-exporter", "prom/alertmanager", "axllent/mailpit"]
PAGE = (ROOT / "stack/lab/machine.md").read_text(encoding="utf-8")
CORE = 'node_cpu_seconds_total{instance="localhost:9100", job="machine", cpu="%s", mode="idle"}'


def assert_alerts(tmp_path, busy, expectations):
    """Asserts which alerts the page's rules give, by promtool: the cores are busy from 60 s on, for that time."""
    files = my_stack.assemble(my_stack.core_text(ROOT) + PAGE)
    replace_file(tmp_path / "rules.yml", files["rules.yml"])
    steps = busy // 5
    idle = f"0+5x12 60x{steps - 1} 65+5x60"
    series = [{"series": CORE % core, "values": idle} for core in "01"]
    tests = []
    for seconds, states in expectations:
        query = 'count by (alertname, alertstate) (ALERTS{alertname=~"Machine.*"})'
        samples = [
            {"labels": f'{{alertname="{name}", alertstate="{state}"}}', "value": 1} for name, state in states.items()
        ]
        tests.append({"expr": query, "eval_time": f"{60 + seconds}s", "exp_samples": samples})
    test = {"interval": "5s", "input_series": series, "promql_expr_test": tests}
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "5s", "tests": [test]}
    replace_file(tmp_path / "test.yml", json.dumps(whole))
    promtool("test", "rules", "test.yml", folder=tmp_path)


def test_the_rule_is_pending_after_half_a_minute_and_fires_after_90_s(tmp_path):
    for promise in ("**PENDING** after half a minute", "After 40 seconds, no mail", "90\nseconds it is **FIRING**"):
        assert promise in PAGE
    nervous = {"MachineNervous": "firing"}
    expectations = [
        (10, {}),
        (40, nervous | {"MachineBusy": "pending"}),
        (80, nervous | {"MachineBusy": "pending"}),
        (95, nervous | {"MachineBusy": "firing"}),
        (150, {}),  # 30 s after the end
    ]
    assert_alerts(tmp_path, 120, expectations)


def test_25_s_of_load_alarm_only_the_nervous_rule(tmp_path):
    nervous = {"MachineNervous": "firing"}
    assert_alerts(tmp_path, 25, [(20, nervous), (25, nervous | {"MachineBusy": "pending"}), (60, {})])


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("machine", request, *IMAGES) as walk:
        walk.shell("mkdir my-stack && cd my-stack")
        walk.run_model("cargo run --release -- --value 0.5")
        yield walk


def runs(walk, command, name, ending):
    """Runs a container of the text in a terminal, and ends it with the signal."""
    process = start("sh", "-c", f"exec {command}", cwd=walk.root)
    until(60, f"the container {name}", lambda: docker("ps", "-q", "--filter", f"name={name}").strip())
    yield
    process.send_signal(ending)
    until(90, f"the end of {name}", lambda: not docker("ps", "-aq", "--filter", f"name={name}").strip())
    process.wait(90)


def test_the_machine(walk):
    with walk.follows("machine.md"):
        walk.write_up_to("6-hand-in.md")
        walk.write(2)
        walk.shell(walk.word("docker compose up -d") + " prometheus node-exporter alertmanager mailpit")
        walk.type("docker compose restart prometheus")
        check = walk.word("../scripts/check.sh prometheus")
        promised = walk.word("its targets are up: 2 of 2 up")
        until(90, promised, lambda: promised in walk.shell(check, code=None))
        assert walk.type("curl -s localhost:9100/metrics").count("\nnode_") > 200
        rows = re.findall(r"^\| `([^`]+)` \| ", PAGE, re.M)
        assert len(rows) == 6
        for query in rows:
            until(60, f"an answer to {query}", lambda: vector(PROMETHEUS, query))
        shares = [value(PROMETHEUS, f"avg({query})") for query in rows[3:]]
        assert all(0 <= share <= 1 for share in shares), shares

        walk.write()
        walk.type("docker compose restart prometheus")
        active = lambda: fetch_json(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
        alerts = lambda: {each["labels"]["alertname"]: each for each in active()}
        # An end of the terminal ends the load, too.
        burn = walk.fence("sh")
        for ending in (signal.SIGHUP, signal.SIGINT):
            load = runs(walk, burn, "burn", ending)
            next(load)
            if ending == signal.SIGINT:
                # Other tests may have loaded the cores before: the test above holds the times.
                until(90, "MachineBusy is pending", lambda: "MachineBusy" in alerts())
                until(120, "MachineBusy fires", lambda: alerts()["MachineBusy"]["state"] == "firing")
                subject = walk.word("[FIRING:1] MachineBusy localhost:9100 (warning)")
                until(60, "the mail", lambda: subject in fetch(f"{MAILPIT}/api/v1/messages?limit=500"))
            next(load, None)
        fill = walk.fence("sh")
        available = lambda: value(PROMETHEUS, "node_memory_MemAvailable_bytes")
        before = until(60, "the memory", available)
        load = runs(walk, fill, "fill", signal.SIGINT)
        next(load)
        # Other tests use memory, too.
        until(60, "less memory is available", lambda: before - available() > 300e6)
        next(load, None)
        for query in walk.fence("promql").splitlines():
            until(60, f"an answer to {query}", lambda: vector(PROMETHEUS, query) is not None)
        walk.word("../scripts/check.sh machine")
        assert "FAIL" not in walk.shell("../scripts/check.sh machine")
        # Page 3's walk clicks a dashboard together.
        walk.explains(
            "Machine", "Table", "Standard options", "Unit", "Misc / Percent (0.0-1.0)", "Add", "Visualization"
        )
        walk.explains("PENDING", "FIRING", "Ctrl+C", "0.9%", "rslave", "pid: host", "nobody", "my-stack")
        walk.explains("node_memory_MemFree_bytes", "MemAvailable", "MachineNervous", "for: 10m")
        walk.explains("[RESOLVED] MachineBusy localhost:9100 (warning)", "scripts/up.sh machine")
        walk.explains("stack/prometheus/rules/machine.yml")
        walk.explains(re.search(r"`(predict_linear.*?)`", PAGE)[1])
