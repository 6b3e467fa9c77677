"""The values of the dashboards' queries, by promtool."""

import json
import re

import pytest

from lab import ROOT
from promtool import promtool

FOLDER = ROOT / "stack/grafana/dashboards"
DASHBOARDS = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("class", "model")}
RULES_FILE = (ROOT / "stack/prometheus/rules/model.yml").read_text()
RULES = dict(re.findall(r"- alert: (\w+)(.*?)(?=- alert|\Z)", RULES_FILE, re.S))
# Without the alerts, which are given below.
RECORDING_RULES = "groups:\n" + re.search(r"^  - name: drift\n.*?(?=^ *- alert)", RULES_FILE, re.S | re.M)[0]
TENTHS = [f"{tenth / 10}" for tenth in range(1, 11)]
FIFTHS = ["0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1"]


def panels(name):
    """The panels that ask Prometheus, by title."""
    return {panel["title"]: panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"}


# Four models and a foreign target, scraped for 15 minutes. The last scrape, number 180, is at 900 s.
ADA = 'class="a", instance="localhost:5001", student="Ada"'  # every result is 0.95
BEN = 'class="a", instance="localhost:5002", student="Ben"'  # a quarter of the last 60 results is 0.95
CLEO = 'class="b", instance="localhost:5003", student="Cleo"'  # down for the last 30 scrapes
OWN = 'instance="localhost:5000"'  # in no class
REFRESHED = "model_last_refresh_timestamp_seconds"
METRICS = {
    ADA: {
        "up": "1x180",
        "model_result": "0.95x180",
        REFRESHED: "-2+5x180",
        "model_result_distribution_count": "0+1x180",
    },
    BEN: {
        "up": "1x180",
        "model_result": "0.3x120 0.95x14 0.3x44",
        REFRESHED: "-4+5x180",
        "model_refreshes_total": "0+1x180",
        "model_result_distribution_sum": "0+0.75x180",
        "model_result_distribution_count": "0+1x180",
    },
    CLEO: {"up": "1x150 0x29", "model_result": "0.5x150 stale", REFRESHED: "0+5x150 stale"},
    OWN: {
        "up": "1x180",
        "model_result": "0.92x180",
        REFRESHED: "-40+5x180",
        "model_result_distribution_count": "0+1x70 70x110",  # fewer than 100 results in 10 minutes
    },
}
ALERTS = [
    ("ModelResultHigh", "firing", BEN),
    ("ModelMockDown", "pending", BEN),
    ("ModelResultStale", "firing", BEN),
    ("ModelResultDrift", "pending", BEN),
    ("ModelMockDown", "firing", CLEO),
    ("ModelResultDrift", "firing", CLEO),
]


def lab_series():
    found = {}
    for labels, metrics in METRICS.items():
        found |= {f'{name}{{job="model_mock", {labels}}}': values for name, values in metrics.items()}
    # Ada's results are spread evenly on [0, 1], Ben's on [0.5, 1], and all of the own model's are in the first tenth.
    for tenth, bound in enumerate(TENTHS, 1):
        for labels, step in ((ADA, tenth / 10), (BEN, max(tenth - 5, 0) / 5), (OWN, 1)):
            found[f'model_result_distribution_bucket{{job="model_mock", {labels}, le="{bound}"}}'] = f"0+{step}x180"
            found[f'model_result_distribution_bucket{{job="model_mock", {labels}, le="+Inf"}}'] = "0+1x180"
    for quantile, result in (("0.5", 0.7), ("0.9", 0.93), ("0.99", 0.99)):
        found[f'model_result_recent{{job="model_mock", {BEN}, quantile="{quantile}"}}'] = f"{result}x180"
    for name, state, labels in ALERTS:
        found[f'ALERTS{{alertname="{name}", alertstate="{state}", job="model_mock", {labels}}}'] = "1x180"
    # No panel of the class may show the targets of another job.
    other = {name.replace("model_mock", "other"): "1+1x180" for name in found if ADA in name or CLEO in name}
    return [{"series": name, "values": values} for name, values in (found | other).items()]


def tenths(*values):
    return {f'le="{bound}"': value for bound, value in zip(TENTHS, values, strict=True)}


def fifths(*values):
    return {f'bucket="{name}"': value for name, value in zip(FIFTHS, values, strict=True)}


# For each panel, in the order of its queries: a value, or the labels and the value of each series, at 900 s.
BEN_JOB = BEN + ', job="model_mock"'
BEN_HALF, BEN_NINE_TENTHS = (f'{BEN_JOB}, quantile="{quantile}"' for quantile in ("0.5", "0.9"))
VALUES = {
    ("class", ".*"): {
        "Up": [3, 4],
        "Down": [1],
        "Above 0.9": [2],
        "Alerts firing": [4],
        "Models": [
            {ADA: 1, BEN: 1, CLEO: 0, OWN: 1},
            {ADA: 1, BEN: 0.25, CLEO: 0, OWN: 1},
            {ADA: 0.95, BEN: 0.3, OWN: 0.92},
            {ADA: 2, BEN: 4, OWN: 40},
            {ADA: 0, BEN: 1.475552},
        ],
        "Distribution of the results": [tenths(13.2, 14.4, 15.6, 16.8, 18, 21.6, 25.2, 28.8, 32.4, 36)],
        "Models that were down": [{CLEO + ', job="model_mock"': 0}],
    },
    ("class", "a"): {
        "Up": [2, 2],
        "Down": [0],
        "Above 0.9": [1],
        "Alerts firing": [2],
        "Models": [
            {ADA: 1, BEN: 1},
            {ADA: 1, BEN: 0.25},
            {ADA: 0.95, BEN: 0.3},
            {ADA: 2, BEN: 4},
            {ADA: 0, BEN: 1.475552},
        ],
        "Distribution of the results": [tenths(1.2, 2.4, 3.6, 4.8, 6, 9.6, 13.2, 16.8, 20.4, 24)],
        "Models that were down": [{'instance="none was down"': 1}],
    },
    ("model", "localhost:5002"): {
        "Result": [{BEN_JOB: 0.3}],
        "Latest result": [{BEN_JOB: 0.3}],
        "Target": [{BEN_JOB: 1}],
        "Refreshes/min": [{BEN_JOB: 12}],
        "Distribution of all results": [tenths(0, 0, 0, 0, 0, 36, 72, 108, 144, 180)],
        "Distribution of 10 minutes": [fifths(0, 0, 0.2, 0.4, 0.4), fifths(0.2, 0.2, 0.2, 0.2, 0.2)],
        "Drift: PSI of 10 minutes": [{BEN_JOB: 1.475552}],
        "Quantiles: summary and histogram": [{BEN_HALF: 0.7}, 0.75, {BEN_NINE_TENTHS: 0.93}, 0.95],
        "Mean of 10 minutes": [{BEN_JOB: 0.75}],
        "Alerts": [2, 1, 2, 1],
    },
}


def test_the_metrics_above_are_the_models():
    page = (ROOT / "tests/page.prom").read_text()
    names = {re.match(r"\w+", series["series"])[0] for series in lab_series()}
    assert {name for name in names if not re.search(rf"^{name}\b", page, re.M)} == {"up", "ALERTS"}


@pytest.mark.parametrize("name, chosen", VALUES)
def test_each_query_of_a_dashboard_gives_the_expected_value(name, chosen, tmp_path):
    tests = []
    assert set(panels(name)) == set(VALUES[name, chosen])
    for title, panel in panels(name).items():
        for target, values in zip(panel["targets"], VALUES[name, chosen][title], strict=True):
            query = target["expr"].replace("$__range", "15m").replace("$class", chosen).replace("$instance", chosen)
            samples = values if isinstance(values, dict) else {"": values}
            samples = [{"labels": f"{{{labels}}}", "value": value} for labels, value in samples.items()]
            # round() drops the metric's name and the last digits, in which floating-point results differ.
            tests.append({"expr": f"round({query}, 0.000001)", "eval_time": "900s", "exp_samples": samples})
    test = {"interval": "5s", "input_series": lab_series(), "promql_expr_test": tests}
    text = json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "5s", "tests": [test]})
    (tmp_path / "values.yml").write_text(text)
    (tmp_path / "rules.yml").write_text(RECORDING_RULES)
    promtool("test", "rules", "values.yml", folder=tmp_path)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_asks_for_what_it_shows(name):
    for title, panel in panels(name).items():
        windows = re.findall(r"\[(\d+)m", json.dumps(panel["targets"]))
        assert all({"1": "minute"}.get(each, f" {each} minutes") in panel["description"] for each in windows), title
        # A graph asks for the range; every other panel asks for now.
        over_time = panel["type"] in ("timeseries", "state-timeline", "heatmap")
        assert all((each["range"], each["instant"]) == (over_time, not over_time) for each in panel["targets"]), title
        # A step of its own would skip scrapes: the step comes from the data source.
        assert "interval" not in panel and "maxDataPoints" not in panel, title


def test_the_red_lines_are_at_the_limits_of_the_rules():
    for title, alert in {"Result": "ModelResultHigh", "Drift: PSI of 10 minutes": "ModelResultDrift"}.items():
        steps = panels("model")[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        limit = float(re.search(r"> ([\d.]+)", RULES[alert])[1])
        assert [step["value"] for step in steps if step["color"] == "red"] == [limit], title


def test_the_distribution_of_10_minutes_is_next_to_the_reference():
    bars = panels("model")["Distribution of 10 minutes"]
    organize = next(each["options"] for each in bars["transformations"] if each["id"] == "organize")
    assert organize["renameByName"] == {"bucket": "Results", "Value #A": "last 10 minutes", "Value #B": "reference"}
    assert bars["options"]["xField"] == "Results"
