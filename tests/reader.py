"""The reader of the README: types its commands, writes its blocks into my-stack, and clicks in a browser.

A test that follows the text names each word that it uses: a bold word or a piece of code. The word must be in the text
of the section, and then on the page or in the terminal. At the end of a section, each of its words must have been used.
"""

import contextlib
import re
import shutil
import subprocess
import threading

import pytest
from PIL import Image
from playwright.sync_api import Error, sync_playwright

import my_stack
from lab import ENVIRONMENT, ROOT, Engine, ImageMissing, Lab, Model, end, fetch, image, start, until

PATIENCE = 15  # seconds for a word to appear on a page
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
# Bold words that structure the text; a bold word with a blank and a digit is a question: Think 1.
MARKS = re.compile(r"(Do|See|Think|Read|Answer|Start|Test|Ask)\b")


class Terminal:
    """A shell that stays, so that a folder or a variable of one command is there for the next."""

    def __init__(self, folder):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.shell = start("sh", cwd=folder, env=ENVIRONMENT, text=True, **pipes)

    def type(self, commands, seconds=120):
        """Runs the commands, and returns their output and the last exit code."""
        timer = threading.Timer(seconds, self.shell.kill)
        timer.start()
        self.shell.stdin.write(f"{{ {commands}\n}} </dev/null\necho \"end of commands $?\"\n")
        self.shell.stdin.flush()
        output = ""
        for line in self.shell.stdout:
            if found := re.match(r"end of commands (\d+)$", line):
                timer.cancel()
                return output, int(found[1])
            output += line
        raise AssertionError(f"{commands}: not done after {seconds} s; the output was\n{output}")

    def close(self):
        end(self.shell)


class Walk:
    """A terminal, a browser's page, my-stack, and the section of the text that is followed."""

    def __init__(self, page, root, pictures, patient):
        self.page, self.root, self.pictures, self.patient = page, root, pictures, patient
        self.text = "".join((root / name).read_text(encoding="utf-8") for name in ("README.md", "stack/extensions.md"))
        self.terminal = Terminal(root)
        self.model = Model(5000)
        self.blocks_written = 0

    @contextlib.contextmanager
    def section(self, title, file="README.md"):
        """A section of the text, up to the next heading. All of its words must be used."""
        text = (self.root / file).read_text(encoding="utf-8")
        found = re.search(rf"^##+ ([\d.]+ )?{re.escape(title)}( \(|$).*?(?=^##|\Z)", text, re.S | re.M)
        assert found, f"{file} has no section {title}"
        self.title, self.used = title, set()
        self.fences = re.findall(r"^```(\w+)\n(.*?)^```", found[0], re.S | re.M)
        prose = re.sub(r"^```.*?^```|^\|.*?$|^#.*?$", "", found[0], flags=re.S | re.M)
        self.prose = re.sub(r"</?code>", "`", prose).replace("\n", " ")
        bold = [word for path in re.findall(r"\*\*([^*]+)\*\*", self.prose) for word in path.split(" > ")]
        self.words = [word for word in bold if not MARKS.match(word)] + re.findall(r"`([^`]+)`", self.prose)
        # A word that is in a block, too, such as `ports:`, is used with the block.
        self.used.update(word for word in self.words if any(word in block for _, block in self.fences))
        try:
            yield self
        except Exception:
            self.page.screenshot(path=ROOT / "target/walk/failed.png")
            print("the page is in target/walk/failed.png")
            raise
        left = [word for word in dict.fromkeys(self.words) if word not in self.used]
        assert not left, f"{title}: the walk hasn't used these words of the text: {left}"

    def word(self, word):
        assert word in self.words, f"{self.title}: the text has no '{word}'"
        self.used.add(word)
        return word

    def close(self):
        self.model.stop()
        self.terminal.close()

    def explains(self, *words):
        """Words that only explain: the walk can't see them."""
        for word in words:
            self.word(word)

    def link(self, url):
        """A link of the section."""
        assert f"<{url}>" in self.prose, f"{self.title}: the text has no link {url}"
        return url

    def fence(self, language):
        """The next block in that language, such as sh."""
        number = next((i for i, (name, _) in enumerate(self.fences) if name == language), None)
        assert number is not None, f"{self.title}: the text has no further block {language}"
        return self.fences.pop(number)[1].strip()

    def type(self, command=None, seconds=120, code=0):
        """Types a command of the text, by default its next block, and returns the output."""
        output, ended = self.terminal.type(self.word(command) if command else self.fence("sh"), seconds)
        assert ended == code or code is None, f"{self.title}: {command} ended with code {ended}:\n{output}"
        return output

    def write(self, count=1):
        """Writes the next blocks of the README into the files of my-stack."""
        self.blocks_written += count
        for name, text in my_stack.assemble(self.text, self.blocks_written).items():
            (self.root / "my-stack" / name).write_text(text)

    def run_model(self, command):
        """Starts the model as a command of the text says, in the place of the one before."""
        program = "cargo run --release"
        assert command.startswith(program), f"{self.title}: {command} doesn't start the model"
        self.model.start(*command.removeprefix(program).removeprefix(" --").split())

    def find(self, word, within=None):
        """The place on the page that a person would take for the word: the one that appeared last."""
        self.word(word)
        page = within or self.page
        kinds = [
            lambda: page.get_by_role("tab", name=word, exact=True),
            lambda: page.get_by_text(word, exact=True),
            lambda: page.get_by_role("button", name=word, exact=True),
            lambda: page.get_by_role("link", name=word, exact=True),
            lambda: page.get_by_label(word, exact=True),
            lambda: page.get_by_placeholder(word, exact=True),
            # A page may write it in capitals, or with more text behind it.
            lambda: page.get_by_text(re.compile(rf"^{re.escape(word)}(?!\w)", re.I)),
        ]

        def visible():
            for kind in kinds:
                for place in reversed(kind().all()):
                    # A menu for narrow windows waits next to the page.
                    box = place.is_visible() and place.bounding_box()
                    if box and 0 <= box["x"] < self.page.viewport_size["width"]:
                        return place
            return None

        return until(PATIENCE, f"{self.title}: '{word}' isn't on the page {self.page.url}", visible)

    def press(self, *words, within=None):
        for word in words:
            place = self.find(word, within)
            try:
                place.click(timeout=2000)
            except Error:
                # The input of a switch covers its words.
                place.click(force=True)
            self.page.wait_for_timeout(600)

    def fill(self, word, value, within=None):
        """Types into the field with that name."""
        self.word(word)
        page = within or self.page
        # A star may follow the name, or a description without a blank.
        name = re.compile(rf"^{re.escape(word)}( \*)?([A-Z]|$)")
        labelled = page.get_by_label(name).locator("visible=true")
        named = page.get_by_text(name).locator("visible=true").last
        # Some names aren't connected to their field; the field is the next one.
        following = named.locator("xpath=following::*[self::input or self::textarea][1]")
        field = labelled.last if labelled.count() else following
        try:
            field.fill(value, timeout=5000)
            field.press("Tab")
            self.page.wait_for_timeout(500)
        except Error as error:
            raise AssertionError(f"{self.title}: there is no field '{word}'") from error

    def sees(self, text, seconds=PATIENCE, reload=False):
        """Waits until the page shows a text that the README promises."""
        self.word(text)

        def shown():
            if reload:
                self.page.reload()
                self.page.wait_for_timeout(1000)
            return text in self.page.inner_text("body")

        until(seconds, f"{self.title}: the page {self.page.url} doesn't show '{text}'", shown)

    def matches(self, pattern):
        """Waits until the text of the page matches the pattern."""
        shown = lambda: re.search(pattern, self.page.inner_text("body"))
        until(PATIENCE, f"{self.title}: the page {self.page.url} doesn't show {pattern}", shown)

    def query(self, expression, within=None):
        """Types into the field for PromQL or LogQL; inserted, because editors add brackets to typed text."""
        (within or self.page).locator(".monaco-editor, .cm-content").first.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(expression)
        self.page.wait_for_timeout(500)
        # The list of proposals would take the next key.
        self.page.keyboard.press("Escape")

    def picture(self, name, left=0, top=0, width=None, height=None):
        """Takes a picture for the text, in 256 colours, because such pages have few."""
        size = self.page.viewport_size
        clip = {"x": left, "y": top, "width": width or size["width"] - left, "height": height or size["height"] - top}
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(500)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, clip=clip, animations="disabled", caret="hide")
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


@contextlib.contextmanager
def browser_page(request):
    """A page of Chromium, and the folder for pictures."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not chromium:
        pytest.skip("Chromium is missing: install the package chromium")
    pictures = ROOT / ("stack/pictures" if request.config.option.pictures else "target/walk")
    pictures.mkdir(parents=True, exist_ok=True)
    # Chromium asks its maker's servers at each start, which is slow without the internet.
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        size = {"width": 1000, "height": 900}
        page = browser.new_context(color_scheme="light", locale="en-GB", viewport=size).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        yield page, pictures
        browser.close()


@contextlib.contextmanager
def second_laptop(name, request, *images):
    """A walk in a copy of the lab, with the README's own ports, on an engine and in a network of its own."""
    with Engine(name):
        for each in images:
            image(each)
        root = Lab(name, folder="modelmock", own_ports=False).root
        with browser_page(request) as (page, pictures):
            walk = Walk(page, root, pictures, patient=request.config.option.pictures)
            yield walk
            walk.close()


def needs_web_pages(url):
    if "<script" not in fetch(url):
        raise ImageMissing(f"the image behind {url} has no web pages")
