"""A hand-in: what report.sh writes about a student's own stack, and what grade.sh says about thirty of them."""

import calendar
import hashlib
import platform
import re
import subprocess
import time

import pytest

from lab import LABEL, docker, edit, end, fetch, has_image, image, modelmock, one_line, put, run, start, until, vector
from student import Student

PASSWORD = "a-private-word"
QUIET, LATE = "FAIL  it fires on a day without drift", "FAIL  it doesn't fire within 15 minutes of drift"
# The hand-ins that have something to look at.
ODD = """41 short; 101 edited; 102 same-run-as-103,not-its-seed; 103 same-run-as-102; 104 not-its-seed;
106 too-fast,short; 107 short; 108 no-answers; report-111.txt not-a-hand-in; report-112.txt not-its-seed;
113 not-its-seed"""


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
    put(mine / "extra.yml", f"{secrets}url: https://me:REAL-SECRET@lab.example\n")
    put(mine / "answers.md", f"1. The container's.\n\nsum: 0\nMine is {PASSWORD}, by the way.\n")
    put(mine / "smtp-password.yml", "REAL-SECRET")
    put(mine / ".env", "WORD=REAL-SECRET")
    student.up()
    # Another student's stack runs here, too.
    compose = "com.docker.compose.project"
    labels = ["--label", LABEL, "--label", f"{compose}=other", "--label", f"{compose}.working_dir=/other/my-stack"]
    docker("run", "-d", *labels, image("axllent/mailpit"))
    lab.model.start("--seed", "41")
    until(60, "the first results", lambda: lab.ask("model_refreshes_total") >= 2)
    lab.model.stop()
    until(30, "the target is down", lambda: lab.ask("up") == 0)
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


@pytest.fixture(scope="module")
def hand_in(lab, work):
    said = lab.run("report", "41", env={"GRAFANA_PASSWORD": PASSWORD})
    words = ["user name (", "name of this computer (", "silences with creator", "can't prove", "isn't a signature"]
    assert all(word in said.split("is written")[0] for word in words)
    return (lab.root / "report-41.txt").read_text()


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
        end(model)
    return drawn


def test_a_part_that_is_not_there_is_none(lab):
    lab.run("report", "7", env={"DOCKER_HOST": "unix:///nowhere"})
    text = (lab.root / "report-7.txt").read_text()
    for name in "engine image model first-scrape minutes-scraped times-down fired mails silence sample".split():
        assert facts(text, name) == ["none"], name
    assert facts(text, "check")
    assert list(lab.root.glob("report-7*")) == [lab.root / "report-7.txt"]


@pytest.mark.parametrize("words", [[], ["seven"], ["-7"], ["7", "8"], ["1234567890123456789"]])
def test_a_number_that_is_no_seed_is_refused(lab, words):
    one_line(lab.run("report", *words, code=2))


def test_it_says_who_when_and_with_which_programs(hand_in):
    assert facts(hand_in, "number") == ["41"] and facts(hand_in, "model") == ["modelmock 0.1.0"]
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
    assert age(hand_in, "written") < age(hand_in, "first-scrape") < 600
    [(_, samples)] = vector(lab.prometheus, "up[1h]")
    up = "".join(value for _, value in samples)
    # A scrape between two models counts, too.
    assert facts(hand_in, "times-down") == [str(up.count("10"))] != ["0"]
    times = [time for time, value in samples if value == "1"]
    minutes = sum(min(after - before, 15) for before, after in zip([0] + times, times)) / 60
    assert abs(int(facts(hand_in, "minutes-scraped")[0]) - minutes) < 0.7
    assert facts(hand_in, "fired") == ["1 ModelResultHigh"]
    assert re.fullmatch(r"\d FIRING ModelResultHigh", facts(hand_in, "mails")[0])
    assert re.fullmatch(r'20\S+Z by Ada: a \\"test\\"', facts(hand_in, "silence")[0])


def test_it_holds_the_files_without_passwords(work, hand_in):
    assert "REAL-SECRET" not in hand_in and PASSWORD not in hand_in
    assert facts(hand_in, "left-out") == [".env", "smtp-password.yml"]
    for name in ("compose.yaml", "prometheus.yml", "rules.yml"):
        quoted = hand_in.split(f"== my-stack/{name}\n")[1].split("\n== ")[0]
        assert "".join(f"| {line}\n" for line in (work / name).read_text().splitlines()) in quoted + "\n", name
    assert "| 1. The container's.\n" in hand_in and "| Mine is (left out), by the way." in hand_in
    assert "auth_password: (left out)\n" in hand_in and "url: https://(left out)@lab.example" in hand_in


def test_its_results_are_those_of_the_seed_and_5_s_apart(hand_in):
    samples = [line.split() for line in facts(hand_in, "sample")]
    drawn = results([41], 20)[41]
    own = [sample for sample in samples if float(sample[2]) != 0.95]
    # The model drew two results before it was down and two after; a scrape may miss the first ones.
    assert len(own) >= 2 and all(drawn[int(count) - 1] == result for _, count, result in own)
    assert all(float(b[0]) - float(a[0]) > 4 for a, b in zip(samples, samples[1:]))


def test_dashboards_of_their_own_are_in_it(lab, work):
    image("grafana/grafana")
    until(120, "Grafana", lambda: fetch(f"{lab.grafana}/api/health"))
    passwords = {"oldPassword": "admin", "newPassword": PASSWORD}
    fetch(f"{lab.grafana}/api/user/password", passwords, method="PUT", password="admin")
    panel = {"type": "timeseries", "title": f"with {PASSWORD}", "targets": [{"expr": "model_result"}]}
    fetch(f"{lab.grafana}/api/dashboards/db", {"dashboard": {"title": "Mine", "panels": [panel]}}, password=PASSWORD)
    lab.run("report", "41", env={"GRAFANA_PASSWORD": PASSWORD})
    text = (lab.root / "report-41.txt").read_text()
    assert '"expr":"model_result"' in text.split("== dashboard ")[1] and PASSWORD not in text


def signed(text):
    text = re.sub(r"^sum: .*\n", "", text, flags=re.M)
    return f"{text}sum: {hashlib.sha256(text.encode()).hexdigest()}\n"


def vary(text, number, drawn, every=5.0):
    """The hand-in of another student, who worked for an hour."""
    began = 1795500000 + number * 7
    samples = "".join(f"sample: {began + n * every:.3f} {n + 1} {result}\n" for n, result in enumerate(drawn))
    text = re.sub(r"^sample: .*\n", "", text, flags=re.M)
    text = re.sub(r"^minutes-scraped: .*", f"minutes-scraped: {len(drawn) * every / 60:.0f}", text, flags=re.M)
    text = re.sub(r"^number: .*", f"number: {number}", text, flags=re.M)
    return signed(text.rpartition("sum: ")[0] + samples)


def test_thirty_hand_ins_are_graded_at_once(lab, hand_in, record_property):
    drawn = results(range(100, 130), 720)
    texts = {41: hand_in} | {number: vary(hand_in, number, drawn[number]) for number in drawn}
    texts[101] = texts[101].replace("check: FAIL", "check: ok  ", 1).replace("times-down: 1", "times-down: 0")
    texts[102] = signed(texts[103].replace("number: 103", "number: 102"))
    texts[104] = vary(hand_in, 104, drawn[105])
    texts[106] = vary(hand_in, 106, drawn[106], every=0.05)
    texts[107] = vary(hand_in, 107, drawn[107][:300])
    texts[108] = signed(re.sub(r"(== my-stack/answers.md\n)(\|.*\n)+", r"\1|  \n", texts[108]))
    texts[109] = texts[109].replace("\n", "\r\n")
    texts[110] = signed(texts[110].replace("written: ", "written: \033[31m$(touch hacked)`touch hacked`"))
    texts[111] = "hello\n"
    texts[112] = signed(texts[112].replace("number: 112", "number: 112; touch hacked"))
    texts[113] = vary(hand_in, 113, ["0.95"] * 720)
    texts[114] = signed(re.sub("^fired: .*", "fired: 3 ModelResultHigh", texts[114], flags=re.M))
    del texts[129]
    files = []
    for number, text in texts.items():
        files.append(lab.root / f"report-{number}.txt")
        files[-1].write_bytes(text.encode())
    before = time.monotonic()
    said = lab.run("grade", "--minutes", "60", *files)
    record_property("measured", f"thirty hand-ins, graded in {time.monotonic() - before:.1f} s")
    assert time.monotonic() - before < 60 and "\033" not in said and not list(lab.root.rglob("hacked"))
    rows = {line.split()[0]: line.split() for line in said.splitlines()[1:]}
    assert [f"{number} {row[-1]}" for number, row in rows.items() if row[-1] != "-"] == re.split(r";\s", ODD)
    assert said.splitlines()[0] in (lab.stack / "teaching.md").read_text()
    assert len(rows) == 30 and rows["114"][8] == "3"
    ok, failed = (len([line for line in facts(hand_in, "check") if line.startswith(word)]) for word in ("ok ", "FAIL "))
    row = rows["114"]
    assert [int(row[2]), int(row[3])] == [ok, failed] and row[5:7] == ["60", "100%"] and row[10] == "1"
    assert row[7:8] == facts(hand_in, "times-down")


@pytest.mark.parametrize("limit, verdict", [("0.6", "ok"), ("0.55", QUIET), ("0.75", LATE), ("> 1", "FAIL  /rules")])
def test_a_rule_on_drift_is_tried_with_other_series(lab, hand_in, limit, verdict):
    """The one of the extension, with other limits, among other files of a hand-in, and the finished stack's."""
    solution = (lab.stack / "extensions.md").read_text().split("# my-stack/rules.yml\n")[1].split("```")[0]
    rules = solution.replace("> 0.6", f"> {limit}")
    put(lab.root / "rules.yml", rules)
    quoted = "".join(f"| {line}\n" for line in rules.splitlines())
    title = "== my-stack/extra.yml\n"
    put(lab.root / "handed.txt", hand_in.replace(title, f"== my-stack/drift.yml\n{quoted}{title}"))
    # Each takes promtool some ten seconds.
    both = [lab.stack / "prometheus/rules/model.yml", lab.root / "handed.txt"]
    said = lab.run("grade", "--rule", *(both if verdict == "ok" else [lab.root / "rules.yml"]))
    assert said.count(verdict) == said.count("\n") and verdict in said
