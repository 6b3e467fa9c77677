"""What check.sh says of the configuration, of targets and of a model that hangs."""

import json
import re
import signal
import time

import pytest

from lab import edit, fetch_json, put, start, until


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("check")
    lab.up("prometheus", "alertmanager")
    until(20, "the target is up", lambda: lab.ask("up") == 1)
    return lab


@pytest.fixture
def rules(lab):
    """The rules' file, which is put back."""
    file = lab.stack / "prometheus/rules/model.yml"
    before = file.read_text()
    yield file
    put(file, before)
    lab.run("up", "prometheus")


def loaded(lab):
    """The rules that Prometheus has, by name."""
    groups = fetch_json(f"{lab.prometheus}/api/v1/rules")["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def test_a_changed_rule_is_loaded_by_itself(lab, rules, record_property):
    changed = time.monotonic()
    edit(rules, r'above 0\.9"', 'above nine tenths"')
    until(30, "the changed rule", lambda: "above nine tenths" in json.dumps(loaded(lab)))
    record_property("measured", f"seconds until a changed rule is loaded: {time.monotonic() - changed:.1f}, at most 30")
    lab.run("check", "prometheus")


def test_a_broken_rule_is_told_with_its_place_and_mended(lab, rules):
    before = rules.read_text()
    edit(rules, r"\Z", "      - alert: [\n")
    said = lab.run("check", "prometheus", code=1)
    assert re.search(r"rules/model\.yml: (yaml: line \d+|\d+:\d+):", said), said
    put(rules, before)
    lab.run("up", "prometheus")
    until(20, "that all is well again", lambda: "0 failed" in lab.run("check", "prometheus", code=None))


# What YAML lets one write, too: flow, quoted keys, another order, labels of a group, and the line ends of Windows.
OTHER_WAYS = """groups:
  - {name: own, labels: {team: "us"}, rules: [{alert: A, expr: 'up == 2', labels: {severity: x}}]}
  - name: more
    labels:
      team: them
    rules:
      - expr: "up ==  2"
        "alert": 'B'
        'labels': {"severity": page}
"""


def test_rules_and_settings_may_be_written_as_yaml_lets_one(lab):
    folder = lab.stack / "prometheus"
    own, second = folder / "rules/own.yml", folder / "targets/class b.yml"
    edit(folder / "prometheus.yml", r"^  - job_name: model_mock$", r"\g<0>\n    honor_labels: yes")
    put(own, OTHER_WAYS.replace("\n", "\r\n"))
    put(second, f'- targets: ["{lab.model.address.replace("localhost", "127.0.0.1")}"]\n  labels: {{since: "2026-11-23T10:15"}}\n')
    until(30, "the rules", lambda: {"A", "B"} <= set(loaded(lab)))
    until(30, "two targets", lambda: lab.ask("count(up == 1)") == 2)
    assert lab.ask('count(up{class="class b"})') == 1
    assert "2 of 2 up" in lab.run("check", "prometheus")
    for file in (own, second):
        file.unlink()
    until(30, "one target", lambda: lab.ask("count(up)") == 1)
    until(30, "the rules of before", lambda: "A" not in loaded(lab))


def test_targets_are_told_and_forgotten(lab):
    file = lab.stack / "prometheus/targets/class.yml"
    before = file.read_text()

    def told(words):
        return until(30, words, lambda: words in lab.run("check", "prometheus", code=None))

    put(file, before + '- targets: ["localhost:1", "localhost:2"]\n')
    told("1 of 3 up (Get")
    assert "connection refused" in lab.run("check", "prometheus", code=1)
    put(file, before + '- targets: ["localhost:1"]\n   labels:\n')
    told("targets/")
    assert "0 failed" not in lab.run("check", "prometheus", code=1)
    put(file, before)
    told("1 of 1 up")
    lab.run("up", "prometheus")
    told("0 failed")


def test_alertmanagers_file_is_judged(lab):
    file = lab.stack / "alertmanager/alertmanager.yml"
    before = file.read_text()
    lab.run("check", "alertmanager")
    put(file, before.replace("repeat_interval: 1h", "repeat_interval: 2h"))
    time.sleep(1)
    assert "the file was changed since it was read" in lab.run("check", "alertmanager", code=1)
    put(file, before.replace("receiver: mailbox", "receiver: nobody"))
    assert "nobody" in lab.run("check", "alertmanager", code=1)
    assert "does not take its configuration" in lab.run("up", "alertmanager", code=1)
    put(file, before)
    lab.run("up", "alertmanager")
    until(10, "that all is well", lambda: "0 failed" in lab.run("check", "alertmanager", code=None))


def test_no_check_waits_in_vain(lab, record_property):
    lab.model.stop()
    begun = time.monotonic()
    assert "cargo run --release" in lab.run("check", "--alert", code=1)
    assert time.monotonic() - begun < 10
    lab.model.start("--interval", "86400")
    begun = time.monotonic()
    log = lab.work / "checked"
    with log.open("wb") as said:
        check = start(lab.root / "scripts/check.sh", "exporter", env=lab.env, stdout=said)
    time.sleep(2)
    lab.model.process.send_signal(signal.SIGSTOP)
    check.wait(60)
    lab.model.process.send_signal(signal.SIGCONT)
    took = time.monotonic() - begun
    record_property("measured", f"seconds of a wait of 10 s for a model that hangs: {took:.0f}, at most 20")
    assert "no new result in" in log.read_text()
    assert took < 20
