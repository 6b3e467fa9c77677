"""The model's lines on their way to Loki, on a real engine, with the accidents that can happen to them."""

import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import time

import pytest

from lab import ROOT, docker, fetch, fetch_json, is_readable, modelmock, require_image, search, start, until

DAY = 86400


@pytest.fixture(scope="module")
def lab(make_lab):
    """Loki and Fluent Bit only. No model runs: each test writes the lines of a model of its own."""
    require_image("grafana/loki")
    require_image("fluent/fluent-bit")
    lab = make_lab("logging")
    # Fluent Bit must be able to read the folder that up.sh creates, even if new files are private by default.
    assert "if it runs as cargo run --release | tee -ai" in lab.run("up", "logging", umask=0o077)
    lab.loki = f"http://127.0.0.1:{lab.ports[3100]}"
    lab.logs = lab.stack / "logs"
    return lab


def stamp(seconds=0.0):
    """The time in so many seconds, as the model writes it."""
    then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def nanoseconds(line):
    """The time in a line."""
    then = datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00"))
    return round(then.timestamp() * 1000) * 1_000_000


def write(lab, model, lines):
    with (lab.logs / f"{model}.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def ask(lab, kind, expression, **parameters):
    """Loki's answer to a query."""
    return fetch_json(f"{lab.loki}/loki/api/v1/{kind}", query=expression, **parameters)["data"]["result"]


def arrive(lab, model, lines, seconds=60):
    """Waits until Loki has exactly these lines, each once and with the time in it."""
    wanted = [[str(nanoseconds(line)), line] for line in sorted(lines)]
    selector = f'{{job="model_mock", instance="{model}"}}'
    now = int(time.time())
    parameters = {"start": now - 7 * DAY + 3600, "end": now + DAY, "limit": 5000}

    def stored():
        streams = ask(lab, "query_range", selector, **parameters)
        assert all(stream["stream"].keys() == {"job", "instance"} for stream in streams), streams
        return sorted(pair for stream in streams for pair in stream["values"]) == wanted

    until(seconds, f"{len(lines)} lines", stored)


@contextlib.contextmanager
def logged(lab, name, *arguments, port=0):
    """A model in a terminal that writes its lines as the lab says. Ctrl+C ends it."""
    # The trap lets the shell live on after Ctrl+C, as a shell in a terminal does.
    command = f'trap : INT; "$0" --listen 127.0.0.1:{port} "$@" | tee -ai {name}.log'
    terminal = start("sh", "-c", command, modelmock(), *arguments, cwd=lab.logs, stdout=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+/metrics", terminal.stdout.readline())[0]
    finally:
        os.killpg(terminal.pid, signal.SIGINT)
        terminal.communicate(timeout=10)
    assert terminal.returncode == 0


def test_loki_runs_with_the_settings_of_the_file_and_only_for_this_machine(lab):
    config = fetch(f"{lab.loki}/config")
    settings = ["retention_period: (1w|168h0m0s)", "retention_enabled: true", "reporting_enabled: false"]
    # Without the last two, Loki starts later.
    settings += ["disk_full_threshold: 0.98", "min_ready_duration: 0s", r"frontend_address: 127.0.0.1:\d+"]
    for setting in settings:
        assert re.search(rf"^ *{setting}$", config, re.M), setting
    lab.run_health_check("loki")
    assert lab.exposed() == []
    for url in (f"{lab.loki}/loki/api/v1/labels", f"http://127.0.0.1:{lab.ports[2020]}/api/v1/metrics"):
        assert not is_readable(url)


def test_a_line_arrives_with_the_labels_of_the_metric_and_its_own_time(lab):
    line = f"{stamp(-60)} model_result 0.25"
    write(lab, "model", ["modelmock 0.2.0 serves http://127.0.0.1:5000/metrics; Ctrl+C stops it", line])
    arrive(lab, f"localhost:{lab.ports[5000]}", [line], 30)
    series = fetch_json(f"{lab.loki}/loki/api/v1/series", start=int((time.time() - 600) * 1e9))["data"]
    assert series == [{"job": "model_mock", "instance": f"localhost:{lab.ports[5000]}"}]


def test_check_says_why_no_line_arrives(lab):
    lab.model.start("--interval", "1")
    os.utime(lab.logs / "model.log", (0, 0))
    output = lab.run("check", code=1)
    assert "FAIL  the model's lines arrive: none in the last 10 s" in output and "cargo run --release | tee" in output
    write(lab, "model", [f"{stamp(-8 * DAY)} model_result 0.5"])
    refused = "Loki refused 1 since it started"
    until(60, "the refusal", lambda: refused in lab.run("check", "logging", code=1))
    lab.model.stop()
    with logged(lab, "model", "--interval", "3", port=lab.ports[5000]):
        same, differs = (f"{verdict} the log and the metric count the same" for verdict in ("ok   ", "FAIL "))
        until(60, "the same count", lambda: same in lab.run("check", "logging", code=1))
        # As a second model with the same file would.
        write(lab, "model", [f"{stamp(-0.001 * i)} model_result 0.{i}" for i in range(1, 9)])
        until(60, "the difference", lambda: differs in lab.run("check", "logging", code=1))


def test_the_log_counts_the_same_as_the_histogram(lab):
    file = lab.logs / "localhost:1.log"
    with logged(lab, "localhost:1", "--interval", "0.01", "--seed", "1") as page:
        until(60, "300 lines", lambda: file.read_text().count(" model_result ") > 300)
        metrics = fetch(page)
        count = int(re.search(r"^model_refreshes_total (\d+)", metrics, re.M)[1])
        low = int(re.search(r'^model_result_distribution_bucket\{le="0.9"\} (\d+)', metrics, re.M)[1])
    lines = [line for line in file.read_text().splitlines() if " model_result " in line]
    arrive(lab, "localhost:1", lines)
    # The queries of the dashboard's row Log.
    dashboard = json.loads((ROOT / "stack/grafana/dashboards/model.json").read_text())
    (row,) = (panel for panel in dashboard["panels"] if panel["type"] == "row")
    assert all(panel["options"]["sortOrder"] == "Descending" for panel in row["panels"])
    log, high = (panel["targets"][0]["expr"].replace("$instance", "localhost:1") for panel in row["panels"])
    for expression, expected in ((f'{log} |= "model_result"', count), (high, count - low)):
        counted = f"sum by (instance) (count_over_time({expression} [1h]))"
        (answer,) = ask(lab, "query", counted, time=nanoseconds(lines[count - 1]))
        assert int(answer["value"][1]) == expected


def test_a_file_may_be_emptied_and_its_lines_may_come_again(lab):
    """As those of docker compose logs -f do, which begins with the first line."""
    lines = [f"{stamp(-i)} model_result 0.{i}" for i in range(40, 20, -1)]
    write(lab, "localhost:4", lines[:10])
    arrive(lab, "localhost:4", lines[:10])
    os.truncate(lab.logs / "localhost:4.log", 0)
    # The file is shorter now than Fluent Bit has read.
    write(lab, "localhost:4", lines[10:11])
    arrive(lab, "localhost:4", lines[:11])
    write(lab, "localhost:4", lines)
    arrive(lab, "localhost:4", lines)


def test_lines_wait_while_loki_is_down(lab):
    docker("stop", lab.container("loki"))
    line = f"{stamp()} model_result 0.5"
    write(lab, "localhost:5", [line])
    # Long enough for some tries, and for the line to be on disk.
    time.sleep(15)
    # Each try comes soon after the one before.
    waits = re.findall(r"retry in (\d+) seconds", docker("logs", lab.container("fluent-bit")))
    assert waits and all(int(seconds) <= 6 for seconds in waits), waits
    # The line takes a part of the space that lines may take on disk.
    metrics = fetch(f"http://127.0.0.1:{lab.ports[2020]}/api/v2/metrics/prometheus")
    capacity = search(r'^fluentbit_output_chunk_available_capacity_percent\{name="loki.0"\} (\S+)', metrics)[1]
    assert 99 < float(capacity) < 100
    docker("restart", lab.container("fluent-bit"))
    docker("start", lab.container("loki"))
    arrive(lab, "localhost:5", [line], 30)


def test_a_line_of_1_mib_is_skipped_and_the_others_arrive(lab):
    lines = [f"{stamp(i)} model_result 0.{i}" for i in (1, 2)]
    write(lab, "localhost:6", [lines[0], f"{stamp()} {'x' * 2**20}", lines[1]])
    arrive(lab, "localhost:6", lines)


def test_lines_arrive_although_the_clock_jumps(lab):
    jumps = [0, 3600, -5 * 3600, -3 * DAY, 1, 20 * 3600, -6 * DAY, 2]
    lines = [f"{stamp(seconds)} model_result 0.{i}" for i, seconds in enumerate(jumps)]
    for number, line in enumerate(lines, 1):
        # One at a time, as a model writes them.
        write(lab, "localhost:7", [line])
        arrive(lab, "localhost:7", lines[:number])
