"""Walks through the browser steps of the README's lab, by the words that it prints in bold.

Each word is looked up in the step's section of README.md, then on the page: where either lacks it the walk
fails, and so it does where what a step promises is not seen, or where a bold word was not used. It saves
the dashboard "Mine". With --pictures it has the lab's own ports, and takes the README's pictures anew.
"""

import contextlib
import re
import shutil
import time
from urllib.error import HTTPError

import pytest
from PIL import Image
from playwright.sync_api import Error, sync_playwright

from lab import ROOT, ImageMissing, fetch, fetch_json, image, until

MARKS = {"Do.", "See.", "Think.", "Read"}  # the README's own bold words
PATIENCE = 15  # seconds for a word to come up on a page
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]


@pytest.fixture(scope="module")
def lab(make_lab, request):
    for name in ("prom/prometheus", "prom/alertmanager", "axllent/mailpit"):
        image(name)
    has_pages = False
    lab = make_lab(request.module.__name__, own_ports=not request.config.option.pictures)
    lab.up("prometheus", "alertmanager", "mailpit")
    with contextlib.suppress(HTTPError):
        has_pages = "<script" in fetch(f"{lab.prometheus}/")
    if not has_pages:
        raise ImageMissing("the image of Prometheus that is here has no web pages")
    until(30, "the target is up", lambda: lab.ask("up") == 1)
    return lab


@pytest.fixture(scope="module")
def walk(lab, request):
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None) or pytest.skip("there is no Chromium: install the package chromium")
    pictures = ROOT / ("stack/pictures" if request.config.option.pictures else "target/walk")
    pictures.mkdir(parents=True, exist_ok=True)
    # What it would ask of its maker at each start is of no use here, and slow without the internet.
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_context(color_scheme="light", locale="en-GB").new_page()
        page.set_default_timeout(PATIENCE * 1000)
        yield Walk(page, pictures, patient=request.config.option.pictures)
        browser.close()


class Walk:
    """A browser's page, and the section of the README that is walked through."""

    def __init__(self, page, pictures, patient):
        self.page, self.pictures, self.patient = page, pictures, patient

    @contextlib.contextmanager
    def section(self, title, width, height):
        """A section of the README, in a window of that size; at its end every bold word must have been used."""
        self.page.set_viewport_size({"width": width, "height": height})
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        match = re.search(rf"^### [\d.]+ {title}.*?(?=^###? )", text, re.S | re.M)
        assert match, f"the README has no section {title}"
        self.step, self.text, self.used = title, match[0], set()
        bold = re.findall(r"\*\*([^*]+)\*\*", match[0])
        self.words = [word for path in bold for word in path.split(" > ") if word not in MARKS]
        try:
            yield self.page
        except Exception:
            self.page.screenshot(path=ROOT / "target/walk/failed.png")
            print("the page is in target/walk/failed.png")
            raise
        left = [word for word in self.words if word not in self.used]
        assert not left, "the walk has not used these words of the README"

    def blocks(self, language):
        """What the section has in that language, a string each."""
        return re.findall(rf"^```{language}\n(.*?)\n```$", self.text, re.S | re.M)

    def word(self, word):
        assert word in self.words, f"{self.step}: '{word}' is not a bold word of that section"
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
            raise AssertionError(f"{self.step}: there is no field '{word}'") from error

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

    def explore(self, expression, within=None):
        """Runs a query in Grafana's Explore; pasted, as its editor adds brackets to what is typed."""
        (within or self.page).locator(".monaco-editor").first.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(expression)
        self.page.wait_for_timeout(500)
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_timeout(2500)

    def picture(self, name, left=0, top=0, width=None, height=None):
        """Takes the picture that the README shows, in 256 colours, as such pages have few."""
        size = self.page.viewport_size
        clip = {"x": left, "y": top, "width": width or size["width"] - left, "height": height or size["height"] - top}
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(500)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, clip=clip, animations="disabled", caret="hide")
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def test_prometheus(walk, lab):
    with walk.section("Prometheus", 1000, 900) as page:
        in_prometheus(walk, lab, page)


def in_prometheus(walk, lab, page):
    lab.model.start()
    page.goto(lab.prometheus)
    walk.press("Status", "Service discovery")
    walk.sees(f'instance="{lab.model.address}"')
    walk.picture("service-discovery", height=560)
    walk.press("Status", "Target health")
    walk.find("UP")
    walk.picture("target-up", height=300)
    lab.model.stop()
    time.sleep(10)
    page.reload()
    walk.find("DOWN")
    walk.sees("connection refused")
    walk.picture("target-down", height=340)
    time.sleep(15)
    lab.model.start()
    # Long enough for a graph with something to see on both sides of the gap.
    time.sleep(45 if walk.patient else 10)
    walk.press("Query")
    walk.query("model_result")
    walk.press("Execute", "Table")
    walk.matches(rf'model_result\{{instance="{lab.model.address}", job="model_mock"\}}\s+(0(\.\d+)?|1)\s')
    walk.picture("query-table", height=310)
    walk.press("Graph")
    page.wait_for_selector(".uplot")
    page.goto(lab.prometheus + "/query?g0.expr=model_result&g0.tab=graph&g0.range_input=5m")
    page.wait_for_selector(".uplot")
    walk.picture("query-graph", height=890)
    times = [float(time) for time, _ in fetch_json(lab.prometheus + "/api/v1/query?query=model_result[5m]")["data"]["result"][0]["values"]]
    assert max(later - earlier for earlier, later in zip(times, times[1:])) >= 15, "Prometheus: there is no gap where the model was away"


def test_grafana(walk, lab):
    lab.up("grafana")
    with walk.section("Grafana", 1280, 900) as page:
        in_grafana(walk, lab, page)
    # The dashboard that was made with the mouse is what the lab asks for.
    lab.run("check", "--own")


def in_grafana(walk, lab, page):
    password = lab.password()
    page.goto(lab.grafana)
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
    saved = until(10, "Grafana: the dashboard Mine is not saved", lambda: own_dashboard(lab))
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
    assert seen == {"refresh": "5s", "time": "now-15m", "min": 0, "max": 1, "threshold": red, "shown": "line"}
    page.wait_for_timeout(6000)
    walk.picture("own-dashboard", left=300, top=40, height=420)

    page.set_viewport_size({"width": 1280, "height": 1260})
    page.goto(lab.grafana + "/d/modelmock?kiosk")
    page.wait_for_selector(".uplot")
    page.wait_for_timeout(6000)
    walk.picture("dashboard", height=1130)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(lab.grafana + "/d/modelmock")
    walk.find("Edit")


def own_dashboard(lab):
    for found in fetch_json(lab.grafana + "/api/search?type=dash-db&query=Mine", password=lab.password()):
        return fetch_json(lab.grafana + "/api/dashboards/uid/" + found["uid"], password=lab.password())["dashboard"]
    return None
