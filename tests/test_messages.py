"""Reproduces each row of the README's table of messages: makes the mistake, and looks for the message."""

import re
import socket

import pytest

import my_stack
from lab import ENVIRONMENT, ROOT, WORK, Engine, fetch, image, put, run, until

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.search(r"^\| message \|.*\n\|.*\n((\|.*\n)*)", README, re.M)[1].splitlines()
# message: how many blocks of the README are written, the file with the mistake, what to replace, and by what.
MISTAKES = {
    "mapping values are not allowed in this context": (5, "compose.yaml", "    network_mode", "      network_mode"),
    "could not find expected ':'": (5, "compose.yaml", "    volumes:", "    volumes"),
    "did not find expected key": (5, "compose.yaml", "    volumes:", "   volumes:"),
    "did not find expected '-' indicator": (5, "prometheus.yml", "    scrape", "   scrape"),
    "must be a array": (2, "compose.yaml", "      - ./prom", "      ./prom"),
    "cannot unmarshal !!map into []*targetgroup.Group": (5, "prometheus.yml", "      - targets", "        targets"),
    "services must be a mapping": (2, "compose.yaml", "  prometheus:", "prometheus:"),
    "services.volumes must be a mapping": (2, "compose.yaml", "    volumes:", "  volumes:"),
    'mapping key "services" already defined': (5, "compose.yaml", r"\Z", "services:\n  grafana:\n    image: none\n"),
    "volumes must be a mapping": (5, "compose.yaml", "^  prometheus-data:", "  - prometheus-data"),
    "found a tab character that violates indentation": (5, "compose.yaml", "    network_mode", "\tnetwork_mode"),
    "found character that cannot start any token": (5, "compose.yaml", "  prometheus:", "\tprometheus:"),
    "Are you trying to mount a directory onto a file": (2, "compose.yaml", r"\./prometheus.yml", "./prometheus.yaml"),
    'service "prometheus" refers to undefined volume prometheus-data': (5, "compose.yaml", "^volumes:\n.*\n", ""),
    "Published ports are discarded when using host network mode": (
        2, "compose.yaml", "    ports:", "    network_mode: host\n    ports:"
    ),
    "lookup host.docker.internal on 127.0.0.11:53": (2, "prometheus.yml", "localhost", "host.docker.internal"),
    "bind: address already in use": (5, "compose.yaml", r"\Z", ""),
    "Error loading config (--config.file=prometheus.yml)": (5, "compose.yaml", "^      - --(config|storage).*\n", ""),
    "open /prometheus/queries.active: permission denied": (5, "compose.yaml", "prometheus-data:/", "./data:/"),
    "Running": (5, "prometheus.yml", r"\Z", ""),
}
MESSAGES = [(message, row) for row in ROWS for message in MISTAKES if f"`{message}`" in row.split(" | ")[0]]


def test_each_row_has_its_mistake():
    messages = set(re.findall("`([^`]+)`", "".join(row.split(" | ")[0] for row in ROWS)))
    assert messages - {"Exited", "prometheus.yml"} == set(MISTAKES)


@pytest.fixture(scope="module")
def folder():
    with Engine("messages"):
        image("prom/prometheus")
        folder = WORK / "messages/my-stack"
        folder.mkdir(parents=True)
        yield folder


def compose(folder, *words):
    return run("docker", "compose", *words, cwd=folder, env=ENVIRONMENT, code=None)


@pytest.mark.parametrize("message, row", MESSAGES, ids=[message for message, _ in MESSAGES])
def test_message(message, row, folder, request):
    count, name, before, after = MISTAKES[message]
    files = my_stack.assemble(README, count)
    for each, text in files.items():
        put(folder / each, text)
    compose(folder, "down", "-v", "--remove-orphans", "-t", "1")
    if message == "Running":
        return applies_after_restart(row, folder)
    if "already in use" in message:
        other = socket.create_server(("127.0.0.1", 9090))
        request.addfinalizer(other.close)
    wrong = re.sub(before, after, files[name], flags=re.M)
    assert wrong != files[name] or not after
    put(folder / name, wrong)
    output = compose(folder, "up", "-d")
    if f"`{message}` (log" in row:
        output = until(90, message, lambda: message in (log := compose(folder, "logs", "prometheus")) and log)
        until(60, "Exited", lambda: "Exited" in compose(folder, "ps", "-a"))
    elif f"`{message}` (page Target health)" in row:
        until(90, message, lambda: message in fetch("http://localhost:9090/api/v1/targets"))
    else:
        assert message in output, output
    if "the line named" in row:
        named = int(re.search(rf"line (\d+): {re.escape(message)}", output)[1])
        same = [old == new for old, new in zip(files[name].splitlines(), wrong.splitlines())]
        places = {"the one above": (-1, 0), "the one below": (0, 1), "the block that starts": range(20)}
        assert same.index(False) + 1 - named in next(lines for words, lines in places.items() if words in row), output


def applies_after_restart(row, folder):
    """Not a message: a changed prometheus.yml doesn't take effect until Prometheus starts again."""
    compose(folder, "up", "-d")
    interval = lambda: re.search("scrape_interval: (5s|7s)", fetch("http://localhost:9090/api/v1/status/config"))[1]
    put(folder / "prometheus.yml", (folder / "prometheus.yml").read_text().replace("5s", "7s"))
    assert "Running" in compose(folder, "up", "-d")
    assert until(90, "Prometheus answers", interval) == "5s"
    compose(folder, *re.search("`docker compose (restart [^`]*)`", row)[1].split())
    until(90, "the change has an effect", lambda: interval() == "7s")
