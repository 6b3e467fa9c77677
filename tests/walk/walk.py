"""Walks through the browser steps of the README's lab, by the words that it prints in bold.

Each word is looked up in the step's section of README.md, then on the page: where either lacks it the
walk fails, and so it does where what a step promises is not seen, or where a bold word was not used.
The stack must be up; the model is started and stopped here, as the lab says.

Usage: walk.py CHROMIUM PICTURES    (the folder that the pictures are put into)
"""

import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

from PIL import Image
from playwright.sync_api import Error, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS, ALERTMANAGER = "http://localhost:9090", "http://localhost:9093"
MAILPIT, GRAFANA = "http://localhost:8025", "http://localhost:3000"
MARKS = {"Do.", "See.", "Think.", "Read"}  # the README's own bold words
PATIENCE = 15  # seconds for a word to come up on a page


class Failed(Exception):
    """What was not as the README says."""


def get(url, password=None):
    """The JSON at the URL, asked past any proxy; with the password as Grafana's admin."""
    request = urllib.request.Request(url)
    if password:
        login = base64.b64encode(f"admin:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        return json.load(answer)


def until(seconds, what, attempt):
    """What the attempt gives, once it gives something."""
    end = time.monotonic() + seconds
    while True:
        result = attempt()
        if result:
            return result
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.5)


class Model:
    """The model, as it is started in the first terminal."""

    process = None

    def start(self, *arguments):
        self.stop()
        command = [ROOT / "target/release/modelmock", "--quiet", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(0.5)
        if self.process.poll() is not None:
            raise Failed("the model does not start: is port 5000 taken by another?")

    def start_logged(self):
        """As the README starts it where its lines go to Loki."""
        self.stop()
        command = ["sh", "-c", f'"$0" | tee -ai "{ROOT}/stack/logs/model.log"', ROOT / "target/release/modelmock"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        if self.process:
            # With what it started, as Ctrl+C does.
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait()
            self.process = None


class Walk:
    """A browser's page, and the section of the README that is walked through."""

    def __init__(self, page, pictures):
        self.page = page
        self.pictures = pictures
        self.step = ""
        self.words = []
        self.used = set()

    def section(self, title):
        """Goes on to a section; every bold word of the one before must have been used."""
        left = [word for word in self.words if word not in self.used]
        if left:
            raise Failed(f"{self.step}: the walk has not used these words of the README: {left}")
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        match = re.search(rf"^### [\d.]+ {title}.*?(?=^###? )", text, re.S | re.M)
        if not match:
            raise Failed(f"the README has no section {title}")
        self.step, self.text, self.used = title, match[0], set()
        bold = re.findall(r"\*\*([^*]+)\*\*", match[0])
        self.words = [word for path in bold for word in path.split(" > ") if word not in MARKS]

    def blocks(self, language):
        """The section's blocks of code in that language."""
        return re.findall(rf"^```{language}\n(.*?)\n```$", self.text, re.S | re.M)

    def word(self, word):
        if word not in self.words:
            raise Failed(f"{self.step}: '{word}' is not a bold word of that section")
        self.used.add(word)
        return word

    def find(self, word, within=None):
        """The place on the page that a person would take for the word: the one that came up last."""
        self.word(word)
        page = within or self.page
        kinds = [
            lambda: page.get_by_role("tab", name=word, exact=True),
            lambda: page.get_by_text(word, exact=True),
            lambda: page.get_by_role("button", name=word, exact=True),
            lambda: page.get_by_role("link", name=word, exact=True),
            lambda: page.get_by_label(word, exact=True),
            lambda: page.get_by_placeholder(word, exact=True),
            # A page may write it in capitals, or more behind it.
            lambda: page.get_by_text(re.compile(rf"^{re.escape(word)}(?!\w)", re.I)),
        ]

        def visible():
            for kind in kinds:
                places = kind().all()
                for place in reversed(places):
                    # A menu for narrow windows waits beside the page.
                    box = place.is_visible() and place.bounding_box()
                    if box and 0 <= box["x"] < self.page.viewport_size["width"]:
                        return place
            return None

        return until(PATIENCE, f"{self.step}: '{word}' is not on the page {self.page.url}", visible)

    def press(self, *words, within=None):
        for word in words:
            place = self.find(word, within)
            try:
                place.click(timeout=2000)
            except Error:
                # A switch's own input lies over its words.
                place.click(force=True)
            self.page.wait_for_timeout(800)

    def fill(self, word, value, within=None):
        """Types into the field of that name."""
        self.word(word)
        page = within or self.page
        # A description may follow the name without a blank.
        labelled = page.get_by_label(re.compile(rf"^{re.escape(word)}([A-Z]|$)")).locator("visible=true")
        named = page.get_by_text(word, exact=True).locator("visible=true").last
        # Some names belong to no field as far as the browser knows; the field is what comes next.
        field = labelled.last if labelled.count() else named.locator("xpath=following::*[self::input or self::textarea][1]")
        try:
            field.fill(value, timeout=5000)
            field.press("Tab")
            self.page.wait_for_timeout(800)
        except Error as error:
            raise Failed(f"{self.step}: there is no field '{word}'") from error

    def sees(self, text, seconds=PATIENCE):
        """Waits until the page shows the text."""
        shown = lambda: text in self.page.inner_text("body")
        until(seconds, f"{self.step}: the page does not show '{text}'", shown)

    def matches(self, pattern):
        """Waits until what the page shows has what the pattern says."""
        shown = lambda: re.search(pattern, self.page.inner_text("body"))
        until(PATIENCE, f"{self.step}: the page does not show {pattern}", shown)

    def query(self, expression):
        """Types into the field for PromQL, and runs it."""
        self.page.locator(".monaco-editor, .cm-content").first.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.type(expression)
        self.page.wait_for_timeout(500)
        # The list of proposals would take the next key.
        self.page.keyboard.press("Escape")

    def picture(self, name, left=0, top=0, width=None, height=None):
        """Takes the picture that the README shows, in 256 colours, as such pages have few."""
        size = self.page.viewport_size
        clip = {"x": left, "y": top, "width": width or size["width"] - left, "height": height or size["height"] - top}
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(500)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, clip=clip, animations="disabled", caret="hide")
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
        print(f"ok    {self.step}: {name}", flush=True)


def prometheus(walk, model):
    walk.section("Prometheus")
    page = walk.page
    page.set_viewport_size({"width": 1000, "height": 900})
    model.start()
    page.goto(PROMETHEUS)
    walk.press("Status", "Service discovery")
    walk.sees('instance="localhost:5000"')
    walk.picture("service-discovery", height=560)
    walk.press("Status", "Target health")
    walk.find("UP")
    walk.picture("target-up", height=300)
    model.stop()
    time.sleep(10)
    page.reload()
    walk.find("DOWN")
    walk.sees("connection refused")
    walk.picture("target-down", height=340)
    time.sleep(15)
    model.start()
    # Long enough for a graph with something to see on both sides of the gap.
    time.sleep(45)
    walk.press("Query")
    walk.query("model_result")
    walk.press("Execute", "Table")
    walk.matches(r'model_result\{instance="localhost:5000", job="model_mock"\}\s+(0(\.\d+)?|1)\s')
    walk.picture("query-table", height=310)
    walk.press("Graph")
    page.wait_for_selector(".uplot")
    page.goto(PROMETHEUS + "/query?g0.expr=model_result&g0.tab=graph&g0.range_input=5m")
    page.wait_for_selector(".uplot")
    walk.picture("query-graph", height=890)
    times = [float(time) for time, _ in get(PROMETHEUS + "/api/v1/query?query=model_result[5m]")["data"]["result"][0]["values"]]
    if max(later - earlier for earlier, later in zip(times, times[1:])) < 15:
        raise Failed("Prometheus: there is no gap where the model was away")


def grafana(walk, password):
    walk.section("Grafana")
    page = walk.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(GRAFANA)
    walk.fill("Email or username", "admin")
    walk.fill("Password", password)
    walk.press("Log in")
    walk.sees("Last 15 minutes")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(3000)
    walk.press("Connections", "View configured data sources", "Prometheus", "Test")
    walk.sees("Successfully queried the Prometheus API.")

    walk.press("Explore")
    walk.find("Builder")
    walk.press("Code")
    page.wait_for_selector(".monaco-editor")
    walk.query("model_result")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(2000)
    walk.picture("explore", left=300, top=40)

    walk.press("Dashboards")
    walk.press("New", within=page.locator("#pageContent"))
    walk.press("New dashboard", "Add visualization", "Prometheus")
    if not page.locator(".monaco-editor").first.is_visible():
        walk.press("Code")
    page.wait_for_selector(".monaco-editor")
    walk.query("model_result")
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(1000)
    walk.press("Time series")
    walk.find("Standard options")
    walk.fill("Min", "0")
    walk.fill("Max", "1")
    walk.find("Thresholds").scroll_into_view_if_needed()
    level = page.locator('input[type="number"][value="80"], input[value="80"]').first
    level.fill("0.9")
    level.press("Tab")
    walk.press("Show thresholds")
    page.keyboard.press("ArrowDown")
    walk.press("As lines")
    page.wait_for_timeout(1000)
    walk.picture("panel-editor", left=300, top=40)
    walk.press("Back to dashboard", "Last 6 hours", "Last 15 minutes")
    walk.find("Refresh")
    page.get_by_label("Auto refresh turned off. Choose refresh time interval").click()
    walk.press("5s", "Save dashboard")
    walk.fill("Title", "Mine")
    walk.press("Save")
    saved = until(10, "Grafana: the dashboard Mine is not saved", lambda: own_dashboard(password))
    defaults = saved["panels"][0]["fieldConfig"]["defaults"]
    seen = {
        "refresh": saved["refresh"],
        "time": saved["time"]["from"],
        "min": defaults.get("min"),
        "max": defaults.get("max"),
        "threshold": defaults["thresholds"]["steps"][-1],
        "shown": defaults["custom"]["thresholdsStyle"]["mode"],
    }
    red = {"color": "red", "value": 0.9}
    if seen != {"refresh": "5s", "time": "now-15m", "min": 0, "max": 1, "threshold": red, "shown": "line"}:
        raise Failed(f"Grafana: the dashboard Mine was saved with {seen}")
    page.wait_for_timeout(6000)
    walk.picture("own-dashboard", left=300, top=40, height=420)

    page.set_viewport_size({"width": 1280, "height": 1260})
    page.goto(GRAFANA + "/d/modelmock?kiosk")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(6000)
    walk.picture("dashboard", height=1130)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(GRAFANA + "/d/modelmock")
    walk.find("Edit")


def log(walk, model):
    """The section on Loki, where it runs; its queries are the README's."""
    walk.section("The log beside the metric")
    page = walk.page
    queries = iter(walk.blocks("logql"))
    page.set_viewport_size({"width": 1280, "height": 900})
    model.start_logged()
    page.goto(GRAFANA + "/explore")
    walk.press("Explore")
    choose_source(walk, "Loki")
    walk.find("Builder")
    walk.press("Code")
    time.sleep(60)
    ask_loki(page, next(queries))
    walk.sees("model_result 0.")
    walk.picture("log-lines", left=300, top=40)
    ask_loki(page, next(queries))
    walk.matches(r"model_result 0\.9\d+")
    ask_loki(page, next(queries))
    page.wait_for_selector(".uplot")
    series = []
    for _ in range(2):
        ask_loki(page, next(queries))
        series.append(page.locator(".uplot").count())
    graph, quantile = next(queries), next(queries)
    ask_loki(page, quantile)
    page.wait_for_selector(".uplot")
    ask_loki(page, graph)
    page.wait_for_selector(".uplot")
    walk.press("Split")
    right = page.get_by_test_id("data-testid Explore").last
    choose_source(walk, "Prometheus", right)
    page.wait_for_timeout(1500)
    ask_loki(page, "model_result", right)
    for picker in page.get_by_test_id("data-testid TimePicker Open Button").all():
        picker.click()
        walk.press("Last 5 minutes")
    page.wait_for_timeout(3000)
    walk.picture("log-beside-metric", left=0, top=40)

    walk.press("Dashboards", "Model in production")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(6000)
    over = page.locator(".uplot .u-over").first
    box = over.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 120, box["y"] + box["height"] / 2)
    walk.press("The log at this moment")
    walk.matches(r"model_result (0\.\d+|1)")
    page.get_by_text("model_result").first.click()
    walk.press("The metric at this moment")
    page.wait_for_selector(".uplot")


def choose_source(walk, name, within=None):
    """Picks a data source at the top of Explore."""
    page = within or walk.page
    page.get_by_test_id("data-testid Select a data source").first.click()
    walk.page.wait_for_timeout(500)
    walk.press(name)


def ask_loki(page, expression, within=None):
    """Puts a query in the place of the one that is there; pasted, as an editor adds brackets to what is typed."""
    place = within or page
    place.locator(".monaco-editor").first.click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(expression)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(2500)


def own_dashboard(password):
    for found in get(GRAFANA + "/api/search?type=dash-db&query=Mine", password):
        return get(GRAFANA + "/api/dashboards/uid/" + found["uid"], password)["dashboard"]
    return None


def mails(state="FIRING"):
    messages = get(MAILPIT + "/api/v1/messages?limit=500")["messages"]
    # Of an alert that is over, the mail says what it was.
    beginning = {"FIRING": "FIRING ModelResultHigh at localhost:5000 since ", "RESOLVED": "RESOLVED ModelResultHigh at localhost:5000, was: "}
    return [m["ID"] for m in messages if m["Subject"].startswith(beginning[state])]


def high_fires():
    alerts = get(PROMETHEUS + "/api/v1/alerts")["data"]["alerts"]
    return any(a["labels"]["alertname"] == "ModelResultHigh" and a["state"] == "firing" for a in alerts)


def alertmanager(walk, model):
    walk.section("Alertmanager")
    page = walk.page
    page.set_viewport_size({"width": 1000, "height": 860})
    model.start("--value", "0.5")
    until(60, "Alertmanager: the alert of before does not end", lambda: not high_fires())
    before = mails()
    model.start("--value", "0.95")
    until(30, "Alertmanager: the alert does not fire", high_fires)
    until(15, "Alertmanager: there is no mail", lambda: len(mails()) > len(before))
    page.goto(PROMETHEUS)
    walk.press("Alerts")
    walk.find("FIRING (1)")
    page.get_by_text("ModelResultHigh", exact=True).first.click()
    walk.sees('instance="localhost:5000"')
    walk.picture("alert-firing", height=700)
    page.goto(ALERTMANAGER)
    walk.press("Expand all groups")
    walk.sees('severity="warning"')
    walk.picture("alertmanager", height=500)
    page.goto(MAILPIT)
    page.get_by_text("FIRING ModelResultHigh").first.click()
    walk.matches(r"FIRING ModelResultHigh at localhost:5000 since [\d:]+ UTC: the result of the model is 0\.95, above 0\.9")
    walk.picture("mail", height=480)

    page.goto(ALERTMANAGER)
    walk.sees("ModelResultHigh")
    walk.press("Silence")
    walk.fill("Duration", "10m")
    walk.fill("Creator", "me")
    walk.fill("Comment", "trying it out")
    page.wait_for_timeout(500)
    page.set_viewport_size({"width": 1000, "height": 1040})
    page.evaluate("scrollTo(0, 0)")
    walk.picture("silence")
    page.set_viewport_size({"width": 1000, "height": 860})
    walk.press("Create")
    page.goto(ALERTMANAGER)
    walk.press("Alerts")
    walk.sees("No alert groups found")
    walk.press("Silenced")
    walk.sees("ModelResultHigh")
    model.start("--value", "0.5")
    until(60, "Alertmanager: the alert does not end", lambda: not high_fires())
    before = mails()
    model.start("--value", "0.95")
    until(30, "Alertmanager: the alert does not fire again", high_fires)
    time.sleep(10)
    if len(mails()) > len(before):
        raise Failed("Alertmanager: a mail came in spite of the silence")
    walk.press("Silences", "Expire", "Confirm")
    resolved = len(mails("RESOLVED"))
    model.start()
    until(60, "Alertmanager: no mail that it is resolved came after the silence", lambda: len(mails("RESOLVED")) > resolved)
    print("ok    Alertmanager: no mail while it is silenced, and one after it", flush=True)


def main():
    chromium, pictures = sys.argv[1], pathlib.Path(sys.argv[2])
    pictures.mkdir(parents=True, exist_ok=True)
    password = (ROOT / "stack/.env").read_text().split("GRAFANA_PASSWORD=")[1].split()[0]
    # What it would ask of its maker at each start is of no use here, and slow without the internet.
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update"]
    model = Model()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_context(color_scheme="light", locale="en-GB").new_page()
        page.set_default_timeout(PATIENCE * 1000)
        walk = Walk(page, pictures)
        try:
            prometheus(walk, model)
            grafana(walk, password)
            alertmanager(walk, model)
            if (ROOT / "stack/logs").exists():
                log(walk, model)
            walk.section("Logging")
        except (Failed, Error) as error:
            page.screenshot(path=ROOT / "target/walk/failed.png")
            print(f"FAIL  {walk.step}: {error}".splitlines()[0])
            print("      the page is in target/walk/failed.png")
            sys.exit(1)
        finally:
            model.stop()
            browser.close()


main()
