"""What check.sh says of a student's stack and of the finished one, each fault made in the real programs."""

import json
import re
import shutil
import signal
import time

import pytest

from lab import LABEL, edit, fetch_json, image, docker, put, run, start, until
from student import Student

CONFIGURATION = "its configuration is a file of yours, and right"


@pytest.fixture(scope="module")
def mine(make_lab):
    lab = make_lab("mine")
    mine = Student(lab, services=("prometheus", "alertmanager", "mailpit"))
    lab.model.start("--value", "0.5")
    # Compose finds the file under this name, too.
    (mine.folder / "compose.yaml").rename(mine.folder / "docker-compose.yml")
    mine.up()
    mine.first = mine.check(code=None)
    (mine.folder / "docker-compose.yml").rename(mine.folder / "compose.yaml")
    return mine


@pytest.fixture
def restored(mine):
    """The student's stack, which is as it was after the test."""
    yield mine
    mine.restore()
    mine.up()
    mine.restart()


def test_directly_after_a_start_no_line_fails(mine):
    assert mine.first[None].startswith("This checks your own stack, in my-stack/\n")
    assert "0 failed, 2 open\n" in mine.first[None], mine.first[None]
    assert mine.first["Grafana is healthy"].startswith("open ")
    assert mine.first["no notification failed"].startswith("open ")


def test_each_criterion_is_in_the_readme(mine):
    section = (mine.root / "README.md").read_text().split("## 4. ")[1].split("\n## ")[0]
    words = re.findall("`([^`]*)`", section.split("- [ ]", 1)[1])
    listed = {each.replace("\n  ", " ") for each in words if not each.startswith("scripts/")}
    text = "".join((mine.root / f"scripts/{name}.sh").read_text() for name in ("check", "alerting", "grafana"))
    titles = {f"{name} is ready" for name in ("Prometheus", "Alertmanager", "Mailpit")} | {"Grafana is healthy"}
    said = set(mine.first) - {None}
    assert said <= listed
    # What needs Grafana is in the text.
    assert {words for words in listed - said if f'"{words}"' not in text} <= titles


def test_hints_name_paths_as_they_are_called_from_the_folder(mine):
    assert "Next: scripts/check.sh --alert" in mine.check("alertmanager")[None]
    assert "Next: ../scripts/check.sh --alert" in mine.check("alertmanager", cwd=mine.folder)[None]


def test_a_store_or_another_students_stack_is_not_taken_for_this_one(mine, make_lab):
    for folder in ("lab/stack/store", "lab/stack", "other/my-stack"):
        labels = [f"project={mine.lab.project}-other", f"project.working_dir=/{folder}"]
        words = [word for label in labels for word in ("--label", f"com.docker.compose.{label}")]
        docker("run", "-d", "--label", LABEL, *words, "--network", "none", image("axllent/mailpit"))
    assert "FAIL" not in mine.check("mailpit")[None]
    mine.compose("stop", "mailpit")
    assert "exited" in mine.check("mailpit", code=1)["Mailpit is ready"]
    mine.up()


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("\nvolumes:\n", "\nvolumes:\n  - prometheus-data\nx-rest:\n", "volumes must be a mapping"),
        ("services:\n", "services:\nservices:\n", 'mapping key "services" already defined'),
        ("\n  prometheus-data:", "", "undefined volume prometheus-data"),
        ("    image: prom/prometheus", "\timage: prom/prometheus", "yaml: line 3: found character that cannot start"),
    ],
)
def test_a_file_that_compose_refuses_is_told(mine, old, new, words):
    mine.edit("compose.yaml", old, new)
    said = mine.check("mailpit", code=1)["Compose accepts your file"]
    mine.restore()
    assert said.startswith("FAIL  ") and words in said, said


def test_a_container_that_differs_from_the_file_is_told(restored):
    restored.edit("compose.yaml", "  mailpit:\n", "  mailpit:\n    mem_limit: 100m\n")
    said = restored.check("mailpit", code=1)["Mailpit is ready"]
    assert "its container isn't what the Compose file of my-stack says. Next: docker compose up -d in my-stack" in said
    restored.up()
    restored.check("mailpit")
    restored.edit("compose.yaml", "  mailpit:\n", "  mailbox:\n")
    assert "isn't what" in restored.check("mailpit", code=1)["Mailpit is ready"]


def test_steps_that_come_later_are_open(make_lab):
    """Of section 5.2: no folder, an empty one, and the first service alone."""
    lab = make_lab("early")
    early = Student(lab, count=5, services=("prometheus",))
    text = (early.folder / "compose.yaml").read_text()
    (early.folder / "compose.yaml").unlink()
    lab.model.start()
    said = early.check()
    assert "4 failed" not in said[None] and "5 open" in said[None] and "0 failed" in said[None], said[None]
    open_to_all = text.replace("127.0.0.1:", "0.0.0.0:")
    put(early.folder / "compose.yaml", open_to_all.replace("      - prometheus-data:/prometheus\n", ""))
    early.up()
    said = early.check("prometheus", "grafana")
    later = ("its data outlives the container", "only your machine reaches it", "the alerting rules are loaded")
    assert all(said[criterion].startswith("open  ") for criterion in (*later, "Grafana is healthy")), said[None]
    assert "0 failed" in said[None]
    put(early.folder / "compose.yaml", text.replace("network_mode: host", "networks: {default: {aliases: [x]}}"))
    early.up()
    assert "see ports: and network_mode:" in early.check("prometheus", code=1)["Prometheus is ready"]


@pytest.mark.parametrize(
    "name, old, new, part, criterion",
    [
        ("prometheus.yml", "scrape_interval: 5s", "scrape_interval: 6s", "prometheus", CONFIGURATION),
        ("rules.yml", "0.9", "0.8", "prometheus", CONFIGURATION),
        ("alertmanager.yml", "wait: 1s", "wait: 2s", "alertmanager", "Alertmanager's configuration is right"),
    ],
)
def test_a_file_that_was_edited_but_not_read_is_told(restored, name, old, new, part, criterion):
    restored.edit(name, old, new)
    said = restored.check(part, code=1)[criterion]
    assert f"my-stack/{name} was changed after {part} read it" in said and "docker compose restart in my-stack" in said
    restored.restart(part)
    restored.check(part)
    edit(restored.folder / name, new, old)  # makes another file with that name
    said = restored.check(part, code=1)[criterion]
    assert f"the container still has an older my-stack/{name}" in said


@pytest.mark.parametrize(
    "old, new, verdict, words",
    [
        ("localhost:MODEL", "127.0.0.1:MODEL", "ok", "1 of 1 up"),
        ("localhost:MODEL", "localhost:1", "FAIL", "0 of 1 up (Get"),
        ("localhost:MODEL", "nowhere.example:MODEL", "FAIL", "use localhost"),
        ('"localhost:MODEL"', "localhost", "FAIL", "the target localhost has no port"),
        ("    scrape_interval", "    scheme: https\n    scrape_interval", "FAIL", "remove scheme: https"),
        ('"localhost:MODEL"', '"localhost:MODEL"\n          - "127.0.0.1:MODEL"', "FAIL", "is there twice"),
        ("scrape_interval: 5s", "scrape_interval: 10m", "open", "weren't scraped yet"),
    ],
)
def test_targets_are_told(restored, old, new, verdict, words):
    port = str(restored.lab.ports[5000])
    restored.edit("prometheus.yml", old.replace("MODEL", port), new.replace("MODEL", port))
    restored.restart("prometheus")
    said = restored.check("prometheus", code=None)["its targets are up"]
    assert said.startswith(verdict) and words in said, said


def test_a_model_that_is_down_is_told(restored):
    restored.lab.model.stop()
    hint = "Next: start the model: cargo run --release"
    until(15, "the hint", lambda: restored.check("prometheus", code=None)["its targets are up"].endswith(hint))
    restored.lab.model.start("--value", "0.5")


def test_an_alertmanager_elsewhere_is_told(restored):
    port = restored.lab.ports[9093]
    restored.edit("prometheus.yml", f"localhost:{port}", f"other.example:{port}")
    restored.restart("prometheus")
    said = restored.check("prometheus", code=1)["Prometheus knows its Alertmanager"]
    assert f"http://other.example:{port}/api/v2/alerts is not this machine" in said


def test_a_request_that_fails_is_told_with_its_reason(restored):
    """Mailpit offers no encryption. Alertmanager tries again, and no notification has failed yet."""
    restored.edit("alertmanager.yml", "        require_tls: false\n", "")
    restored.restart("alertmanager")
    restored.lab.model.start("--value", "0.95")
    reason = r"FAIL  no notification failed: of 1 since Alertmanager started, 0 failed, and \d+ requests: .*STARTTLS"
    until(60, "the reason", lambda: re.search(reason, restored.check("alertmanager", code=None)[None]))
    restored.lab.model.start("--value", "0.5")


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("check")
    lab.up("prometheus", "alertmanager")
    until(20, "the target is up", lambda: lab.ask("up") == 1)
    return lab


@pytest.fixture
def folder(lab):
    """The finished stack's files for Prometheus, which are put back."""
    folder, before = lab.stack / "prometheus", lab.work / "before"
    shutil.copytree(folder, before)
    yield folder
    shutil.copytree(before, folder, dirs_exist_ok=True)
    for file in folder.rglob("*"):
        if not (before / file.relative_to(folder)).exists():
            file.unlink()
    shutil.rmtree(before)
    lab.run("up", "prometheus")


def loaded(lab):
    """The rules that Prometheus has, by name."""
    groups = fetch_json(f"{lab.prometheus}/api/v1/rules")["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def test_a_changed_rule_is_loaded_automatically(lab, folder, record_property):
    changed = time.monotonic()
    edit(folder / "rules/model.yml", r"above 0\.9", "above nine tenths")
    # Within these 5 s, the check waits.
    assert "0 failed" in lab.run("check", "prometheus")
    until(30, "the changed rule", lambda: "above nine tenths" in json.dumps(loaded(lab)))
    record_property("measured", f"seconds until a changed rule is loaded: {time.monotonic() - changed:.1f}, at most 30")
    (folder / "rules/model.yml").touch()
    lab.run("check", "prometheus")


RULE = "groups:\n  - name: own\n    rules: [{alert: Own, expr: up == 2}]\n"


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("rules/own.yaml", RULE, "prometheus/rules/own.yaml isn't among the files of rule_files:"),
        ("rules/own.yml", f"{RULE}---\n{RULE}", "prometheus reads stack/prometheus/rules/own.yml only down to"),
        ("rules/own.yml", RULE + "      - alert: [\n", "rules/own.yml: "),
        ("targets/own.yml", '- targets: ["http://localhost:1"]\n', "in stack/prometheus/targets/own.yml, a target is"),
        ("targets/own.yml", "- targets: [localhost]\n", "the target localhost has no port"),
        ("targets/own.yml", "- targets: ['127.0.0.1:MODEL']\n  labels: {student: '7'}\n", "is there twice"),
        ("targets/own.yml", '- targets: ["localhost:1", "localhost:2"]\n', "1 of 3 up (Get"),
        ("targets/own.yml", '- targets: ["localhost:1"]\n   labels:\n', "targets/"),
    ],
)
def test_a_mistake_in_a_file_is_told_within_seconds(lab, folder, name, text, words):
    put(folder / name, text.replace("MODEL", str(lab.ports[5000])))
    said = lab.run("check", "prometheus", code=1)
    assert words in said, said


def test_a_folder_that_was_replaced_is_told(lab, folder):
    folder.rename(folder.with_name("old"))
    shutil.copytree(folder.with_name("old"), folder)
    edit(folder / "rules/model.yml", "0.9", "0.8")
    assert "the container still has an older stack/prometheus/rules/model.yml" in lab.run("check", "prometheus", code=1)
    shutil.rmtree(folder)
    folder.with_name("old").rename(folder)


def test_what_editors_leave_and_what_yaml_allows_is_right(lab, folder):
    """Flow style, quoted keys, another order, labels of a group, and the line ends of Windows."""
    put(folder / "rules/own.yml", OTHER_WAYS.replace("\n", "\r\n"))
    (folder / "rules/.#model.yml").symlink_to("me@laptop.1234:5678")
    (folder / "rules/._model.yml").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    (folder / "rules/model.yml~").write_text("groups: [")
    (folder / "rules/model.yml").touch()
    said = lab.run("check", "prometheus")
    assert "0 failed" in said and {"A", "B"} <= set(loaded(lab)), said


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


def test_alertmanagers_file_is_judged(lab):
    file = lab.stack / "alertmanager/alertmanager.yml"
    before = file.read_text()
    lab.run("check", "alertmanager")
    put(file, before.replace("repeat_interval: 1h", "repeat_interval: 2h"))
    assert "alertmanager.yml was changed after alertmanager read it" in lab.run("check", "alertmanager", code=1)
    put(file, before.replace("receiver: mailbox", "receiver: nobody"))
    assert "nobody" in lab.run("check", "alertmanager", code=1)
    assert "alertmanager" in lab.run("up", "alertmanager", code=1)
    put(file, before)
    lab.run("up", "alertmanager")
    lab.run("check", "alertmanager")


def test_the_check_does_not_wait_for_a_model_that_hangs(lab, record_property):
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
