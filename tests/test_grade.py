"""Thirty hand-ins of different quality, and what grade.sh says about them. They are made with hand-in.sh, without an
engine, and changed as students, forgers and the programs that collect files change them."""

import csv
import hashlib
import re
import shutil
import subprocess
import time

import pytest

from lab import ENVIRONMENT, ROOT, assert_one_line, modelmock, replace_file, run, start, terminate

HOUR = 720
START = 1795500000
AWKS = [awk for awk in ("mawk", "gawk --posix", "busybox awk", "original-awk", "awk") if shutil.which(awk.split()[0])]
CRITERIA_FILE = ROOT / "scripts/lib/grade/criteria.txt"
ANSWERS = """1. The container's own: each container has a network of its own, so localhost means itself there.
2. What lies in a named volume outlives its container; Prometheus lost its samples when we ran down -v, number {n}.
## 3
My student number is {n}, and my rule waits {n} seconds before it fires, because one high result is nothing.
"""
# The name of each criterion, its points, and the lines of check.sh, or a fact.
CRITERIA = [
    (name, points, re.findall("^  (.*)$", lines, re.M))
    for name, points, lines in re.findall(r"^([a-z]+) (\d) .*\n((?:  .*\n)+)", CRITERIA_FILE.read_text(), re.M)
]


def draw(flags, count):
    """The results that models with these flags draw, each as the list of its results."""
    common = ["--interval", "0.01", "--listen", "127.0.0.1:0"]
    models = [start(modelmock(), *common, *words, stdout=subprocess.PIPE, text=True) for words in flags]
    drawn = []
    for model in models:
        with model.stdout as lines:
            drawn.append([next(lines).split()[2] for _ in range(count + 1)][1:])
        terminate(model)
    return drawn


def signed(text):
    text = re.sub(r"^sum: .*\n", "", text, flags=re.M)
    return f"{text}sum: {hashlib.sha256(text.encode()).hexdigest()}\n"


def samples(results, began=START, every=5.0, first=1):
    return "".join(f"sample: {began + n * every:.3f} {first + n} {result}\n" for n, result in enumerate(results))


def set_fact(text, name, *values):
    lines = "".join(f"{name}: {value}\n" for value in values).replace("number: with: ", "with: ")
    text, count = re.subn(rf"^{name}: .*\n(?:{name}: .*\n)*", lambda _: lines, text, count=1, flags=re.M)
    assert count == 1, f"the hand-in lacks {name}"
    return text


def check_lines():
    """The lines of a check of the student's own stack in which all is ok."""
    yield "This checks your own stack, in my-stack/"
    for _, _, lines in CRITERIA:
        for line in lines:
            name, _, times = line.partition(" x ")
            yield from [f"ok    {name}: seen"] * int(times or 1) if name[0] != "@" else []


@pytest.fixture(scope="module")
def lab(make_lab):
    return make_lab("grade", own_ports=False)


@pytest.fixture(scope="module")
def base(lab):
    """The hand-in of number 7, made by hand-in.sh, as it would be on a laptop on which all works."""
    mine = lab.root / "my-stack"
    mine.mkdir()
    replace_file(mine / "answers.md", "ANSWERS\n")
    replace_file(
        mine / "compose.yaml", "services:\n  prometheus:\n    image: prom/prometheus\n    network_mode: host\n"
    )
    lab.run("hand-in", "7", env={"DOCKER_HOST": "unix:///nowhere"})
    text = (lab.root / "hand-in-7.txt").read_text()
    text = set_fact(text, "image", "prom/prometheus:v3 in my-stack")
    text = set_fact(text, "engine", "29.1 linux/amd64")
    text = set_fact(text, "check", *check_lines())
    text = set_fact(text, "minutes-scraped", 60)
    text = set_fact(text, "fired", "2 ModelResultHigh", "1 ModelMockDown")
    text = set_fact(text, "mails", "2 FIRING ModelResultHigh", "2 RESOLVED ModelResultHigh")
    text = set_fact(text, "silence", "2026-11-24T10:00:00.000Z by Ada: we know")
    return set_fact(
        text,
        "incident",
        "2026-11-24T11:00:00Z typo 1 200",
        "2026-11-24T12:00:00Z typo 0 90",
        "2026-11-24T12:30:00Z hang 2 300",
    )


@pytest.fixture(scope="module")
def make(base):
    """Makes the hand-in of a number, with these results, and with one change."""

    def make(number, results, text=base, answers=ANSWERS, partner=None, **facts):
        text = set_fact(text, "number", *([number, f"with: {partner}"] if partner else [number]))
        text = set_fact(text, "user", f"student{number}")
        text = text.replace("| ANSWERS\n", "".join(f"| {line}\n" for line in answers.format(n=number).splitlines()))
        for name, value in facts.items():
            text = set_fact(text, name.replace("_", "-"), *(value if isinstance(value, list) else [value]))
        return signed(
            re.sub(r"^sample: .*\n", "", text, flags=re.M).rpartition("sum: ")[0]
            + (results if isinstance(results, str) else samples(results))
        )

    return make


def grade(lab, texts, *flags, code=0, **named):
    """Runs grade.sh with these files, in a folder of their own, and returns its output."""
    folder = lab.root / "hand-ins"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return lab.run("grade", *flags, *(folder / name for name in texts), code=code, **named)


def rows(said):
    """The rows of a CSV by the name of the file, or of the student if there is none."""
    return {row["file"] or row["name"]: row for row in csv.DictReader(said.splitlines())}


def flags(said):
    return {name: row["look at"] for name, row in rows(said).items() if row["look at"]}


@pytest.fixture(scope="module")
def thirty(lab, make):
    """The hand-ins, and the flags that they should get; most of them get none."""
    numbers = [7, 41, 42, 43, 44, 45, *range(100, 122)]
    words = [["--seed", n] for n in numbers]
    words += [["--seed", "105", "--drift", "1.2"], ["--seed", "106", "--drift", "3"], []]
    *plain, drift, slow_drift, random = draw(words, HOUR)
    drawn = dict(zip(numbers, plain))
    constant = ["0.95"] * 60
    texts, expected = {}, {}

    def add(name, text, flag=""):
        texts[name] = text
        if flag:
            expected[name] = flag

    # Honest ones. All of them have results of --value at the same times, as on laptops of one name.
    for number in (45, 100, 101, 102, 103):
        add(
            f"hand-in-{number}.txt",
            make(number, samples(drawn[number], START + number * 7) + samples(constant, START + 9000)),
        )
    add("Ada Lovelace (1).txt", make(104, samples(drawn[104], first=1) + samples(constant, START + 9000)))
    # The homework on drift, alone and with runs without drift; and the page on the log, with a result each second.
    add("drift.txt", make(105, samples(drift, START + 20000)))
    add("drift-2.txt", make(106, samples(drawn[106], START + 30000) + samples(slow_drift[:300], START + 40000)))
    add("log.txt", make(107, samples(drawn[107], START + 50000) + samples(random[:100], START + 60000, every=1.0)))
    # Changed on the way: ends of lines, a mark at the beginning, no newline at the end.
    add("crlf.txt", make(108, drawn[108]).replace("\n", "\r\n"))
    add("bom.txt", "\ufeff" + make(109, drawn[109]))
    add("no-newline.txt", make(110, drawn[110]).rstrip("\n"))
    cyrillic = "1. Это собственный localhost контейнера номер {n}.\n2. Данные на томе остаются, а остальное теряется.\n"
    add("cyrillic.txt", make(111, drawn[111], answers=cyrillic))
    # A pair on one laptop that says so; two copies of one virtual machine that ran at the same time.
    add("pair-7.txt", make(112, samples(drawn[112], START + 1), user="shared", partner=113))
    add("pair-8.txt", make(113, samples(drawn[113], START + 8000), user="shared"))
    for number in (114, 115):
        add(f"clone-{number}.txt", make(number, samples(drawn[number], START + number / 10), user="student"))
    # With something to look at.
    add("edited.txt", make(116, drawn[116]).replace("times-down: ", "times-down: 1"), "edited")
    add("copy-of-100.txt", make(117, samples(drawn[100], START + 100 * 7)), "not-its-seed,same-run-as-100")
    expected["hand-in-100.txt"] = "same-run-as-117"
    add("other-seed.txt", make(118, drawn[119]), "not-its-seed")
    add("interval-1.txt", make(119, samples(drawn[119], START + 70000, every=1.0)), "too-fast")
    add("only-value.txt", make(120, samples(constant, START + 80000)), "only-value")
    add(
        "finished.txt",
        make(
            121,
            drawn[121],
            image="prom/prometheus:v3 in stack",
            check=["This checks the finished stack, in stack/", *list(check_lines())[1:]],
        ),
        "finished-stack",
    )
    add("short.txt", make(41, drawn[41][:200], minutes_scraped="16"), "short")
    add("huge-minutes.txt", make(42, drawn[42][:200], minutes_scraped="1e308"), "short")
    add("old-scripts.txt", make(43, drawn[43][:200], scripts="0" * 64), "other-scripts")
    add("no-answers.txt", make(44, drawn[44][:200], answers="1.\n2.\n"), "no-answers")
    add("seven.txt", make(7, samples(drawn[7], START + 90000)), "number-twice")
    add(
        "also-seven.txt",
        make(7, samples(drawn[7], START + 91234.5), user="other", answers="1. Yes {n}.\n"),
        "number-twice",
    )
    add("not-a-hand-in.txt", "hello\n", "not-a-hand-in")
    return texts, expected


def test_thirty_hand_ins_get_the_right_flags(lab, thirty, record_property):
    texts, expected = thirty
    before = time.monotonic()
    said = grade(lab, texts, "--csv", "--minutes", "60")
    record_property("measured", f"{len(texts)} hand-ins, graded in {time.monotonic() - before:.1f} s")
    assert flags(said) == expected
    assert len(rows(said)) == len(texts) == 30


@pytest.mark.parametrize("awk", AWKS)
def test_each_awk_gives_the_same_values(lab, thirty, tmp_path, awk):
    names = ["drift.txt", "crlf.txt", "cyrillic.txt", "log.txt", "edited.txt", "seven.txt", "also-seven.txt"]
    texts = {name: thirty[0][name] for name in names}
    (tmp_path / "awk").write_text(f'#!/bin/sh\nPATH={ENVIRONMENT["PATH"]} exec {awk} "$@"\n')
    (tmp_path / "awk").chmod(0o755)
    output = grade(lab, texts, "--csv", env={"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"})
    assert flags(output) == {name: flag for name, flag in thirty[1].items() if name in names}
    answers = grade(lab, texts, "--answers", env={"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"})
    assert "Это собственный" in answers and output == grade(lab, texts, "--csv")
    assert "drift.txt" in grade(lab, texts, env={"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"})


def test_the_table_is_sorted_by_number_and_names_the_files(lab, thirty):
    texts, _ = thirty
    chosen = {
        name: texts[name] for name in ("hand-in-100.txt", "seven.txt", "Ada Lovelace (1).txt", "not-a-hand-in.txt")
    }
    said = grade(lab, chosen)
    header, *lines = said.split("\n\n")[0].splitlines()
    assert header.split()[:4] == ["number", "written", "(UTC)", "points"] and header.endswith("look at")
    assert [line.split()[0] for line in lines] == ["7", "100", "104", "?"]
    assert "Ada Lovelace (1).txt" in lines[2] and "14 1111111112111--" in lines[2] and "100%" in lines[2]
    assert "Points of at most 14, " in said and "model prometheus scrape" in said
    assert lines[3].split()[-2:] == ["not-a-hand-in.txt", "not-a-hand-in"]


def test_numbers_are_compared_as_numbers(lab, make):
    texts = {
        name: make(number, ["0.5", "0.25"])
        for name, number in [
            ("a.txt", "123456789012345678"),
            ("b.txt", "123456789012345679"),
            ("c.txt", "9"),
            ("d.txt", "0010"),
            ("e.txt", "10"),
        ]
    }
    said = rows(grade(lab, texts, "--csv"))
    assert list(said) == ["c.txt", "d.txt", "e.txt", "a.txt", "b.txt"]
    assert [name for name, row in said.items() if "number-twice" in row["look at"]] == ["d.txt", "e.txt"]


@pytest.mark.parametrize("criterion, points, lines", [each for each in CRITERIA if each[2][0][0] != "@"])
def test_each_line_of_a_criterion_counts_once(lab, make, criterion, points, lines):
    every = list(check_lines())
    texts = {"all.txt": make(1, ["0.1", "0.2"], check=every)}
    for n, line in enumerate(lines):
        name = line.split(" x ")[0]
        one = f"ok    {name}: seen"
        without = [each for each in every if each != one] + [one] * (every.count(one) - 1)
        texts[f"less-{n}.txt"] = make(2 + n, ["0.1", "0.2"], check=without)
        texts[f"fail-{n}.txt"] = make(12 + n, ["0.1", "0.2"], check=[*every, f"FAIL  {name}: no"])
        texts[f"open-{n}.txt"] = make(22 + n, ["0.1", "0.2"], check=[*every, f"open  {name}: no"])
        texts[f"more-{n}.txt"] = make(32 + n, ["0.1", "0.2"], check=[*every, one, one])
    for name, row in rows(grade(lab, texts, "--csv")).items():
        met = name.startswith(("all", "more"))
        assert row[criterion] == (points if met else "0") and int(row["points"]) == 14 - (0 if met else int(points)), (
            name
        )


def test_facts_give_points(lab, make):
    facts = {
        "all": {},
        "mailed": {"mails": "1 RESOLVED ModelResultHigh"},
        "mailed-2": {"fired": "1 Other"},
        "resolved": {"mails": "1 FIRING ModelResultHigh"},
        "silenced": {"silence": "2026-11-24T10:00:00Z by Ada: "},
        "silenced-2": {"silence": "none"},
    }
    texts = {f"{name}.txt": make(n, ["0.1", "0.2"], **change) for n, (name, change) in enumerate(facts.items())}
    for name, row in rows(grade(lab, texts, "--csv")).items():
        lost = name.removesuffix(".txt").removesuffix("-2")
        assert [each for each in ("mailed", "silenced", "resolved") if row[each] == "0"] == [lost] * (lost != "all"), (
            name
        )
        # An incident that was solved twice counts once.
        assert row["incidents"] == "2" and row["answers"] == "3"


def test_a_spreadsheet_reads_the_values(lab, make, tmp_path):
    texts = {'=HYPERLINK("x"), "Ada".txt': make(1, ["0.1"]), "-1+1.txt": make(2, ["0.1"]), "@a,b.txt": make(3, ["0.1"])}
    replace_file(
        lab.root / "class.txt", "\ufeff1 +Ada Ünal\r\n2 =1+1\n3\t-Grace, Hopper\n04 Missing One\nnot a number\n"
    )
    said = grade(lab, texts, "--csv", "--class", lab.root / "class.txt")
    table = list(csv.reader(said.splitlines()))
    assert len({len(line) for line in table}) == 1 and table[0][0] == "file"
    assert not [cell for line in table for cell in line if cell[:1] in tuple("=+-@")]
    assert [line[0] for line in table[1:]] == ['\'=HYPERLINK("x"), "Ada".txt', "'-1+1.txt", "'@a,b.txt", ""]
    assert [line[2] for line in table[1:]] == ["'+Ada Ünal", "'=1+1", "'-Grace, Hopper", "Missing One"]
    assert table[4][1] == "4" and table[4][-1] == "missing"
    if not shutil.which("soffice"):
        pytest.skip("soffice is missing: install the package libreoffice-calc-nogui")
    replace_file(tmp_path / "points.csv", said)
    run(
        "soffice",
        f"-env:UserInstallation=file://{tmp_path}/profile",
        "--headless",
        "--convert-to",
        "html",
        "--outdir",
        tmp_path,
        tmp_path / "points.csv",
    )
    assert "Missing One" in (tmp_path / "points.html").read_text()


def test_a_class_and_a_time(lab, make):
    texts = {
        "a.txt": make(1, ["0.1"], written="2026-11-24T10:00:00Z", partner=2),
        "b.txt": make(5, ["0.1"], written="2026-11-24T11:00:01Z"),
    }
    replace_file(lab.root / "class.txt", "1 Ada\n2 Ben\n3 Cleo\n")
    said = rows(
        grade(lab, texts, "--csv", "--class", lab.root / "class.txt", "--due", "2026-11-24 12:00", env={"TZ": "UTC-1"})
    )
    assert said["a.txt"]["name"] == "Ada, Ben" and said["a.txt"]["with"] == "2"
    assert (
        said["b.txt"]["look at"].split(",")[1:] == ["late", "not-in-class"] and "late" not in said["a.txt"]["look at"]
    )
    assert [name for name, row in said.items() if row["look at"] == "missing"] == ["Cleo"]
    said = rows(grade(lab, texts, "--csv", "--due", "2026-11-24", env={"TZ": "UTC"}))
    assert not [row for row in said.values() if "late" in row["look at"]]
    said = rows(grade(lab, texts, "--csv", "--due", "2026-11-23", env={"TZ": "UTC"}))
    assert len([row for row in said.values() if "late" in row["look at"]]) == 2


# The tool of macOS: it takes seconds that the form doesn't name from the clock.
DATE_OF_MACOS = r"""#!/bin/sh
PATH=$REAL_PATH
case "$*" in
"-d "* | "-u -d "*) exit 1 ;;
"-j -f %Y-%m-%d %H:%M:%S "*) exec date -d "$4" "$5" ;;
"-j -f "*) exec date -d "$4:30" "$5" ;;
"-u -r "*) exec date -u -d "@$3" "$4" ;;
*) exec date "$@" ;;
esac
"""


@pytest.mark.parametrize("is_macos", [False, True])
def test_the_last_minute_of_a_day_is_in_time(lab, make, tmp_path, is_macos):
    written = {"day.txt": "2026-11-24T23:59:59Z", "next.txt": "2026-11-25T00:00:00Z", "noon.txt": "2026-11-24T12:00:01Z"}
    texts = {name: make(n, ["0.1"], written=time) for n, (name, time) in enumerate(written.items())}
    env = {"TZ": "UTC"}
    if is_macos:
        (tmp_path / "date").write_text(DATE_OF_MACOS)
        (tmp_path / "date").chmod(0o755)
        env |= {"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}", "REAL_PATH": ENVIRONMENT["PATH"]}
    for due, late in ("2026-11-24", ["next.txt"]), ("2026-11-24T12:00", list(texts)):
        said = rows(grade(lab, texts, "--csv", "--due", due, env=env))
        assert [name for name in texts if "late" in said[name]["look at"]] == late


def test_copies_are_flagged_and_the_labs_own_text_is_not(lab, make):
    own = "1. Student {n} is me, and I wrote these many words about it, as nobody else would do.\n"
    same = "2. In a container, localhost is the container itself, and the model listens on my laptop, not there.\n"
    third = "3. The volume keeps the samples; the container's own file system goes away with it, so I lost my graph.\n"
    page = max((lab.root / "stack/README.md").read_text().split("\n\n"), key=len).replace("\n", " ").replace("{", "")
    answers = {
        1: own + same + third,
        2: own + same.upper() + third.replace(",", " , "),
        3: own + same,
        4: own,
        5: f"1. {page}\n2. {page[20:]}\n",
        6: f"1. {page}\n2. {page[20:]}\n",
    }
    texts = {f"{n}.txt": make(n, ["0.1", "0.3"], answers=text) for n, text in answers.items()}
    computer = {"user": "shared", "host": "Linux laptop x86_64"}
    for n, began in [(11, 0), (12, 90000), (13, 200000)]:
        texts[f"{n}.txt"] = make(
            n,
            samples([f"0.{n}{k:03}" for k in range(100)], START + began),
            answers=own,
            **computer | ({"user": "me"} if n == 13 else {}),
        )
    found = {name: flag.split(",") for name, flag in flags(grade(lab, texts, "--csv")).items()}
    copies = {name: [flag for flag in flag if flag.startswith("same")] for name, flag in found.items()}
    assert {name: flag for name, flag in copies.items() if flag} == {
        "1.txt": ["same-answers-as-2"],
        "2.txt": ["same-answers-as-1"],
        "11.txt": ["same-computer-as-12"],
        "12.txt": ["same-computer-as-11"],
    }


def test_a_file_that_was_sent_twice_is_said_so(lab, make):
    text = make(7, [f"0.{k:04}" for k in range(1000, 1100)])
    said = flags(grade(lab, {"a/hand-in-7.txt": text, "b/hand-in-7.txt": text}, "--csv"))
    assert said["a/hand-in-7.txt"].endswith(
        "number-twice,same-run-as-7(b/hand-in-7.txt),same-answers-as-7(b/hand-in-7.txt)"
    )


def test_a_stack_that_is_the_finished_one_under_another_name(lab, make, base):
    finished = (lab.stack / "compose.yaml").read_text()
    quoted = "".join(f"| {line}\n" for line in finished.replace("compose", "Compose").splitlines())
    text = re.sub(r"(== my-stack/compose.yaml\n)(\|.*\n)+", lambda found: found[1] + quoted, base)
    assert "finished-stack" in flags(grade(lab, {"a.txt": make(1, ["0.1"], text=text)}, "--csv"))["a.txt"]


def test_answers_under_each_other(lab, make):
    answers = {
        1: "Some words first.\n1. One\n   1. nested\n   2. nested\n\n**2.** Zwei – später\n## Think 10\nten\n",
        2: "1) uno \033[31m\u202ered\n3: tres\n",
        3: "",
    }
    texts = {f"{n}.txt": make(n, ["0.1"], answers=text) for n, text in answers.items()}
    replace_file(lab.root / "class.txt", "1 Ada\n")
    said = grade(lab, texts, "--answers", "1", "--class", lab.root / "class.txt")
    assert said == (
        "==== Answer 1: 2 of 3\n\n== 1 Ada (1.txt)\n1. One\n   1. nested\n   2. nested\n\n"
        "== 2 (2.txt)\n1) uno [31mred\n\n== 3 (3.txt)\n-\n\n"
    )
    assert said == grade(lab, texts, "--answers", "01", "--class", lab.root / "class.txt")
    said = grade(lab, texts, "--answers")
    assert re.findall("^==== (.*)$", said, re.M) == [
        "Without a number: 1 of 3",
        "Answer 1: 2 of 3",
        "Answer 2: 1 of 3",
        "Answer 3: 1 of 3",
        "Answer 10: 1 of 3",
    ]
    assert "Zwei – später" in said and "ten" in said.split("Answer 10")[1]


def test_feedback_says_what_to_do_and_accuses_nobody(lab, make):
    todo = "FAIL  a data source answers model_result: none. Next: Connections > Data sources"
    kept = [line for line in check_lines() if "data source" not in line]
    texts = {
        "Ada_1_file/hand-in-1.txt": make(1, ["0.1", "0.2"], check=[*kept, todo, todo], answers="1.\n"),
        "Ben_2_file/hand-in-2.txt": make(2, ["0.3", "0.4"]) + "x",
        "Cleo_3_file/x.txt": "hello\n",
    }
    replace_file(lab.root / "class.txt", "1 Ada\n2 Ben\n")
    verdicts = "Ada_1_file/hand-in-1.txt: FAIL  rule: it fires: on a day without drift\n"
    verdicts += "Ada_1_file/hand-in-1.txt: ok    test: it passes\n"
    replace_file(lab.root / "verdicts.txt", verdicts)
    said = grade(
        lab,
        texts,
        "--csv",
        "--feedback",
        lab.root / "for students",
        "--class",
        lab.root / "class.txt",
        "--verdicts",
        lab.root / "verdicts.txt",
    )
    row = rows(said)["Ada_1_file/hand-in-1.txt"]
    assert (row["points"], row["max"], row["rule"], row["test"]) == ("15", "20", "0", "2")
    assert row["rule verdict"] == "FAIL: it fires: on a day without drift"
    text = (lab.root / "for students/Ada_1_file/hand-in-1-feedback.txt").read_text()
    assert text.startswith("Hand-in 1, Ada, written at 20") and "Points: 15 of 20, without" in text
    assert "  0 of 1  Grafana reads Prometheus\n" in text and text.count(todo) == 1
    assert "Your rule on drift: FAIL: it fires: on a day without drift\n" in text and "has no answers" in text
    ben = (lab.root / "for students/Ben_2_file/hand-in-2-feedback.txt").read_text()
    assert "edited" not in ben and "seed" not in ben and "Points: 14 of 20" in ben
    assert "isn't a hand-in" in (lab.root / "for students/Cleo_3_file/x-feedback.txt").read_text()
    # Paths that lead out of the current folder.
    paths = ["Ada_1_file/../Ada_1_file/hand-in-1.txt", "../hand-ins/Ben_2_file/hand-in-2.txt"]
    command = [lab.root / "scripts/grade.sh", "--feedback", lab.root / "for others"]
    run(*command, *paths, cwd=lab.root / "hand-ins", env=lab.env)
    assert len(list(lab.root.glob("for others/*/hand-in-?-feedback.txt"))) == 2
    # An error says what to do.
    said = grade(lab, texts, "--feedback", lab.root / "class.txt", code=1)
    assert "class.txt/Ada_1_file: choose a folder in which you may write" in said.splitlines()[-1]


def test_each_hand_in_gets_its_own_verdict(lab, make):
    names = ["hand-in-7.txt", "late/hand-in-7.txt", "late/hand-in-8.txt", "hand-in-9.txt"]
    texts = {name: make(n, ["0.1", "0.2"]) for n, name in enumerate(names, 7)}

    def verdicts(*lines):
        replace_file(lab.root / "verdicts.txt", "".join(f"{line}\n" for line in lines))
        said = rows(grade(lab, texts, "--csv", "--verdicts", lab.root / "verdicts.txt"))
        return [said[name]["rule verdict"].partition(":")[0] for name in names]

    own = ["hand-in-7.txt: FAIL  rule: no", "late/hand-in-7.txt: ok    rule: yes"]
    assert verdicts(*own) == ["FAIL", "ok", "", ""]
    # Names with more folders, or with fewer.
    assert verdicts(*own, "x/hand-in-9.txt: ok    rule: yes", "hand-in-8.txt: FAIL  rule: no") == ["FAIL", "ok", "FAIL", "ok"]
    # Without the folder, the name may be another one's.
    assert verdicts("x/hand-in-7.txt: ok    rule: yes") == ["", "", "", ""]


# An engine whose runs end with these statuses, one after the other.
DOCKER = r"""#!/bin/sh
case $1 in
version) echo 1.51 ;;
compose) echo 2.40.3 ;;
run)
	echo run >>"$RUNS"
	status=$(echo "$STATUSES" | cut -d ' ' -f "$(grep -c . "$RUNS")")
	[ "$status" != 125 ] || printf 'docker: no space left.\n\nRun docker run --help for more\n' >&2
	exit "$status"
	;;
esac
"""
NO_SPACE = "open  {}: Docker failed: no space left."
RULE_OK = "ok    rule: with seed 5, it fires within 20 minutes of each drift, and not on two days without"


@pytest.fixture
def short_days(lab):
    """Files with quiet days of an hour are made faster."""
    file = lab.root / "scripts/lib/grade/rule_test.awk"
    whole = file.read_text()
    replace_file(file, whole.replace("17280", "720"))
    yield
    replace_file(file, whole)


@pytest.mark.parametrize(
    "statuses, rule, test",
    [
        ("0 0 0 0 1", RULE_OK, "ok    test: it passes with the rule, and fails without it"),
        ("0 0 0 0 0", RULE_OK, "FAIL  test: it passes without the rule, too"),
        ("0 0 0 0 125", RULE_OK, NO_SPACE.format("test")),
        ("0 0 0 0 137", RULE_OK, "FAIL  test: promtool needs more than 120 s"),
        ("0 0 0 1", RULE_OK, "FAIL  test: it fails with the rule"),
        ("125 125", NO_SPACE.format("rule"), NO_SPACE.format("test")),
        ("1 125 125", NO_SPACE.format("rule"), NO_SPACE.format("test")),
        ("1 0 1 125 2", NO_SPACE.format("rule"), "open  test: promtool ended with status 2"),
        ("1 0 1 0 1 1", "FAIL  rule: it doesn't fire within 20 minutes of a drift: rise, split", "FAIL  test"),
        ("0 125 125", NO_SPACE.format("rule"), NO_SPACE.format("test")),
        ("0 0 1 137", "FAIL  rule: it fires on a day without drift", "FAIL  test: promtool needs more"),
    ],
)
def test_an_engine_that_fails_is_no_verdict(lab, short_days, tmp_path, statuses, rule, test):
    # On macOS, wc prints blanks before its number.
    for name, text in ("docker", DOCKER), ("wc", f"#!/bin/sh\nprintf '      '\nPATH={ENVIRONMENT['PATH']} exec wc \"$@\"\n"):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}", "RUNS": str(tmp_path / "runs"), "STATUSES": statuses}
    files = {
        "prometheus.yml": "rule_files: [rules.yml]\nscrape_configs: []\n",
        "rules.yml": "groups:\n- name: a\n  rules:\n  - alert: ModelResultDrift\n    expr: vector(1)\n",
        "test.yml": "rule_files: [rules.yml]\ntests:\n- alert_rule_test:\n  - alertname: ModelResultDrift\n",
    }
    files["old.yml"] = files["rules.yml"]
    text = "modelmock hand-in 1\n"
    for name, content in files.items():
        text += f"== my-stack/{name}\n" + "".join(f"| {line}\n" for line in content.splitlines())
    said = grade(lab, {"a.txt": text}, "--rule", "--seed", "5", env=env).splitlines()
    assert [line[: len(words)] for line, words in zip(said, (f"a.txt: {rule}", f"a.txt: {test}"))] == [
        f"a.txt: {rule}", f"a.txt: {test}"
    ], said


@pytest.mark.parametrize(
    "words, code, text",
    [
        (["--minutes", "x", "FILE"], 2, "--minutes takes a whole number, not 'x'"),
        (["--minutes"], 2, "--minutes takes a value"),
        (["--due", "tomorrow", "FILE"], 2, "--due takes YYYY-MM-DD or 'YYYY-MM-DD HH:MM', not 'tomorrow'"),
        (["--due", "2026-13-45", "FILE"], 2, "--due takes"),
        (["--seed", "7", "FILE"], 2, "--seed needs --rule"),
        (["--nonsense", "FILE"], 2, "unknown flag '--nonsense'"),
        ([], 2, "it takes the files of the hand-ins"),
        (["FILE", "--csv"], 2, "flags come before the files"),
        (["--class", "nowhere", "FILE"], 1, "cannot read nowhere: --class takes a file"),
        (["FILE", "no\033[31m\nwhere"], 1, "cannot read no[31m where: name the files"),
    ],
)
def test_wrong_usage_is_one_line(lab, words, code, text):
    replace_file(lab.root / "some.txt", "hello\n")
    said = lab.run("grade", *[lab.root / "some.txt" if word == "FILE" else word for word in words], code=code)
    assert_one_line(said)
    assert text in said


def test_flags_come_in_any_order(lab, make):
    texts = {"a.txt": make(1, ["0.1"], minutes_scraped="59")}
    for words in (["--minutes", "60", "--csv"], ["--csv", "--minutes", "60"], ["--csv", "--minutes", "60", "--"]):
        assert "short" in flags(grade(lab, texts, *words))["a.txt"]


def test_a_huge_file_takes_no_time(lab):
    before = time.monotonic()
    said = grade(lab, {"huge.txt": "modelmock hand-in 1\n" + "x" * 30_000_000, "empty.txt": ""}, "--csv")
    assert flags(said) == {"huge.txt": "too-large", "empty.txt": "empty"} and time.monotonic() - before < 30


def test_other_peoples_text_is_only_text(lab, make):
    evil = "$(touch hacked)`touch hacked`; touch hacked\033[31m\u202e"
    texts = {
        f"{evil.replace('/', '')}.txt": make(
            1, ["0.1"], user=evil, written=evil, incident=evil, image=f"{evil} in my-stack"
        )
    }
    for flag in ("--csv", "--minutes=", "--answers"):
        said = grade(lab, texts, *([flag] if flag != "--minutes=" else []))
        assert "\033" not in said and "\u202e" not in said
    grade(lab, texts, "--feedback", lab.root / "feedback")
    assert not [file for file in lab.root.rglob("hacked") if "hand-ins" not in str(file)]


def test_a_full_disk_is_said(lab, make):
    if not subprocess.run(["test", "-c", "/dev/full"]).returncode == 0:
        pytest.skip("/dev/full is missing: it is on Linux only")
    replace_file(lab.root / "some.txt", make(1, ["0.1"]))
    said = run(
        "sh", "-c", '"$0" "$1" >/dev/full', lab.root / "scripts/grade.sh", lab.root / "some.txt", code=1, env=lab.env
    )
    assert said.endswith("grade.sh: cannot write the output: is the disk full?\n")


def test_an_interruption_leaves_nothing(lab, make):
    replace_file(lab.root / "some.txt", make(1, samples(["0.1", "0.2"], first=1999)))
    for delay in (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        process = start(
            lab.root / "scripts/grade.sh",
            lab.root / "some.txt",
            env=lab.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        time.sleep(delay)
        terminate(process)
        process.communicate()
        assert not list(lab.root.glob("target/grade.*")), f"after {delay} s"
        models = run("ps", "-eo", "args").splitlines()
        assert not [line for line in models if str(lab.root) in line and "--interval 0.01" in line]
