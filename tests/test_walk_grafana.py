"""Follows the lab's page 3: Grafana, which can't reach Prometheus and forgets everything, and a dashboard."""

import pytest

from lab import fetch_json, until
from walk import second_laptop

GRAFANA = "http://localhost:3000"
PASSWORD = "only-used-here"


@pytest.fixture(scope="module")
def walk(request):
    """At the end of page 2."""
    with second_laptop("grafana", request, "prom/prometheus", "grafana/grafana", width=1280) as walk:
        walk.shell(f"mkdir my-stack && cd my-stack && export GRAFANA_PASSWORD={PASSWORD}")
        walk.write_up_to("2-prometheus.md")
        walk.run_model("cargo run --release -- --seed 7")
        yield walk


def starts(walk, password):
    walk.type("docker compose up -d")
    walk.opens(GRAFANA)
    walk.logs_in(password)


def changes_password(walk):
    walk.find("Skip")
    walk.page.get_by_label("New password", exact=True).fill(PASSWORD)
    walk.page.get_by_label("Confirm new password").fill(PASSWORD)
    walk.page.get_by_role("button", name="Submit").click()
    walk.matches("Welcome to Grafana")


def adds_data_source(walk):
    walk.page.goto(GRAFANA)
    walk.press("Connections", "Add new connection", "Prometheus", "Add new data source")
    walk.fill("Prometheus server URL", walk.word("http://localhost:9090"))
    walk.find("Interval behaviour").scroll_into_view_if_needed()
    walk.fill("Scrape interval", walk.word("5s"))
    walk.press("Save & test")


def test_grafana(walk):
    page = walk.page
    button = lambda name: page.get_by_role("button", name=name).first
    refresh = page.get_by_label("Choose refresh time interval").first
    with walk.follows("3-grafana.md"):
        walk.write()
        starts(walk, walk.word("admin"))
        changes_password(walk)
        adds_data_source(walk)
        refused = "dial tcp 127.0.0.1:9090: connect: connection refused"
        walk.sees(f"{refused} - There was an error returned querying the Prometheus API.")
        walk.write(2)
        starts(walk, PASSWORD)
        walk.matches("Invalid username or password")
        walk.write()
        starts(walk, "admin")
        changes_password(walk)
        adds_data_source(walk)
        walk.sees("Successfully queried the Prometheus API.")
        walk.click(lambda: button("Profile"), lambda: walk.find("Sign out"))
        walk.type("docker compose down")
        starts(walk, PASSWORD)
        walk.matches("Welcome to Grafana")
        sources = fetch_json(f"{GRAFANA}/api/datasources", password=PASSWORD)
        assert [source["type"] for source in sources] == ["prometheus"]
        walk.press("Explore")
        walk.find("Builder")
        walk.press("Code")
        walk.query(walk.word("model_result"))
        page.wait_for_selector(".uplot")
        walk.press("Dashboards")
        walk.press("New", within=page.locator("#pageContent"))
        walk.press("New dashboard", "Add visualization")
        walk.click(lambda: page.get_by_role("dialog").get_by_text("prometheus").first)
        # The editor that was chosen in Explore.
        walk.query("model_result")
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
        if walk.patient:
            # A picture with a curve of 5 minutes.
            page.wait_for_timeout(280_000)
            walk.chooses(button("Last 6 hours"), "Last 5 minutes")
            page.wait_for_timeout(3000)
        walk.picture("panel-editor", left=300, top=40)
        if walk.patient:
            walk.chooses(button("Last 5 minutes"), "Last 6 hours")
        walk.press("Back to dashboard", "Last 6 hours", "Last 15 minutes")
        walk.find("Refresh")
        walk.click(lambda: refresh, lambda: walk.find("5s"))
        walk.press("Save dashboard")
        walk.fill("Title", walk.word("Mine"))
        walk.press("Save")
        until(60, "the dashboard", lambda: fetch_json(f"{GRAFANA}/api/search?query=Mine", password=PASSWORD))
        for check in ("../scripts/check.sh --own", "../scripts/check.sh grafana"):
            output = walk.type(check)
            assert "FAIL" not in output and "open" not in output, output
        walk.press("Edit")
        walk.chooses(refresh, "10s")
        walk.chooses(button("Last 15 minutes"), "Last 30 minutes")
        walk.press("Save dashboard", "Update default time range", "Update default refresh value")
        walk.explains("/var/lib/grafana", "up -d", "ok")
