"""Follows the section on the log next to the metric, with the finished stack in a copy of the lab."""

import re
import subprocess
import time

import pytest
from playwright.sync_api import Error

from lab import end, fetch_json, image, modelmock, until
from reader import Walk, browser_page


@pytest.fixture(scope="module")
def walk(make_lab, request):
    for name in ("prometheus", "alertmanager", "mailpit", "grafana", "loki", "fluent-bit"):
        image(f".*/{name}")
    lab = make_lab("log", own_ports=not request.config.option.pictures)
    lab.run("up")
    lab.run("up", "logging")
    with browser_page(request) as (page, pictures):
        page.set_viewport_size({"width": 1280, "height": 900})
        walk = Walk(page, lab.root, pictures, patient=request.config.option.pictures)
        walk.lab, walk.model = lab, lab.model
        yield walk
        walk.close()


def test_the_log(walk, process):
    with walk.section("The log next to the metric", "stack/logging.md"):
        assert walk.fence("sh").splitlines()[-1] == "scripts/up.sh logging"
        walk.first_model = start_model(walk, process)
        # Long enough for graphs with content.
        time.sleep(100 if walk.patient else 12)
        output = walk.lab.run("check", "logging", env={"GRAFANA_PASSWORD": walk.lab.password()})
        same = lambda text: re.sub(r"\d+ (in the last|results)", r"N \1", text).strip()
        assert same(walk.fence("text")) in same(output), output
        in_the_log(walk, walk.page, process)
    finished_stack(walk, walk.page)


def finished_stack(walk, page):
    """What the README shows of the finished stack: its dashboard, and a mail."""
    page.goto(walk.lab.mailpit)
    page.get_by_text("FIRING ModelResultHigh").first.click()
    walk.title = "The finished stack"
    walk.matches("FIRING ModelResultHigh at localhost")
    walk.picture("mail", height=480)
    page.set_viewport_size({"width": 1280, "height": 1260})
    page.goto(f"{walk.lab.grafana}/d/modelmock?kiosk")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(6000)
    walk.picture("dashboard", height=1130)


def start_model(walk, process):
    """The model as the next block of the text starts it, with its lines in a file."""
    command, tee = walk.fence("sh").split(" | ")
    assert command.startswith("cargo run --release")
    # Two of its first results are above 0.9.
    arguments = (command.split()[4:] or ["--seed", "3"]) + ["--listen", f"127.0.0.1:{walk.model.port}"]
    model = process(modelmock(), *arguments, stdout=subprocess.PIPE)
    process(*tee.split(), cwd=walk.root, stdin=model.stdout, stdout=subprocess.DEVNULL)
    return model


def in_the_log(walk, page, process):
    page.goto(f"{walk.link(walk.lab.grafana)}/login")
    page.get_by_label("Email or username").fill("admin")
    page.get_by_label("Password", exact=True).fill(walk.lab.password())
    page.get_by_role("button", name="Log in").click()
    page.wait_for_timeout(3000)
    walk.press("Explore")
    choose(walk, "Loki")
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
    choose(walk, "Prometheus", right)
    page.wait_for_timeout(1500)
    run_query(walk)
    walk.query(walk.word("model_result"), right)
    page.keyboard.press("Shift+Enter")
    walk.word("Last 5 minutes")

    def chooses_range():
        """A refresh may close the list before the click."""
        try:
            page.get_by_test_id("data-testid TimePicker Open Button").first.click(timeout=2000)
            page.get_by_text("Last 5 minutes", exact=True).first.click(timeout=2000)
        except Error:
            return False
        return True

    until(40, "the list of ranges", chooses_range)
    page.wait_for_timeout(3000)
    walk.picture("log-and-metric", top=40, height=800)
    run_query(walk)

    page.goto(f"{walk.lab.grafana}/dashboards")
    walk.press("Dashboards", "Model in production")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(4000)
    link = page.get_by_text(walk.word("The log at this moment (with Loki)")).first
    box = page.locator(".uplot .u-over").first.bounding_box()
    heights = iter(range(100))

    def follows_link():
        """Only near a point, which is somewhere between 0 and 1; a refresh may close it before the click."""
        x, y = box["x"] + box["width"] - 60, box["y"] + box["height"] * (next(heights) * 7 % 20 + 0.5) / 20
        page.mouse.move(x, y)
        page.wait_for_timeout(200)
        page.mouse.click(x, y)
        try:
            link.click(timeout=500)
        except Error:
            return False
        return True

    until(40, "the link at a point of the graph", follows_link)
    walk.matches(r"Z model_result \d")
    page.get_by_text("model_result").first.click()
    with page.context.expect_page() as opened:
        walk.press("The metric at this moment")
    opened.value.wait_for_selector(".uplot")

    end(walk.first_model)
    start_model(walk, process)
    counted = '{job="model_mock"} |= "model_result" [10s]'
    lines = lambda: int(logs(walk, f"sum(count_over_time({counted}))")[0]["values"][-1][1])
    walk.word("count_over_time(model_result[1m])")
    samples = lambda: walk.lab.ask("count_over_time(model_result[10s])")
    until(40, "ten lines for two samples", lambda: lines() in (9, 10, 11) and samples() <= 2)
    walk.explains("tee", "-i", "modelmock … serves …", 'model_result_recent{quantile="0.9"}',
                  ": >stack/logs/model.log", "Ctrl+C", "docker compose down", "scripts/check.sh logging",
                  "stack/fluent-bit/fluent-bit.yml")


def run_query(walk):
    """The next block of LogQL, which must have an answer."""
    expression = walk.fence("logql")
    until(20, f"an answer to {expression}", lambda: logs(walk, expression))
    walk.query(expression)
    walk.page.keyboard.press("Shift+Enter")
    walk.page.wait_for_timeout(2000)


def logs(walk, expression):
    url = f"http://localhost:{walk.lab.ports[3100]}/loki/api/v1/query_range"
    return fetch_json(url, query=expression)["data"]["result"]


def choose(walk, name, within=None):
    """Picks a data source at the top of Explore."""
    (within or walk.page).get_by_test_id("data-testid Select a data source").first.click(force=True)
    walk.page.wait_for_timeout(500)
    walk.press(name)
