"""Follows the lab's page 4: rule, route, mail, silence."""

import re
import time

import pytest

from lab import fetch_json, require_whole, until, value
from walk import second_laptop

PROMETHEUS, ALERTMANAGER, MAILPIT = "http://localhost:9090", "http://localhost:9093", "http://localhost:8025"
HIGH = "[FIRING:1] ModelResultHigh localhost:5000 (model_mock warning)"
RESOLVED = "[RESOLVED] ModelResultHigh localhost:5000 (model_mock warning)"


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("alert", request, "prom/prometheus", "prom/alertmanager", "axllent/mailpit") as walk:
        walk.shell("mkdir my-stack && cd my-stack")
        walk.run_model("cargo run --release -- --seed 7")
        yield walk


def start_stack(walk):
    """The stack without Grafana, which these pages don't need."""
    walk.shell("docker compose up -d prometheus alertmanager mailpit")


def restart(walk):
    walk.type("docker compose restart prometheus")
    restarted = time.time()
    until(90, "Prometheus scrapes again", lambda: value(PROMETHEUS, "timestamp(model_result)") > restarted)


def model_draws(walk, result, states, alert="ModelResultHigh"):
    """Starts the model with the result, and waits until the alert has one of the states."""
    walk.run_model(f"cargo run --release -- --value {result}")
    alerts = lambda: fetch_json(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
    state = lambda: [each["state"] for each in alerts() if each["labels"]["alertname"] == alert] or ["inactive"]
    until(90, f"{alert} is {states}", lambda: state()[0] in states)


def mails(subject):
    return [mail["Subject"] for mail in fetch_json(f"{MAILPIT}/api/v1/messages?limit=500")["messages"]].count(subject)


def mail_text():
    newest = fetch_json(f"{MAILPIT}/api/v1/messages?limit=1")["messages"][0]["ID"]
    return fetch_json(f"{MAILPIT}/api/v1/message/{newest}")["HTML"]


def test_alertmanager_and_mailpit(walk):
    page = walk.page
    with walk.follows("4-alertmanager.md"):
        walk.explains("docker compose up -d", "ok", "--value 0.5", "--value 0.95", "../scripts/check.sh")
        walk.write_up_to("3-grafana.md")
        walk.write(4)
        start_stack(walk)
        check = walk.word("../scripts/check.sh prometheus alertmanager mailpit")
        until(90, "no failure", lambda: "FAIL" not in walk.shell(check, code=None))
        output = walk.shell(check)
        others = re.findall("^(?:open|FAIL) .*", output, re.M)
        promised = f"{walk.word('open')}  {walk.word('no notification failed')}: "
        assert len(others) == 1 and others[0].startswith(promised), output
        require_whole("prom/prometheus")
        require_whole("axllent/mailpit")
        walk.opens(f"{PROMETHEUS}/alerts")
        walk.matches(f"{walk.word('INACTIVE')}|{walk.word('PENDING')}")
        walk.run_model(walk.word("cargo run --release -- --value 0.95"))
        output = walk.type("../scripts/check.sh --alert")
        promised = walk.word("ok    the mail arrives: at http://localhost:8025 after 1 s more")
        assert re.search(re.sub(r"\\ \d+\\ s", " [0-9]+ s", re.escape(promised)), output), output
        page.reload()
        walk.find("FIRING")
        walk.click(lambda: page.get_by_text("ModelResultHigh", exact=True).first)
        walk.matches('instance="localhost:5000"')
        walk.picture("alert-firing", height=580)
        walk.opens(ALERTMANAGER)
        walk.matches('alertname="ModelResultHigh"')
        walk.opens(MAILPIT)
        assert mails(walk.word(HIGH)) > 0
        page.get_by_text(HIGH).first.click()
        links = until(60, "the mail's text", lambda: re.findall(r'href="(http://[^/"]+)', mail_text()))
        assert set(links) <= {PROMETHEUS, ALERTMANAGER}, f"a link in the mail leads elsewhere: {links}"
        page.goto(ALERTMANAGER)
        walk.matches('job="model_mock"')
        # The filter has such a button, too; the alert's own is the last one.
        walk.press("Silence")
        walk.fill("Duration", walk.word("10m"))
        walk.fill("Creator", "me")
        walk.fill("Comment", "trying it out")
        walk.press("Create")
        silences = lambda: fetch_json(f"{ALERTMANAGER}/api/v2/silences")
        until(60, "the silence", lambda: silences()[0]["status"]["state"] == "active")
        page.goto(ALERTMANAGER)
        walk.press("Alerts")
        walk.matches("No alert groups found")
        walk.press("Silenced")
        walk.matches("ModelResultHigh")
        model_draws(walk, 0.5, "inactive")
        time.sleep(6)
        before = mails(HIGH)
        walk.run_model("cargo run --release -- --value 0.95")
        assert walk.word("the alert is silenced") in walk.type("../scripts/check.sh --alert", code=1)
        assert mails(HIGH) == before, "a mail arrived in spite of the silence"
        walk.press("Silences", "Expire", "Confirm")
        until(60, "the end of the silence", lambda: silences()[0]["status"]["state"] == "expired")
        resolved = mails(RESOLVED)
        model_draws(walk, 0.5, "inactive")
        until(90, "the mail at the end", lambda: mails(walk.word(RESOLVED)) > resolved)
        walk.write()
        restart(walk)
        high, resolved = mails(HIGH), mails(RESOLVED)
        model_draws(walk, 0.95, "firing")
        walk.run_model("cargo run --release -- --value 0.5")
        until(90, "a mail for one high result", lambda: mails(HIGH) > high)
        until(90, "the mail at its end", lambda: mails(RESOLVED) > resolved)
