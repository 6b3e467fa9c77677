"""A hand-in: what hand-in.sh writes about a student's own stack. What grade.sh says about it is in test_grade.py."""

import calendar
import platform
import re
import shutil
import subprocess
import time

import pytest

from lab import (
    ENVIRONMENT,
    LABEL,
    ROOT,
    assert_one_line,
    docker,
    edit,
    fetch,
    has_image,
    modelmock,
    replace_file,
    require_image,
    run,
    start,
    terminate,
    until,
    vector,
)
from student import Student

PASSWORD = "a-private-word"
ANSWERS = f"""1. The container's.

sum: 0
Mine is {PASSWORD}, by the way, and {PASSWORD}s are others.
5. Why Grafana forgot my password: the container was replaced.
  Its data went away, too.
-----BEGIN of my notes-----
All of it is here.
"""
# A comment has no lines that belong to it; a setting that is commented out is still a secret.
COMMENTS = """# The password: see below
  kept: 1
# auth_password: REAL-SECRET
- {name: a, password: REAL-SECRET}
  kept: 2
expr: sum(rate(tokens{job="a"}[5m]))
"""
# Samples of some days ago: a minute for each of these scrapes.
DAYS_AGO, OLD_SCRAPES = 5, 24


@pytest.fixture(scope="module")
def lab(make_lab):
    return make_lab("hand-in")


@pytest.fixture(scope="module")
def work(lab):
    """A student's work, with secrets in each place: a model that was down once, alerts, mails, a silence."""
    services = [name for name in ("prometheus", "alertmanager", "mailpit", "grafana") if has_image(f".*/{name}")]
    student = Student(lab, services=services)
    mine = student.folder
    edit(mine / "alertmanager.yml", "( *)require_tls: false", r"\g<0>\n\1auth_password: REAL-SECRET")
    secrets = "token: |\n  REAL-SECRET\n  REAL-SECRET\n- MY_PASSWORD=REAL-SECRET\n"
    secrets += "".join(f"{key}: REAL-SECRET\n" for key in ("webhook_url", "api_url", "api_key", "credentials"))
    secrets += "-----BEGIN KEY-----\nREAL-SECRET\n-----END KEY-----\n"
    replace_file(mine / "extra.yml", f"{secrets}url: https://me:REAL-SECRET@lab.example\n")
    replace_file(mine / "answers.md", ANSWERS)
    replace_file(mine / "notes.txt", "The token: of my bus\n  is lost.\n")
    replace_file(mine / "large.yml", "# large\n" * 8000)
    replace_file(mine / "too-large.yml", "# large\n" * 16000)
    replace_file(mine / "comments.yml", COMMENTS)
    incidents = "# mine\nsolved 2026-11-30T18:20:11Z typo 2 340\nshown 2026-11-30T18:30:11Z hang 3 60\n"
    replace_file(mine / "incidents.txt", incidents)
    replace_file(mine / "smtp-password.yml", "REAL-SECRET")
    replace_file(mine / ".env", "WORD=REAL-SECRET")
    student.compose("create")
    store_old_samples(lab, student)
    student.up()
    # Another student's stack runs here, too.
    compose = "com.docker.compose.project"
    labels = ["--label", LABEL, "--label", f"{compose}=other", "--label", f"{compose}.working_dir=/other/my-stack"]
    docker("run", "-d", *labels, require_image("axllent/mailpit"))
    lab.model.start("--seed", "41")
    until(60, "the first results", lambda: lab.ask("model_refreshes_total") >= 2)
    lab.model.stop()
    until(60, "the target is down", lambda: lab.ask("up") == 0)
    lab.model.start("--value", "0.95")
    until(60, "the mail", lambda: [subject for subject in lab.mails() if "ModelResultHigh" in subject])
    silence = {"matchers": [{"name": "alertname", "value": "ModelResultHigh", "isRegex": False}]}
    silence |= {"startsAt": time.strftime("%FT%TZ", time.gmtime()), "endsAt": "2100-01-01T00:00:00Z"}
    fetch(f"{lab.alertmanager}/api/v2/silences", silence | {"createdBy": "Ada", "comment": 'a "test"'})
    lab.model.start("--seed", "41")
    # The samples of the model before don't count.
    counted = "model_refreshes_total and on (instance) model_result != 0.95"
    until(60, "the next results", lambda: lab.ask(counted) >= 2)
    return mine


def store_old_samples(lab, student):
    """Writes samples of a model that was scraped some days ago into Prometheus' volume."""
    began = int(time.time()) - DAYS_AGO * 86400
    labels = f'{{instance="localhost:{lab.ports[5000]}",job="model_mock"}}'
    lines = "".join(f"up{labels} 1 {began + n * 15}\n" for n in range(OLD_SCRAPES))
    replace_file(student.folder / "old.om", f"# TYPE up gauge\n{lines}# EOF\n")
    container = student.compose("ps", "-aq", "prometheus").strip()
    words = ["run", "--rm", "--label", LABEL, "--volumes-from", container, "-v", f"{student.folder}:/old:ro"]
    words += ["-e", "TMPDIR=/prometheus", "--entrypoint", "promtool", require_image("prom/prometheus")]
    docker(*words, "tsdb", "create-blocks-from", "openmetrics", "/old/old.om", "/prometheus")
    (student.folder / "old.om").unlink()


@pytest.fixture(scope="module")
def hand_in(lab, work):
    output = lab.run("hand-in", "41", env={"GRAFANA_PASSWORD": PASSWORD})
    words = ["user name (", "name of this computer (", "silences with creator", "can't prove", "isn't a signature"]
    assert all(word in output.split("is written")[0] for word in words)
    return (lab.root / "hand-in-41.txt").read_text()


def facts(text, name):
    return re.findall(rf"^{name}: (.*)$", text, re.M)


def age(text, name):
    """The seconds since the time in that line."""
    return time.time() - calendar.timegm(time.strptime(facts(text, name)[0], "%Y-%m-%dT%H:%M:%SZ"))


def results(seeds, count):
    """The results that the model draws for each of these seeds, by itself."""
    flags, drawn = ["--interval", "0.01", "--listen", "127.0.0.1:0"], {}
    models = {seed: start(modelmock(), "--seed", seed, *flags, stdout=subprocess.PIPE, text=True) for seed in seeds}
    for seed, model in models.items():
        with model.stdout as lines:
            drawn[seed] = [next(lines).split()[2] for _ in range(count + 1)][1:]
        terminate(model)
    return drawn


def test_a_part_that_is_not_there_is_none(lab):
    output = lab.run("hand-in", "7", env={"DOCKER_HOST": "unix:///nowhere"})
    warnings = [line for line in output.splitlines() if line.startswith("hand-in.sh: ")]
    expected = ["will lack your stack, as Docker"]  # is missing, or its engine isn't running
    expected += ["model doesn't answer", "answers.md is missing"]
    for words in expected:
        assert [line for line in warnings if words in line], words
    assert "It lacks parts of your work: see above." in output.splitlines()[-1]
    text = (lab.root / "hand-in-7.txt").read_text()
    parts = "engine image model first-scrape minutes-scraped times-down fired mails silence incident sample"
    for name in parts.split():
        assert facts(text, name) == ["none"], name
    assert facts(text, "check")
    assert list(lab.root.glob("hand-in-7*")) == [lab.root / "hand-in-7.txt"]


@pytest.mark.parametrize(
    "words", ["", "seven", "-7", "7 8", "1234567890123456789", "--with 7", "--with x 7", "--with 7 7"]
)
def test_a_number_that_is_no_seed_is_refused(lab, words):
    assert_one_line(lab.run("hand-in", *words.split(), code=2))


# Secrets under each kind of key, and a key that is as it was.
SECRETS = """- MP_SMTP_AUTH=student:REAL-SECRET
MP_UI_AUTH: "student:REAL-SECRET"
GRAFANA_PASS: REAL-SECRET
ADMIN_PWD: REAL-SECRET
basic_auth_users:
  admin: REAL-SECRET
admin: "$$2y$$10$$REAL-SECRET"
command: [--ui-auth, "student:REAL-SECRET"]
command: --ui-auth student:REAL-SECRET
{auth: true, password: REAL-SECRET}
passwords:
- REAL-SECRET
routing_key: REAL-SECRET
key: REAL-SECRET
"apiKey":"REAL-SECRET"
url: http://me:REAL-SECRET@REAL-SECRET@lab.example
url: http://lab.example?word=another-word
"""
HONEST = """require_tls: false
author: Ada
authors: [Ada]
passed: 3
keyword: monkey
monkey: 1
command: --web.enable-lifecycle --web.listen-address=127.0.0.1:9090
GF_AUTH_ANONYMOUS_ENABLED: "false"
GF_AUTH_BASIC_ENABLED: false # mine
{auth: true, name: a}
expr: sum by (key) (rate(model_result{key="a"}[5m])) > 0
"""


def test_keys_that_hold_secrets_lose_their_values_and_others_keep_them():
    def quote(text):
        program = ROOT / "scripts/lib/hand-in/quote.awk"
        env = ENVIRONMENT | {"hidden": "another-word"}
        return run("awk", "-v", "kind=config", "-f", program, input=text.encode(), env=env)

    quoted = quote(SECRETS)
    assert "REAL-SECRET" not in quoted and "another-word" not in quoted
    assert quoted.count("(left out)") == SECRETS.count("\n") - 2
    assert quote(HONEST) == "".join(f"| {line}\n" for line in HONEST.splitlines())


# An engine without containers, whose Compose notes the variable; and a Grafana with dashboards of 2.5 MB.
STUBS = {
    "docker": """
case $* in
version*) echo 1.51 ;;
"compose version"*) echo 2.40.3 ;;
compose*config*) echo "compose has ${GRAFANA_PASSWORD-nothing}" >>"$CALLS" && echo "{}" ;;
esac
""",
    "curl": """
case $* in
*/api/health*) echo "{}" ;;
*/api/user*) echo '{"login": "admin"}' ;;
*/api/search*) echo '[{"uid": "one"}, {"uid": "two"}]' ;;
*/api/dashboards/uid/*)
	printf '{"meta":{"x":1,"provisioned":true},"dashboard":{"title":"'
	head -c 2500000 /dev/zero | tr '\\0' x
	echo '"}}'
	;;
*/api/v1/targets*) echo '{"data": {"activeTargets": [{"health": "up"}]}}' ;;
*/-/ready*) exit 7 ;;
*) exit 22 ;;
esac
""",
    **dict.fromkeys(("awk", "cat", "cut", "find", "grep", "sed", "sort", "tr"), ""),
}


@pytest.fixture
def stubs(lab, tmp_path):
    """Runs a script with these programs, whose arguments are in the file calls, and with an empty my-stack."""
    for name, text in STUBS.items():
        goes_on = text or f'PATH=$REAL_PATH exec {name} "$@"\n'
        replace_file(tmp_path / name, f"#!/bin/sh\nprintf '%s ' {name} \"$@\" >>\"$CALLS\"\necho >>\"$CALLS\"\n{goes_on}")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}", "REAL_PATH": ENVIRONMENT["PATH"]}
    env["CALLS"] = str(tmp_path / "calls")
    mine = lab.root / "my-stack"
    mine.mkdir()
    replace_file(mine / "compose.yaml", "services: {}\n")

    def run_with_stubs(*words, code=0, **variables):
        (tmp_path / "calls").write_text("")
        output = lab.run(*words, env=env | variables, code=code)
        return output, (tmp_path / "calls").read_text()

    yield run_with_stubs
    shutil.rmtree(mine)


def compose_has(calls):
    return set(re.findall("^compose has (.*)$", calls, re.M))


def test_the_password_reaches_neither_the_list_of_processes_nor_compose(lab, stubs):
    _, calls = stubs("hand-in", "7", GRAFANA_PASSWORD=PASSWORD)
    assert "grep " in calls and "awk " in calls and PASSWORD not in calls.replace(f"compose has {PASSWORD}", "")
    _, calls = stubs("hand-in", "7")
    assert compose_has(calls) == {"nothing"}
    # A stack may have it from the shell.
    _, calls = stubs("check", GRAFANA_PASSWORD=PASSWORD, code=1)
    assert compose_has(calls) == {PASSWORD}
    replace_file(lab.root / "my-stack/.env", "# mine\nGRAFANA_PASSWORD=of-the-file\n")
    for words in ["hand-in", "7"], ["check"]:
        _, calls = stubs(*words, GRAFANA_PASSWORD=PASSWORD, code=None)
        assert compose_has(calls) == {"nothing"}


def test_files_and_dashboards_have_limits(lab, stubs):
    mine = lab.root / "my-stack"
    names = ["answers.md", "sub/Answers.txt", "mailpit-auth.txt", "users.txt", "auth/a.yml", "my-pwd.yml", "authors.md"]
    for name in names:
        (mine / name).parent.mkdir(exist_ok=True)
        replace_file(mine / name, "ada:a-word\n")
    output, _ = stubs("hand-in", "7", GRAFANA_PASSWORD=PASSWORD)
    text = (lab.root / "hand-in-7.txt").read_text()
    assert facts(text, "left-out") == ["auth/a.yml", "mailpit-auth.txt", "my-pwd.yml", "users.txt", "dashboard two (large)"]
    shown = ["my-stack/answers.md", "my-stack/authors.md", "my-stack/compose.yaml", "my-stack/sub/Answers.txt"]
    assert re.findall("^== (.*)$", text, re.M) == [*shown, "dashboard one"]
    assert "program reads files" not in output
    edit(lab.root / "scripts/lib/teacher.sh", "^max_hand_in_bytes=.*", "max_hand_in_bytes=2000000")
    output, _ = stubs("hand-in", "7", GRAFANA_PASSWORD=PASSWORD)
    edit(lab.root / "scripts/lib/teacher.sh", "^max_hand_in_bytes=.*", "max_hand_in_bytes=5000000")
    assert "your teacher's program reads files of at most 2000000 bytes: move" in output.splitlines()[-2]


def test_it_says_who_when_and_with_which_programs(hand_in):
    version = re.search('^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert facts(hand_in, "number") == ["41"] and facts(hand_in, "model") == [f"modelmock {version}"]
    assert 0 <= age(hand_in, "written") < 600
    assert platform.node() in facts(hand_in, "host")[0] and facts(hand_in, "user") == [run("id", "-un").strip()]
    assert re.match(r"\d+\.\d+", facts(hand_in, "engine")[0])
    images = facts(hand_in, "image")
    assert [name for name in images if re.fullmatch("prom/prometheus:v.* in my-stack", name)]
    assert len(images) == len(set(images)), "images of another stack are among them"


def test_it_holds_the_verdicts_and_the_traces_of_the_work(lab, hand_in):
    checks = facts(hand_in, "check")
    assert "my-stack" in checks[0] and [line for line in checks if line.startswith("ok    Prometheus is ready")]
    assert [line for line in checks if line.startswith(("ok", "FAIL", "open")) and "of your own" in line]
    assert abs(age(hand_in, "first-scrape") - DAYS_AGO * 86400) < 900
    [(_, samples)] = vector(lab.prometheus, "up[14d]")
    up = "".join(value for _, value in samples)
    # A scrape between two models counts, too.
    assert facts(hand_in, "times-down") == [str(up.count("10"))] != ["0"]
    times = [time for time, value in samples if value == "1"]
    minutes = sum(min(after - before, 15) for before, after in zip([0] + times, times)) / 60
    assert abs(int(facts(hand_in, "minutes-scraped")[0]) - minutes) < 0.7
    assert facts(hand_in, "fired") == ["1 ModelResultHigh"]
    assert re.fullmatch(r"\d FIRING ModelResultHigh", facts(hand_in, "mails")[0])
    assert re.fullmatch(r'20\S+Z by Ada: a "test"', facts(hand_in, "silence")[0])


def test_it_holds_the_files_without_passwords(work, hand_in):
    assert "REAL-SECRET" not in hand_in and not re.search(rf"{PASSWORD}\\b", hand_in)
    assert facts(hand_in, "left-out") == [".env", "smtp-password.yml", "too-large.yml (large)"]
    assert hand_in.count("| # large\n") == 8000
    for name in ("compose.yaml", "prometheus.yml", "rules.yml"):
        quoted = hand_in.split(f"== my-stack/{name}\n")[1].split("\n== ")[0]
        assert "".join(f"| {line}\n" for line in (work / name).read_text().splitlines()) in quoted + "\n", name
    assert "auth_password: (left out)\n" in hand_in and "url: https://(left out)@lab.example" in hand_in


def test_it_leaves_prose_and_comments_alone(hand_in):
    quoted = ANSWERS.replace(f"{PASSWORD},", "(left out),").replace("-----BEGIN of", "-----BEGIN of")
    assert "".join(f"| {line}\n" for line in quoted.splitlines()) in hand_in
    assert "| The token: of my bus\n|   is lost.\n" in hand_in
    shown = ["# The password: (left out)", "  kept: 1", "# auth_password: (left out)"]
    shown += ["- {name: a, password: (left out)", "  kept: 2", 'expr: sum(rate(tokens{job="a"}[5m]))']
    assert "".join(f"| {line}\n" for line in shown) in hand_in


def test_it_names_the_incidents_and_the_scripts(lab, hand_in):
    assert facts(hand_in, "incident") == ["2026-11-30T18:20:11Z typo 2 340"]
    assert "== my-stack/incidents.txt" not in hand_in
    assert re.fullmatch("[0-9a-f]{64}", facts(hand_in, "scripts")[0])
    edit(lab.root / "scripts/check.sh", r"\Z", "# changed\n")
    lab.run("hand-in", "--with", "8", "43", env={"GRAFANA_PASSWORD": PASSWORD})
    text = (lab.root / "hand-in-43.txt").read_text()
    assert facts(text, "scripts") != facts(hand_in, "scripts") and facts(text, "with") == ["8"]


@pytest.mark.parametrize("password", ["model", "2026", "Prometheus", "1234567"])
def test_a_common_password_is_refused(lab, work, password):
    output = lab.run("hand-in", "44", env={"GRAFANA_PASSWORD": password}, code=1)
    assert "is a word of the lab, or a short number" in output.splitlines()[-1]
    assert not (lab.root / "hand-in-44.txt").exists()


def test_its_results_are_those_of_the_seed_and_5_s_apart(hand_in):
    samples = [line.split() for line in facts(hand_in, "sample")]
    drawn = results([41], 20)[41]
    own = [sample for sample in samples if float(sample[2]) != 0.95]
    # The model drew two results before it was down and two after; a scrape may miss the first ones.
    assert len(own) >= 2 and all(drawn[int(count) - 1] == result for _, count, result in own)
    assert all(float(b[0]) - float(a[0]) > 4 for a, b in zip(samples, samples[1:]))


def test_dashboards_of_their_own_are_in_it(lab, work):
    require_image("grafana/grafana")
    until(120, "Grafana", lambda: fetch(f"{lab.grafana}/api/health"))
    passwords = {"oldPassword": "admin", "newPassword": PASSWORD}
    fetch(f"{lab.grafana}/api/user/password", passwords, method="PUT", password="admin")
    panel = {"type": "timeseries", "title": f"with {PASSWORD}", "targets": [{"expr": "model_result"}]}
    fetch(f"{lab.grafana}/api/dashboards/db", {"dashboard": {"title": "Mine", "panels": [panel]}}, password=PASSWORD)
    source = {"name": PASSWORD, "type": "prometheus", "access": "proxy", "url": "http://me:REAL-SECRET@localhost:1"}
    fetch(f"{lab.grafana}/api/datasources", source, password=PASSWORD)
    lab.run("hand-in", "41", env={"GRAFANA_PASSWORD": PASSWORD})
    text = (lab.root / "hand-in-41.txt").read_text()
    [failed] = [line for line in facts(text, "check") if "a data source answers model_result" in line]
    assert "REAL-SECRET" not in text and "(left out) at http://(left out)@localhost:1" in failed
    dashboards = text.split("== dashboard ", 1)[1]
    assert re.search('"expr": ?"model_result"', dashboards) and PASSWORD not in dashboards
