"""What check.sh --alert says on the way from a high result to its mail. Each test begins as the one before it ended."""

import json
import time

import pytest

from lab import docker, edit, fetch, fetch_json, replace_file, require_whole, until


@pytest.fixture(scope="module")
def lab(make_lab):
    require_whole("axllent/mailpit")
    lab = make_lab("alert")
    lab.up("prometheus", "alertmanager", "mailpit")
    return lab


@pytest.fixture
def load(lab):
    """Gives the rule ModelResultHigh another expression, and adds text to the file, which is put back."""
    file = lab.stack / "prometheus/rules/model.yml"
    before = file.read_text()

    def change(expression, added=""):
        edit(file, r'expr: model_result\{job="model_mock"\} > 0\.9$', f"expr: '{expression}'")
        edit(file, r"\Z", added)
        lab.run("up", "prometheus")
        query = json.dumps(expression).replace(">", "\\u003e")
        until(60, "the rule", lambda: query in fetch(f"{lab.prometheus}/api/v1/rules"))

    yield change
    replace_file(file, before)
    lab.run("up", "prometheus")


@pytest.mark.parametrize(
    "rule, words",
    [
        ('model_result{job="mok"} > 0.9', "0.9: Prometheus doesn't find model_result{job=\"mok\"}"),
        ("model_result > 90", "90: it never fires, as a result is at most 1"),
    ],
)
def test_a_rule_that_no_result_can_meet_is_told_at_once(lab, load, rule, words):
    load(rule)
    output = lab.run("check", "--alert", code=1, timeout=60)
    assert f"a result passes {words}" in output and "expr: of ModelResultHigh" in output


def test_the_threshold_is_the_rules(lab, load):
    low = "      - alert: ModelResultLow\n        expr: model_result < 0.1\n"
    load('model_result{job="model_mock"} >= 0.6', low)
    lab.model.start("--value", "0.6")
    assert "ok    a result passes 0.6" in lab.run("check", "--alert")
    assert "ok    no notification failed" in lab.run("check", "alertmanager")


def test_an_inhibited_and_a_silenced_alert_are_told_though_an_older_mail_is_there(lab):
    lab.quiet()
    assert lab.mails("FIRING ModelResultHigh")
    file = lab.stack / "alertmanager/alertmanager.yml"
    before = file.read_text()
    matchers = "source_matchers: [alertname=Holiday]\n    target_matchers: [alertname=ModelResultHigh]"
    edit(file, r"^inhibit_rules:", rf"\g<0>\n  - {matchers}")
    lab.run("up", "alertmanager")
    fetch(f"{lab.alertmanager}/api/v2/alerts", [{"labels": {"alertname": "Holiday", "instance": "test"}}])
    lab.model.start("--value", "0.95")
    assert "the alert is inhibited or muted" in lab.run("check", "--alert", code=1)

    matcher = {"name": "instance", "value": lab.model.address, "isRegex": False}
    times = {"startsAt": "2001-01-01T00:00:00Z", "endsAt": "2999-01-01T00:00:00Z"}
    silence = {"matchers": [matcher], **times, "createdBy": "test", "comment": "test"}
    silence = fetch_json(f"{lab.alertmanager}/api/v2/silences", silence)["silenceID"]
    replace_file(file, before)
    lab.run("up", "alertmanager")
    told = f"the alert is silenced, expire the silence: {lab.alertmanager}/#/silences/{silence}"
    assert told in lab.run("check", "--alert", code=1)
    fetch(f"{lab.alertmanager}/api/v2/silence/{silence}", method="DELETE")
    lab.run("check", "--alert")


def test_an_alert_that_alertmanager_remembers_is_told(lab):
    # Prometheus is away while the alert fires: Alertmanager takes it for the one that it has mailed.
    restarted = time.time()
    docker("restart", lab.container("prometheus"))
    query = 'ALERTS_FOR_STATE{alertname="ModelResultHigh"}'
    until(90, "the alert after the restart", lambda: lab.ask(query) > restarted)
    output = lab.run("check", "--alert", code=1)
    assert "Alertmanager knows this alert since" in output and "--value 0.5" in output


def test_any_rule_on_the_result_and_any_name_of_the_target_is_followed(lab, load):
    lab.quiet()
    edit(lab.stack / "prometheus/prometheus.yml", r"localhost:(\d+)\"\]$(?=\n    #)", r'127.0.0.1:\1"]')
    load("max(model_result) > 0.9")
    lab.model.start("--value", "0.95")
    assert "ok    the mail arrives" in lab.run("check", "--alert")
