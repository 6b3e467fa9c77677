"""A second right way to repair each incident, half a repair that isn't enough, and the results for the hand-in."""

import re
import shutil

import pytest

from lab import assert_one_line, docker, fetch, run
from oncall import NAMES, play


def typo(on_call):
    wrong = '"localhost:5500"'
    # With the right target next to the wrong one, an alert still fires.
    on_call.edit("prometheus/prometheus.yml", wrong, f'{wrong}, "127.0.0.1:{on_call.port(5000)}"')
    yield
    on_call.edit("prometheus/prometheus.yml", f"{wrong}, ", "")


def silence(on_call):
    amtool = ["exec", "-T", "alertmanager", "amtool", f"--alertmanager.url={on_call.lab.alertmanager}", "silence"]
    (number,) = on_call.compose(*amtool, "query", "--quiet").split()
    # Editing it, as the page does, replaces it. This one still covers the alert.
    on_call.compose(*amtool, "expire", number)
    on_call.compose(*amtool, "add", "--author=me", "--comment=narrower", "--duration=1h", "alertname=ModelResultHigh")
    yield
    on_call.compose(*amtool, "expire", on_call.compose(*amtool, "query", "--quiet").strip())
    on_call.compose(*amtool, "add", "--author=me", "--comment=narrow", "--duration=1h", "alertname=Other")


def label(on_call):
    # The selector is right, and the threshold is too high now.
    on_call.edit("prometheus/rules/model.yml", r'model_result\{job="model-mock"\} > 0.9', "model_result > 0.99")
    yield
    on_call.edit("prometheus/rules/model.yml", "model_result > 0.99", "model_result > 0.9")


def dropped(on_call):
    on_call.edit("prometheus/prometheus.yml", r"regex: model_result\.\*", "regex: model_result_?.*")
    yield
    on_call.edit("prometheus/prometheus.yml", r"regex: model_result_\?\.\*", "regex: model_result_distribution.*")


def route(on_call):
    # The default receiver isn't asked if a route matches, even if that route continues.
    file, receiver = "alertmanager/alertmanager.yml", "receiver: office-hours"
    on_call.edit(file, receiver, f"{receiver}\n      continue: true")
    reload_it = lambda: fetch(f"{on_call.lab.alertmanager}/-/reload", method="POST")
    reload_it()
    yield
    on_call.edit(file, receiver, "receiver: mailbox")
    reload_it()


def hang(on_call):
    # A model of the student has the port.
    run("kill", "-KILL", on_call.state("process"))
    on_call.lab.model.start("--value", "0.95")
    output = on_call.check(code=1)
    assert f"uses port {on_call.port(5000)}: stop it (a model: Ctrl+C in its terminal)" in output
    assert_one_line(output)
    on_call.lab.model.stop()
    return ()


def source(on_call):
    on_call.edit("grafana/provisioning/datasources/prometheus.yml", r"http://127\.0\.0\.1:9091", on_call.lab.prometheus)
    yield
    password = re.search("password (.*)", (on_call.folder / "message.txt").read_text())[1]
    url = f"{on_call.lab.grafana}/api/admin/provisioning/datasources/reload"
    fetch(url, method="POST", password=password)


def volume(on_call):
    on_call.edit("compose.yaml", "- prometheus-data:/data", "- metrics:/prometheus")
    on_call.edit("compose.yaml", "^  prometheus-data:", "  metrics:")
    yield
    on_call.compose("up", "-d")


def watchdog(on_call):
    names = on_call.compose("ps", "-aq", "prometheus").split()
    docker("start", *names)
    docker("restart", *names)
    return ()


def reload(on_call):
    # The old file is valid, but the colleague wanted a lower threshold.
    shutil.copy(on_call.lab.stack / "prometheus/rules/model.yml", on_call.folder / "prometheus/rules/model.yml")
    yield
    on_call.edit("prometheus/rules/model.yml", "> 0.9$", "> 0.75")
    on_call.compose("restart", "prometheus")


REPAIRS = {repair.__name__: repair for repair in
           (typo, silence, label, dropped, route, hang, source, volume, watchdog, reload)}


def repaired_by_hand(on_call):
    on_call.do("start", on_call.name)
    containers = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={on_call.lab.project}-incident").split()
    volumes = docker("inspect", "-f", "{{range .Mounts}}{{println .Name}}{{end}}", *containers).split()
    on_call.do("hint")
    # A repair in two steps stops after the first one, which isn't enough.
    for _ in REPAIRS[on_call.name](on_call):
        assert "FAIL  the cause is still there" in on_call.check(code=1)
    # As after a check that was interrupted.
    (on_call.folder / ".state/flags").write_text("--value 0.5\n")
    output = on_call.check()
    assert "ok    the cause is gone\n" in output and " s, 1 of 3 hints.\n" in output
    assert "The incident is over.\n" in on_call.check()
    solved = [line for line in on_call.results.read_text().splitlines() if not line.startswith("#")]
    assert len(solved) == 1 and re.fullmatch(rf"solved \d{{4}}-\d\d-\d\dT[\d:]{{8}}Z {on_call.name} 1 \d+", solved[0])
    on_call.end()
    # Also those without a name, which a repair leaves behind.
    assert volumes and not set(volumes) & set(docker("volume", "ls", "-q").split())


@pytest.fixture(scope="module")
def played(make_lab, request):
    return play(make_lab, request, repaired_by_hand)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_right_repair_is_accepted_and_half_a_repair_is_not(played, name):
    played[name].result()
