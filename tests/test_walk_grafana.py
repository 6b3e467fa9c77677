"""Follows the README's section 5.3: Grafana, which can't reach Prometheus and forgets everything, and a dashboard."""

import pytest

from lab import fetch, fetch_json, until
from reader import second_laptop

GRAFANA = "http://localhost:3000"
PASSWORD = "only-used-here"


@pytest.fixture(scope="module")
def walk(request):
    """At the end of section 5.2."""
    with second_laptop("grafana", request, "prom/prometheus", "grafana/grafana") as walk:
        walk.page.set_viewport_size({"width": 1280, "height": 900})
        walk.terminal.type(f"mkdir my-stack && cd my-stack && export GRAFANA_PASSWORD={PASSWORD}")
        walk.write(5)
        walk.run_model("cargo run --release -- --seed 7")
        yield walk


def test_grafana(walk):
    with walk.section("Grafana"):
        in_grafana(walk, walk.page)


def opens(walk):
    until(90, "Grafana", lambda: fetch(f"{GRAFANA}/api/health"))
    walk.page.goto(f"{GRAFANA}/login")
    walk.page.get_by_label("Email or username").wait_for()


def logs_in(walk, password):
    walk.page.get_by_label("Email or username").fill("admin")
    walk.page.get_by_label("Password", exact=True).fill(password)
    walk.page.get_by_role("button", name="Log in").click()


def changes_password(walk):
    walk.page.get_by_label("New password", exact=True).fill(PASSWORD)
    walk.page.get_by_label("Confirm new password").fill(PASSWORD)
    walk.page.get_by_role("button", name="Submit").click()
    walk.page.get_by_text("Welcome to Grafana").first.wait_for()


def adds_data_source(walk):
    walk.page.goto(GRAFANA)
    walk.press("Connections", "Add new connection", "Prometheus", "Add new data source")
    walk.fill("Prometheus server URL", walk.word("http://localhost:9090"))
    walk.find("Interval behaviour").scroll_into_view_if_needed()
    walk.fill("Scrape interval", walk.word("5s"))
    walk.press("Save & test")


def in_grafana(walk, page):
    walk.write()
    walk.type("docker compose up -d")
    opens(walk)
    page.goto(walk.link(GRAFANA))
    logs_in(walk, walk.word("admin"))
    changes_password(walk)
    adds_data_source(walk)
    refused = "dial tcp 127.0.0.1:9090: connect: connection refused"
    walk.sees(f"{refused} - There was an error returned querying the Prometheus API.")

    walk.write(2)
    walk.type("docker compose up -d")
    opens(walk)
    logs_in(walk, PASSWORD)
    page.get_by_text("Invalid username or password").first.wait_for()
    walk.write()
    walk.type("docker compose up -d")
    opens(walk)
    logs_in(walk, "admin")
    changes_password(walk)
    adds_data_source(walk)
    walk.sees("Successfully queried the Prometheus API.")

    page.get_by_role("button", name="Profile").first.click()
    walk.press("Sign out")
    walk.terminal.type(walk.word("docker compose down"))
    walk.type("docker compose up -d")
    opens(walk)
    logs_in(walk, PASSWORD)
    page.get_by_text("Welcome to Grafana").first.wait_for()
    assert [source["type"] for source in fetch_json(f"{GRAFANA}/api/datasources", password=PASSWORD)] == ["prometheus"]

    walk.press("Explore")
    walk.find("Builder")
    walk.press("Code")
    page.wait_for_selector(".monaco-editor")
    walk.query(walk.word("model_result"))
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".uplot")

    walk.press("Dashboards")
    walk.press("New", within=page.locator("#pageContent"))
    walk.press("New dashboard", "Add visualization")
    page.get_by_role("dialog").get_by_text("prometheus").first.click()
    if not page.locator(".monaco-editor").first.is_visible():
        walk.press("Code")
    page.wait_for_selector(".monaco-editor")
    walk.query("model_result")
    page.keyboard.press("Shift+Enter")
    walk.press("Time series")
    walk.find("Standard options")
    walk.fill("Min", walk.word("0"))
    walk.fill("Max", walk.word("1"))
    walk.find("Thresholds").scroll_into_view_if_needed()
    level = page.locator(f'input[value="{walk.word("80")}"]').first
    level.fill(walk.word("0.9"))
    level.press("Tab")
    walk.press("Show thresholds")
    page.keyboard.press("ArrowDown")
    walk.press("As lines")
    page.wait_for_timeout(100_000 if walk.patient else 1000)
    walk.query("model_result")
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(1000)
    walk.picture("panel-editor", left=300, top=40)
    walk.press("Back to dashboard", "Last 6 hours", "Last 15 minutes")
    walk.find("Refresh")
    page.get_by_label("Auto refresh turned off. Choose refresh time interval").click()
    walk.press("5s", "Save dashboard")
    walk.fill("Title", walk.word("Mine"))
    walk.press("Save")
    until(15, "the dashboard is saved", lambda: fetch_json(f"{GRAFANA}/api/search?query=Mine", password=PASSWORD))

    output = walk.type("../scripts/check.sh --own")
    assert "FAIL" not in output and "open" not in output, output
    output = walk.type("../scripts/check.sh grafana")
    assert "FAIL" not in output and "open" not in output, output
    walk.press("Edit")
    page.get_by_label("Choose refresh time interval").first.click()
    page.get_by_text("10s", exact=True).click()
    walk.press("Last 15 minutes")
    page.get_by_text("Last 30 minutes", exact=True).click()
    walk.press("Save dashboard", "Update default time range", "Update default refresh value")
    walk.explains("/var/lib/grafana", "up -d")
