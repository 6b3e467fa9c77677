"""Many models under one Prometheus: the dashboards' queries get answers, and a class gets few mails."""

import json
import re
import time

import pytest

from lab import Model, fetch, fetch_json, free_ports, put, until, vector

SERVICES = ["prometheus", "alertmanager", "mailpit"]


def each_query_has_an_answer(lab, instance):
    """For that model and all classes, from the metrics of the real program."""
    expressions = []
    for name in ("model", "class"):
        dashboard = json.loads((lab.stack / f"grafana/dashboards/{name}.json").read_text())
        expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= 20
    for expression in expressions:
        for variable, chosen in (("$instance", instance), ("$class", ".*"), ("$__range", "15m")):
            expression = expression.replace(variable, chosen)
        until(30, f"an answer to {expression}", lambda: vector(lab.prometheus, expression))


@pytest.fixture(scope="module")
def one(make_lab):
    lab = make_lab("one")
    lab.up(*SERVICES)
    return lab


def state(lab, alert, of_class):
    filters = [f'alertname="{alert}"', f'class="{of_class}"']
    found = fetch_json(f"{lab.alertmanager}/api/v2/alerts", filter=filters)
    return found[0]["status"]["state"]


def test_in_a_class_result_alerts_are_suppressed_while_a_model_is_down(one):
    one.model.stop()
    for name in ("ModelMockDown", "ModelResultHigh"):
        for labels in ({}, {"class": "monitoring-a"}):
            alert = {"labels": {"alertname": name, "instance": "localhost:1"} | labels}
            fetch(f"{one.alertmanager}/api/v2/alerts", [alert])
    suppressed = lambda: state(one, "ModelResultHigh", "monitoring-a") == "suppressed"
    until(10, "ModelResultHigh is suppressed in a class", suppressed)
    assert state(one, "ModelMockDown", "monitoring-a") == "active"
    assert state(one, "ModelResultHigh", "") == "active"


def is_mailed(lab, model):
    """Whether a mail of ModelMockDown lists the model and its student."""
    messages = fetch_json(f"{lab.mailpit}/api/v1/messages?limit=500")["messages"]
    subject = "FIRING ModelMockDown in class class: "
    found = [message["ID"] for message in messages if message["Subject"].startswith(subject)]
    texts = [fetch_json(f"{lab.mailpit}/api/v1/message/{number}")["Text"] for number in found]
    line = f"ModelMockDown at {model.address} of Student {model.port} is firing: Prometheus cannot scrape"
    return any(line in text for text in texts)


def kill(lab, model, record_property):
    model.stop()
    down = f'ALERTS{{alertname="ModelMockDown", instance="{model.address}", alertstate="firing"}}'
    until(45, f"ModelMockDown of {model.address}", lambda: vector(lab.prometheus, down))
    fired = time.monotonic()
    until(60, f"the mail of {model.address}", lambda: is_mailed(lab, model))
    seconds = time.monotonic() - fired
    record_property("measured", f"seconds from an alert of the class to its mail: {seconds:.0f}, at most 60")


def test_the_mails_of_30_models_come_together_and_name_the_students(make_lab, record_property):
    lab = make_lab("class")
    models = [Model(port).start("--seed", str(n)) for n, port in enumerate(free_ports(30), 1)]
    # The entries have no label class, so the class is the file's name.
    entry = '- targets: ["{0.address}"]\n  labels:\n    student: Student {0.port}\n'
    put(lab.stack / "prometheus/targets/class.yml", "".join(entry.format(model) for model in models))
    lab.up(*SERVICES)
    # The model of no class is down all the time and gets a mail of its own.
    lab.model.stop()
    begun = time.monotonic()
    until(30, "30 models are up", lambda: lab.ask('sum(up{class="class"})') == 30)
    kill(lab, models[0], record_property)
    each_query_has_an_answer(lab, models[1].address)
    # The mail of the second one doesn't wait for five minutes.
    kill(lab, models[1], record_property)
    time.sleep(max(0, begun + 120 - time.monotonic()))
    subjects = lab.mails()
    count = f"mails in the first two minutes of 30 random models: {len(subjects)}, at most 8"
    record_property("measured", count)
    assert len(subjects) <= 8, subjects
    summary = r"Prometheus cannot scrape the model \(up is 0\)"
    own = rf"FIRING ModelMockDown at {lab.model.address} since [\d:]* UTC: {summary}"
    assert any(re.match(own, subject) for subject in subjects), subjects
    of_class = r"FIRING ModelResultHigh in class class: \d+ firing"
    assert any(re.match(of_class, subject) for subject in subjects), subjects
    for model in models:
        model.stop()
