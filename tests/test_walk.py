"""Follows the README's sections 5.0 to 5.3: Docker, the model, Prometheus, Grafana, and each failure on the way."""

import re
import time

import pytest

import my_stack
from lab import fetch, fetch_json, modelmock, run, until, vector
from reader import needs_web_pages, second_laptop

PROMETHEUS = "http://localhost:9090"
TARGET = "localhost:5000"


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("walk", request, "prom/prometheus") as walk:
        yield walk


def samples(range="1h"):
    series = vector(PROMETHEUS, f"model_result[{range}]")
    return [float(time) for time, _ in series[0][1]] if series else []


def waits_for_target(health):
    targets = lambda: fetch_json(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
    until(30, f"the target is {health}", lambda: [target["health"] for target in targets()] == [health])


def test_docker_and_the_model(walk):
    with walk.section("Check Docker"):
        output = walk.type()
        assert "Client:" in output and "Server:" in output
        walk.explains("compose.yaml", "--release", "docker version", "../scripts/up.sh", "../scripts/down.sh")
        assert walk.terminal.type("pwd")[0].endswith("/my-stack\n")
    with walk.section("Mock the model"):
        command, promised = walk.fence("sh"), walk.fence("text").splitlines()
        walk.run_model(command)
        elsewhere = [modelmock(), *command.split()[4:], "--listen", "127.0.0.1:5001"]
        log = run("timeout", "7", *elsewhere, code=124).splitlines()
        assert log[0] == promised[0].replace("5000", "5001")
        digits = lambda line: re.sub(r"\d+", "0", line)
        assert [digits(line) for line in log[1:3]] == [digits(line) for line in promised[1:3]]
        again = run("timeout", "2", *elsewhere, code=124).splitlines()
        assert again[1].split()[1:] == log[1].split()[1:], "the same seed doesn't draw the same results"
        page = walk.type()
        answer = walk.fence("text").splitlines()
        assert page.endswith("".join(page.splitlines(True)[-3:]))
        assert page.splitlines()[-3:-1] == answer[:2] and digits(page.splitlines()[-1]) == digits(answer[2])
        assert re.search(rf"^# TYPE {walk.word('model_refreshes_total')} counter$", page, re.M)
        assert fetch(walk.link(f"http://{TARGET}/"))
        walk.explains("127.0.0.1", "localhost", "5000", "7", "# HELP", "# TYPE", "model_result")


def test_prometheus(walk):
    with walk.section("Prometheus"):
        in_prometheus(walk, walk.page)


def in_prometheus(walk, page):
    (walk.root / "my-stack").mkdir(exist_ok=True)
    walk.write(2)
    output = walk.type()
    assert re.search(rf"^{walk.word('my-stack-prometheus-1')} .* {walk.word('Up')} ", output, re.M)
    until(30, "Prometheus is ready", lambda: fetch(f"{PROMETHEUS}/-/ready"))
    needs_web_pages(PROMETHEUS)
    page.goto(walk.link(PROMETHEUS))
    walk.press("Status", "Service discovery")
    walk.sees("model_mock", reload=True)
    walk.matches(rf'instance="{TARGET}"')
    walk.matches('job="model_mock"')
    waits_for_target("down")
    walk.press("Status", "Target health")
    walk.find("DOWN")
    walk.sees("dial tcp 127.0.0.1:5000: connect: connection refused")
    walk.picture("target-down", height=340)
    assert "model_result" in walk.terminal.type(walk.word("curl -s localhost:5000/metrics"))[0]
    inside = walk.fence("sh")
    refused = walk.word("wget: can't connect to remote host (127.0.0.1): Connection refused")
    assert refused in walk.terminal.type(inside)[0]

    walk.write()
    assert "Started" in walk.type("docker compose up -d")
    waits_for_target("up")
    page.reload()
    walk.find("UP")
    assert "model_result" in walk.terminal.type(inside)[0]
    walk.press("Query")
    walk.query(walk.word("model_result"))
    walk.press("Execute", "Table")
    walk.matches(rf'model_result\{{instance="{TARGET}", job="model_mock"\}}\s+(0(\.\d+)?|1)\s')
    walk.press("Graph")
    page.wait_for_selector(".uplot")

    first = samples()[0]
    output = walk.type()
    until(30, "the new container scrapes", lambda: samples() and samples()[0] > first)
    volumes = walk.terminal.type("docker volume ls -q; " + walk.word("echo $old"))[0].split()
    assert len(set(volumes)) == 2 and all(re.fullmatch("[0-9a-f]{64}", name) for name in volumes), volumes
    walk.type()
    assert walk.terminal.type("docker volume ls -q")[0] == "", "an unnamed volume is left"
    walk.write()
    walk.type("docker compose up -d")
    until(30, "the volume is in use", samples)
    time.sleep(6)
    first = samples()[0]
    walk.type("docker compose down")
    time.sleep(15)
    walk.type("docker compose up -d")
    until(30, "it scrapes again", lambda: len(samples("20s")) > 1)
    assert samples()[0] == first, "the samples from before are gone"
    assert walk.type("docker volume ls").split()[-1] == walk.word("my-stack_prometheus-data")

    check = walk.word("../scripts/check.sh prometheus")
    output = walk.terminal.type(check)[0]
    assert re.search("^open .*rule", output, re.M), output
    assert re.search(rf"^open  {walk.word('only your machine reaches it: others do, too: 9090')}", output, re.M), output
    image_flags = walk.type().strip("[]\n").split()
    walk.write()
    flags = my_stack.assemble(walk.text, walk.blocks_written)["compose.yaml"]
    assert image_flags == re.findall("- (--.*)", flags)[:2]
    walk.type("docker compose up -d")
    until(30, "it listens on 127.0.0.1", samples)
    assert walk.word("ok    only your machine reaches it: 127.0.0.1") in walk.terminal.type(check)[0]

    stopped = time.time()
    walk.model.stop()
    time.sleep(12)
    walk.run_model("cargo run --release -- --seed 7")
    until(30, "it scrapes again", lambda: samples()[-1] > stopped + 22)
    step = {"start": first, "end": time.time(), "step": 5}
    drawn = fetch_json(f"{PROMETHEUS}/api/v1/query_range", query="model_result", **step)["data"]["result"][0]["values"]
    gaps = [later - earlier for (earlier, _), (later, _) in zip(drawn, drawn[1:]) if later - earlier > 5]
    scraped = samples()
    away = max(later - earlier for earlier, later in zip(scraped, scraped[1:]) if later < stopped)
    assert away > 15, "the graph has no flat line from the time when Prometheus was down"
    assert len(gaps) == 1, f"the graph should have one gap, from the time when the model was down: {gaps}"
    walk.explains("15m", "docker compose ps -a", "docker compose logs prometheus", "docker volume rm", "localhost")
    with walk.section("Two logs", "stack/logging.md"):
        assert "Completed loading of configuration file" in walk.type()
        walk.explains("my-stack", "Completed loading of configuration file")
    with walk.section("Hand in and clean up"):
        # The tests of the hand-in run the first block.
        assert walk.fence("sh").startswith("../scripts/report.sh ")
        walk.type()
        assert walk.terminal.type("docker ps -aq; docker volume ls -q")[0] == "", "a container or a volume is left"
        assert "my-stack" not in walk.terminal.type("docker network ls")[0]
        walk.explains("docker compose up -d", "Ctrl+C", "../scripts/down.sh --volumes")
        walk.explains("docker image rm $(sed -n '/modelmock/!s/^ *image: //p' stack/compose.yaml)")
