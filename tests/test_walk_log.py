"""Follows the page on the log next to the metric, with the finished stack in a copy of the lab."""

import functools
import re
import subprocess

import pytest

from lab import fetch_json, modelmock, require_image, run, terminate, until
from walk import follow


@pytest.fixture(scope="module")
def walk(make_lab, request):
    for name in ("prometheus", "alertmanager", "mailpit", "grafana", "loki", "fluent-bit"):
        require_image(f".*/{name}")
    lab = make_lab("log", own_ports=not request.config.option.pictures)
    with follow(request, lab.root, width=1280) as walk:
        walk.lab, walk.model = lab, lab.model
        yield walk


@functools.cache
def lively_number():
    """A student's number with two results above 0.9 among the first five, so that queries for them have answers."""
    for number in range(1, 200):
        arguments = ["--seed", number, "--interval", "0.01", "--listen", "127.0.0.1:0"]
        output = run("timeout", "0.5", modelmock(), *arguments, code=124)
        results = re.findall(r"model_result ([\d.]+)", output)[:5]
        if len([result for result in results if float(result) > 0.9]) >= 2:
            return number


def start_model(walk, process):
    """The model as the next block of the text starts it, with its lines in a file."""
    command, tee = walk.fence("sh").split(" | ")
    assert command.startswith("cargo run --release")
    arguments = command.replace("--seed 7", f"--seed {lively_number()}").split()[4:]
    model = process(modelmock(), *arguments, "--listen", f"127.0.0.1:{walk.model.port}", stdout=subprocess.PIPE)
    process(*tee.split(), cwd=walk.root, stdin=model.stdout, stdout=subprocess.DEVNULL)
    return model


def run_query(walk):
    """The next block of LogQL, which must have an answer."""
    expression = walk.fence("logql")
    until(60, f"an answer to {expression}", lambda: logs(walk, expression))
    walk.query(expression)


def logs(walk, expression):
    url = f"http://localhost:{walk.lab.ports[3100]}/loki/api/v1/query_range"
    return fetch_json(url, query=expression)["data"]["result"]


def chooses_source(walk, name, side):
    picker = side.get_by_test_id("data-testid Select a data source").first
    walk.click(lambda: picker, lambda: walk.find(name))
    side.get_by_text(f"({name})").wait_for()


def test_the_log(walk, process):
    page, lab = walk.page, walk.lab
    with walk.follows("log-and-metric.md"):
        for line in walk.fence("sh").splitlines():
            lab.run(*line.removeprefix("scripts/").replace(".sh", "").split())
        first_model = start_model(walk, process)
        # The pictures show 15 minutes.
        until(1200, "results", lambda: lab.ask("model_refreshes_total") > (180 if walk.patient else 3))
        output = lab.run("check", "logging", env={"GRAFANA_PASSWORD": lab.password()})
        same = lambda text: re.sub(r"\d+ (in the last|results)", r"N \1", text).strip()
        assert same(walk.fence("text")) in same(output), output
        walk.opens(lab.grafana)
        walk.logs_in(lab.password())
        walk.press("Explore")
        chooses_source(walk, "Loki", page)
        walk.find("Builder")
        walk.press("Code")
        run_query(walk)
        walk.matches(r"Z model_result \d")
        walk.picture("log-lines", left=300, top=40)
        for _ in range(4):
            run_query(walk)
        walk.fence("promql")
        # The menu would cover the left half.
        page.get_by_label("Close menu").first.click()
        walk.press("Split")
        right = page.get_by_test_id("data-testid Explore").last
        chooses_source(walk, "Prometheus", right)
        run_query(walk)
        walk.query(walk.word("model_result"), right)
        range_of_time = page.get_by_test_id("data-testid TimePicker Open Button").first
        walk.chooses(range_of_time, walk.word("Last 5 minutes"))
        walk.until("two graphs", lambda: page.locator(".uplot").count() == 2)
        walk.picture("log-and-metric", top=40, height=800)
        run_query(walk)
        page.set_viewport_size({"width": 1280, "height": 1300})
        page.goto(f"{lab.grafana}/d/modelmock?kiosk")
        walk.until("its graphs", lambda: page.locator(".uplot").count() > 2)
        page.wait_for_timeout(3000)
        walk.picture("dashboard", height=1162)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{lab.grafana}/dashboards")
        walk.press("Dashboards", "Model in production")
        page.wait_for_selector(".uplot")
        walk.word("Refresh")
        refresh = page.get_by_label("Choose refresh time interval").first
        walk.click(lambda: refresh, lambda: walk.find("Off"))
        graph = page.locator(".uplot .u-over").first
        heights = iter(range(1000))
        link = page.get_by_text(walk.word("The log at this moment (with Loki)")).first

        def follows_link():
            """Only near a point, which is somewhere between 0 and 1."""
            box = graph.bounding_box()
            x, y = box["x"] + box["width"] - 60, box["y"] + box["height"] * (next(heights) * 7 % 20 + 0.5) / 20
            page.mouse.move(x, y)
            page.wait_for_timeout(200)
            page.mouse.click(x, y)
            link.click(timeout=1000)
            return True

        walk.until("the link at a point of the graph", follows_link, 90)
        walk.matches(r"Z model_result \d")
        walk.click(lambda: page.get_by_text("model_result").first)
        with page.context.expect_page() as opened:
            walk.press("The metric at this moment")
        opened.value.wait_for_selector(".uplot")
        terminate(first_model)
        start_model(walk, process)
        counted = '{job="model_mock"} |= "model_result" [10s]'
        lines = lambda: int(logs(walk, f"sum(count_over_time({counted}))")[0]["values"][-1][1])
        walk.word("count_over_time(model_result[1m])")
        samples = lambda: lab.ask("count_over_time(model_result[10s])")
        until(90, "ten lines for two samples", lambda: lines() in (9, 10, 11) and samples() <= 2)
        walk.explains("tee", "-i", "modelmock … serves …", 'model_result_recent{quantile="0.9"}', "Ctrl+C")
        walk.explains(": >stack/logs/model.log", "stack/fluent-bit/fluent-bit.yml", "scripts/check.sh logging")
        walk.explains("docker compose down", "scripts/down.sh", "docker compose up -d", "my-stack")

    # A mail of the finished stack.
    page.goto(lab.mailpit)
    walk.click(lambda: page.get_by_text("FIRING ModelResultHigh").first)
    walk.matches("FIRING ModelResultHigh at localhost")
    walk.picture("mail", height=480)
