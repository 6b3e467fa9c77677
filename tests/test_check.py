"""What check.sh says of a student's stack and of the finished one, each fault made in the real programs."""

import pathlib
import re
import signal
import sys
import time

import pytest

from lab import LABEL, ROOT, docker, edit, fetch, listens, replace_file, require_image, run, start, until
from student import Student


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
    """The student's stack, whose files are put back and read again after the test."""
    yield mine
    mine.restore()
    mine.compose("kill", "--signal", "HUP", "prometheus", "alertmanager")
    mine.up()


def test_directly_after_a_start_no_line_fails(mine):
    assert mine.first[None].startswith("This checks your own stack, in my-stack/\n")
    assert "0 failed, 2 open\n" in mine.first[None], mine.first[None]
    assert all(mine.first[each].startswith("open ") for each in ("Grafana is healthy", "no notification failed"))
    assert "Next: scripts/check.sh --alert" in mine.first[None]
    # Hints name paths as they are called from the folder.
    assert "Next: ../scripts/check.sh --alert" in mine.check("alertmanager", cwd=mine.folder)[None]


def test_a_compose_file_that_is_refused_or_differs_and_a_container_that_ended_are_told(restored):
    parse = "failed to parse my-stack/compose.yaml"
    differs = "its container differs from the Compose file of my-stack. Next: docker compose up -d in my-stack"
    for old, new, words in [
        ("    image: prom", "\timage: prom", f"Compose accepts your file: {parse}: yaml: line 3: found character that"),
        ("  mailpit:\n", "  mailpit:\n    mem_limit: 100m\n", f"Mailpit is ready: {differs}"),
        ("  mailpit:\n", "  mailbox:\n", f"Mailpit is ready: {differs}"),
    ]:
        restored.edit("compose.yaml", old, new)
        output = restored.check("mailpit", code=1)[None]
        restored.restore()
        assert f"FAIL  {words}" in output, output
    for way, words in [("kill", "isn't running: "), ("stop", "was stopped. Next: docker compose up -d in my-stack")]:
        restored.up()
        # A program that has just started doesn't handle the signal yet.
        until(60, "Prometheus", lambda: fetch(f"{restored.lab.prometheus}/-/ready"))
        restored.compose(way, "prometheus")
        assert f"prometheus-1 {words}" in restored.check("prometheus", code=1)["Prometheus is ready"]


def test_watch_tells_each_change_once_and_ends_when_all_is_ok(restored):
    restored.compose("stop", "-t", "1", "mailpit")
    log = restored.lab.work / "watch"
    with log.open("wb") as output:
        command = [restored.root / "scripts/check.sh", "--watch", "mailpit"]
        watch = start(*command, stdout=output, stderr=output, env=restored.env, cwd=restored.folder)
    until(90, "the next step", lambda: "Next: Mailpit is ready: " in log.read_text())
    times = pathlib.Path(f"/proc/{watch.pid}/stat")
    seconds = lambda: sum(int(each) for each in times.read_text().split()[13:17]) / 100
    began, spent = time.monotonic(), seconds()
    time.sleep(20)
    assert (seconds() - spent) / (time.monotonic() - began) < 0.1
    restored.up()
    until(120, "its end", lambda: watch.poll() is not None)
    lines = log.read_text().splitlines()
    assert watch.returncode == 0 and lines[-1] == "All is ok.", lines
    words = [line[:4] for line in lines if re.match("(ok|FAIL|open) +Mailpit is ready", line)]
    assert words == ["FAIL", "ok  "] and sum(line.startswith("Next: ") for line in lines) == 1, lines


def test_the_watch_prints_no_progress():
    words = """. "${0%/*}/lib/common.sh"; clock=0
        date() { echo $clock; }
        sleep() { clock=$((clock + $1)); }
        wait_for 12 "it comes" false; echo ended; watch=yes; wait_for 12 "it comes" false || echo ended"""
    output = run("sh", "-c", words, ROOT / "scripts/check.sh")
    assert output == "      waiting until it comes (10 s)\nended\nended\n"


def test_steps_that_come_later_are_open(make_lab, process):
    """A store, another student's stack, and the model as a container aren't taken for the stack to check, and other
    programs at the ports of options aren't taken for these."""
    lab = make_lab("early")
    early = Student(lab, count=5, services=("prometheus",))
    text = (early.folder / "compose.yaml").read_text()
    (early.folder / "compose.yaml").unlink()
    # Compose would take it for the file of my-stack.
    (lab.work / "compose.yaml").write_text("services: {other: {image: other}}\n")
    edit(lab.stack / "compose.yaml", "image: modelmock:.*", f"image: {lab.project}:1")
    mailpit = require_image("axllent/mailpit")
    docker("tag", mailpit, f"{lab.project}:1")
    for folder, name in (("stack/store", mailpit), ("other/my-stack", mailpit), ("stack", f"{lab.project}:1")):
        labels = [f"project={lab.project}-other", f"project.working_dir={lab.root}/{folder}"]
        words = [f"--label=com.docker.compose.{label}" for label in labels]
        docker("run", "-d", f"--label={LABEL}", *words, "--network", "none", name)
    lab.model.start()
    for port in (9100, 3100, 19091):
        process(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", lab.ports[port])
        until(60, "the other program", lambda: listens(lab.ports[port]))
    output = early.check()[None]
    assert output.startswith("This checks your own stack") and "0 failed, 5 open" in output, output
    open_to_all = text.replace("127.0.0.1:", "0.0.0.0:")
    replace_file(early.folder / "compose.yaml", open_to_all.replace("      - prometheus-data:/prometheus\n", ""))
    early.up()
    output = early.check("prometheus", "grafana")
    later = ("its data outlives the container", "only your machine reaches it", "the alerting rules are loaded")
    assert all(output[criterion].startswith("open  ") for criterion in (*later, "Grafana is healthy")), output[None]


def test_files_that_were_saved_or_replaced_but_not_read_are_told(restored):
    files = {"prometheus.yml": "prometheus", "rules.yml": "prometheus", "alertmanager.yml": "alertmanager"}
    for name in files:
        (restored.folder / name).touch()
    output = restored.check(*set(files.values()))[None]
    assert all(f"{name} was saved after {files[name]} read it, perhaps unchanged" in output for name in files), output
    for name in files:
        edit(restored.folder / name, r"\Z", "# changed\n")  # makes another file with that name
    output += restored.check(*set(files.values()), code=1)[None]
    assert all(f"the container still has an older my-stack/{name}" in output for name in files), output
    assert output.count("Next: docker compose restart in my-stack") == 4
    restored.compose("restart", *set(files.values()))


ADDRESS = "its Alertmanager: it sends alerts to http://other.example:ALERTS/api/v2/alerts. Next: set localhost:ALERTS"


@pytest.mark.parametrize(
    "name, old, new, words",
    [
        ("prometheus.yml", "localhost:MODEL", "127.0.0.1:MODEL", ["ok    its targets are up: 1 of 1 up"]),
        ("prometheus.yml", "localhost:", "other.example:", ["use localhost", ADDRESS]),
        ("prometheus.yml", "    scrape_interval", "    scheme: https\n    scrape_interval", ["remove scheme: https"]),
        (
            "prometheus.yml", "interval: 5s", "interval: 10m",
            ["open  its targets are up: 0 of 1 up, and the others", "FAIL  Prometheus answers the query model_result"],
        ),
        # up -d keeps the volume, but the next down loses it.
        ("compose.yaml", "      - prometheus-data:/prometheus\n", "", ["open  its data outlives the container: your"]),
        ("compose.yaml", "prometheus-data:/prometheus", "/prometheus", ["open  its data outlives the container: your"]),
        ("compose.yaml", "tsdb.path=/prometheus", "tsdb.path=data", ["ok    its data outlives the container: volume"]),
    ],
)
def test_addresses_intervals_and_folders_are_told(restored, name, old, new, words):
    model, alerts = str(restored.lab.ports[5000]), str(restored.lab.ports[9093])
    restored.edit(name, old.replace("MODEL", model), new.replace("MODEL", model))
    restored.up()
    restored.compose("restart", "prometheus")
    output = restored.check("prometheus", code=None)[None]
    for each in words:
        assert each.replace("ALERTS", alerts) in output, output


def test_a_request_that_fails_is_told_with_its_reason(restored):
    """Mailpit offers no encryption. Alertmanager tries again, and no notification has failed yet."""
    restored.edit("alertmanager.yml", "        require_tls: false\n", "")
    restored.compose("restart", "alertmanager")
    restored.lab.model.start("--value", "0.95")
    reason = r"FAIL  no notification failed: \d+ attempts to send one failed: .*STARTTLS.* restart \S+alertmanager-1 "
    until(90, "the reason", lambda: re.search(reason, restored.check("alertmanager", code=None)[None]))


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("check")
    lab.up("prometheus", "alertmanager")
    until(60, "the target is up", lambda: lab.ask("up") == 1)
    return lab


RULE = "groups:\n  - name: own\n    rules: [{alert: Own, expr: up == 2}]\n"


def test_a_change_is_loaded_automatically_and_what_editors_leave_is_right(lab):
    rules = lab.stack / "prometheus/rules"
    # Flow style, quoted keys, and the line ends of Windows.
    replace_file(rules / "own.yml", RULE.replace("alert", '"alert"').replace("\n", "\r\n"))
    (rules / ".#model.yml").symlink_to("me@laptop.1234:5678")
    (rules / "._model.yml").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    (rules / "model.yml~").write_text("groups: [")
    replace_file(lab.stack / "prometheus/targets/.class.yml", "- targets: [localhost:1]\n")
    (rules / "model.yml").touch()
    # The check waits for the 5 s within which Prometheus reads the files again.
    output = lab.run("check", "prometheus")
    assert "0 failed" in output and '"name":"Own"' in fetch(f"{lab.prometheus}/api/v1/rules"), output


# Files with mistakes, which one check tells together: their text, and the words.
MISTAKES = [
    {
        "rules/own.yaml": (RULE, "prometheus/rules/own.yaml isn't among the files of rule_files:"),
        "rules/own.yml": (f"{RULE}---\n{RULE}", "prometheus reads stack/prometheus/rules/own.yml only down to"),
        "targets/a.yml": ('- targets: ["http://localhost:1"]\n', "in stack/prometheus/targets/a.yml, a target is"),
        "targets/b.yml": ("- targets: [localhost]\n", "the target localhost lacks a port"),
        "targets/c.yml": ("- targets: ['127.0.0.1:MODEL']\n  labels: {student: '7'}\n", "is there twice"),
    },
    {
        "rules/own.yml": (RULE + "      - alert: [\n", "rules/own.yml: "),
        "targets/a.yml": ('- targets: ["localhost:1", "localhost:2"]\n', "1 of 3 up (Get"),
        "../alertmanager/alertmanager.yml": ("route: {receiver: nowhere}\n", '"nowhere"'),
    },
]


@pytest.mark.parametrize("mistakes", MISTAKES, ids=["files", "programs"])
def test_mistakes_in_files_are_told_within_seconds(lab, mistakes):
    for name, (text, _) in mistakes.items():
        replace_file(lab.stack / "prometheus" / name, text.replace("MODEL", str(lab.ports[5000])))

    def missing():
        output = lab.run("check", "prometheus", "alertmanager", code=1)
        return [words for _, words in mistakes.values() if words not in output]

    try:
        # Prometheus takes up to 5 seconds to scrape the targets of a changed file.
        until(60, "all mistakes", lambda: missing() == [], show=missing)
    finally:
        for name in mistakes:
            (lab.stack / "prometheus" / name).unlink()


def test_a_compose_file_of_the_finished_stack_that_compose_refuses_is_told(lab):
    edit(lab.stack / "compose.yaml", "^  prometheus:\n", "  prometheus:\n    no_such_key: 1\n")
    output = lab.run("check", "prometheus", code=1)
    edit(lab.stack / "compose.yaml", "^    no_such_key: 1\n", "")
    assert re.search("^FAIL  Compose accepts stack/compose.yaml: .*no_such_key", output, re.M), output
    assert "Compose accepts" not in lab.run("check", "prometheus", code=None)


def test_a_model_without_results_and_one_that_hangs_are_told(lab):
    lab.model.start("--interval", "86400")
    assert "no new result in" in lab.run("check", "exporter", code=1)
    lab.model.process.send_signal(signal.SIGSTOP)
    output = lab.run("check", "exporter", code=1, timeout=20)
    lab.model.process.send_signal(signal.SIGCONT)
    assert "timed out" in output and "Type fg in its terminal" in output
    lab.model.stop()
    hint = "Next: start the model: cargo run --release"
    assert hint in lab.run("check", "--alert", code=1)
    until(60, "the hint for the target", lambda: lab.run("check", "prometheus", code=None).count(hint) == 2)
