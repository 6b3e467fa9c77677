"""Follows pages 1, 2, 5 and 6 of the lab: Docker, the model, Prometheus and each failure, the log, and the clean-up."""

import re
import time

import pytest

import my_stack
from lab import fetch, fetch_json, modelmock, require_whole, run, until, vector
from walk import second_laptop

PROMETHEUS = "http://localhost:9090"
TARGET = "localhost:5000"


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("walk", request, "prom/prometheus") as walk:
        yield walk


def samples(range="1h"):
    series = vector(PROMETHEUS, f"model_result[{range}]")
    return [float(time) for time, _ in series[0][1]] if series else []


def scrapes_after(moment):
    until(90, "Prometheus scrapes the model", lambda: samples() and samples()[-1] > moment)


def waits_for_target(health):
    targets = lambda: fetch_json(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
    until(90, f"the target is {health}", lambda: [target["health"] for target in targets()] == [health])


def test_docker_and_the_model(walk):
    with walk.follows("1-model.md"):
        output = walk.type()
        assert "Client:" in output and "Server:" in output
        walk.explains("compose.yaml", "--release", "docker version", "../scripts/up.sh", "../scripts/down.sh")
        assert walk.shell("pwd").endswith("/my-stack\n")
        command, promised = walk.fence("sh"), walk.fence("text").splitlines()
        walk.run_model(command)
        elsewhere = [modelmock(), *command.split()[4:], "--listen", "127.0.0.1:5001"]
        log = run("timeout", "8", *elsewhere, code=124).splitlines()
        assert log[0] == promised[0].replace("5000", "5001")
        digits = lambda lines: [re.sub(r"\d+", "0", line) for line in lines]
        assert digits(log[1:3]) == digits(promised[1:3])
        page = walk.type().splitlines()
        assert digits(page[-3:]) == digits(walk.fence("text").splitlines())
        assert f"# TYPE {walk.word('model_refreshes_total')} counter" in page
        assert fetch(walk.link(f"http://{TARGET}/"))
        assert f"3 passed, 0 failed, 1 {walk.word('open')}\n" in walk.type()
        assert walk.fence("sh") == "scripts/check.sh --watch"
        walk.explains("127.0.0.1", "localhost", "5000", "7", "# HELP", "# TYPE", "model_result", "Ctrl+Z", "fg", "ok")


def test_prometheus(walk):
    page = walk.page
    with walk.follows("2-prometheus.md"):
        walk.write(2)
        output = walk.type()
        assert re.search(rf"^{walk.word('my-stack-prometheus-1')} .* {walk.word('Up')} ", output, re.M)
        require_whole("prom/prometheus")
        walk.opens(PROMETHEUS)
        waits_for_target("down")
        walk.press("Status", "Service discovery")
        walk.sees("model_mock")
        walk.matches(rf'instance="{TARGET}"(.|\n)*job="model_mock"')
        walk.press("Status", "Target health")
        walk.find("DOWN")
        walk.sees("dial tcp 127.0.0.1:5000: connect: connection refused")
        walk.picture("target-down", height=340)
        assert "model_result" in walk.type("curl -s localhost:5000/metrics")
        inside = walk.fence("sh")
        refused = walk.word("wget: can't connect to remote host (127.0.0.1): Connection refused")
        assert refused in walk.shell(inside, code=None)
        walk.write()
        walk.type("docker compose up -d")
        waits_for_target("up")
        page.reload()
        walk.find("UP")
        assert "model_result" in walk.shell(inside)
        walk.press("Query")
        walk.query(walk.word("model_result"), key="Escape")
        walk.press("Execute", "Table")
        walk.matches(rf'model_result\{{instance="{TARGET}", job="model_mock"\}}\s+(0(\.\d+)?|1)\s')
        walk.press("Graph")
        page.wait_for_selector(".uplot")
        first = samples()[0]
        walk.type()
        until(90, "the new container scrapes", lambda: samples() and samples()[0] > first)
        volumes = walk.shell("docker volume ls -q; " + walk.word("echo $old")).split()
        assert len(set(volumes)) == 2 and all(re.fullmatch("[0-9a-f]{64}", name) for name in volumes), volumes
        walk.type()
        assert walk.shell("docker volume ls -q") == "", "an unnamed volume is left"
        walk.write()
        walk.type("docker compose up -d")
        until(90, "some samples", lambda: len(samples()) > 2)
        first = samples()[0]
        walk.type("docker compose down")
        stopped = time.time()
        time.sleep(15)
        walk.type("docker compose up -d")
        scrapes_after(stopped + 10)
        assert samples()[0] == first, "the samples from before are gone"
        assert walk.type("docker volume ls").split()[-1] == walk.word("my-stack_prometheus-data")
        output = walk.type("../scripts/check.sh prometheus", code=None)
        assert re.search("^open .*rule", output, re.M), output
        assert f"open  {walk.word('only your machine reaches it: others do, too: 9090')}" in output
        image_flags = walk.type().strip("[]\n").split()
        walk.write()
        flags = my_stack.assemble(walk.text, walk.blocks_written)["compose.yaml"]
        assert image_flags == re.findall("- (--.*)", flags)[:2]
        walk.type("docker compose up -d")
        scrapes_after(time.time())
        promised = walk.word("ok    only your machine reaches it: 127.0.0.1")
        output = walk.type("../scripts/check.sh prometheus", code=None)
        assert promised in output
        not_yet = [line.split(": ")[0] for line in output.splitlines() if re.match("(open|FAIL) ", line)]
        later = ("the alerting rules are loaded", "Prometheus knows its Alertmanager")
        assert not_yet == [f"open  {walk.word(line)}" for line in later], output
        walk.model.stop()
        until(60, "the series is stale", lambda: not vector(PROMETHEUS, "model_result"))
        assert vector(PROMETHEUS, "model_result", time=stopped + 10), "the line isn't flat without Prometheus"
        walk.explains("UNKNOWN", "instance", "host.docker.internal:5000", "5m", "open")
        walk.explains("15m", "docker volume rm", "localhost", "without", "extra_hosts:")
    with walk.follows("5-logging.md"):
        assert "Completed loading of configuration file" in walk.type()
        walk.explains("my-stack", "Completed loading of configuration file")
    with walk.follows("6-hand-in.md"):
        # The tests of the hand-in run the first block.
        assert walk.fence("sh").startswith("../scripts/hand-in.sh ")
        walk.type()
        assert walk.shell("docker ps -aq; docker volume ls -q") == "", "a container or a volume is left"
        assert "my-stack" not in walk.shell("docker network ls")
        walk.explains("docker compose up -d", "Ctrl+C", "../scripts/down.sh --volumes --images", "../scripts/check.sh")
        walk.explains("ok", "FAIL", "open", "--value 0.95", "../scripts/check.sh --alert", "hand-in-7.txt", "my-stack")
        walk.explains("../scripts/down.sh", "7", "-v", "docker ps", "docker volume ls")
