"""Holds the lab's text against what it describes: queries, commands, flags, minutes, whole files, pictures."""

import itertools
import re
import shlex

import pytest

import my_stack
from lab import ENVIRONMENT, ROOT, fetch, modelmock, run, until, vector

FILES = ("README.md", "stack/logging.md", "stack/extensions.md")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
README = PAGES["README.md"]
TEXT = "\n".join(PAGES.values())
CODE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXT) + [
    line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()
]
# A metric's name with labels, a function, or a comparison: what is a query and no other code.
QUERY = re.compile(r"(up|model_\w+(\{.*)?( [>/-] .*)?|\w+( by \(\w+\))? ?\(.*\))( >.*)?$")
QUERIES = [code for code in CODE if QUERY.match(code)]
QUERIES += [line for block in re.findall(r"^```promql\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("text")
    lab.up("prometheus")
    until(30, "samples", lambda: lab.ask("count_over_time(up[1m])") > 1)
    return lab


@pytest.mark.parametrize("query", sorted(set(QUERIES) - {"model_mock", "rate(model_results_high_total[5m])"}))
def test_promql(query, lab):
    until(15, f"an answer to {query}", lambda: vector(lab.prometheus, query.replace("> 0.5", ">= 0.5")))


def test_answers_of_the_types(lab):
    lab.model.start("--value", "0.95", "--interval", "0.5")
    rows = re.findall(r"^\| (gauge|counter|histogram|summary) \| [^|]* \| `([^`]+)` \| ([\d.]+)", TEXT, re.M)
    assert len(rows) == 4, rows
    until(60, "a minute of results", lambda: lab.ask("count_over_time(model_result[30s]) > 5"))
    for kind, query, answer in rows:
        expected = float(answer) * (10 if kind == "counter" else 1)
        close = lambda: abs(lab.ask(query.replace("1m", "20s")) - expected) < 0.05 * expected
        until(40, f"{query} is {answer}", close)


def test_names_of_metrics(lab):
    page = fetch(f"http://localhost:{lab.ports[5000]}/metrics")
    # A job, and a metric that the reader adds.
    names = set(re.findall(r"\bmodel_\w+", TEXT)) - {"model_mock", "model_results_high_total"}
    assert [name for name in names if not re.search(rf"^{name}\b", page, re.M)] == []


def flags_of(command):
    """The program of a command, its flags, and the help that must know them."""
    words = shlex.split(command.split("|")[0].strip())
    flags = [word.split("=")[0] for word in words if word.startswith("-") and word not in ("--", "-")]
    return words, flags


@pytest.mark.parametrize("command", sorted({code for code in CODE if re.match(r"(\.\./)?scripts/\w+\.sh", code)}))
def test_script_and_its_arguments(command):
    words, flags = flags_of(command.removeprefix("../"))
    script = ROOT / words[0]
    assert script.exists(), f"the text names {words[0]}"
    usage = run(script, "-h")
    for flag in flags:
        assert flag in usage, f"{words[0]} has no flag {flag}"
    for word in words[1:]:
        known = "prometheus|alertmanager|mailpit|grafana|logging|exporter|store"
        assert word in flags or re.fullmatch(rf"{known}|\d+|check|files", word), f"{command}: {word}?"


STARTS = sorted({code for code in CODE if re.match("cargo run|target/release/modelmock", code)})


@pytest.mark.parametrize("command", STARTS)
def test_flags_of_the_model(command):
    _, flags = flags_of(command)
    usage = run(modelmock(), "--help")
    for flag in flags:
        assert flag == "--release" or f"  {flag} " in usage, f"modelmock has no flag {flag}"


@pytest.mark.parametrize("command", sorted({code for code in CODE if re.match(r"docker \w+ ", code)}))
def test_docker_command(command):
    words = shlex.split(command.split("|")[0])
    length = 3 if words[1] in ("compose", "volume", "network", "image") else 2
    usage = run(*words[:length], "--help", env=ENVIRONMENT)
    assert f"Usage:  {' '.join(words[:length])}" in usage, f"{command}: Docker doesn't know the command"
    # Behind the service or the image begins another command.
    options = itertools.takewhile(lambda word: "prometheus" not in word and "$(" not in word, words[length:])
    for flag in [word for word in options if word.startswith("-")]:
        assert re.search(rf"(^|[ ,]){flag}\b", usage, re.M), f"{' '.join(words[:length])} has no flag {flag}"


def test_minutes():
    minutes = {number: int(count) for number, count in re.findall(r"^### (5\.\d) .*\((\d+) minutes\)$", README, re.M)}
    lab = sum(minutes[number] for number in ("5.0", "5.1", "5.2", "5.3", "5.4", "5.5", "5.8"))
    optional = sum(map(int, re.findall(r"\*\*Do\. If you have time \((\d+) minutes\):", README))) + minutes["5.5"]
    assert f"take {lab} minutes" in README and f"they take {optional} minutes" in README
    assert lab - optional == 120, "without the optional steps it takes two hours"
    parts = dict(re.findall(r"^\| \[(.*?)\]\(.*?\) \| (\d+)", PAGES["stack/extensions.md"], re.M))
    assert sum(map(int, parts.values())) - int(parts["The finished stack"]) == minutes["5.7"]


def test_whole_files():
    whole = re.findall(r"at this point</summary>\n\n```yaml\n(.*?)^```", README, re.M | re.S)
    steps = [my_stack.assemble(README, count)["compose.yaml"] for count in range(1, 15)]
    assert len(whole) == 3
    for text in whole:
        assert text in steps, f"the blocks don't lead to this file:\n{text}"
    assert whole[-1] == steps[-1]


def test_pictures():
    shown = {name for page in PAGES.values() for name in re.findall(r'src="(?:stack/)?pictures/([\w-]+)\.png"', page)}
    walks = "".join(file.read_text() for file in ROOT.glob("tests/test_walk*.py"))
    taken = set(re.findall(r'picture\("([\w-]+)"', walks))
    there = {file.stem for file in ROOT.glob("stack/pictures/*.png")}
    assert shown == taken == there


def test_length():
    lines = README.splitlines()
    assert len(lines) <= 750
    prose = [line for page in PAGES.values() for line in page.splitlines() if not line.startswith(("|", "<"))]
    assert [line for line in prose if len(line) > 120] == []
