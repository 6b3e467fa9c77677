"""Thirty models of a class under one Prometheus: few mails, which name the students."""

import re

import pytest

from lab import Model, fetch, fetch_json, free_ports, replace_file, until, vector


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("class")
    lab.models = [Model(port).start("--seed", str(n)) for n, port in enumerate(free_ports(30), 1)]
    # The entries have no label class, so the class is the file's name.
    entry = '- targets: ["{0.address}"]\n  labels:\n    student: Student {0.port}\n'
    own = '- {targets: ["localhost:1"], labels: {class: own}}\n'
    replace_file(lab.stack / "prometheus/targets/class.yml", "".join(entry.format(model) for model in lab.models) + own)
    lab.up("prometheus", "alertmanager", "mailpit")
    # The model of no class is down all the time and gets a mail of its own.
    lab.model.stop()
    yield lab
    for model in lab.models:
        model.stop()


def test_the_mails_of_30_models_come_together_and_name_the_students(lab):
    until(60, "30 models are up", lambda: lab.ask('sum(up{class="class"})') == 30)
    until(60, "the class of an entry that names it", lambda: lab.ask('up{class="own"}') == 0)
    # The mail of the second one doesn't wait for five minutes.
    for model in lab.models[:2]:
        model.stop()
        down = f'ALERTS{{alertname="ModelMockDown", instance="{model.address}", alertstate="firing"}}'
        until(60, f"ModelMockDown of {model.address}", lambda: vector(lab.prometheus, down))
        line = f"ModelMockDown at {model.address} of Student {model.port} is firing: Prometheus cannot scrape"
        mails = lambda: lab.mail_texts("FIRING ModelMockDown in class class: ")
        until(60, f"the mail of {model.address}", lambda: any(line in text for text in mails()), mails)
    subjects = lab.mails()
    assert len(subjects) <= 8, subjects
    own = rf"FIRING ModelMockDown at {lab.model.address} since \d\d:\d\d:\d\d UTC: Prometheus cannot scrape the model"
    of_class = r"FIRING ModelResultHigh in class class: \d+ firing"
    for beginning in (own, of_class):
        assert any(re.match(beginning, subject) for subject in subjects), subjects
    for model in lab.models[:2]:
        model.start("--value", "0.5")
    end = re.compile(r"(FIRING|RESOLVED) ModelMockDown in class class:.* \d resolved: ")
    until(90, "the mail of their end", lambda: any(end.match(f"{subject}: ") for subject in lab.mails()), lab.mails)


def test_in_a_class_result_alerts_are_suppressed_while_a_model_is_down(lab):
    url, another = f"{lab.alertmanager}/api/v2/alerts", {"instance": "localhost:2"}
    both = [{"alertname": name, "instance": "localhost:1"} for name in ("ModelMockDown", "ModelResultHigh")]
    of_class = [labels | {"class": "a"} for labels in both]
    fetch(url, [{"labels": labels} for labels in (*both, of_class[1] | another, *of_class)])
    suppressed = lambda: fetch_json(url, filter='instance=~"localhost:[12]"', active="false", unprocessed="false")
    until(60, "that of the class", lambda: [alert["labels"] for alert in suppressed()] == of_class[1:])
