"""The judge of dashboards, and check.sh with Grafana: the real Grafana stores the same dashboards, too."""

import collections
import contextlib
import copy
import json
import os
import pty
import re
import shutil
import signal
import subprocess

import pytest

from lab import ENVIRONMENT, ROOT, fetch, fetch_json, put, run, until
from student import Student

SIGNALS = [(signal.SIGTERM, 130), (signal.SIGHUP, 130)]
PASSWORD = 'a "q" \\ #b'
SOURCE = {"type": "prometheus", "uid": "own"}
PANEL = {
    "id": 1, "title": "Result", "type": "timeseries", "datasource": SOURCE,
    "fieldConfig": {
        "defaults": {
            "min": 0,
            "max": 1,
            "custom": {"thresholdsStyle": {"mode": "line"}, "scaleDistribution": {"type": "linear"}},
            "thresholds": {"mode": "absolute", "steps": [{"color": "green"}, {"color": "red", "value": 0.9}]},
        },
        "overrides": [],
    },
    "targets": [{"datasource": SOURCE, "editorMode": "code", "expr": "model_result", "range": True, "refId": "A"}],
}
DASHBOARD = {"title": "Mine", "refresh": "5s", "time": {"from": "now-15m", "to": "now"}, "panels": [PANEL]}
DEFAULTS, TARGET = "panels/0/fieldConfig/defaults/", "panels/0/targets/0/"
RED = f"{DEFAULTS}thresholds/steps/1/"
STEPS_AT_90 = {"mode": "percentage", "steps": [{"color": "green", "value": None}, {"color": "red", "value": 90}]}
RED_OVERRIDE = {
    "matcher": {"id": "byName", "options": "x"},
    "properties": [{"id": "thresholds", "value": {"mode": "absolute", "steps": [{"color": "red", "value": 0.9}]}}],
}
BLUE = PANEL["fieldConfig"]["defaults"] | {"thresholds": {"steps": [{"color": "blue", "value": 0.9}]}}


def changed(path, new):
    """The dashboard with another value at that path."""
    place = dashboard = copy.deepcopy(DASHBOARD)
    *way, last = [int(word) if word.isdigit() else word for word in path.split("/")]
    for key in way:
        place = place[key]
    place[last] = new
    return dashboard


def judge(dashboard, limit=0.9, description=""):
    """The score and the reasons."""
    script = f'. {ROOT}/scripts/dashboard.sh; judge_dashboard {limit} "other own" "$1"'
    score, reasons, _ = run("sh", "-c", script, "sh", description, input=json.dumps(dashboard).encode()).split("\t")
    return int(score), reasons


ACCEPTED = {
    "as it is": ("title", "Mine"),
    "percentage": (f"{DEFAULTS}thresholds", STEPS_AT_90),
    "quoted name": (f"{TARGET}expr", '{__name__="model_result"}'),
    "quoted name and label": (f"{TARGET}expr", '{job="model_mock", __name__="model_result"}'),
    "label": (f"{TARGET}expr", 'model_result{job="model_mock", instance=~"local.*"}'),
    "lines": (f"{TARGET}expr", "model_result\n"),
    "dashed": (f"{DEFAULTS}custom/thresholdsStyle/mode", "dashed+area"),
    "no source of the query's own": ("panels/0/targets/0", {"expr": "model_result", "refId": "A"}),
    "a second query": ("panels/0/targets", [{"expr": "up", "refId": "A"}, PANEL["targets"][0] | {"refId": "B"}]),
    "a second panel": ("panels", [{"id": 2, "type": "stat", "title": 'a "\\" {[,:'}, PANEL]),
    "a colour of the line": ("panels/0/fieldConfig/overrides", [{"properties": [{"id": "color", "value": {}}]}]),
} | {color: (f"{RED}color", color) for color in ("rgb(255, 0, 0)", "#8B0000", "#F00", "semi-dark-red")}
REFUSED = {
    "percentage at 0.9": (f"{DEFAULTS}thresholds/mode", "percentage", "no red threshold at 90 %"),
    "hidden": (f"{TARGET}hide", True, "hidden"),
    "Loki": (f"{TARGET}datasource", {"type": "loki", "uid": "loki"}, "the data source is loki"),
    "another source": (f"{TARGET}datasource/uid", "nowhere", "the data source does not answer"),
    "instant": ("panels/0/targets/0", PANEL["targets"][0] | {"instant": True, "range": False}, "Range"),
    "only instant": ("panels/0/targets/0", {"expr": "model_result", "instant": True, "refId": "A"}, "Range"),
    "table": (f"{TARGET}format", "table", "Time series"),
    "a time of its own": ("panels/0/timeFrom", "1h", "a time range of its own"),
    "a shift of its own": ("panels/0/timeShift", "1h", "a time range of its own"),
    "red in an override only": ("panels/0/fieldConfig", {"defaults": BLUE, "overrides": [RED_OVERRIDE]}, "no red"),
    "no line": (f"{DEFAULTS}custom/thresholdsStyle/mode", "area", "As lines"),
    "another value": (f"{RED}value", 0.95, "no red threshold at 0.9"),
    "no value": (f"{RED}value", None, "no red threshold at 0.9"),
    "no Min": (f"{DEFAULTS}min", None, "Min is not 0"),
    "Max": (f"{DEFAULTS}max", 100, "Max is not 1"),
    "refresh": ("refresh", "10s", "refresh is not 5s"),
    "range": ("time", {"from": "now-6h", "to": "now"}, "not Last 15 minutes"),
    "an end": ("time/to", "now-1m", "not Last 15 minutes"),
    "another type": ("panels/0/type", "stat", "no Time series"),
    "closed row": ("panels/0", {"id": 2, "type": "row", "collapsed": True, "panels": [PANEL]}, "a row is closed"),
    "no panel": ("panels", [], "no Time series"),
}
REFUSED |= {
    color: (f"{RED}color", color, "no red threshold at 0.9")
    for color in "brown #8B4513 #A52A2A magenta #FF00FF rgb(255,0,255) orange #FF7F00 rgba(255,0,0,0.1) #000".split()
}
OTHERS = "rate(model_result[5m])", "100*model_result", "absent(model_result)", "model_result2", '{__name__=~"model.*"}'
for expr in OTHERS:
    REFUSED[expr] = (f"{TARGET}expr", expr, f"not model_result but {expr}")
# It leaves these to a person.
UNKNOWN = {
    "library panel": ("panels/0", {"id": 1, "libraryPanel": {"name": "lib", "uid": "lib1"}}),
    "an override of the line": ("panels/0/fieldConfig/overrides", [RED_OVERRIDE]),
    "a variable as source": (f"{TARGET}datasource/uid", "${source}"),
    "a transformation": ("panels/0/transformations", [{"id": "calculateField", "options": {}}]),
    "a long step": ("panels/0/interval", "1h"),
    "few points": ("panels/0/maxDataPoints", 3),
    "a logarithmic axis": (f"{DEFAULTS}custom/scaleDistribution/type", "log"),
}
CASES = ACCEPTED | REFUSED | UNKNOWN


@pytest.mark.parametrize("name", CASES)
def test_the_judge(name):
    path, new, *words = CASES[name]
    score, reasons = judge(changed(path, new))
    if name in ACCEPTED:
        assert (score, reasons) == (0, "")
    elif name in REFUSED:
        assert score >= 100 and words[0] in reasons, (score, reasons)
    else:
        assert 0 < score < 100 and reasons, (score, reasons)


AWKS = [awk for awk in ("awk", "mawk", "gawk", "original-awk", "busybox awk") if shutil.which(awk.split()[0])]


@pytest.mark.parametrize("awk", AWKS)
def test_the_judge_knows_the_finished_dashboard_and_the_rules_limit_with_each_awk(awk, tmp_path, monkeypatch):
    """Debian has mawk, macOS the original one."""
    put(tmp_path / "awk", f'#!/bin/sh\nPATH={ENVIRONMENT["PATH"]} exec {awk} "$@"\n')
    (tmp_path / "awk").chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tmp_path}:{ENVIRONMENT['PATH']}")
    finished = (ROOT / "stack/grafana/dashboards/model.json").read_text()
    dashboard = json.loads(finished.replace('"uid": "prometheus"', '"uid": "own"'))
    assert judge(dashboard) == (0, "")
    assert "no red threshold at 0.8" in judge(dashboard, 0.8)[1]
    assert "it came with the lab" in judge(dashboard, description=dashboard["panels"][0]["description"])[1]


@pytest.fixture(scope="module")
def mine(make_lab):
    lab = make_lab("own")
    mine = Student(lab)
    lab.model.start("--value", "0.5")
    mine.up()
    password = "your password works, and is not the default"
    assert mine.check("grafana")[password].startswith("open ")
    assert "it is the default" in mine.check("grafana", code=1, env={"GRAFANA_PASSWORD": "admin"})[password]
    mine.env = mine.env | {"GRAFANA_PASSWORD": PASSWORD}
    change = {"oldPassword": "admin", "newPassword": PASSWORD}
    fetch(f"{lab.grafana}/api/user/password", change, method="PUT", password="admin")
    source = {"name": "Mine", "uid": "own", "type": "prometheus", "access": "proxy", "url": lab.prometheus}
    mine.source = source | {"jsonData": {"timeInterval": "5s"}}
    fetch(f"{lab.grafana}/api/datasources", mine.source, password=PASSWORD)
    return mine


def save(mine, dashboard):
    """Stores it in Grafana, as the only one, and gives what check.sh --own says."""
    for each in fetch_json(f"{mine.lab.grafana}/api/search?type=dash-db", password=PASSWORD):
        fetch(f"{mine.lab.grafana}/api/dashboards/uid/{each['uid']}", method="DELETE", password=PASSWORD)
    fetch(f"{mine.lab.grafana}/api/dashboards/db", {"dashboard": dashboard}, password=PASSWORD)
    return mine.check("--own", code=None)["a dashboard of your own meets the four requirements"]


def test_the_data_source_and_its_interval_are_told(mine):
    answers = "a data source answers model_result"
    url = f"{mine.lab.grafana}/api/datasources"
    fetch(f"{url}/uid/own", method="DELETE", password=PASSWORD)
    assert mine.check("grafana")[answers].endswith("yet. Next: section 5.3")
    fetch(url, mine.source | {"name": "Other", "uid": "other", "url": "http://localhost:1"}, password=PASSWORD)
    error = f"FAIL  {answers}: Other at http://localhost:1: dial tcp 127.0.0.1:1: connect: connection refused. Next: "
    assert mine.check("grafana", code=1)[answers].startswith(error)
    fetch(url, mine.source | {"jsonData": {}}, password=PASSWORD)
    said = mine.check("grafana", code=1)
    assert said[answers].endswith(": Mine") and "Mine: 15s, the default" in said["its scrape interval is 5s"]
    fetch(f"{url}/uid/own", mine.source, method="PUT", password=PASSWORD)


@pytest.mark.parametrize("name", ["as it is", "percentage", "quoted name", "hidden", "instant", "library panel"])
def test_a_dashboard_is_judged_as_grafana_stores_it(mine, name):
    path, new, *_ = CASES[name]
    if name == "library panel":
        lib = {"uid": "lib1", "name": "lib", "kind": 1, "model": PANEL}
        fetch(f"{mine.lab.grafana}/api/library-elements", lib, password=PASSWORD)
    said = save(mine, changed(path, new))
    expected = "ok " if name in ACCEPTED else "FAIL " if name in REFUSED else "open "
    assert said.startswith(expected), said


def test_a_copy_of_the_finished_dashboard_and_a_label_without_series_are_refused(mine):
    text = (mine.root / "stack/grafana/dashboards/model.json").read_text()
    finished = json.loads(re.sub(r'"uid": "(prometheus|modelmock)"', r'"uid": "own"', text))
    assert "it came with the lab" in save(mine, finished | {"title": "Model in production Copy", "uid": None})
    said = save(mine, changed(f"{TARGET}expr", 'model_result{job="other"}'))
    assert said.startswith("FAIL ") and 'find model_result{job="other"}' in said


def test_the_readme_names_each_line_of_the_check_and_no_other(mine):
    section = (mine.root / "README.md").read_text().split("## 4. ")[1].split("\n## ")[0]
    listed = re.findall(r"`([^`]*)`(?: \((\w+) lines\))?", section.split("- [ ]", 1)[1].replace("\n  ", " "))
    counts = {words: {"": 1, "two": 2, "four": 4}[count] for words, count in listed if "scripts/" not in words}
    assert counts == collections.Counter(re.findall("^(?:ok|open) +(.*?): ", mine.check()[None], re.M))


def test_a_wrong_password_is_tried_once(mine):
    for _ in range(4):
        assert "try once" in mine.check("grafana", code=1, env={"GRAFANA_PASSWORD": "wrong"})[None]
    mine.check("grafana")


def test_anonymous_access_is_told(mine):
    settings = ["GF_AUTH_ANONYMOUS_ENABLED: true", "GF_AUTH_ANONYMOUS_ORG_ROLE: Admin", "GF_SERVER_HTTP_ADDR:"]
    mine.edit("compose.yaml", settings[-1], "\n      ".join(settings))
    mine.up()
    said = mine.check("grafana", code=1)["your password works, and is not the default"]
    assert said.startswith("FAIL ") and "HTTP 200, not 401" in said
    mine.restore()
    mine.up()
    mine.check("grafana")


@pytest.mark.parametrize(
    "key, code",
    [(f"{PASSWORD}\n", 0), ("typed\x03", 130), ("\x1a\x03", 130), ("\x04", 0), *SIGNALS],
)
def test_the_password_is_not_shown_and_the_terminal_is_restored(mine, key, code):
    save(mine, DASHBOARD)
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    shown = bytearray()

    def shows(words):
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(leader, 65536))
        return words in shown.decode(errors="replace")

    settings = lambda: run("stty", "-g", stdin=follower)
    before = settings()
    # setsid gives the script the terminal, so that keys send signals.
    command = ["setsid", "--ctty", mine.root / "scripts/check.sh", "--own"]
    own = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=mine.lab.env, cwd=mine.root)
    until(60, "the question", lambda: shows("so try once") and settings() != before)
    if isinstance(key, str):
        os.write(leader, key.encode())
    else:
        own.send_signal(key)
    until(60, "its end", lambda: own.poll() is not None or shows("never"))
    assert own.returncode == code and settings() == before, shown
    assert not shows(PASSWORD) and not shows("typed")
