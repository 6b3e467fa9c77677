"""A class on one Prometheus: the stack's own files, and models as a class starts them. Every query of the
dashboards is asked, and the mails are counted."""

import json
import re
import time

import pytest

from lab import Model, docker, fetch, fetch_json, free_ports, put, until, vector

SERVICES = ["prometheus", "alertmanager", "mailpit"]


def queries(lab, instance):
    """Those of both dashboards, with all classes and that model chosen."""
    found = []
    for name in ("model", "class"):
        dashboard = json.loads((lab.stack / f"grafana/dashboards/{name}.json").read_text())
        found += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for variable, chosen in (("$instance", instance), ("$class", ".*"), ("$__range", "15m")):
        found = [expression.replace(variable, chosen) for expression in found]
    assert len(found) >= 20 and not [expression for expression in found if "$" in expression]
    return found


def each_query_has_an_answer(lab, instance):
    for expression in queries(lab, instance):
        until(30, f"an answer to {expression}", lambda: vector(lab.prometheus, expression))


@pytest.fixture(scope="module")
def one(make_lab):
    lab = make_lab("one")
    lab.up(*SERVICES)
    return lab


def test_each_query_has_an_answer_with_one_model(one):
    until(20, "the model is up", lambda: one.ask("sum(up)") == 1)
    each_query_has_an_answer(one, one.model.address)
    assert vector(one.prometheus, "ALERTS") == []


def state(lab, alert, of_class):
    filters = [f'alertname="{alert}"', f'class="{of_class}"']
    found = fetch_json(f"{lab.alertmanager}/api/v2/alerts", filter=filters)
    return found[0]["status"]["state"]


def test_of_a_model_that_is_gone_the_latest_result_is_no_news(one):
    one.model.stop()
    for name in ("ModelMockDown", "ModelResultHigh"):
        for labels in ({}, {"class": "monitoring-a"}):
            fetch(f"{one.alertmanager}/api/v2/alerts", [{"labels": {"alertname": name, "instance": "localhost:1"} | labels}])
    until(10, "ModelResultHigh is inhibited in a class", lambda: state(one, "ModelResultHigh", "monitoring-a") == "suppressed")
    assert state(one, "ModelMockDown", "monitoring-a") == "active"
    assert state(one, "ModelResultHigh", "") == "active"


def is_mailed(lab, address):
    """Whether a mail of ModelMockDown lists it."""
    messages = fetch_json(f"{lab.mailpit}/api/v1/messages?limit=500")["messages"]
    try:
        mine = [message["ID"] for message in messages if message["Subject"].startswith("FIRING ModelMockDown in class class: ")]
        texts = [fetch_json(f"{lab.mailpit}/api/v1/message/{number}")["Text"] for number in mine]
    except KeyError:
        # What stands in for Mailpit where there is no registry lists subjects alone, and keeps plain text.
        texts = [docker("cp", lab.container("mailpit") + ":/data/mailpit.db", "-")]
    return any(f"ModelMockDown at {address} is firing" in text for text in texts)


def kill(lab, model, record_property):
    model.stop()
    down = f'ALERTS{{alertname="ModelMockDown", instance="{model.address}", alertstate="firing"}}'
    until(45, f"ModelMockDown of {model.address}", lambda: vector(lab.prometheus, down))
    fired = time.monotonic()
    until(60, f"the mail of {model.address}", lambda: is_mailed(lab, model.address))
    record_property("measured", f"seconds from an alert of the class to its mail: {time.monotonic() - fired:.0f}, at most 60")


def test_30_models_are_shown_and_mailed_together(make_lab, record_property):
    lab = make_lab("class")
    models = [Model(port).start("--seed", str(n)) for n, port in enumerate(free_ports(30), 1)]
    # The class is not named: the file's name is it.
    put(lab.stack / "prometheus/targets/class.yml", "".join(f'- targets: ["{model.address}"]\n' for model in models))
    lab.up(*SERVICES)
    # One of no class is down all the time, and has a mail of its own.
    lab.model.stop()
    begun = time.monotonic()
    until(30, "30 models are up", lambda: lab.ask('sum(up{class="class"})') == 30)
    kill(lab, models[0], record_property)
    each_query_has_an_answer(lab, models[1].address)
    # The second that dies does not wait for five minutes.
    kill(lab, models[1], record_property)
    who = [expression for expression in queries(lab, "") if re.search("min_over|bottomk", expression)]
    until(20, "who was down, on the dashboard", lambda: lab.ask(f"count({who[0]})") == 3)
    time.sleep(max(0, begun + 120 - time.monotonic()))
    subjects = lab.mails()
    record_property("measured", f"mails in the first two minutes of 30 random models: {len(subjects)}, at most 8")
    assert len(subjects) <= 8, subjects
    alone = rf"FIRING ModelMockDown at {lab.model.address} since [\d:]* UTC: Prometheus cannot scrape the model \(up is 0\)"
    assert any(re.match(alone, subject) for subject in subjects), subjects
    assert any(re.match(r"FIRING ModelResultHigh in class class: \d+ firing", subject) for subject in subjects), subjects
    for model in models:
        model.stop()
