"""The model's lines on their way to Loki, on a real engine, and what may happen to them there."""

import collections
import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import time

import pytest

from lab import LABEL, ROOT, docker, fetch, fetch_json, image, modelmock, run, start, until

SERVICES = ["loki", "fluent-bit"]
DAY = 86400


@pytest.fixture(scope="module")
def lab(make_lab):
    """Loki and Fluent Bit, without the rest. No model runs: each test writes lines of a model of its own."""
    image("grafana/loki")
    image("fluent/fluent-bit")
    lab = make_lab("logging")
    # Where nothing that the user makes may be read by others, and the file that the model writes is made by up.sh.
    lab.said = lab.run("up", "logging", umask=0o077)
    lab.loki = f"http://127.0.0.1:{lab.ports[3100]}"
    lab.logs = lab.stack / "logs"
    return lab


def stamp(seconds=0.0):
    """The time in so many seconds, as the model writes it."""
    then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def nanoseconds(line):
    """A line's own time."""
    then = datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00"))
    return round(then.timestamp() * 1000) * 1_000_000


def write(lab, model, lines):
    with (lab.logs / f"{model}.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def query(lab, expression, **parameters):
    """The one figure that Loki answers, or None."""
    answer = fetch_json(f"{lab.loki}/loki/api/v1/query", query=expression, **parameters)["data"]["result"]
    return float(answer[0]["value"][1]) if len(answer) == 1 else None


def stored(lab, model):
    """All that Loki has of a model, each line with the time that it has there."""
    found, begin = [], int((time.time() - 6.9 * DAY) * 1e9)
    while True:
        answer = fetch_json(
            f"{lab.loki}/loki/api/v1/query_range",
            query=f'{{job="model_mock", instance="{model}"}}',
            start=begin,
            end=int((time.time() + DAY) * 1e9),
            limit=5000,
            direction="forward",
        )
        page = [(int(at), line) for stream in answer["data"]["result"] for at, line in stream["values"]]
        found += page
        if len(page) < 5000:
            return found
        begin = page[-1][0] + 1


def arrive(lab, model, lines, seconds=30):
    """Waits until Loki has exactly these lines, each once and with its own time."""
    wanted, end = collections.Counter(lines), time.monotonic() + seconds
    while True:
        found = []
        with contextlib.suppress(OSError):
            found = stored(lab, model)
        there = collections.Counter(line for _, line in found)
        missing, doubled = wanted - there, there - wanted
        assert not doubled, f"{doubled.total()} lines too many: {list(doubled)[:3]}"
        if not missing:
            break
        assert time.monotonic() < end, f"{missing.total()} of {wanted.total()} lines are missing: {list(missing)[:3]}"
        time.sleep(0.25)
    assert [at for at, line in found] == [nanoseconds(line) for _, line in found]


def results(file):
    return [line for line in file.read_text().splitlines() if " model_result " in line]


@contextlib.contextmanager
def logged(lab, name, *arguments, port=0):
    """A model in a terminal, with its lines where the README has them go; at the end it is ended with Ctrl+C."""
    # The shell lives on, as the one in a terminal does.
    command = f'trap : INT; "$0" --listen 127.0.0.1:{port} "$@" | tee -ai {name}.log'
    terminal = start("sh", "-c", command, modelmock(), *arguments, cwd=lab.logs, stdout=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+/metrics", terminal.stdout.readline())[0]
    finally:
        os.killpg(terminal.pid, signal.SIGINT)
        terminal.communicate(timeout=10)
    assert terminal.returncode == 0


def test_their_own_tools_accept_the_configurations():
    files = ("-v", f"{ROOT}/stack:/stack:ro,z", "--label", LABEL)
    loki = ["docker", "run", "--rm", *files, image("grafana/loki"), "-verify-config"]
    assert "config is valid" in run(*loki, "-config.file=/stack/loki/loki.yml", "-log.level=info")
    fluent_bit = ["docker", "run", "--rm", *files, image("fluent/fluent-bit"), "--dry-run"]
    assert "successful" in run(*fluent_bit, "-c", "/stack/fluent-bit/fluent-bit.yml")


def test_a_line_arrives_with_the_metrics_labels_and_its_own_time(lab):
    line = f"{stamp(-60)} model_result 0.25"
    write(lab, "model", ["modelmock 0.1.0 serves http://127.0.0.1:5000/metrics; Ctrl+C stops it", line])
    arrive(lab, f"localhost:{lab.ports[5000]}", [line], 10)
    series = fetch_json(f"{lab.loki}/loki/api/v1/series", start=int((time.time() - 600) * 1e9))["data"]
    assert series == [{"job": "model_mock", "instance": f"localhost:{lab.ports[5000]}"}]


def test_check_says_why_no_line_arrives(lab):
    said = lab.run("check", "logging", code=1)
    assert "FAIL  the model's lines arrive: curl:" in said and "| tee -ai stack/logs/model.log" in said
    lab.model.start("--interval", "1")
    os.utime(lab.logs / "model.log", (0, 0))
    said = lab.run("check", "logging", code=1)
    assert "FAIL  the model's lines arrive: none in the last 10 s. Next: start the model as cargo run --release | tee" in said
    lab.logs.rename(lab.work / "logs")
    assert "Next: scripts/up.sh logging makes the folder stack/logs" in lab.run("check", "logging", code=1)
    (lab.work / "logs").rename(lab.logs)
    write(lab, "model", [f"{stamp(-8 * DAY)} model_result 0.5"])
    until(20, "the refusal", lambda: "Loki refused 1 since it started" in lab.run("check", "logging", code=1))
    lab.model.stop()
    with logged(lab, "model", "--interval", "3", port=lab.ports[5000]):
        until(20, "a line", lambda: "ok    the model's lines arrive" in lab.run("check", "logging", code=1))
        said = lab.run("check", "logging", code=1)
        assert "ok    the log and the metric count the same" in said, said
        # As from a second model.
        write(lab, "model", [f"{stamp(-0.001 * i)} model_result 0.{i}" for i in range(1, 9)])
        time.sleep(3)
        assert "FAIL  the log and the metric count the same" in lab.run("check", "logging", code=1)


def test_nothing_listens_for_others(lab):
    for service in SERVICES:
        host = docker("inspect", "-f", "{{.HostConfig.NetworkMode}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}}", lab.container(service))
        assert host == "host true [ALL] []"
    listening = run("ss", "-ltnH").split()
    for port in (3100, 9095, 2020):
        assert {address for address in listening if address.endswith(f":{lab.ports[port]}")} == {f"127.0.0.1:{lab.ports[port]}"}


def test_the_log_counts_what_the_histogram_counts(lab):
    file = lab.logs / "localhost:1.log"
    with logged(lab, "localhost:1", "--interval", "0.01", "--seed", "1") as page:
        until(20, "300 lines", lambda: len(results(file)) > 300)
        metrics = fetch(page)
        count = int(re.search(r"^model_refreshes_total (\d+)", metrics, re.M)[1])
        low = int(re.search(r'^model_result_distribution_bucket\{le="0.9"\} (\d+)', metrics, re.M)[1])
    lines = results(file)
    arrive(lab, "localhost:1", lines)
    log, at = '{job="model_mock", instance="localhost:1"}', {"time": nanoseconds(lines[count - 1])}
    assert query(lab, f'sum by (instance) (count_over_time({log} |= "model_result" [1h]))', **at) == count
    high = f'{log} | pattern "<_> model_result <value>" | value > 0.9'
    assert query(lab, f"sum by (instance) (count_over_time({high} [1h]))", **at) == count - low


def test_two_models_are_told_apart(lab):
    with logged(lab, "localhost:2", "--interval", "0.1"), logged(lab, "localhost:3", "--interval", "0.1"):
        time.sleep(2)
    for model in ("localhost:2", "localhost:3"):
        arrive(lab, model, results(lab.logs / f"{model}.log"))


@pytest.mark.parametrize("expression", re.findall(r"^```logql\n(.*)\n```$", (ROOT / "README.md").read_text(), re.M))
def test_a_query_of_the_readme(lab, expression):
    """On the lines of the tests before, some of them of the last minute."""
    range_or_not = "query_range" if expression.startswith("{") else "query"
    answer = fetch_json(f"{lab.loki}/loki/api/v1/{range_or_not}", query=expression)["data"]["result"]
    assert answer
    # But for the one that shows what a label with each value does.
    if "sum by" not in expression and "unwrap" not in expression and range_or_not == "query":
        assert len(answer) > 20
    elif range_or_not == "query":
        assert {frozenset(series["metric"]) for series in answer} == {frozenset({"instance"})}


def test_a_file_may_be_emptied_and_its_lines_may_come_again(lab):
    lines = [f"{stamp(-i)} model_result 0.{i}" for i in range(40, 20, -1)]
    write(lab, "localhost:4", lines[:10])
    arrive(lab, "localhost:4", lines[:10])
    os.truncate(lab.logs / "localhost:4.log", 0)
    time.sleep(1)
    # As from docker compose logs -f, which begins at the beginning.
    write(lab, "localhost:4", lines)
    arrive(lab, "localhost:4", lines)
    assert query(lab, 'sum(count_over_time({instance="localhost:4"}[1h]))') == 20


def test_a_line_of_1_mib_is_left_out_and_the_others_are_not(lab):
    lines = [f"{stamp(i)} model_result 0.{i}" for i in (1, 2)]
    write(lab, "localhost:6", [lines[0], f"{stamp()} {'x' * 2**20}", lines[1]])
    arrive(lab, "localhost:6", lines)


def test_a_clock_may_jump(lab):
    jumps = [0, 3600, -5 * 3600, -3 * DAY, 1, 20 * 3600, -6 * DAY, 2]
    lines = [f"{stamp(seconds)} model_result 0.{i}" for i, seconds in enumerate(jumps)]
    for line in lines:
        # One at a time, as a model writes them.
        write(lab, "localhost:7", [line])
        time.sleep(0.3)
    arrive(lab, "localhost:7", lines)


def test_nothing_is_lost_or_doubled_by_what_ends(lab):
    containers = {service: lab.container(service) for service in SERVICES}
    with logged(lab, "localhost:8", "--interval", "0.02"):
        for service in SERVICES:
            for ending in ("TERM", "KILL"):
                docker("kill", "-s", ending, containers[service])
                docker("wait", containers[service])
                time.sleep(1)
                docker("start", containers[service])
                time.sleep(1)
        # Both, and Fluent Bit is back first.
        docker("kill", *containers.values())
        docker("start", containers["fluent-bit"])
        time.sleep(4)
        docker("kill", containers["fluent-bit"])
        docker("start", *containers.values())
    lines = results(lab.logs / "localhost:8.log")
    assert len(lines) > 500
    arrive(lab, "localhost:8", lines)
    # What came twice until now was the same line in the same chunk; from here on it would be counted twice.
    fetch(f"{lab.loki}/flush", method="POST")
    docker("restart", containers["fluent-bit"])
    until(20, "Fluent Bit", lambda: fetch(f"http://127.0.0.1:{lab.ports[2020]}/"))
    time.sleep(3)
    assert query(lab, 'sum(count_over_time({instance="localhost:8"}[1h]))') == len(lines)


def test_a_full_disk_of_loki_loses_nothing(lab):
    """Fluent Bit keeps the lines until there is room again."""
    small = {"driver": "local", "driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=32m,mode=1777"}}
    override = lab.work / "small.yaml"
    override.write_text(json.dumps({"services": {"loki": {"volumes": ["small:/loki"]}}, "volumes": {"small": small}}))
    compose = ["docker", "compose", "--project-directory", lab.stack, "-f", lab.stack / "compose.yaml", "-f", override]
    run(*compose, "up", "-d", "--pull", "never", "loki", env=lab.env | {"GRAFANA_PASSWORD": "none"})
    shell = ["docker", "run", "--rm", "--label", LABEL, "-v", f"{lab.project}_small:/small", "--entrypoint", "sh", image("prom/prometheus"), "-c"]
    until(30, "Loki", lambda: fetch(f"{lab.loki}/ready"))
    with logged(lab, "localhost:9", "--interval", "0.05"):
        # As a disk fills: there is still some room when Loki looks.
        run(*shell, "cd /small && head -c $(($(df -k . | awk 'NR == 2 { print $4 }') - 300))k /dev/zero >filling")
        until(20, "Loki takes no more", lambda: re.search(r"^loki_ingester_wal_disk_full_failures_total [1-9]", fetch(f"{lab.loki}/metrics"), re.M))
        run(*shell, "cat /dev/zero >/small/full", code=1)
        time.sleep(3)
        run(*shell, "rm /small/fil* /small/full")
    arrive(lab, "localhost:9", results(lab.logs / "localhost:9.log"))
