"""The walk through the README's section on the log, in a lab of its own, beside the rest of the walk."""

import subprocess
import time

from lab import image, modelmock, until
from test_walk import lab, walk  # noqa: F401 (fixtures)


def test_the_log(walk, lab, process):
    for name in ("grafana/grafana", "grafana/loki", "fluent/fluent-bit"):
        image(name)
    lab.run("up", "grafana", "logging")
    lab.model.stop()
    model = process(modelmock(), "--listen", f"127.0.0.1:{lab.ports[5000]}", stdout=subprocess.PIPE)
    process("tee", "-ai", lab.stack / "logs/model.log", stdin=model.stdout, stdout=subprocess.DEVNULL)
    # Long enough for graphs with something to see.
    time.sleep(240 if walk.patient else 20)
    with walk.section("The log beside the metric", 1280, 900) as page:
        in_the_log(walk, lab, page)


def in_the_log(walk, lab, page):
    lines, high, each_minute, each_value, in_an_hour, graph, quantile = walk.blocks("logql")
    page.goto(lab.grafana + "/explore")
    if "/login" in page.url:
        page.get_by_label("Email or username").fill("admin")
        page.get_by_label("Password", exact=True).fill(lab.password())
        page.get_by_role("button", name="Log in").click()
        page.wait_for_timeout(3000)
    walk.press("Explore")
    choose(walk, "Loki")
    walk.find("Builder")
    walk.press("Code")
    walk.explore(lines)
    walk.matches(r"Z model_result \d")
    walk.picture("log-lines", left=300, top=40)
    walk.explore(high)
    for expression in (each_minute, each_value, in_an_hour, quantile, graph):
        walk.explore(expression)
        page.wait_for_selector(".uplot")
    # It would lie over the left half.
    page.get_by_label("Close menu").first.click()
    walk.press("Split")
    right = page.get_by_test_id("data-testid Explore").last
    choose(walk, "Prometheus", right)
    page.wait_for_timeout(1500)
    walk.explore("model_result", right)
    page.get_by_test_id("data-testid TimePicker Open Button").first.click()
    walk.press("Last 5 minutes")
    page.wait_for_timeout(3000)
    walk.picture("log-beside-metric", top=40, height=800)

    page.goto(lab.grafana + "/dashboards")
    walk.press("Dashboards", "Model in production")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(6000)
    link = page.get_by_text("The log at this moment (with Loki)").first

    box = page.locator(".uplot .u-over").first.bounding_box()
    heights = iter(range(100))

    def has_link():
        """Only near a point, which is somewhere between 0 and 1."""
        x, y = box["x"] + box["width"] - 60, box["y"] + box["height"] * (next(heights) * 7 % 20 + 0.5) / 20
        page.mouse.move(x, y)
        page.wait_for_timeout(200)
        page.mouse.click(x, y)
        page.wait_for_timeout(300)
        return link.is_visible()

    until(30, "the link at a point of the graph", has_link)
    walk.press("The log at this moment (with Loki)")
    walk.matches(r"Z model_result \d")
    page.get_by_text("model_result").first.click()
    with page.context.expect_page() as opened:
        walk.press("The metric at this moment")
    opened.value.wait_for_selector(".uplot")
    opened.value.close()


def choose(walk, name, within=None):
    """Picks a data source at the top of Explore."""
    (within or walk.page).get_by_test_id("data-testid Select a data source").first.click(force=True)
    walk.page.wait_for_timeout(500)
    walk.press(name)
