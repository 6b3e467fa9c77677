"""The model's lines on their way to Loki, on a real engine, with the accidents that can happen to them."""

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

from lab import ROOT, docker, fetch, fetch_json, image, modelmock, run, start, until

MEMORY = {"loki": 256, "fluent-bit": 64}
DAY = 86400


@pytest.fixture(scope="module")
def lab(make_lab):
    """Loki and Fluent Bit only. No model runs: each test writes the lines of a model of its own."""
    image("grafana/loki")
    image("fluent/fluent-bit")
    lab = make_lab("logging")
    # Fluent Bit must be able to read the folder that up.sh creates, even if new files are private by default.
    lab.run("up", "logging", umask=0o077)
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


def query(lab, expression, **parameters):
    """The single value that Loki answers, or None."""
    answer = fetch_json(f"{lab.loki}/loki/api/v1/query", query=expression, **parameters)["data"]["result"]
    return float(answer[0]["value"][1]) if len(answer) == 1 else None


def stored(lab, model):
    """All lines of a model in Loki, each with its time there."""
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
    """Waits until Loki has exactly these lines, each once and with the time in it."""
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
        assert time.monotonic() < end, f"{missing.total()} of {wanted.total()} are missing: {list(missing)[:3]}"
        time.sleep(0.25)
    assert [at for at, line in found] == [nanoseconds(line) for _, line in found]


def results(file):
    return [line for line in file.read_text().splitlines() if " model_result " in line]


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


def test_loki_runs_with_the_settings_of_the_file(lab):
    config = fetch(f"{lab.loki}/config")
    for setting in (
        "retention_period: (1w|168h0m0s)",
        "retention_enabled: true",
        "reporting_enabled: false",
        "max_chunk_age: (2w|336h0m0s)",
        "discover_log_levels: false",
        "disk_full_threshold: 0.98",
        "http_listen_address: 127.0.0.1",
        "grpc_listen_address: 127.0.0.1",
    ):
        assert re.search(rf"^ *{setting}$", config, re.M), setting


def test_each_container_has_limits_and_listens_on_the_loopback_address_only(lab):
    for service, memory in MEMORY.items():
        container = json.loads(docker("inspect", lab.container(service)))[0]
        if health := container["Config"].get("Healthcheck"):
            docker("exec", container["Id"], *health["Test"][1:])
        host = container["HostConfig"]
        seen = [host[key] for key in ("NetworkMode", "ReadonlyRootfs", "CapDrop", "CapAdd", "Memory", "MemorySwap")]
        assert seen == ["host", True, ["ALL"], None, memory << 20, memory << 20], service
        assert host["RestartPolicy"]["Name"] == "on-failure", service
        volumes = [mount["Name"] for mount in container["Mounts"] if mount["Type"] == "volume"]
        assert volumes == [f"{lab.project}_{service}-data"], service
    listening = run("ss", "-ltnH").split()
    for port in (lab.ports[port] for port in (3100, 9095, 2020)):
        assert {address for address in listening if address.endswith(f":{port}")} == {f"127.0.0.1:{port}"}


def test_no_web_page_can_read_loki_and_fluent_bit(lab):
    for url in (f"{lab.loki}/loki/api/v1/labels", f"http://127.0.0.1:{lab.ports[2020]}/api/v1/metrics"):
        answer = run("curl", "-sSi", "--noproxy", "*", "-H", "Origin: http://attacker.example", url)
        assert answer.startswith("HTTP/1.1 200") and "access-control-allow-origin" not in answer.lower(), answer


def test_a_line_arrives_with_the_labels_of_the_metric_and_its_own_time(lab):
    line = f"{stamp(-60)} model_result 0.25"
    write(lab, "model", ["modelmock 0.1.0 serves http://127.0.0.1:5000/metrics; Ctrl+C stops it", line])
    arrive(lab, f"localhost:{lab.ports[5000]}", [line], 10)
    series = fetch_json(f"{lab.loki}/loki/api/v1/series", start=int((time.time() - 600) * 1e9))["data"]
    assert series == [{"job": "model_mock", "instance": f"localhost:{lab.ports[5000]}"}]


def test_check_says_why_no_line_arrives(lab):
    lab.model.start("--interval", "1")
    os.utime(lab.logs / "model.log", (0, 0))
    said = lab.run("check", "logging", code=1)
    assert "FAIL  the model's lines arrive: none in the last 10 s" in said and "cargo run --release | tee" in said
    write(lab, "model", [f"{stamp(-8 * DAY)} model_result 0.5"])
    refused = "Loki refused 1 since it started"
    until(20, "the refusal", lambda: refused in lab.run("check", "logging", code=1))
    lab.model.stop()
    with logged(lab, "model", "--interval", "3", port=lab.ports[5000]):
        same, differs = (f"{verdict} the log and the metric count the same" for verdict in ("ok   ", "FAIL "))
        until(20, "the same count", lambda: same in lab.run("check", "logging", code=1))
        # As a second model with the same file would.
        write(lab, "model", [f"{stamp(-0.001 * i)} model_result 0.{i}" for i in range(1, 9)])
        until(10, "the difference", lambda: differs in lab.run("check", "logging", code=1))


def test_the_log_counts_the_same_as_the_histogram(lab):
    file = lab.logs / "localhost:1.log"
    with logged(lab, "localhost:1", "--interval", "0.01", "--seed", "1") as page:
        until(20, "300 lines", lambda: len(results(file)) > 300)
        metrics = fetch(page)
        count = int(re.search(r"^model_refreshes_total (\d+)", metrics, re.M)[1])
        low = int(re.search(r'^model_result_distribution_bucket\{le="0.9"\} (\d+)', metrics, re.M)[1])
    lines = results(file)
    arrive(lab, "localhost:1", lines)
    at = {"time": nanoseconds(lines[count - 1])}
    # The queries of the dashboard's row Log.
    (row,) = (panel for panel in dashboard()["panels"] if panel["type"] == "row")
    log, high = (panel["targets"][0]["expr"].replace("$instance", "localhost:1") for panel in row["panels"])
    assert query(lab, f'sum by (instance) (count_over_time({log} |= "model_result" [1h]))', **at) == count
    assert query(lab, f"sum by (instance) (count_over_time({high} [1h]))", **at) == count - low


def dashboard():
    return json.loads((ROOT / "stack/grafana/dashboards/model.json").read_text())


QUERIES = re.findall(r"^```logql\n(.*)\n```$", (ROOT / "stack/logging.md").read_text(), re.M)


@pytest.mark.parametrize("expression", QUERIES)
def test_a_query_of_the_page_on_logging_gets_an_answer(lab, expression):
    """From the lines of the tests before, some of which are of the last minute."""
    range_or_not = "query_range" if expression.startswith("{") else "query"
    answer = fetch_json(f"{lab.loki}/loki/api/v1/{range_or_not}", query=expression)["data"]["result"]
    assert answer
    if range_or_not == "query" and ("sum by" in expression or "unwrap" in expression):
        assert {frozenset(series["metric"]) for series in answer} == {frozenset({"instance"})}
    elif range_or_not == "query":
        # This query makes a label of each value, so that the student sees many series.
        assert len(answer) > 20


def test_a_file_may_be_emptied_and_its_lines_may_come_again(lab):
    lines = [f"{stamp(-i)} model_result 0.{i}" for i in range(40, 20, -1)]
    write(lab, "localhost:4", lines[:10])
    arrive(lab, "localhost:4", lines[:10])
    os.truncate(lab.logs / "localhost:4.log", 0)
    # Fluent Bit looks at its files once a second.
    time.sleep(2)
    # As docker compose logs -f does, which begins with the first line.
    write(lab, "localhost:4", lines)
    arrive(lab, "localhost:4", lines)
    assert query(lab, 'sum(count_over_time({instance="localhost:4"}[1h]))') == 20


def test_a_line_of_1_mib_is_skipped_and_the_others_arrive(lab):
    lines = [f"{stamp(i)} model_result 0.{i}" for i in (1, 2)]
    write(lab, "localhost:6", [lines[0], f"{stamp()} {'x' * 2**20}", lines[1]])
    arrive(lab, "localhost:6", lines)


def test_lines_arrive_although_the_clock_jumps(lab):
    jumps = [0, 3600, -5 * 3600, -3 * DAY, 1, 20 * 3600, -6 * DAY, 2]
    lines = [f"{stamp(seconds)} model_result 0.{i}" for i, seconds in enumerate(jumps)]
    for line in lines:
        # One at a time, as a model writes them.
        write(lab, "localhost:7", [line])
        time.sleep(0.3)
    arrive(lab, "localhost:7", lines)
