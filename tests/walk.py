"""A student who follows the lab: types its commands, writes its blocks into my-stack, and clicks in a browser.

A test that follows a page names each word that it uses: a bold word or a piece of code. The word must be in the text of
the page, and then in the browser or the terminal. At the end of the page, each of its words must have been used.
"""

import contextlib
import re
import shutil

import pytest
from PIL import Image
from playwright.sync_api import Error, sync_playwright

import my_stack
from engine import Engine
from lab import ROOT, Lab, Model, fetch, require_image, run, until

PATIENCE = 60  # seconds for something to appear
# Bold words that structure the text; a bold word with a blank and a digit is a question: Think 1.
MARKS = re.compile(r"(Do|See|Think|Read|Answer|Goal|Check|Next)\b")


class Walk:
    """A shell, a browser's page, my-stack, and the page of the lab that is followed."""

    def __init__(self, page, root, pictures, patient):
        self.page, self.root, self.pictures, self.patient = page, root, pictures, patient
        self.text = my_stack.core_text(root)
        # The folder and the variables of the commands so far.
        self.state = root / "target/state"
        self.state.touch()
        self.model = Model(5000)
        self.blocks_written = 0

    @contextlib.contextmanager
    def follows(self, name):
        """A page of the lab, such as drift.md. All of its words must be used."""
        text = (self.root / "stack/lab" / name).read_text(encoding="utf-8")
        if not name[0].isdigit():
            # Each optional page goes on with the stack of pages 1 to 6.
            self.text = my_stack.core_text(self.root) + text
        self.title, self.used = name, set()
        self.fences = re.findall(r"^```(\w+)\n(.*?)^```", text, re.S | re.M)
        # The list of criteria is the subject of another test.
        prose = re.sub(r"^```.*?^```|^\|.*?$|^#.*?$|^- \[ \].*?\n\n", "", text, flags=re.S | re.M)
        self.prose = re.sub(r"</?code>", "`", prose).replace("\n", " ")
        bold = [word for path in re.findall(r"\*\*([^*]+)\*\*", self.prose) for word in path.split(" > ")]
        self.words = [word for word in bold if not MARKS.match(word)] + re.findall(r"`([^`]+)`", self.prose)
        # A word that is in a block, too, such as `ports:`, is used with the block.
        self.used.update(word for word in self.words if any(word in block for _, block in self.fences))
        try:
            yield
        except BaseException:
            self.page.screenshot(path=ROOT / "target/walk/failed.png")
            print("the page is in target/walk/failed.png")
            raise
        left = [word for word in dict.fromkeys(self.words) if word not in self.used]
        assert not left, f"{self.title}: the walk hasn't used these words of the text: {left}"

    def word(self, word):
        assert word in self.words, f"{self.title}: the text lacks '{word}'"
        self.used.add(word)
        return word

    def explains(self, *words):
        """Words that only explain: the walk can't see them."""
        for word in words:
            self.word(word)

    def fence(self, language):
        """The next block in that language, such as sh."""
        number = next((i for i, (name, _) in enumerate(self.fences) if name == language), None)
        assert number is not None, f"{self.title}: the text lacks another block {language}"
        return self.fences.pop(number)[1].strip()

    def type(self, command=None, code=0):
        """Types a command of the text, by default its next block, and returns the output."""
        return self.shell(self.word(command) if command else self.fence("sh"), code)

    def shell(self, command, code=0):
        """Runs the command in the folder and with the variables of the one before."""
        keep = f"keep=$?; {{ export -p; echo \"cd '$PWD'\"; }} >'{self.state}'; exit $keep"
        return run("sh", "-c", f"set -a; . '{self.state}'; {command}\n{keep}", cwd=self.root, code=code)

    def write(self, count=1):
        """Writes the next blocks of the text into the files of my-stack."""
        self.blocks_written += count
        for name, text in my_stack.assemble(self.text, self.blocks_written).items():
            (self.root / "my-stack" / name).write_text(text)

    def write_up_to(self, last):
        """Writes the blocks of the lab's pages up to the last one."""
        self.write(len(my_stack.BLOCK.findall(my_stack.core_text(self.root, last))) - self.blocks_written)

    def run_model(self, command):
        """Starts the model as a command of the text says, in the place of the one before."""
        program = "cargo run --release"
        assert command.startswith(program), f"{self.title}: {command} doesn't start the model"
        self.model.start(*command.removeprefix(program).removeprefix(" --").split())

    def link(self, url):
        assert f"<{url}>" in self.prose, f"{self.title}: the text lacks the link {url}"
        return url

    def opens(self, url):
        """Opens a link of the page as soon as the program answers."""
        until(90, self.link(url), lambda: fetch(url))
        self.page.goto(url)

    def logs_in(self, password):
        """Logs in to Grafana on its first page."""
        self.page.get_by_label("Email or username").fill("admin")
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def find(self, word, within=None):
        """The place on the page that a person would take for the word: the one that appeared last."""
        self.word(word)
        page = within or self.page
        kinds = [page.get_by_role("tab", name=word, exact=True), page.get_by_text(word, exact=True)]
        kinds += [page.get_by_role(role, name=word, exact=True) for role in ("button", "link")]
        kinds += [page.get_by_label(word, exact=True), page.get_by_placeholder(word, exact=True)]
        # A page may write it in capitals, or with more text behind it.
        kinds.append(page.get_by_text(re.compile(rf"^{re.escape(word)}(?!\w)", re.I)))

        def visible():
            for place in (place for kind in kinds for place in reversed(kind.all())):
                # A menu for narrow windows waits next to the page.
                box = place.is_visible() and place.bounding_box(timeout=2000)
                if box and 0 <= box["x"] < self.page.viewport_size["width"]:
                    return place
            return None

        return self.until(f"the word '{word}'", visible)

    def until(self, what, attempt, seconds=PATIENCE):
        """Waits, although parts of the page come and go: a refresh closes a list, for example."""

        def tried():
            with contextlib.suppress(Error):
                return attempt()

        return until(seconds, f"{self.title}: {what} on the page {self.page.url}", tried)

    def click(self, *places):
        """Clicks one place after the other, and begins again if one has gone."""

        def clicked():
            for place in places:
                found = place()
                is_covered = False
                try:
                    found.click(timeout=2000, trial=True)
                except Error:
                    # As the input of a switch covers its words.
                    is_covered = True
                # On a busy machine, a click that has worked may end late, and a second one would find another page.
                found.click(timeout=10000, force=is_covered)
                # A menu moves while it opens.
                self.page.wait_for_timeout(500)
            return True

        self.until("the click", clicked)

    def press(self, *words, within=None):
        for word in words:
            self.click(lambda: self.find(word, within))

    def chooses(self, opener, entry):
        """Opens a list and chooses from it."""
        self.click(lambda: opener, lambda: self.page.get_by_text(entry, exact=True).locator("visible=true").last)

    def fill(self, word, value):
        """Types into the field with that name."""
        self.word(word)
        # A star may follow the name, or a description without a blank.
        name = re.compile(rf"^{re.escape(word)}( \*)?([A-Z]|$)")
        labelled = self.page.get_by_label(name).locator("visible=true")
        named = self.page.get_by_text(name).locator("visible=true").last
        self.until(f"the name '{word}'", lambda: labelled.count() or named.count())
        # Some names aren't connected to their field; the field is the next one.
        following = named.locator("xpath=following::*[self::input or self::textarea][1]")
        field = labelled.last if labelled.count() else following
        field.fill(value)
        field.press("Tab")
        self.page.wait_for_timeout(500)

    def sees(self, text):
        """Waits until the browser shows a text that the lab promises."""
        self.matches(re.escape(self.word(text)))

    def matches(self, pattern):
        """Waits until the text of the page matches the pattern."""
        self.until(pattern, lambda: re.search(pattern, self.page.inner_text("body")))

    def query(self, expression, within=None, key="Shift+Enter"):
        """Runs PromQL or LogQL; inserted, because editors add brackets to typed text."""
        (within or self.page).locator(".monaco-editor, .cm-content").locator("visible=true").first.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(expression)
        # The list of proposals would take the next key.
        self.page.wait_for_timeout(500)
        self.page.keyboard.press("Escape")
        self.page.keyboard.press(key)

    def picture(self, name, left=0, top=0, height=None):
        """Takes a picture for the text, in 256 colours, because such pages have few."""
        size = self.page.viewport_size
        clip = {"x": left, "y": top, "width": size["width"] - left, "height": height or size["height"] - top}
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(1000)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, clip=clip, animations="disabled", caret="hide")
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


@contextlib.contextmanager
def follow(request, root, width):
    """A walk in a copy of the lab, with a page of Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("Chromium is missing: install the package chromium")
    patient = request.config.option.pictures
    pictures = ROOT / ("stack/lab/pictures" if patient else "target/walk")
    pictures.mkdir(parents=True, exist_ok=True)
    # Chromium asks its maker's servers at each start, which is slow without the internet.
    options = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking".split()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options, timeout=120_000)
        size = {"width": width, "height": 900}
        page = browser.new_context(color_scheme="light", locale="en-GB", viewport=size).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        yield (walk := Walk(page, root, pictures, patient))
        walk.model.stop()
        browser.close()


@contextlib.contextmanager
def second_laptop(name, request, *images, width=1000):
    """A walk with the lab's own ports, on an engine and in a network of its own."""
    with Engine(name):
        for each in images:
            require_image(each)
        with follow(request, Lab(name, folder="modelmock", own_ports=False).root, width) as walk:
            yield walk
