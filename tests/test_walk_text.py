"""Holds the lab's text against what it describes: queries, commands, flags, minutes, whole files, pictures."""

import itertools
import re
import shlex

import pytest

import my_stack
from lab import ENVIRONMENT, PORTS, ROOT, fetch, modelmock, run, until, vector

FILES = ("README.md", *(f"stack/{name}.md" for name in ("logging", "extensions", "README", "teaching", "store/README")))
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
README = PAGES["README.md"]
TEXT = "\n".join(PAGES.values())


def blocks(language):
    return "".join(re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)).splitlines()


CODE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXT) + blocks("sh")
# A query, unlike other code: a metric's name with labels, a function, or a comparison.
QUERY = re.compile(r"(up|model_\w+(\{.*)?( [>/-] .*)?|\w+( by \(\w+\))? ?\(.*\))( >.*)?$")
# A job, and a metric that the reader adds.
OTHERS = {"model_mock", "rate(model_results_high_total[5m])", "model_results_high_total"}
QUERIES = {code for code in CODE if QUERY.match(code)} | set(blocks("promql"))
COMMAND = re.compile(r"(\.\./)?scripts/\w+\.sh|cargo run|target/release/modelmock|docker \w+ ")


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("text")
    lab.up("prometheus")
    until(90, "samples", lambda: lab.ask("count_over_time(up[1m])") > 1)
    return lab


@pytest.mark.parametrize("query", sorted(QUERIES - OTHERS))
def test_promql(query, lab):
    until(60, f"an answer to {query}", lambda: vector(lab.prometheus, query.replace("> 0.5", ">= 0.5")))


def test_answers_of_the_types(lab):
    lab.model.start("--value", "0.95", "--interval", "0.5")
    rows = re.findall(r"^\| (gauge|counter|histogram|summary) \| [^|]* \| `([^`]+)` \| ([\d.]+)", TEXT, re.M)
    assert len(rows) == 4, rows
    for kind, query, answer in rows:
        expected = float(answer) * (10 if kind == "counter" else 1)
        close = lambda: abs(lab.ask(query.replace("1m", "20s")) - expected) < 0.05 * expected
        until(90, f"{query} is {answer}", close)


def test_names_of_metrics(lab):
    page = fetch(f"http://localhost:{lab.ports[5000]}/metrics")
    names = set(re.findall(r"\bmodel_\w+", TEXT)) - OTHERS
    assert [name for name in names if not re.search(rf"^{name}\b", page, re.M)] == []


@pytest.mark.parametrize("command", sorted(code for code in set(CODE) if COMMAND.match(code)))
def test_command(command):
    words = shlex.split(command.removeprefix("../").split("|")[0])
    if words[0] == "docker":
        words = [word for word in words if word not in ("-f", "stack/compose.yaml")]
        program = words[:3] if words[1] in ("compose", "volume", "network", "image") else words[:2]
        usage = run(*program, "--help", env=ENVIRONMENT)
        assert f"Usage:  {' '.join(program)}" in usage, f"Docker doesn't know {command}"
        # Behind the service or the image begins another command.
        words = list(itertools.takewhile(lambda word: "prometheus" not in word and "$(" not in word, words))
    elif words[0].startswith("scripts/"):
        usage = run(ROOT / words[0], "-h")
        known = r"-.*|prometheus|alertmanager|mailpit|grafana|logging|exporter|store|\d+|check|files|up|down|thanos"
        known += "|(linux|windows)[-/].*|hand-ins.*|NUMBER"
        assert [word for word in words[1:] if not re.fullmatch(known, word)] == []
    else:
        usage = "--release " + run(modelmock(), "--help")
    flags = [word.split("=")[0] for word in words if re.match("--?[a-z]", word)]
    assert [flag for flag in flags if not re.search(rf"(^|[\s,[|(]){flag}\b", usage)] == []


def test_minutes():
    minutes = {number: int(count) for number, count in re.findall(r"^### (5\.\d) .*\((\d+) minutes\)$", README, re.M)}
    lab = sum(minutes[number] for number in ("5.0", "5.1", "5.2", "5.3", "5.4", "5.5", "5.8"))
    optional = sum(map(int, re.findall(r"\*\*Do\. If you have time \((\d+) minutes\):", README))) + minutes["5.5"]
    assert re.findall(r"takes? (\d+) minutes", README) == [str(lab), str(lab), str(optional)]
    assert lab - optional == 120, "without the optional steps it takes two hours"
    parts = dict(re.findall(r"\[(.*?)\]\(.*?\)(?: \||,) (\d+)", PAGES["stack/extensions.md"], re.M))
    assert sum(map(int, parts.values())) - int(parts["The finished stack"]) == minutes["5.7"]
    plan = re.findall(r"^\| (\d+) \| (\d+|–) \|", PAGES["stack/teaching.md"], re.M)
    assert [sum(int(row[column]) for row in plan if row[column] != "–") for column in (0, 1)] == [180, 120]


def test_messages_variables_and_ports():
    files = [file for pattern in ("scripts/*.sh", "src/*.rs") for file in ROOT.glob(pattern)]
    program = "\n".join(file.read_text() for file in files).replace("$1 is here", "modelmock is here")
    shown = "…".join(re.findall(r"^\| `(?:FAIL  )?([^`]+)`", PAGES["stack/README.md"], re.M)).split("…")
    shown += re.findall(r"\b[A-Z]+_[A-Z_]+=", TEXT)
    assert [words for words in shown if words.strip(" =").split(" 127.")[0] not in program] == []
    table = " ".join(re.findall(r"^\| ([\d, ]+) \| ", PAGES["stack/README.md"], re.M))
    assert set(re.findall(r"\d+", table)) == {str(port) for port in PORTS[:11]} - {"5001", "5002"}
    assert set(re.findall(r":(\d{4,5})\b", TEXT)) <= {"5117", *map(str, PORTS)}
    lines = re.split("…|`, `|\n", "\n".join(re.findall(r"^\| `(.*)` \| ", PAGES["stack/logging.md"], re.M)))
    assert [line for line in lines if line not in (ROOT / "stack/fluent-bit/fluent-bit.yml").read_text()] == []


def test_whole_files():
    whole = re.findall(r"at this point</summary>\n\n```yaml\n(.*?)^```", README, re.M | re.S)
    steps = [my_stack.assemble(README, count)["compose.yaml"] for count in range(1, 15)]
    assert len(whole) == 3 and set(whole) <= set(steps) and whole[-1] == steps[-1]


def test_pictures():
    """Each has a description, and is wide but small."""
    shown = re.findall(r'<img src="(?:stack/)?pictures/([\w-]+)\.png" width="\d+" alt="[^"]{40,}">', TEXT)
    walks = "".join(file.read_text() for file in ROOT.glob("tests/test_walk*.py"))
    pictures = {file.stem: file.read_bytes() for file in ROOT.glob("stack/pictures/*.png")}
    assert set(shown) == set(re.findall(r'picture\("([\w-]+)"', walks)) == set(pictures)
    assert all(int.from_bytes(picture[16:20], "big") >= 600 for picture in pictures.values())
    assert sum(map(len, pictures.values())) <= 1.2 * 1024 * 1024
