"""Incidents and the things of the user: what a start refuses, an interruption at any moment, the order, a mystery."""

import os
import re
import shutil
import time

import pytest

from lab import LABEL, ROOT, assert_one_line, docker, edit, needs, require_image, run, start, terminate, until, without
from oncall import NAMES, OnCall


@pytest.fixture(scope="module")
def on_call(make_lab):
    return OnCall(make_lab, "other")


def test_the_order_depends_on_the_number_and_on_the_results(on_call):
    def first(*words):
        """The incident that a start takes. The start is interrupted, and leaves nothing."""
        name = on_call.folder / ".state/name"
        with open(on_call.lab.work / "output", "w+b") as output:
            command = [on_call.lab.root / "scripts/incident.sh", "start", *words]
            process = start(*command, env=on_call.lab.env, stdout=output, stderr=output)
            found = until(60, "the name", name.read_text).strip()
            terminate(process, 60)
        assert process.returncode == 1 and on_call.left() == []
        return found

    # This lab is without Grafana.
    names = [name for name in NAMES if name != "source"]
    assert first("--number", "7") == names[7]
    # It is remembered, also if it has leading zeros.
    assert first() == names[7] and first("--number", "0000000000000010") == names[1]
    lines = [f"{'shown' if name == 'label' else 'solved'} 2026-11-30T00:00:00Z {name} 0 9" for name in names[2:]]
    with on_call.results.open("a") as results:
        results.write("\n".join(lines) + "\n")
    assert first() == names[1]
    with on_call.results.open("a") as results:
        results.write("".join(f"solved 2026-11-30T00:00:00Z {name} 0 9\n" for name in names[:2]))
    assert first() == "label"
    with on_call.results.open("a") as results:
        results.write("solved 2026-11-30T00:00:00Z label 0 9\n")
    assert "you have solved all incidents" in on_call.do("start", code=1)
    assert first("10") == "reload" and on_call.left() == []


@pytest.mark.parametrize("moment", ["Container", "the model", "message"])
def test_killed_at_any_moment_end_cleans_up(on_call, moment):
    """By a signal that no trap sees, as in a power cut."""
    seen = {
        "Container": lambda: "Creat" in (on_call.folder / ".state/output").read_text(),
        "the model": lambda: on_call.state("process"),
        "message": lambda: (on_call.folder / "message.txt").exists(),
    }[moment]
    with open(on_call.lab.work / "output", "w+b") as output:
        process = start(on_call.lab.root / "scripts/incident.sh", "start", "typo", env=on_call.lab.env, stdout=output,
                        stderr=output)
        until(60, moment, seen)
        process.kill()
        process.wait()
    assert "no incident is open" in on_call.check(code=1) or moment == "message"
    assert "an incident is open" in on_call.do("start", "typo", code=1)
    on_call.end()


def test_the_users_things_stay(on_call):
    lab = on_call.lab
    for folder in ("my-stack", "incident"):
        (lab.root / folder).mkdir(exist_ok=True)
        (lab.root / folder / "notes.md").write_text("mine\n")
    output = on_call.do("start", "typo", code=1)
    assert "incident/ has files of yours" in output and "notes.md" in output
    assert_one_line(output)
    (on_call.folder / "notes.md").unlink()
    lab.up("prometheus", "mailpit")
    output = on_call.do("start", "typo", code=1)
    assert "the finished stack is running: run scripts/down.sh, which keeps its data" in output
    lab.run("down")
    output = on_call.do("start", "typo", code=1)
    assert f"port {on_call.port(5000)} is in use" in output and "press Ctrl+C in the model's terminal" in output
    assert_one_line(output)
    lab.model.stop()

    def theirs():
        volumes = docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={lab.project}")
        files = [file for folder in ("stack", "my-stack", "scripts") for file in (lab.root / folder).rglob("*.*")]
        return sorted(volumes.split()), {file: file.read_bytes() for file in files if file.is_file()}

    # As after up.sh machine; and a password for a mail server.
    (lab.stack / "prometheus/machine.yml").write_text("- targets: [localhost:9100]\n")
    (lab.stack / "alertmanager/smtp-password").write_text("secret\n")
    before = theirs()
    assert before[0]
    on_call.do("start", "typo")
    assert not (on_call.folder / "prometheus/machine.yml").exists()
    assert not (on_call.folder / "alertmanager/smtp-password").exists()
    # A second run at the same time, and a start while an incident is open.
    (on_call.folder / ".lock").write_text(f"{os.getpid()}\n")
    assert "another incident.sh is at work" in on_call.do("hint", code=1)
    (on_call.folder / ".lock").unlink()
    assert "end it with scripts/incident.sh end" in on_call.do("start", "typo", code=1)
    # A process of the user with the number that the incident noted.
    other = start("sleep", "600")
    (on_call.folder / "prometheus/rules/mine.yml").write_text("groups: []\n")
    model = on_call.state("process")
    (on_call.folder / ".state/process").write_text(f"{other.pid}\n")
    assert "Your own files stay in incident/: prometheus/rules/mine.yml" in on_call.do("end")
    assert other.poll() is None
    terminate(other)
    run("kill", model)
    shutil.rmtree(on_call.folder)
    until(60, "the end of the model", lambda: on_call.left() == [])
    assert theirs() == before


def test_the_copy_of_another_clone_that_starts_at_the_same_time_stays(on_call, tmp_path):
    """The other one starts while this one gets its images."""
    project = f"{on_call.lab.project}-incident"
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.project.working_dir=/other/incident", LABEL]
    create = " ".join(f"--label {label}" for label in labels) + f" {require_image('prom/prometheus')}"
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\nPATH=${{PATH#*:}}\n[ -e "$0.once" ] || case $* in "image inspect"*) : >"$0.once"; docker create {create} ;; esac'
        ' >&2\nexec docker "$@"\n'
    )
    (tmp_path / "docker").chmod(0o755)
    output = on_call.do("start", "typo", code=1, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "/other/incident" in output, output
    assert not on_call.folder.exists()
    (container,) = on_call.left()
    docker("rm", "-f", "-v", container)


def test_a_receiver_that_notifies_people_is_not_copied(on_call):
    file = on_call.lab.stack / "alertmanager/alertmanager.yml"
    before = file.read_text()
    file.write_text(before.replace(f"smarthost: 127.0.0.1:{on_call.port(1025)}", "smarthost: smtp.school.example:587"))
    try:
        output = on_call.do("start", "typo", code=1)
    finally:
        file.write_text(before)
    assert "notifies people" in output
    assert_one_line(output)


def test_a_mystery_is_solved_by_its_name(on_call):
    output = on_call.do("start", "mystery")
    right = on_call.state("answer")
    wrong = [each for each in ("stuck", "drifting", "fixed") if each != right]
    assert right in output and all(each in output for each in wrong)
    assert "check takes one of these answers: stuck, drifting, fixed" in on_call.check("broken", code=2)
    assert f"it isn't '{wrong[0]}'" in on_call.check(wrong[0], code=1)
    assert f"the model was {right}" in on_call.check(right)
    assert re.search(r"^solved \S+ mystery 1 \d+$", on_call.results.read_text(), re.M)
    on_call.end()


@pytest.mark.parametrize("lacks", ["perl", "setsid"])
def test_the_stopped_model_stays_stopped_after_the_end_of_the_script(on_call, tmp_path, lacks):
    """Started in a terminal, the script has a process group of its own, and its end wakes stopped processes in it."""
    needs("script", "bsdutils")
    few = without(tmp_path / "few", lacks)
    command = 'scripts/incident.sh start hang && sleep 1 && ps -o stat= -p "$(cat incident/.state/process)"'
    in_terminal = ["script", "-qec", f"bash -mc '{command}'", "/dev/null"]
    said = run(*in_terminal, cwd=on_call.lab.root, env=on_call.lab.env | few)
    assert said.splitlines()[-1].startswith("T")
    run("kill", "-CONT", on_call.state("process"))
    assert "ok    the cause is gone" in on_call.do("check", env=few)
    on_call.end()


def test_the_watchdog_of_the_page_warns_if_prometheus_stops(on_call):
    section = (ROOT / "stack/lab/incidents.md").read_text().split("## Who watches Prometheus?")[1]
    quicker = {"90": "8", "30s": "2s", "10s": "1s"}
    section = re.sub(r"\b(90|30s|10s)\b", lambda found: quicker[found[0]], section)
    rule, route, flag, script = re.findall(r"^```\w+\n(.*?)^```", section, re.M | re.S)
    script = script.replace("localhost:8025", on_call.lab.mailpit.removeprefix("http://"))
    on_call.do("start", "typo")
    (on_call.folder / "prometheus/rules/watchdog.yml").write_text(rule)
    # The lab of the tests has this flag, with a shorter time.
    edit(on_call.folder / "compose.yaml", "^ *- --rules.alert.resend-delay=1s\n", "")
    # The first lines of a block show the place.
    for file, place, block in (("alertmanager/alertmanager.yml", "  routes:\n", route),
                               ("compose.yaml", "    command:\n(?=.*/prometheus.yml)", flag)):
        edit(on_call.folder / file, f"^{place}", lambda found: found[0] + block.split(found[0])[1])
    on_call.compose("up", "-d")
    on_call.compose("restart", "alertmanager")
    until(60, "a heartbeat", lambda: len(on_call.lab.mails("FIRING Watchdog")) > 1)
    output = on_call.lab.work / "heartbeat"
    with output.open("w") as out:
        heartbeat = start("sh", "-c", script, stdout=out, stderr=out)
    time.sleep(18)
    assert output.read_text() == ""
    on_call.compose("stop", "prometheus")
    warning = "no heartbeat: are Prometheus, Alertmanager and Mailpit up?\n"
    until(40, "the warning", lambda: warning in output.read_text())
    assert on_call.lab.mails("RESOLVED Watchdog")
    terminate(heartbeat)
    on_call.do("end")
    (on_call.folder / "prometheus/rules/watchdog.yml").unlink()
    shutil.rmtree(on_call.folder)
