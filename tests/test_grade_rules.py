"""Rules on drift of hand-ins, as grade.sh --rule tries them with promtool.

Most tests use short quiet days, in a copy of the lab: promtool takes up to a minute for each day."""

import re
import shutil
import subprocess
import time

import pytest

from lab import ENVIRONMENT, ROOT, docker, edit, modelmock, replace_file, require_image, run, start, terminate, until

AWKS = [awk for awk in ("mawk", "gawk --posix", "busybox awk", "original-awk", "awk") if shutil.which(awk.split()[0])]
LIBRARY = ROOT / "scripts/lib/grade"
MEAN = """groups:
  - name: model
    rules:
      - alert: ModelResultDrift
        expr: >-
          rate(model_result_distribution_sum[10m]) / rate(model_result_distribution_count[10m]) > 0.6
          and increase(model_result_distribution_count[10m]) > 100
        for: 1m
"""
# The KS distance from evenly spread results, with a recording rule.
KS = (
    "groups:\n  - name: drift\n    rules:\n"
    + "".join(f'      - {{record: expected, labels: {{le: "0.{tenth}"}}, expr: 0.{tenth}}}\n' for tenth in range(1, 10))
    + """      - record: ks
        expr: >-
          max without (le) (abs(
            rate(model_result_distribution_bucket[10m])
            / ignoring (le) group_left rate(model_result_distribution_count[10m])
            - on (le) group_left expected))
      - alert: ModelResultDrift
        expr: ks > 0.19 and increase(model_result_distribution_count[10m]) > 100
        for: 1m
"""
)
RECORDED, ALERT = KS[: KS.index("      - alert")], KS[: KS.index("      - {record")] + KS[KS.index("      - alert") :]
TEST = """rule_files: [rules.yml]
evaluation_interval: 5s
tests:
  - interval: 5s
    input_series:
      - {series: 'model_result_distribution_bucket{instance="a", le="0.5"}', values: "0+5x240 1200+0x240"}
      - {series: 'model_result_distribution_count{instance="a"}', values: "0+10x480"}
    alert_rule_test:
      - {eval_time: 19m, alertname: ModelResultDrift, exp_alerts: []}
      - eval_time: 35m
        alertname: ModelResultDrift
        exp_alerts: [{exp_labels: {instance: a}}]
"""
RULE_OK = "ok    rule: with seed 5, it fires within 20 minutes of each drift, and not on two days without"
QUIET = "FAIL  rule: it fires on a day without drift"
TEST_OK = "ok    test: it passes with the rule, and fails without it"
NO_TEST = "FAIL  test: the hand-in lacks a unit test with ModelResultDrift"


@pytest.fixture(scope="module")
def lab(make_lab):
    """With quiet days of two hours."""
    require_image("prom/prometheus")
    lab = make_lab("rules", own_ports=False)
    edit(lab.root / "scripts/lib/grade/rule_test.awk", "17280", "1440")
    return lab


def hand_in(**files):
    """A hand-in with these files of my-stack, whose names have __ for a dot."""
    text = "modelmock hand-in 1\nnumber: 7\n"
    for name, content in files.items():
        text += f"== my-stack/{name.replace('__', '.')}\n" + "".join(f"| {line}\n" for line in content.splitlines())
    return text + "sample: 1795500000.000 1 0.5\n"


def try_rules(lab, texts, *words, **named):
    """The verdicts on each file: {name: [line, ...]}."""
    folder = lab.root / "rules-of-students"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    output = lab.run(
        "grade", "--rule", *(words or ["--seed", "5"]), *(folder / name for name in texts), **named
    )
    verdicts = {}
    for line in output.splitlines():
        name, _, verdict = line.partition(": ")
        verdicts.setdefault(name, []).append(verdict)
    return verdicts


def test_right_and_wrong_rules(lab, record_property):
    rise_only = "FAIL  rule: it doesn't fire within 20 minutes of a drift: narrow, split"
    texts = {
        "right.txt": (hand_in(rules__yml=KS, drift_test__yml=TEST), [RULE_OK, TEST_OK]),
        "again.txt": (hand_in(rules__yml=KS, drift_test__yml=TEST), [RULE_OK, TEST_OK]),
        "alone.yml": ("\ufeff" + KS.replace("\n", "\r\n"), [RULE_OK]),
        "quoted.yml": (KS.replace("- alert: ModelResultDrift", "- \"alert\": 'ModelResultDrift' # mine"), [RULE_OK]),
        "mean.txt": (hand_in(rules__yml=MEAN), [rise_only, NO_TEST]),
        "nervous.txt": (hand_in(rules__yml=KS.replace("0.19", "0.12")), [QUIET, NO_TEST]),
        "deaf.txt": (
            hand_in(rules__yml=KS.replace("0.19", "0.3")),
            ["FAIL  rule: it doesn't fire within 20 minutes of a drift: narrow, split", NO_TEST],
        ),
        # It fires late on a day only.
        "at-night.yml": (
            KS.replace("ks > 0.19 and", "vector(1) and on () vector(time()) > 7000 or ks > 0.19 and"),
            [QUIET],
        ),
        # Text that looks like promtool's verdict.
        "success.txt": (
            hand_in(
                rules__yml="groups:\n- name: SUCCESS\n  rules:\n  - alert: ModelResultDrift\n    expr: SUCCESS(1)\n"
            ),
            ["FAIL  rule: promtool doesn't accept it: ", NO_TEST],
        ),
        # promtool accepts the second file.
        "first-of-two.txt": (
            hand_in(
                rules__yml=ALERT.replace("for:", "fro:"),
                recorded__yml=RECORDED,
                prometheus__yml="rule_files: [rules.yml, recorded.yml]\n",
            ),
            ["FAIL  rule: promtool doesn't accept it: line ", NO_TEST],
        ),
        "twice.yml": (
            f"{MEAN}  - name: SUCCESS\n    rules: []\n  - name: SUCCESS\n    rules: []\n",
            ["FAIL  rule: promtool doesn't accept it"],
        ),
        "none.txt": (hand_in(rules__yml=RECORDED), ["FAIL  rule: the file lacks an alert ModelResultDrift", NO_TEST]),
        "comment.txt": (
            hand_in(rules__yml=RECORDED + "# - alert: ModelResultDrift\n"),
            ["FAIL  rule: the file lacks an alert ModelResultDrift", NO_TEST],
        ),
        "empty.txt": ("", ["FAIL  rule: the file lacks an alert ModelResultDrift"]),
        # A test that notices nothing, and one that is wrong.
        "lazy.txt": (
            hand_in(rules__yml=KS, a_test__yml=TEST[: TEST.index("      - eval_time: 35m")]),
            [RULE_OK, "FAIL  test: it passes without the rule, too"],
        ),
        "wrong.txt": (
            hand_in(rules__yml=KS, a_test__yml=TEST.replace("35m", "15m")),
            [RULE_OK, "FAIL  test: it fails with the rule: "],
        ),
    }
    before = time.monotonic()
    verdicts = try_rules(lab, {name: text for name, (text, _) in texts.items()})
    record_property("measured", f"{len(texts)} rules on short days, in {time.monotonic() - before:.0f} s")
    for name, (_, expected) in texts.items():
        assert [line[: len(start)] for line, start in zip(verdicts[name], expected)] == expected, name
        assert len(verdicts[name]) == len(expected)


def test_the_rule_is_taken_from_the_files_that_prometheus_loads(lab):
    config = "rule_files:\n  - /etc/prometheus/rules.yml # mine\n  - /etc/prometheus/recorded.yml\nscrape_configs: []\n"
    notes = "```yaml\n" + MEAN + "```\n"
    texts = {
        "old-copy.txt": (
            hand_in(rules__yml=KS, prometheus__yml=config, rules_old__yml=MEAN, answers__md=notes),
            RULE_OK,
        ),
        "two-files.txt": (
            hand_in(
                alert__yaml=ALERT, recorded__yml=RECORDED, prometheus__yml=config.replace("rules.yml", "alert.yaml")
            ),
            RULE_OK,
        ),
        "pattern.txt": (
            hand_in(rules__yml=ALERT, recorded__yml=RECORDED, prometheus__yml="rule_files: ['rules/*.yml']\n"),
            RULE_OK,
        ),
        "unknown.txt": (
            hand_in(a__yml=KS, b__yml=MEAN),
            "open  rule: several files have it, a.yml, b.yml: leave one of them in a copy",
        ),
        "in-notes.txt": (
            hand_in(answers__md=notes, notes__txt=notes),
            "FAIL  rule: the file lacks an alert ModelResultDrift",
        ),
        "path.txt": (
            hand_in(**{"../../../evil__yml": KS, "/evil__yml": KS}),
            "FAIL  rule: the file lacks an alert ModelResultDrift",
        ),
    }
    verdicts = try_rules(lab, {name: text for name, (text, _) in texts.items()})
    assert {name: lines[0] for name, lines in verdicts.items()} == {
        name: verdict for name, (_, verdict) in texts.items()
    }


@pytest.fixture
def short_of_time(lab):
    """With a limit of 2 s for promtool."""
    file = lab.root / "scripts/lib/grade/rules.sh"
    edit(file, "^max_seconds=.*", "max_seconds=2")
    yield
    edit(file, "^max_seconds=.*", "max_seconds=120")


def test_a_rule_without_end_is_ended(lab, short_of_time):
    endless = MEAN.replace(
        "> 0.6", "> 0.6 or max_over_time(max_over_time(rate(model_result_distribution_sum[10m])[1h:1s])[1h:1s])"
    )
    verdicts = try_rules(lab, {"endless.yml": endless})
    assert verdicts == {
        "endless.yml": ["FAIL  rule: promtool needs more than 2 s of processor time for it, or 512m of memory"]
    }


def test_without_a_number_each_run_has_other_results(lab):
    said = [try_rules(lab, {"none.yml": KS}, "--rule")["none.yml"][0] for _ in range(2)]
    seeds = [re.search("with seed ([0-9]+),", line)[1] for line in said]
    assert seeds[0] != seeds[1]


def test_an_interruption_ends_promtool(lab):
    replace_file(
        lab.root / "endless.yml",
        MEAN.replace("> 0.6", "> 0.6 or max_over_time(max_over_time(rate(model_result[10m])[1h:1s])[1h:1s])"),
    )
    process = start(lab.root / "scripts/grade.sh", "--rule", lab.root / "endless.yml", env=lab.env)
    mine = ["ps", "-aq", "--filter", f"label=modelmock.grade={process.pid}"]
    until(60, "promtool's container", lambda: docker(*mine))
    terminate(process)
    until(60, "its end", lambda: not docker(*mine))
    assert not list(lab.root.glob("target/grade.*"))


@pytest.fixture
def whole_days(lab):
    """With the real quiet days."""
    file = lab.root / "scripts/lib/grade/rule_test.awk"
    short = file.read_text()
    shutil.copy(LIBRARY / "rule_test.awk", file)
    yield
    replace_file(file, short)


def test_the_finished_stacks_rule_passes_on_whole_days(lab, whole_days, record_property):
    before = time.monotonic()
    verdicts = try_rules(lab, {"model.yml": (lab.stack / "prometheus/rules/model.yml").read_text()})
    record_property("measured", f"the finished stack's rule, in {time.monotonic() - before:.0f} s")
    assert verdicts == {"model.yml": [RULE_OK]}


def test_a_rule_that_fires_after_hours_fails(lab, whole_days):
    late = KS.replace("ks > 0.19 and", "vector(1) and on () vector(time()) > 80000 or ks > 0.19 and")
    assert try_rules(lab, {"late.yml": late}) == {"late.yml": [QUIET]}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The tests of some seeds, by each awk."""
    made = {}
    for awk in AWKS:
        for seed in ("5", "0") if awk == AWKS[0] else ("5",):
            folder = tmp_path_factory.mktemp("rules")
            env = ENVIRONMENT | {"LC_ALL": "C"}
            run(*awk.split(), "-v", f"seed={seed}", "-v", f"folder={folder}", "-f", LIBRARY / "rule_test.awk", env=env)
            made[awk, seed] = {file.name: file.read_text() for file in folder.iterdir()}
    return made


def test_each_awk_writes_the_same_tests(series):
    assert len({str(sorted(files.items())) for (_, seed), files in series.items() if seed == "5"}) == 1


def test_a_number_determines_the_results(series):
    files = [series[AWKS[0], seed] for seed in ("5", "0")]
    values = [{name: re.search('values: "(.*)"', text)[1].split() for name, text in each.items()} for each in files]
    assert sorted(values[0]) == ["narrow.yml", "quiet-1.yml", "quiet-2.yml", "rise.yml", "split.yml"]
    for name in values[0]:
        assert len(values[0][name]) == (17280 if "quiet" in name else 241)
        assert len(set(values[0][name]) & set(values[1][name])) < 400
    assert values[0]["quiet-1.yml"] != values[0]["quiet-2.yml"]


@pytest.mark.parametrize("kind, ends", [("rise", (0.5, 1)), ("narrow", (0.25, 0.75)), ("split", (0, 1))])
def test_the_drifts_are_those_of_the_model(series, kind, ends):
    """After the drift, the results are where those of a model that drifted are."""
    values = [float(value) for value in re.search('values: "(.*)"', series[AWKS[0], "5"][f"{kind}.yml"])[1].split()][
        121:
    ]
    flag = {"rise": "--drift", "narrow": "--drift-narrow", "split": "--drift-split"}[kind]
    words = [flag, "1", "--interval", "0.01", "--seed", "1", "--listen", "127.0.0.1:0"]
    model = start(modelmock(), *words, stdout=subprocess.PIPE, text=True)
    with model.stdout as lines:
        next(lines)
        drawn = [float(next(lines).split()[2]) for _ in range(350)][100:]
    terminate(model)
    for results in (values, drawn):
        assert ends[0] <= min(results) < ends[0] + 0.1 and ends[1] - 0.1 < max(results) <= ends[1]
        assert kind != "split" or not [result for result in results if 0.25 < result < 0.75]
