"""The judge of dashboards, and check.sh with Grafana: the real Grafana stores the same dashboards, too."""

import collections
import contextlib
import copy
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess

import pytest

from lab import ENVIRONMENT, ROOT, fetch, fetch_json, replace_file, run, search, terminate, until
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
VARIABLES = {"list": [{"name": "source", "type": "datasource", "current": {"value": "own"}}]}
TIME = {"from": "now-15m", "to": "now"}
DASHBOARD = {"title": "Mine", "templating": VARIABLES, "refresh": "5s", "time": TIME, "panels": [PANEL]}
DEFAULTS, TARGET = "panels/0/fieldConfig/defaults/", "panels/0/targets/0/"
RED = f"{DEFAULTS}thresholds/steps/1/"
# The data sources that answer model_result, as load_sources gives them.
SOURCES = "other\t5s\tOther\thttp://localhost:9090\t-\nown\t5s\tMine\thttp://localhost:9090\tdefault"
STEPS_AT_90 = {"mode": "percentage", "steps": [{"color": "green", "value": None}, {"color": "red", "value": 90}]}
RED_OVERRIDE = {
    "matcher": {"id": "byName", "options": "x"},
    "properties": [{"id": "thresholds", "value": {"mode": "absolute", "steps": [{"color": "red", "value": 0.9}]}}],
}
BLUE = PANEL["fieldConfig"]["defaults"] | {"thresholds": {"steps": [{"color": "blue", "value": 0.9}]}}
BY_REGEXP = {"matcher": {"id": "byRegexp", "options": "/model.*/"}}
BY_OTHER_TYPE = {"matcher": {"id": "byType", "options": "time"}}
BY_TYPE = {"matcher": {"id": "byType", "options": "number"}}
DEFAULT = PANEL["fieldConfig"]["defaults"]
SOFT = DEFAULT | {"min": None, "max": None, "custom": DEFAULT["custom"] | {"axisSoftMin": 0, "axisSoftMax": 1}}
GRAPH = {
    "id": 1, "type": "graph", "datasource": SOURCE, "targets": PANEL["targets"],
    "yaxes": [{"min": "0", "max": "1"}, {}],
    "thresholds": [{"value": 0.9, "op": "gt", "colorMode": "critical", "fill": True, "line": True}],
}


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
    script = '. "${0%/*}/lib/common.sh"; . "$root/scripts/lib/check/grafana.sh"; judge_dashboard "$1" "$SOURCES" "$2"'
    command = ["sh", "-c", script, ROOT / "scripts/check.sh", limit, description]
    env = ENVIRONMENT | {"SOURCES": SOURCES}
    score, reasons, _ = run(*command, input=json.dumps(dashboard).encode(), env=env).split("\t")
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
    "a data source by its name": ("panels/0", PANEL | {"datasource": "Mine", "targets": [{"expr": "model_result"}]}),
    "the default data source": ("panels/0", PANEL | {"datasource": None, "targets": [{"expr": "model_result"}]}),
    "soft limits": ("panels/0/fieldConfig/defaults", SOFT),
    "an override of another name": ("panels/0/fieldConfig/overrides", [RED_OVERRIDE]),
    "an override by type": ("panels/0/fieldConfig", {"defaults": BLUE, "overrides": [RED_OVERRIDE | BY_TYPE]}),
    "a name in quotes": (f"{TARGET}expr", '{"model_result"}'),
    "a name in quotes and a label": (f"{TARGET}expr", '{"model_result", instance=~".{3,}"}'),
    "a comment": (f"{TARGET}expr", "# the result, and not model_result2\nmodel_result # now"),
    "parentheses": (f"{TARGET}expr", "(model_result)"),
    "a hash in a label": (f"{TARGET}expr", 'model_result{job!="#1"}'),
    "seconds": ("time/from", "now-900s"),
    "a short step": (f"{TARGET}interval", "1s"),
    "the older graph": ("panels/0", GRAPH),
    "a colour of the line": ("panels/0/fieldConfig/overrides", [{"properties": [{"id": "color", "value": {}}]}]),
} | {color: (f"{RED}color", color) for color in ("rgb(255, 0, 0)", "#8B0000", "#F00", "semi-dark-red")}
REFUSED = {
    "percentage at 0.9": (f"{DEFAULTS}thresholds/mode", "percentage", "no red threshold at 90 %"),
    "the older graph without a line": ("panels/0", GRAPH | {"thresholds": []}, "no red threshold at 0.9"),
    "a variable that the dashboard lacks": (f"{TARGET}datasource/uid", "${DS_PROMETHEUS}", "DS_PROMETHEUS, which"),
    "a factor of the step": (f"{TARGET}intervalFactor", 10, "its step of 50 s leaves out results"),
    "a long step": ("panels/0/interval", "1h", "its step of 3600 s"),
    "few points": ("panels/0/maxDataPoints", 3, "its step of 300 s"),
    "an override by another type": (
        "panels/0/fieldConfig", {"defaults": BLUE, "overrides": [RED_OVERRIDE | BY_OTHER_TYPE]}, "no red"
    ),
    "a comma that was dropped": (f"{RED}value", 9, "no red threshold at 0.9, it is at 9 "),
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
    "a variable as source": (f"{TARGET}datasource/uid", "${source}"),
    "an override of unknown names": (
        "panels/0/fieldConfig", {"defaults": BLUE, "overrides": [RED_OVERRIDE | BY_REGEXP]}
    ),
    "ten overrides of unknown names": (
        "panels/0/fieldConfig", {"defaults": BLUE, "overrides": [RED_OVERRIDE | BY_REGEXP] * 10}
    ),
    "a transformation": ("panels/0/transformations", [{"id": "calculateField", "options": {}}]),
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
    replace_file(tmp_path / "awk", f'#!/bin/sh\nPATH={shlex.quote(ENVIRONMENT["PATH"])} exec {awk} "$@"\n')
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
    assert mine.check("grafana")[answers].endswith("yet. Next: page 3, Grafana (stack/lab/3-grafana.md)")
    fetch(url, mine.source | {"name": "Other", "uid": "other", "url": "http://localhost:1"}, password=PASSWORD)
    error = f"FAIL  {answers}: Other at http://localhost:1: dial tcp 127.0.0.1:1: connect: connection refused. Next: "
    assert mine.check("grafana", code=1)[answers].startswith(error)
    # A proxy would reach it, but a panel doesn't.
    bare = {"name": "Bare", "uid": "bare", "url": mine.lab.prometheus.removeprefix("http://")}
    fetch(url, mine.source | bare, password=PASSWORD)
    told = 'unsupported protocol scheme "localhost" (the URL must begin with http://)'
    assert told in mine.check("grafana", code=1)[answers]
    fetch(f"{url}/uid/bare", method="DELETE", password=PASSWORD)
    fetch(url, mine.source | {"jsonData": {}}, password=PASSWORD)
    output = mine.check("grafana", code=1)
    assert output[answers].endswith(": Mine") and "Mine: 15s, the default" in output["its scrape interval is 5s"]
    fetch(f"{url}/uid/own", mine.source | {"jsonData": {"timeInterval": "1s"}}, method="PUT", password=PASSWORD)
    accepted = lambda: mine.check("grafana", code=None)["its scrape interval is 5s"].startswith("ok ")
    until(60, "a short interval", accepted)
    fetch(f"{url}/uid/own", mine.source, method="PUT", password=PASSWORD)


STORED = ["as it is", "percentage", "quoted name", "hidden", "instant", "library panel", "the older graph"]
STORED.append("ten overrides of unknown names")


@pytest.mark.parametrize("name", STORED)
def test_a_dashboard_is_judged_as_grafana_stores_it(mine, name):
    path, new, *_ = CASES[name]
    if name == "library panel":
        lib = {"uid": "lib1", "name": "lib", "kind": 1, "model": PANEL}
        fetch(f"{mine.lab.grafana}/api/library-elements", lib, password=PASSWORD)
    output = save(mine, changed(path, new))
    expected = "ok " if name in ACCEPTED else "FAIL " if name in REFUSED else "open "
    assert output.startswith(expected), output


def test_a_copy_of_the_finished_dashboard_and_a_label_without_series_are_refused(mine):
    text = (mine.root / "stack/grafana/dashboards/model.json").read_text()
    finished = json.loads(re.sub(r'"uid": "(prometheus|modelmock)"', r'"uid": "own"', text))
    assert "it came with the lab" in save(mine, finished | {"title": "Model in production Copy", "uid": None})
    output = save(mine, changed(f"{TARGET}expr", 'model_result{job="other"}'))
    assert output.startswith("FAIL ") and 'find model_result{job="other"}' in output


def test_without_a_rule_the_red_line_is_at_09_and_with_two_at_either_limit(mine):
    rules = mine.files["rules.yml"]
    for text, code in [("groups: []\n", 0), (rules.replace("> 0.9", "> 0.7"), 1), (two_rules(rules), 0)]:
        (mine.folder / "rules.yml").write_text(text)
        mine.compose("restart", "prometheus")
        until(60, "Prometheus answers", lambda: mine.lab.ask("up") == 1)
        line = save(mine, DASHBOARD)
        assert line.startswith("FAIL " if code else "ok "), line
        assert not code or "no red threshold at 0.7" in line
    mine.restore()
    mine.compose("restart", "prometheus")


def two_rules(rules):
    """The rules, and the same ones with another name and limit before them."""
    first = rules.replace("> 0.9", "> 0.7").replace("ModelResultHigh", "ModelResultHigher")
    return first + rules.split("rules:\n")[1]


def test_the_readme_names_each_line_of_the_check_and_no_other(mine):
    section = (mine.root / "stack/lab/6-hand-in.md").read_text().split("## Acceptance criteria")[1].split("\n## ")[0]
    listed = re.findall(r"`([^`]*)`(?: \((\w+) lines\))?", section.split("- [ ]", 1)[1].replace("\n  ", " "))
    counts = {words: {"": 1, "two": 2, "four": 4}[count] for words, count in listed if "scripts/" not in words}
    assert counts == collections.Counter(re.findall("^(?:ok|open) +(.*?): ", mine.check()[None], re.M))


def test_a_wrong_password_is_tried_once(mine):
    # If each was tried twice, the user would be locked now.
    for _ in range(3):
        output = mine.check("grafana", code=1, env={"GRAFANA_PASSWORD": "wrong"})[None]
        told = search(r"try once.* see '(.*)' in (.*\.md)$", output)
        assert f"`{told[1]}`" in (mine.root / told[2]).read_text()
    mine.check("grafana")


def test_anonymous_access_is_told(mine):
    settings = ["GF_AUTH_ANONYMOUS_ENABLED: true", "GF_AUTH_ANONYMOUS_ORG_ROLE: Admin", "GF_SERVER_HTTP_ADDR:"]
    mine.edit("compose.yaml", settings[-1], "\n      ".join(settings))
    mine.up()
    output = mine.check("grafana", code=1)["your password works, and is not the default"]
    assert output.startswith("FAIL ") and "HTTP 200, not 401" in output
    mine.restore()
    mine.up()
    mine.check("grafana")


PROVISIONED = {
    "grafana/datasources/mine.yml": "apiVersion: 1\ndatasources: [{name: Mine, uid: own, type: prometheus,"
    " access: proxy, url: 'http://localhost:@9090', jsonData: {timeInterval: 5s}}]\n",
    "grafana/dashboards/mine.yml": "apiVersion: 1\nproviders: [{name: mine,"
    " options: {path: /etc/grafana/provisioning/dashboards}}]\n",
    "grafana/dashboards/mine.json": json.dumps(DASHBOARD),
}


def test_another_user_without_basic_auth_a_path_and_files_that_provide_all_are_right(make_lab):
    lab = make_lab("provided")
    stack = Student(lab, services=("prometheus", "grafana"))
    stack.files |= {name: stack.with_ports(text) for name, text in PROVISIONED.items()}
    stack.restore()
    settings = {
        "GF_SECURITY_ADMIN_USER": "ada", "GF_SECURITY_ADMIN_PASSWORD": "secret77", "GF_AUTH_BASIC_ENABLED": '"false"',
        "GF_SERVER_ROOT_URL": "http://localhost:@3000/watch/", "GF_SERVER_SERVE_FROM_SUB_PATH": '"true"',
    }
    lines = "".join(f"      {name}: {value}\n" for name, value in settings.items())
    stack.edit("compose.yaml", "      GF_SERVER_HTTP_ADDR:", f"{lines}      GF_SERVER_HTTP_ADRR:")
    volume = "      - grafana-data:"
    stack.edit("compose.yaml", volume, f"      - ./grafana:/etc/grafana/provisioning\n{volume}")
    lab.model.start("--value", "0.5")
    stack.up()
    stack.env = stack.env | {"GRAFANA_PASSWORD": "secret77"}
    until(60, "the samples", lambda: lab.ask("up") == 1)
    output = stack.check("grafana")
    assert "0 failed" in output[None] and "of the user ada" in output[None], output[None]
    assert "Grafana doesn't know the variable GF_SERVER_HTTP_ADRR" in output["only your machine reaches it"]
    assert stack.check("--own")["a dashboard of your own meets the four requirements"].startswith("ok ")
    # The hand-in shows the same, with the dashboard.
    lab.run("hand-in", "7", env=stack.env)
    text = (lab.root / "hand-in-7.txt").read_text()
    assert re.search("^check: ok +your password works, .*: of the user ada$", text, re.M), text
    assert re.search("^check: ok +a dashboard of your own meets the four requirements", text, re.M)
    assert re.search('^== dashboard .*\\n(.*\\n)*.*"expr": ?"model_result', text, re.M) and "secret77" not in text


class Terminal:
    """A run of check.sh at a terminal."""

    def __init__(self, mine, *arguments):
        self.leader, self.follower = pty.openpty()
        os.set_blocking(self.leader, False)
        self.shown = bytearray()
        self.settings_before = self.settings()
        # setsid gives the script the terminal, so that keys send signals.
        command = ["setsid", "--ctty", mine.root / "scripts/check.sh", *arguments]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.follower)
        self.process = subprocess.Popen(command, **streams, env=mine.lab.env, cwd=mine.root)

    def settings(self):
        return run("stty", "-g", stdin=self.follower)

    def text(self):
        with contextlib.suppress(BlockingIOError):
            self.shown.extend(os.read(self.leader, 65536))
        return self.shown.decode(errors="replace")

    def await_question(self, number):
        asks = lambda: self.text().count("so try once") == number and self.settings() != self.settings_before
        until(60, f"question {number}", asks)

    def type(self, text):
        os.write(self.leader, text.encode())


@pytest.fixture
def terminal(request):
    def start(*arguments):
        terminal = Terminal(*arguments)
        request.addfinalizer(lambda: terminate(terminal.process))
        return terminal

    return start


@pytest.mark.parametrize(
    "key, code",
    [(f"{PASSWORD}\n", 0), ("typed\x03", 130), ("\x1a\x03", 130), ("\x04", 0), *SIGNALS],
)
def test_the_password_is_not_shown_and_the_terminal_is_restored(mine, terminal, key, code):
    save(mine, DASHBOARD)
    own = terminal(mine, "--own")
    own.await_question(1)
    if isinstance(key, str):
        own.type(key)
    else:
        own.process.send_signal(key)
    until(60, "its end", lambda: own.process.poll() is not None)
    assert own.process.returncode == code and own.settings() == own.settings_before, own.text()
    assert PASSWORD not in own.text() and "typed" not in own.text()


def test_the_watch_asks_again_after_the_default_password_and_for_another_grafana(mine, terminal):
    # Nothing logs, so the watch doesn't end.
    watch = terminal(mine, "--watch", "grafana", "logging")
    for number, password, answer in (1, "admin", "it is the default"), (2, PASSWORD, "of the user admin"):
        watch.await_question(number)
        watch.type(f"{password}\n")
        until(60, answer, lambda: answer in watch.text(), show=watch.text)
    mine.edit("compose.yaml", "      - grafana-data:/var/lib/grafana\n", "      - /tmp\n")
    mine.up()
    watch.await_question(3)
    # The watch has tried the old password once, which doesn't lock the user.
    assert "Grafana refuses the password" in watch.text()
    assert fetch_json(f"{mine.lab.grafana}/api/user", password="admin")["login"] == "admin"
    mine.restore()
    mine.up()
