"""The rules on drift, with the model's own results, and the figures of the lab's page on drift."""

import itertools
import re
import subprocess
import sys

import pytest

import drift_simulation as simulation
from lab import ROOT, modelmock, run, start
from promtool import promtool

PAGE = (ROOT / "stack/lab/drift.md").read_text()
RULES = (ROOT / "stack/prometheus/rules/model.yml").read_text()
FLAGS = {"none": None, "rise": "--drift", "narrow": "--drift-narrow", "split": "--drift-split"}
SEEDS = (1, 2, 3)
INDEX = "instance:model_result_distribution:psi_fraction_rate10m"
MEAN = "rate(model_result_distribution_sum[10m]) / rate(model_result_distribution_count[10m])"
BOUNDS = [*(f"{tenth / 10}" for tenth in range(1, 11)), "+Inf"]


def results(runs):
    """The first results of models with these arguments. Their drift depends on the number of results, so 1.2 s at
    0.01 s are 600 s at 5 s. The models run at the same time; each keeps its first lines until they are read."""
    command = [modelmock(), "--listen", "127.0.0.1:0", "--interval", "0.01"]
    models = [(start(*command, *arguments, stdout=subprocess.PIPE, text=True), count) for *arguments, count in runs]
    try:
        lines = [list(itertools.islice(model.stdout, 1, count + 1)) for model, count in models]
    finally:
        for model, _ in models:
            model.kill()
            model.communicate()
    return [[float(line.split(" model_result ")[1]) for line in each] for each in lines]


def series(name, drawn):
    """The histogram of a model that draws these results."""
    labels = f'job="model_mock", instance="{name}"'
    counts = {f'bucket{{{labels}, le="{bound}"}}': float(bound) for bound in BOUNDS}
    counts[f"count{{{labels}}}"] = 1
    for metric, bound in counts.items():
        values = " ".join(map(str, itertools.accumulate(int(result <= bound) for result in drawn)))
        yield f"      - {{series: 'model_result_distribution_{metric}', values: '{values}'}}\n"
    values = " ".join(f"{total:.6f}" for total in itertools.accumulate(drawn))
    yield f"      - {{series: 'model_result_distribution_sum{{{labels}}}', values: '{values}'}}\n"


def answers(folder, models, queries):
    """The answers of promtool, by the model: each query expects a value that it can't have."""
    text = "rule_files: [rules.yml]\nevaluation_interval: 5s\ntests:\n  - interval: 5s\n    input_series:\n"
    text += "".join(line for name, drawn in models.items() for line in series(name, drawn))
    text += "    promql_expr_test:\n"
    for query, seconds in queries:
        text += f"      - {{expr: '{query}', eval_time: {seconds}s, exp_samples: [{{labels: none, value: -1}}]}}\n"
    (folder / "rules.yml").write_text(RULES)
    (folder / "test.yml").write_text(text)
    output = promtool("test", "rules", "test.yml", folder=folder, code=1)
    said = re.findall(r"got: ?(.*)", output)
    assert len(said) == len(queries), output
    value = r'instance="([^"]+)"[^}]*\} (NaN|[-+.\dE]+)'
    return [{name: float(number) for name, number in re.findall(value, line)} for line in said]


def test_the_alert_fires_for_each_kind_of_drift_as_simulated_and_stays_quiet_without(tmp_path):
    before = results(("--seed", f"{seed + 100}", simulation.BEFORE) for seed in SEEDS)
    models = {}
    for kind, flag in FLAGS.items():
        drift = [flag, "1.2"] if flag else []
        after = results(("--seed", f"{seed}", *drift, simulation.AFTER) for seed in SEEDS)
        models |= {f"{kind} {seed}": runs[0] + runs[1] for seed, *runs in zip(SEEDS, before, after, strict=True)}
    first = 'min_over_time(timestamp(ALERTS{alertname="ModelResultDrift", alertstate="firing"})[1h:5s])'
    end = 5 * (simulation.BEFORE + simulation.AFTER - 1)
    queries = [(first, end), (f"{MEAN} > 0.6", end), (INDEX, 1195), (INDEX, end)]
    fires, means, *indexes = answers(tmp_path, models, queries)
    assert set(fires) == {name for name in models if "none" not in name}
    assert set(means) == {name for name in models if "rise" in name}
    for name, drawn in models.items():
        index = simulation.psi(drawn)
        simulated = [5 * (alarm + simulation.WINDOW - 1) for alarm in simulation.alarms(index, 0.25)]
        seen = [fires[name]] if name in fires else []
        assert seen == simulated, name
        # Of 1,000 simulated drifts of each kind, the alert was late by 450 to 850 s.
        assert all(450 <= each - 1200 <= 850 for each in seen), f"{name} fires at {seen}"
        for answer, seconds in zip(indexes, (1195, end), strict=True):
            assert answer[name] == pytest.approx(index[seconds // 5 - simulation.WINDOW + 1], abs=0.005), name


def test_the_page_has_the_figures_of_the_simulation():
    """All but the false alarms: a thousand days take two minutes."""
    said = run(sys.executable, ROOT / "tests/drift_simulation.py", "10")
    rows = re.findall(r"^\| (\w+ > \S+) \| \d+ \| (.*) \|$", said, re.M)
    for rule, times in rows:
        assert re.search(rf"^\| \**{re.escape(rule)}\** \| [\d,]+ \| {re.escape(times)} \|$", PAGE, re.M), rule
    starts = dict(re.findall(r"after (\d+) results without drift: (\S+) of 10,000", said))
    in_words = [f"{starts['20']} have an index", f"{starts['50']} after 50, and {starts['100']} after 100"]
    past, fixed = (re.search(rf"^{rule}.*in a day: (.*)$", said, re.M)[1] for rule in (".*ago > 0.5", "PSI > 0.25:"))
    # The median of the fixed reference is in hours there.
    assert past == "1 in 100" and re.match("3[12]", fixed) and len(rows) == 5
    in_words.append("such a rule found 1, and the rule with the fixed reference all, after about nine hours")
    assert [words for words in in_words if words not in PAGE.replace("\n", " ")] == []
