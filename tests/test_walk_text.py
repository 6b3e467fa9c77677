"""Holds the lab's text against what it describes: queries, commands, flags, minutes, whole files, pictures."""

import itertools
import re
import shlex

import pytest

import my_stack
from lab import ENVIRONMENT, PORTS, ROOT, fetch, modelmock, needs_docker, run, until, vector

FILES = [ROOT / "README.md", *ROOT.glob("stack/**/*.md")]
PAGES = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
LAB = PAGES["stack/lab/README.md"]
CORE = my_stack.core_text(ROOT)
TEXT = "\n".join(PAGES.values())


def blocks(language):
    return "".join(re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)).splitlines()


CODE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXT) + blocks("sh")
# A query, unlike other code: a metric's name with labels, a function, or a comparison.
QUERY = re.compile(r"(up|model_\w+(\{.*)?( [>/-] .*)?|\w+( by \(\w+\))? ?\(.*\))( >.*)?$")
# A job, and a metric that the reader adds.
OTHERS = {"model_mock", "rate(model_results_high_total[5m])", "model_results_high_total"}
QUERIES = {code for code in CODE if QUERY.match(code)} | set(blocks("promql"))
# Another page's exporter, an alert, or a series that is missing.
WITHOUT_ANSWER = re.compile(r"\bnode_|ALERTS|^absent\(|> 0\.9")
COMMAND = re.compile(r"(\.\./)?scripts/\w+\.sh|cargo run|target/release/modelmock|docker \w+ ")


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("text")
    lab.up("prometheus")
    until(90, "samples", lambda: lab.ask("count_over_time(up[1m])") > 1)
    return lab


@pytest.mark.parametrize("query", sorted(QUERIES - OTHERS))
def test_promql(query, lab):
    here = query.replace("> 0.5", ">= 0.5").replace("localhost:5000", lab.model.address)
    answer = lambda: vector(lab.prometheus, here)
    if WITHOUT_ANSWER.search(query):
        # Prometheus refuses a query that it doesn't understand.
        answer()
    else:
        until(60, f"an answer to {query}", answer)


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
    # Recorded series have a colon before the metric.
    names = set(re.findall(r"(?<!:)\bmodel_\w+", TEXT)) - OTHERS
    assert [name for name in names if not re.search(rf"^{name}\b", page, re.M)] == []


@pytest.mark.parametrize("command", sorted(code for code in set(CODE) if COMMAND.match(code)))
def test_command(command):
    words = shlex.split(command.removeprefix("../").split("|")[0].rstrip("\\"))
    if words[0] == "docker":
        needs_docker()
        words = [word for word in words if word not in ("-f", "stack/compose.yaml", "ways.yaml")]
        program = words[:3] if words[1] in ("compose", "volume", "network", "image") else words[:2]
        usage = run(*program, "--help", env=ENVIRONMENT)
        assert f"Usage:  {' '.join(program)}" in usage, f"Docker doesn't know {command}"
        # Behind the service or the image begins another command.
        others = re.compile(r"prometheus|\$\(|^SERVICE$|^prom/|^empty$")
        words = list(itertools.takewhile(lambda word: not others.search(word), words))
    elif words[0].startswith("scripts/"):
        usage = run(ROOT / words[0], "-h")
        known = r"-.*|prometheus|alertmanager|mailpit|grafana|logging|machine|exporter|store|\d+|check|files|up|down"
        known += "|thanos|(linux|windows)[-/].*|hand-ins.*|NUMBER|NAME|start|hint|solve|end|mystery|fixed"
        known += r"|class\.txt|verdicts\.txt|feedback|>points\.csv|\d{4}-.*"
        assert [word for word in words[1:] if not re.fullmatch(known, word)] == []
    else:
        usage = "--release " + run(modelmock(), "--help")
    flags = [word.split("=")[0] for word in words if re.match("--?[a-z]", word)]
    assert [flag for flag in flags if not re.search(rf"(^|[\s,[|(]){flag}\b", usage)] == []


def test_minutes():
    minutes = {name: int(count) for name, count in re.findall(r"^\| \[.*?\]\((.*?)\) \| (\d+) \|", LAB, re.M)}
    for name, count in minutes.items():
        assert f"({count} minutes)" in PAGES[f"stack/lab/{name}"].split("\n\n")[1], name
    lab = sum(count for name, count in minutes.items() if name[0].isdigit())
    steps = map(int, re.findall(r"\*\*Do\. If you have time \((\d+) minutes\):", CORE))
    optional = sum(steps) + minutes["5-logging.md"]
    assert re.findall(r"takes? (\d+) minutes", LAB) == [str(lab), str(optional)]
    assert f"in {lab} minutes" in PAGES["README.md"]
    assert lab - optional == 120, "without the optional steps it takes two hours"
    plan = re.findall(r"^\| (\d+) \| (\d+|–) \|", PAGES["stack/lab/teaching.md"], re.M)
    assert [sum(int(row[column]) for row in plan if row[column] != "–") for column in (0, 1)] == [180, 120]


@pytest.mark.parametrize("name", my_stack.pages(ROOT))
def test_a_page_is_one_sitting(name):
    """It has a goal, its minutes, at most 220 lines, and says what comes next."""
    page = PAGES[f"stack/lab/{name}"]
    assert page.split("\n\n")[1].startswith("**Goal** (") and page.count("\n") <= 220
    assert "(messages.md" in page and page.rstrip().splitlines()[-1].startswith("**Next:** ")
    if name[0].isdigit():
        assert page.startswith(f"# {name[0]}. ") and f"[{page.splitlines()[0][2:]}]({name})" in LAB


def test_answers_have_numbers_in_the_order_of_the_pages():
    text = "".join(PAGES[f"stack/lab/{name}"] for name in my_stack.pages(ROOT))
    numbers = re.findall(r"<b>Think ?(\d*)\.", text)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_messages_variables_and_ports():
    files = [file for pattern in ("scripts/**/*.sh", "src/**/*.rs") for file in ROOT.glob(pattern)]
    program = "\n".join(file.read_text() for file in files).replace("$1 is here", "modelmock is here")
    table = PAGES["stack/README.md"].split("## Troubleshooting")[1].split("\n## ")[0]
    shown = "…".join(re.findall(r"^\| `(?:FAIL  )?([^`]+)`", table, re.M)).split("…")
    shown += re.findall(r"\b[A-Z]+_[A-Z_]+=", TEXT)
    assert [words for words in shown if words.strip(" =").split(" 127.")[0] not in program] == []
    table = " ".join(re.findall(r"^\| ([\d, ]+) \| ", PAGES["stack/README.md"], re.M))
    assert set(re.findall(r"\d+", table)) == {str(port) for port in PORTS[:12]} - {"5001", "5002"}
    assert set(re.findall(r":(\d{4,5})\b", TEXT)) <= {"5117", "9099", *map(str, PORTS)}
    rows = re.findall(r"^\| `(.*)` \| ", PAGES["stack/lab/log-and-metric.md"], re.M)
    lines = re.split("…|`, `|\n", "\n".join(rows))
    assert [line for line in lines if line not in (ROOT / "stack/fluent-bit/fluent-bit.yml").read_text()] == []


def test_whole_files():
    whole = re.findall(r"at this point</summary>\n\n```yaml\n(.*?)^```", CORE, re.M | re.S)
    steps = [my_stack.assemble(CORE, count)["compose.yaml"] for count in range(1, 15)]
    assert len(whole) == 3 and set(whole) <= set(steps) and whole[-1] == steps[-1]


def test_pictures():
    """Each has a description, and is wide but small."""
    shown = re.findall(r'<img src="(?:stack/)?(?:lab/)?pictures/([\w-]+)\.png" width="\d+" alt="[^"]{40,}">', TEXT)
    walks = "".join(file.read_text() for file in ROOT.glob("tests/test_walk*.py"))
    pictures = {file.stem: file.read_bytes() for file in ROOT.glob("stack/lab/pictures/*.png")}
    assert set(shown) == set(re.findall(r'picture\("([\w-]+)"', walks)) == set(pictures)
    assert all(int.from_bytes(picture[16:20], "big") >= 600 for picture in pictures.values())
    assert sum(map(len, pictures.values())) <= 1.2 * 1024 * 1024
