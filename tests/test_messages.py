"""Reproduces each row of the table of messages: makes the mistake, and looks for the message."""

import re
import socket
import urllib.error

import pytest

import my_stack
from engine import Engine
from lab import ENVIRONMENT, LABEL, ROOT, WORK, docker, fetch, replace_file, require_image, require_whole, run, search, until

LAB = my_stack.core_text(ROOT)
PAGE = (ROOT / "stack/lab/messages.md").read_text(encoding="utf-8")
# The first cell of each row, and the rest of it, for each part of the page: what prints the message.
ROWS = {
    part.partition("\n")[0]: re.findall(r"^\| (?!message|---)(.*?) \| (.*) \|$", part, re.M)
    for part in PAGE.split("\n## ")[1:]
}
FIRST, PAGE_2, PAGE_3, PAGE_4 = 2, 5, 9, 13  # so many blocks of the lab's pages are written by then
# message: how many blocks are written, the file with the mistake, what to replace, and by what.
MISTAKES = {
    "mapping values are not allowed in this context": (PAGE_2, "compose.yaml", "    network", "      network"),
    "could not find expected ':'": (PAGE_2, "compose.yaml", "    volumes:", "    volumes"),
    "did not find expected comment or line break": (PAGE_2, "compose.yaml", "image: ", "image: >"),
    "must be a array": (FIRST, "compose.yaml", "      - ./prom", "      ./prom"),
    "services must be a mapping": (FIRST, "compose.yaml", "  prometheus:", "prometheus:"),
    "services.volumes must be a mapping": (FIRST, "compose.yaml", "    volumes:", "  volumes:"),
    "additional properties '…' not allowed": (PAGE_2, "compose.yaml", r"\Z", "  grafana:\n    image: none\n"),
    'mapping key "services" already defined': (PAGE_2, "compose.yaml", r"\Z", "services:\n  grafana:\n"),
    "found a tab character that violates indentation": (PAGE_2, "compose.yaml", "    network_mode", "\tnetwork_mode"),
    "found character that cannot start any token": (PAGE_2, "compose.yaml", "  prometheus:", "\tprometheus:"),
    "volumes must be a mapping": (PAGE_2, "compose.yaml", "^  prometheus-data:", "  - prometheus-data"),
    "refers to undefined volume prometheus-data": (PAGE_2, "compose.yaml", "^volumes:\n.*\n", ""),
    "is missing a mount target": (PAGE_2, "compose.yaml", "data:/prometheus", "data: /prometheus"),
    "refers to undefined network host": (FIRST, "compose.yaml", "    ports:\n.*\n", "    networks:\n      - host\n"),
    "mutually exclusive": (PAGE_2, "compose.yaml", "    network_mode", "    networks: [default]\n    network_mode"),
    "Published ports are discarded when using host network mode": (
        FIRST, "compose.yaml", "    ports:", "    network_mode: host\n    ports:"
    ),
    "did not find expected key": (PAGE_4, "rules.yml", '"The result.*"', "{{ $value }} is high"),
    "did not find expected '-' indicator": (PAGE_2, "prometheus.yml", "    scrape", "   scrape"),
    "cannot unmarshal !!map into []*targetgroup.Group": (PAGE_2, "prometheus.yml", "    - targets", "      targets"),
    "into []string": (PAGE_4, "prometheus.yml", "rule_files:\n *- ", "rule_files: "),
    "not found in type": (PAGE_2, "prometheus.yml", "scrape_configs", "scrape_config"),
    "not a valid duration string": (PAGE_2, "prometheus.yml", "5s", "5"),
    "Error loading config (--config.file=prometheus.yml)": (
        PAGE_2, "compose.yaml", "^      - --(config|storage).*\n", ""
    ),
    "open /prometheus/queries.active: permission denied": (PAGE_2, "compose.yaml", "prometheus-data:/", "./data:/"),
    "lookup host.docker.internal on 127.0.0.11:53": (FIRST, "prometheus.yml", "localhost", "host.docker.internal"),
    "server returned HTTP status 404": (
        PAGE_2, "prometheus.yml", "localhost:5000", 'localhost:9090"\n    metrics_path: "/wrong'
    ),
    "GF_PATHS_DATA='/var/lib/grafana' is not writable": (PAGE_3, "compose.yaml", "grafana-data:/", "./grafana-data:/"),
}
# Messages that a test of their own makes.
OTHERS = {
    "no configuration file provided: not found",
    "Are you trying to mount a directory onto a file",
    "rules.yml: is a directory",
    "prometheus.yml: permission denied",
    "port is already allocated",
    "address already in use",
    "bind: address already in use",
    "Running",
    "Invalid username or password",
    "unsupported protocol scheme",
}


def messages(part):
    """Each message of a part of the page, with the rest of its row."""
    cells = [(re.sub(r"\(.*?\)$", "", cell), f"{cell} {rest}") for cell, rest in ROWS[part]]
    return [(message, row) for cell, row in cells for message in re.findall("`([^`]+)`", cell)]


def row_of(message):
    return next(row for part in ROWS for each, row in messages(part) if each == message)


def test_each_message_has_its_mistake():
    listed = [message for part in ROWS for message, _ in messages(part)]
    assert set(listed) - {"prometheus.yml"} == set(MISTAKES) | OTHERS


@pytest.fixture(scope="module")
def engine():
    with Engine("messages") as engine:
        require_image("prom/prometheus")
        yield engine


@pytest.fixture
def folder(engine):
    folder = WORK / "messages/my-stack"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    compose(folder, "down", "-v", "--remove-orphans", "-t", "1")
    run("sh", "-c", 'rm -rf "$0"/*', folder)


def compose(folder, *words, code=None):
    return run("docker", "compose", *words, cwd=folder, env=ENVIRONMENT, code=code)


def write(folder, count):
    files = my_stack.assemble(LAB, count)
    for name, text in files.items():
        replace_file(folder / name, text)
    return files


def log_with(folder, message, service="prometheus"):
    """The service's log, as soon as it has the message."""
    return until(90, message, lambda: message in (log := compose(folder, "logs", service)) and log)


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_leads_to_the_message(message, folder):
    count, name, before, after = MISTAKES[message]
    files = write(folder, count)
    service = "grafana" if count == PAGE_3 else "prometheus"
    require_image(f".*/{service}")
    if "--config.file" in message:
        # Debian's Prometheus has another default.
        require_whole("prom/prometheus")
    wrong = re.sub(before, after, files[name], flags=re.M)
    assert wrong != files[name]
    replace_file(folder / name, wrong)
    output = compose(folder, "up", "-d", service)
    row = row_of(message)
    if message in dict(messages("From docker compose")):
        assert re.search(re.escape(message).replace("…", ".*"), output), output
    elif "Target health" in row:
        until(90, message, lambda: message in fetch("http://localhost:9090/api/v1/targets"))
    else:
        output = log_with(folder, message, service)
        until(60, "Exited", lambda: "Exited" in compose(folder, "ps", "-a"))
    if "the line named" in row and name != "rules.yml":
        named = int(search(rf"line (\d+): {re.escape(message)}", output)[1])
        same = [old == new for old, new in zip(files[name].splitlines(), wrong.splitlines())]
        places = {"the one above": (-1, 0), "the one below": (0, 1), "the block that starts": range(20)}
        assert same.index(False) + 1 - named in next(lines for words, lines in places.items() if words in row), output


def test_the_file_is_missing(folder):
    assert "no configuration file provided: not found" in compose(folder, "up", "-d")


def test_a_port_is_taken(folder, request):
    write(folder, FIRST)
    other = socket.create_server(("127.0.0.1", 9090))
    request.addfinalizer(other.close)
    assert "address already in use" in compose(folder, "up", "-d")
    write(folder, PAGE_2)
    compose(folder, "up", "-d")
    log_with(folder, "bind: address already in use")
    other.close()
    compose(folder, "down")
    write(folder, FIRST)
    image = require_image("prom/prometheus")
    # A shell that waits for its input.
    name = docker("run", "-d", "-i", "--label", LABEL, "-p", "9090:9090", "--entrypoint", "sh", image)
    request.addfinalizer(lambda: docker("rm", "-f", name))
    assert "port is already allocated" in compose(folder, "up", "-d")


def test_a_file_that_only_its_owner_can_read(folder):
    write(folder, PAGE_2)
    (folder / "prometheus.yml").chmod(0o600)
    compose(folder, "up", "-d")
    message = "prometheus.yml: permission denied"
    log_with(folder, message)
    run("sh", "-c", re.search("run `(chmod [^`]*)`", row_of(message))[1], cwd=folder)
    compose(folder, "restart")
    until(90, "Prometheus answers", lambda: fetch("http://localhost:9090/-/ready"))


def test_a_folder_in_the_place_of_a_file(folder):
    """The steps in the rows repair it. Without the first one, the old container keeps the folder."""
    write(folder, PAGE_4)
    (folder / "rules.yml").rename(folder / "rules.yaml")
    compose(folder, "up", "-d", "prometheus")
    log_with(folder, "rules.yml: is a directory")
    (folder / "rules.yml").rmdir()
    (folder / "rules.yaml").rename(folder / "rules.yml")
    message = "Are you trying to mount a directory onto a file"
    assert message in compose(folder, "up", "-d", "prometheus")
    for row in (row_of(message), row_of("rules.yml: is a directory")):
        steps = re.findall("`(docker compose down|rmdir|docker compose up -d)[^`]*`", row)
        assert steps == ["docker compose down", "rmdir", "docker compose up -d"], row
    compose(folder, "down", code=0)
    compose(folder, "up", "-d", "prometheus", code=0)
    until(90, "Prometheus answers", lambda: fetch("http://localhost:9090/-/ready"))


def test_a_changed_file_needs_a_restart(folder):
    write(folder, PAGE_2)
    compose(folder, "up", "-d")
    interval = lambda: re.search("scrape_interval: (5s|7s)", fetch("http://localhost:9090/api/v1/status/config"))[1]
    replace_file(folder / "prometheus.yml", (folder / "prometheus.yml").read_text().replace("5s", "7s"))
    assert "Running" in compose(folder, "up", "-d")
    assert until(90, "Prometheus answers", interval) == "5s"
    compose(folder, *re.search("`docker compose (restart [^`]*)`", row_of("Running"))[1].split())
    until(90, "the change has an effect", lambda: interval() == "7s")


def refused_by_grafana(path, password, **data):
    """The answer of Grafana's API, which must be an error."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(f"http://localhost:3000/api/{path}", password=password, **data)
    return refused.value.read().decode()


def test_grafana_refuses_a_password_and_an_address(folder):
    require_image("grafana/grafana")
    write(folder, PAGE_3)
    compose(folder, "up", "-d", "grafana")
    until(120, "Grafana answers", lambda: fetch("http://localhost:3000/api/health"))
    assert "Invalid username or password" in refused_by_grafana("org", "forgotten")
    reset = re.search("run `(docker compose [^`]*) NEW`", row_of("Invalid username or password"))[1]
    run("sh", "-c", f"{reset} only-used-here", cwd=folder, env=ENVIRONMENT)
    source = {"name": "mine", "type": "prometheus", "uid": "mine", "access": "proxy", "url": "localhost:9090"}
    fetch("http://localhost:3000/api/datasources", source, password="only-used-here")
    assert "unsupported protocol scheme" in refused_by_grafana("datasources/uid/mine/health", "only-used-here")
