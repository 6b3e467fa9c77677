"""Follows the README's section 5.4 and the extension on drift: rule, route, mail, silence."""

import re
import time

import pytest

from lab import fetch, fetch_json, until, value
from reader import needs_web_pages, second_laptop

PROMETHEUS, ALERTMANAGER, MAILPIT = "http://localhost:9090", "http://localhost:9093", "http://localhost:8025"
HIGH = "[FIRING:1] ModelResultHigh localhost:5000 (model_mock)"
RESOLVED = "[RESOLVED] ModelResultHigh localhost:5000 (model_mock)"


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("alert", request, "prom/prometheus", "prom/alertmanager", "axllent/mailpit") as walk:
        walk.terminal.type("mkdir my-stack && cd my-stack")
        walk.run_model("cargo run --release -- --seed 7")
        yield walk


def start_stack(walk, command):
    """The stack without Grafana, which this part doesn't need."""
    compose = walk.root / "my-stack/compose.yaml"
    compose.write_text(re.sub(r"  grafana:\n(    .*\n)*", "", compose.read_text()))
    output, code = walk.terminal.type(command)
    assert not code, output
    for url in (f"{PROMETHEUS}/-/ready", f"{ALERTMANAGER}/-/ready", f"{MAILPIT}/readyz"):
        until(30, url, lambda: fetch(url) or True)


def mails(subject):
    return [mail["Subject"] for mail in fetch_json(f"{MAILPIT}/api/v1/messages?limit=500")["messages"]].count(subject)


def state(alert="ModelResultHigh"):
    alerts = fetch_json(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
    return next((each["state"] for each in alerts if each["labels"]["alertname"] == alert), "inactive")


def test_alertmanager_and_mailpit(walk):
    with walk.section("Alertmanager and Mailpit"):
        in_alertmanager(walk, walk.page)


def in_alertmanager(walk, page):
    walk.write(13)
    start_stack(walk, walk.word("docker compose up -d"))
    for url in (PROMETHEUS, ALERTMANAGER, MAILPIT):
        needs_web_pages(url)
    check = walk.word("../scripts/check.sh prometheus alertmanager mailpit")
    output = until(30, "check.sh", lambda: [text for text, code in [walk.terminal.type(check)] if not code])[0]
    lines = [line for line in output.splitlines() if re.match("ok|open|FAIL", line)]
    assert [line for line in lines if not line.startswith("ok")] == [
        line for line in lines if line.startswith(f"{walk.word('open')}  {walk.word('no notification failed')}: ")
    ], output
    walk.explains("ok")

    # A high result, as it happens now and then: pending, and never firing.
    walk.run_model("cargo run --release -- --value 0.95")
    until(20, "it is pending", lambda: state() == "pending")
    page.goto(walk.link("http://localhost:9090/alerts"))
    walk.find("PENDING")
    walk.run_model("cargo run --release -- --seed 7")
    for _ in range(8):
        assert state() != "firing", "the alert fires on random results"
        time.sleep(1)

    walk.run_model(walk.word("cargo run --release -- --value 0.95"))
    output = walk.type("../scripts/check.sh --alert")
    promised = walk.word("ok    the mail arrives: at http://localhost:8025 after 1 s more")
    assert re.search(re.sub(r"\\ \d+\\ s", " [0-9]+ s", re.escape(promised)), output), output
    page.reload()
    walk.find("FIRING")
    page.get_by_text("ModelResultHigh", exact=True).first.click()
    walk.matches('instance="localhost:5000"')
    walk.picture("alert-firing", height=700)

    page.goto(walk.link(ALERTMANAGER))
    walk.press("Expand all groups")
    walk.matches('alertname="ModelResultHigh"')
    page.goto(walk.link(MAILPIT))
    assert mails(walk.word(HIGH)) == 1
    page.get_by_text(HIGH).first.click()
    links = until(15, "the mail's text", lambda: re.findall(r'href="(http://[^/"]+)', mail_text()))
    assert set(links) <= {PROMETHEUS, ALERTMANAGER}, f"a link in the mail leads elsewhere: {links}"

    page.goto(ALERTMANAGER)
    walk.matches('job="model_mock"')
    # The filter has such a button, too; the alert's own is the last one.
    walk.press("Silence")
    walk.fill("Duration", walk.word("10m"))
    walk.fill("Creator", "me")
    walk.fill("Comment", "trying it out")
    walk.press("Create")
    page.wait_for_timeout(1000)
    page.goto(ALERTMANAGER)
    walk.press("Alerts")
    page.get_by_text("No alert groups found").wait_for()
    walk.press("Silenced")
    walk.matches("ModelResultHigh")
    walk.run_model(f"cargo run --release -- {walk.word('--value 0.5')}")
    until(60, "it ends", lambda: state() == "inactive")
    time.sleep(6)
    before = mails(HIGH)
    walk.run_model(f"cargo run --release -- {walk.word('--value 0.95')}")
    output, code = walk.terminal.type(walk.word("../scripts/check.sh --alert"))
    assert code == 1 and "silence" in output, output
    assert mails(HIGH) == before, "a mail arrived in spite of the silence"

    walk.press("Silences", "Expire", "Confirm")
    walk.run_model("cargo run --release -- --value 0.5")
    resolved = mails(RESOLVED)
    until(60, "the mail at the end", lambda: mails(walk.word(RESOLVED)) > resolved)

    walk.write()
    walk.type("docker compose restart prometheus")
    restarted = time.time()
    until(30, "Prometheus scrapes again", lambda: value(PROMETHEUS, "timestamp(model_result)") > restarted)
    high, resolved = mails(HIGH), mails(RESOLVED)
    walk.run_model("cargo run --release -- --value 0.95")
    time.sleep(6)
    walk.run_model("cargo run --release -- --value 0.5")
    until(40, "a mail for one high result", lambda: mails(HIGH) > high)
    until(60, "the mail at its end", lambda: mails(RESOLVED) > resolved)


def test_drift(walk):
    with walk.section("Drift", "stack/extensions.md"):
        in_drift(walk)


def in_drift(walk):
    walk.write(14 - walk.blocks_written)
    start_stack(walk, "docker compose up -d")
    walk.run_model(walk.fence("sh"))
    for expression in walk.fence("promql").splitlines():
        until(40, expression, lambda: value(PROMETHEUS, expression) is not None)
    walk.write()
    unit_test = walk.fence("sh")
    output, code = walk.terminal.type(unit_test)
    assert code and walk.word("FAILED") in output, output
    walk.write()
    output, code = walk.terminal.type(unit_test)
    assert not code and walk.word("SUCCESS") in output, output
    walk.type("docker compose restart prometheus")
    until(30, "Prometheus is back", lambda: state("ModelResultDrift"))
    # A mean above the limit, without ten minutes of drift.
    walk.run_model("cargo run --release -- --value 0.95")
    until(40, "it is pending", lambda: state("ModelResultDrift") in ("pending", "firing"))
    walk.page.goto(PROMETHEUS)
    walk.press("Alerts")
    walk.matches("ModelResultDrift")
    walk.explains("ModelResultHigh", "Query", "Graph", "15m", "FIRING", "0+0.5x240", "stack/prometheus", "my-stack")
    walk.explains("for: 1m", "--drift 600")


def mail_text():
    newest = fetch_json(f"{MAILPIT}/api/v1/messages?limit=1")["messages"][0]["ID"]
    return fetch_json(f"{MAILPIT}/api/v1/message/{newest}")["HTML"]
