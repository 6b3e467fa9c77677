"""Follows the lab's page on drift. Its models draw and drift ten times as fast as there."""

import pytest

from lab import fetch_json, require_whole, until, value, vector
from walk import second_laptop

PROMETHEUS, MAILPIT = "http://localhost:9090", "http://localhost:8025"
SECOND = '- "localhost:5001"'


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("drift", request, "prom/prometheus", "prom/alertmanager", "axllent/mailpit") as walk:
        require_whole("prom/prometheus")
        walk.shell("mkdir my-stack && cd my-stack")
        walk.write_up_to("6-hand-in.md")
        walk.shell("docker compose up -d prometheus alertmanager mailpit")
        yield walk
        walk.shell("kill $(cat second.pid) || true")


def faster(command):
    return command.replace("--drift", "--interval 0.5 --drift").replace(" 600", " 60")


def restart(walk, targets):
    walk.type("docker compose restart prometheus")
    until(90, "the targets are up", lambda: value(PROMETHEUS, "sum(up)") == targets)


def writes(walk, targets):
    """Writes the next block, and the second target again, which no block of the page has."""
    walk.write()
    file = walk.root / "my-stack/prometheus.yml"
    if targets == 2:
        file.write_text(file.read_text().replace('- "localhost:5000"', f'- "localhost:5000"\n          {SECOND}'))


def firing(alert):
    """The models for which the alert fires."""
    query = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    return sorted(labels["instance"] for labels, _ in vector(PROMETHEUS, query))


def test_drift(walk):
    with walk.follows("drift.md"):
        walk.run_model(faster(walk.fence("sh")))
        unit_test = walk.fence("sh")
        for word, code in [("FAILED", 1), ("SUCCESS", 0)]:
            writes(walk, targets=1)
            assert walk.word(word) in walk.shell(unit_test, code)
        restart(walk, targets=1)
        distribution = walk.fence("promql")
        until(90, "the buckets", lambda: len(vector(PROMETHEUS, distribution)) == 10)

        walk.explains(SECOND, "prometheus.yml", "5000", "5001", "7")
        # A shell that runs in the background would keep the walk's pipe open.
        second = faster(walk.fence("sh")).removesuffix("&") + ">second.log 2>&1 & echo $! >second.pid"
        walk.shell(second)
        writes(walk, targets=2)
        restart(walk, targets=2)
        index = walk.fence("promql")
        until(90, "the index of both models", lambda: len(vector(PROMETHEUS, index)) == 2)
        until(180, "the alert on the mean", lambda: firing("ModelMeanHigh") == ["localhost:5000"])
        assert walk.type("echo $kind").strip() in ("narrow", "split")

        for code in (1, 0):
            writes(walk, targets=2)
            walk.shell(unit_test, code)
        restart(walk, targets=2)
        both = ["localhost:5000", "localhost:5001"]
        until(180, "the alert on the index", lambda: firing("ModelResultDrift") == both)
        assert "localhost:5001" not in firing("ModelMeanHigh")
        subjects = lambda: [mail["Subject"] for mail in fetch_json(f"{MAILPIT}/api/v1/messages")["messages"]]
        for model in both:
            until(60, "its mail", lambda: any("ModelResultDrift " + model in each for each in subjects()))
        walk.page.goto(PROMETHEUS)
        walk.press("Alerts")
        walk.matches("ModelResultDrift")
        walk.explains("FIRING", "ModelMeanHigh", "ModelResultDrift", "localhost:5001", "kill %1", '{job="model_mock"}')
        # The panels, whose clicks page 3 has.
        walk.explains("Edit", "Add", "Visualization", "Bar gauge", "Options", "Legend", "Custom", "{{le}}", "Format")
        walk.explains("Heatmap", "Type", "Instant", "Time series", "0.25")
        walk.explains("0+5x240", "level:metric:operations", "histogram_fraction", "ln", "clamp_min", "for: 1m")
        walk.explains("offset 1h")
        walk.explains("python3 tests/drift_simulation.py")
        walk.explains("stack/prometheus/rules/model.yml", "stack/prometheus/tests/model.yml")
