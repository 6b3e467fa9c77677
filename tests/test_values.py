"""The dashboards and the rule on drift, held against values that promtool computes, and the dashboards' look."""

import json
import random
import re

import pytest

from lab import ROOT
from test_files import promtool

DASHBOARDS = {name: json.loads((ROOT / f"stack/grafana/dashboards/{name}.json").read_text()) for name in ("class", "model")}
RULES = dict(re.findall(r"- alert: (\w+)(.*?)(?=- alert|\Z)", (ROOT / "stack/prometheus/rules/model.yml").read_text(), re.S))
TENTHS = [f"{tenth / 10}" for tenth in range(1, 11)]


def panels(name):
    """The panels that ask Prometheus, by title, in the order of the file."""
    return {panel["title"]: panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"}


def expressions(name):
    return {(title, target["refId"]): target["expr"] for title, panel in panels(name).items() for target in panel["targets"]}


def rule_tests(path, *tests, rule_files=()):
    """Runs promtool's unit tests, a sample every 5 s."""
    path.chmod(0o755)
    tests = [{"interval": "5s"} | test for test in tests]
    file = {"rule_files": list(rule_files), "evaluation_interval": "5s", "tests": tests}
    (path / "values.yml").write_text(json.dumps(file))
    promtool("test", "rules", "values.yml", folder=path, timeout=280)


def series(labels, values):
    return {"series": labels, "values": values}


# Four models, scraped for 15 minutes. The last scrape, number 180, is at 900 s.
ADA = 'class="a", instance="localhost:5001", student="Ada"'  # every result is 0.95
BEN = 'class="a", instance="localhost:5002", student="Ben"'  # a quarter of the last 60 results is 0.95
CLEO = 'class="b", instance="localhost:5003", student="Cleo"'  # down for the last 30 scrapes
OWN = 'instance="localhost:5000"'  # in no class
OTHER = 'class="a", instance="localhost:5002", job="other"'
MODELS = {
    ADA: {"up": "1x180", "model_result": "0.95x180", "model_last_refresh_timestamp_seconds": "-2+5x180"},
    BEN: {
        "up": "1x180",
        "model_result": "0.3x120 0.95x14 0.3x44",
        "model_last_refresh_timestamp_seconds": "-4+5x180",
        "model_refreshes_total": "0+1x180",
        "model_result_distribution_sum": "0+0.75x180",
        "model_result_distribution_count": "0+1x180",
    },
    CLEO: {"up": "1x150 0x29", "model_result": "0.5x150 stale", "model_last_refresh_timestamp_seconds": "0+5x150 stale"},
    OWN: {"up": "1x180", "model_result": "0.4x180", "model_last_refresh_timestamp_seconds": "-40+5x180"},
}
ALERTS = [
    ('alertname="ModelResultHigh", alertstate="firing", job="model_mock"', BEN),
    ('alertname="ModelResultStale", alertstate="pending", job="model_mock"', BEN),
    ('alertname="ModelResultDrift", alertstate="firing", job="model_mock"', BEN),
    ('alertname="ModelMockDown", alertstate="firing", job="model_mock"', CLEO),
    ('alertname="Other", alertstate="firing", job="other"', ADA),
]


def lab_series():
    found = [series(f'{name}{{job="model_mock", {labels}}}', values) for labels, metrics in MODELS.items() for name, values in metrics.items()]
    # Ada's results are spread evenly on [0, 1], Ben's on [0.5, 1]; the panels must tell them apart.
    for tenth, bound in enumerate(TENTHS + ["+Inf"], 1):
        for labels, step in ((ADA, min(tenth, 10) / 10), (BEN, max(min(tenth, 10) - 5, 0) / 5), (OTHER, 1)):
            job = 'job="model_mock", ' if labels != OTHER else ""
            found.append(series(f'model_result_distribution_bucket{{{job}{labels}, le="{bound}"}}', f"0+{step}x180"))
    for quantile, result in (("0.5", 0.7), ("0.9", 0.93), ("0.99", 0.99)):
        found.append(series(f'model_result_recent{{job="model_mock", {BEN}, quantile="{quantile}"}}', f"{result}x180"))
    found += [series(f"{name}{{{OTHER}}}", values) for name, values in MODELS[BEN].items()]
    return found + [series(f"ALERTS{{{alert}, {labels}}}", "1x180") for alert, labels in ALERTS]


def of_bounds(values):
    return {f'{{le="{bound}"}}': value for bound, value in zip(TENTHS, values, strict=True)}


DISTRIBUTION = of_bounds([1.2, 2.4, 3.6, 4.8, 6, 9.6, 13.2, 16.8, 20.4, 24])
DOWN = {f'{{{CLEO}, job="model_mock"}}': 0}
NONE_DOWN = {'{instance="none was down"}': 1}
# For each panel, in the order of its queries: the labels and the value of each series, at 900 s.
VALUES = {
    ("class", ".*"): {
        "Up": [3, 4],
        "Down": [1],
        "Above 0.9": [1],
        "Alerts firing": [3],
        "Models": [
            {ADA: 1, BEN: 1, CLEO: 0, OWN: 1},
            {ADA: 1, BEN: 0.25, CLEO: 0, OWN: 0},
            {ADA: 0.95, BEN: 0.3, OWN: 0.4},
            {ADA: 2, BEN: 4, OWN: 40},
        ],
        "Distribution of the results": [DISTRIBUTION],
        "Who was down, and when": [DOWN],
    },
    ("class", "b"): {
        "Up": [0, 1],
        "Down": [1],
        "Above 0.9": [0],
        "Alerts firing": [1],
        "Models": [{CLEO: 0}, {CLEO: 0}, {}, {}],
        "Distribution of the results": [{}],
        "Who was down, and when": [DOWN],
    },
    ("class", "a"): {
        "Up": [2, 2],
        "Down": [0],
        "Above 0.9": [1],
        "Alerts firing": [2],
        "Models": [{ADA: 1, BEN: 1}, {ADA: 1, BEN: 0.25}, {ADA: 0.95, BEN: 0.3}, {ADA: 2, BEN: 4}],
        "Distribution of the results": [DISTRIBUTION],
        "Who was down, and when": [NONE_DOWN],
    },
    ("model", "localhost:5002"): {
        "Result": [{f'{BEN}, job="model_mock"': 0.3}],
        "Latest result": [{f'{BEN}, job="model_mock"': 0.3}],
        "Target": [{f'{BEN}, job="model_mock"': 1}],
        "Refreshes/min": [{f'{BEN}, job="model_mock"': 12}],
        "Distribution of all results": [of_bounds([0, 0, 0, 0, 0, 36, 72, 108, 144, 180])],
        "Quantiles: summary and histogram": [
            {f'{BEN}, job="model_mock", quantile="0.5"': 0.7},
            0.75,
            {f'{BEN}, job="model_mock", quantile="0.9"': 0.93},
            0.95,
        ],
        "Mean of 10 minutes": [{f'{BEN}, job="model_mock"': 0.75}],
        "Alerts": [2, 0, 1, 2],
    },
    ("model", "localhost:5003"): {
        "Result": [{}],
        "Latest result": [{}],
        "Target": [{f'{CLEO}, job="model_mock"': 0}],
        "Refreshes/min": [{}],
        "Distribution of all results": [{}],
        "Quantiles: summary and histogram": [{}, {}, {}, {}],
        "Mean of 10 minutes": [{}],
        "Alerts": [0, 2, 0, 0],
    },
}


@pytest.mark.parametrize("name, chosen", VALUES)
def test_each_query_of_a_dashboard_gives_the_expected_value(name, chosen, tmp_path):
    tests = []
    expected = VALUES[name, chosen]
    assert {title: len(panel["targets"]) for title, panel in panels(name).items()} == {title: len(values) for title, values in expected.items()}
    for (title, query), expression in expressions(name).items():
        values = expected[title]["ABCD".index(query)]
        samples = values if isinstance(values, dict) else {"{}": values}
        for variable in ("$class", "$instance"):
            expression = expression.replace(variable, chosen)
        # round() drops the metric's name and the last digits, in which floating-point results differ.
        tests.append(
            {
                "expr": f"round({expression.replace('$__range', '15m')}, 0.000001)",
                "eval_time": "900s",
                "exp_samples": [{"labels": f"{{{labels.strip('{}')}}}", "value": value} for labels, value in samples.items()],
            }
        )
    rule_tests(tmp_path, {"name": f"{name} {chosen}", "input_series": lab_series(), "promql_expr_test": tests})


def test_the_list_of_a_dashboard_offers_every_model_and_every_class():
    offered = {name: DASHBOARDS[name]["templating"]["list"][-1] for name in DASHBOARDS}
    assert {name: (each["query"]["query"], each["definition"], each["name"]) for name, each in offered.items()} == {
        "class": ('label_values(up{job="model_mock"}, class)',) * 2 + ("class",),
        "model": ('label_values(up{job="model_mock"}, instance)',) * 2 + ("instance",),
    }
    # The class dashboard starts with all classes, and the other one with the first model.
    assert (offered["class"]["allValue"], offered["class"]["current"]["value"], offered["class"]["multi"]) == (".*", ["$__all"], True)
    assert (offered["model"]["current"], offered["model"]["includeAll"], offered["model"]["multi"]) == ({}, False, False)


def sums(seed, seconds, drift=None):
    """A model's sum of results, as --drift computes them, one each 5 s; the drift is in seconds."""
    drawn, total, found = random.Random(seed), 0.0, []
    for n in range(seconds // 5):
        lower = 0.5 * min(1, 5 * n / drift) if drift else 0
        total += round(lower + (1 - lower) * drawn.randint(0, 10**6) / 10**6, 6)
        found.append(f"{total:.6f}")
    return " ".join(found)


def drift_test(models, seconds, expected, drift=None):
    """How many models had a firing ModelResultDrift in the time; all start with the first scrape."""
    labels = [f'{{job="model_mock", instance="localhost:{5000 + seed}"}}' for seed in range(models)]
    found = [series(f"model_result_distribution_sum{each}", sums(seed, seconds, drift)) for seed, each in enumerate(labels)]
    found += [series(f"model_result_distribution_count{each}", f"1+1x{seconds // 5 - 1}") for each in labels]
    alerts = 'count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[2d]))'
    samples = [{"labels": '{alertname="ModelResultDrift"}', "value": expected}] if expected else []
    check = {"expr": alerts, "eval_time": f"{seconds - 5}s", "exp_samples": samples}
    return {"input_series": found, "promql_expr_test": [check]}


def test_drift_fires_within_15_minutes_and_never_in_a_day_without(tmp_path):
    rules = tmp_path / "model.yml"
    rules.write_text((ROOT / "stack/prometheus/rules/model.yml").read_text())
    # A day of two models, and 300 starts of a model: the mean of the first results is often above 0.6.
    calm, starts, drifts = drift_test(2, 86400, 0), drift_test(300, 1200, 0), drift_test(30, 900, 30, drift=600)
    rule_tests(tmp_path, calm, starts, drifts, rule_files=["model.yml"])


def test_the_dashboards_show_the_last_15_minutes_and_refresh_every_5_s():
    for name, uid in (("model", "modelmock"), ("class", "modelmock-class")):
        dashboard = DASHBOARDS[name]
        assert (dashboard["refresh"], dashboard["time"], dashboard["uid"]) == ("5s", {"from": "now-15m", "to": "now"}, uid)
        assert "id" not in dashboard and dashboard["schemaVersion"] == 42
        source = {"class": "${datasource}", "model": "prometheus"}[name]
        assert {target["datasource"]["uid"] for panel in panels(name).values() for target in panel["targets"]} == {source}
    # On the class dashboard, the store's data source can be chosen.
    assert DASHBOARDS["class"]["templating"]["list"][0]["current"]["value"] == "prometheus"
    assert DASHBOARDS["model"]["links"][0]["url"] == "/d/modelmock-class"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_has_its_own_place_and_a_description(name):
    taken = set()
    for title, panel in panels(name).items():
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        cells = {(row, column) for row in range(y, y + height) for column in range(x, x + width)}
        assert x + width <= 24 and not cells & taken, title
        taken |= cells
        assert len(panel["description"]) > 20 and panel["description"].endswith("."), title
        # Every query of a panel with one value asks for now; a graph asks for the range.
        over_time = panel["type"] in ("timeseries", "state-timeline", "heatmap")
        assert {(target["range"], target["instant"]) for target in panel["targets"]} == {(over_time, not over_time)}, title
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_models_of_a_class_are_on_the_first_screen():
    """At 1280x720, Grafana shows some 14 rows of its grid. The last one of these must be a part of the table."""
    first, *_, table = list(panels("class").values())[:5]
    assert (table["type"], first["gridPos"]["h"]) == ("table", 3)
    assert table["gridPos"]["y"] == 3 and table["gridPos"]["h"] >= 11 and table["gridPos"]["w"] == 24


def overrides(panel):
    """By the field's name: its properties."""
    return {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }


def test_the_table_of_a_class():
    table = panels("class")["Models"]
    organize = {each["id"]: each["options"] for each in table["transformations"]}["organize"]
    columns = sorted(organize["renameByName"], key=organize["indexByName"].get)
    assert [organize["renameByName"][column] for column in columns] == ["Model", "Student", "Class", "State", "High in 5 min", "Result", "Age"]
    assert columns == ["instance", "student", "class", "Value #A", "Value #B", "Value #C", "Value #D"]
    # Models that are down first, then those with the most high results.
    assert [(each["displayName"], each["desc"]) for each in table["options"]["sortBy"]] == [("State", False), ("High in 5 min", True)]
    fields = overrides(table)
    units = {name: (field.get("unit"), field.get("decimals")) for name, field in fields.items()}
    assert units["High in 5 min"] == ("percentunit", 0) and units["Age"] == ("suffix: s", 1) and units["Result"] == (None, 3)
    assert [fields[name]["thresholds"]["steps"][1]["value"] for name in ("High in 5 min", "Age", "Result")] == [0.5, 30, 0.9]
    assert (fields["Result"]["min"], fields["Result"]["max"]) == (0, 1)
    timeline = panels("class")["Who was down, and when"]["fieldConfig"]["defaults"]["links"]
    assert fields["Model"]["links"][0]["url"].startswith("/d/modelmock?var-instance=${__value.raw}&")
    assert timeline[0]["url"].startswith("/d/modelmock?var-instance=${__field.labels.instance}&")


def limit(alert):
    return float(re.search(r"> (0\.\d+)", RULES[alert])[1])


def test_a_red_line_is_where_its_rule_fires():
    graphs = panels("model")
    for title, alert in (("Result", "ModelResultHigh"), ("Mean of 10 minutes", "ModelResultDrift")):
        defaults = graphs[title]["fieldConfig"]["defaults"]
        assert (defaults["min"], defaults["max"], defaults["custom"]["thresholdsStyle"]["mode"]) == (0, 1, "line"), title
        assert [(step["color"], step["value"]) for step in defaults["thresholds"]["steps"]] == [("green", 0), ("red", limit(alert))], title
        assert alert in graphs[title]["description"]
    # A result stays until the next one.
    assert graphs["Result"]["fieldConfig"]["defaults"]["custom"]["lineInterpolation"] == "stepAfter"
    assert graphs["Latest result"]["fieldConfig"]["defaults"]["thresholds"]["steps"][1] == {"color": "red", "value": limit("ModelResultHigh")}
    assert {panels("class")[title]["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] for title in ("Down", "Above 0.9", "Alerts firing")} == {1}


def test_a_legend_says_what_its_query_asks():
    for title, query, legend in (
        (title, target["expr"], target["legendFormat"]) for title, panel in panels("model").items() for target in panel["targets"]
    ):
        if title == "Alerts":
            assert set(re.findall('alertname="(.*?)"', query)) == {legend}
        elif title.startswith("Quantiles"):
            quantile = re.search(r'quantile(?:="|\()(0\.\d+)', query)[1]
            assert legend == f"{quantile} from the {'histogram' if 'bucket' in query else 'summary'}"
        else:
            assert legend == {"Distribution of all results": "{{le}}", "Mean of 10 minutes": "mean of 10 minutes"}.get(title, "{{instance}}")
    legends = {title: [target["legendFormat"] for target in panel["targets"]] for title, panel in panels("class").items()}
    assert legends["Up"] == ["up", "of"] and legends["Who was down, and when"] == ["{{instance}} {{student}}"]
    assert legends["Distribution of the results"] == ["{{le}}"]
    assert set(RULES) == {target["legendFormat"] for target in panels("model")["Alerts"]["targets"]}


def mappings(panel):
    return [*panel["fieldConfig"]["defaults"].get("mappings", []), *overrides(panel).get("State", {}).get("mappings", [])]


def test_a_state_is_printed_in_words():
    words = {title: mappings(panel)[0]["options"] for name in DASHBOARDS for title, panel in panels(name).items() if mappings(panel)}
    texts = {title: {value: state["text"] for value, state in states.items()} for title, states in words.items()}
    alerts = texts.pop("Alerts")
    assert alerts == {"0": "inactive", "1": "pending", "2": "firing"}
    assert texts == dict.fromkeys(["Models", "Who was down, and when", "Target"], {"0": "DOWN", "1": "UP"})
    for panel in (panels("class")["Who was down, and when"], panels("model")["Alerts"]):
        # Grafana ignores the mappings' colors if it merges values by their thresholds.
        assert panel["options"]["mergeValues"] and panel["fieldConfig"]["defaults"]["color"]["mode"] == "fixed"
        assert (panel["options"]["showValue"], panel["fieldConfig"]["defaults"]["custom"]["fillOpacity"]) == ("auto", 100)


# Grafana's colors: each name in the dark and in the light theme, and the background of a panel.
NAMED = {"blue": ("#5794F2", "#3274D9"), "red": ("#F2495C", "#E02F44")}
PANEL = ("#181B1F", "#FFFFFF")


def rgb(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def contrast(one, other):
    """As WCAG 2 defines it, from 1 to 21."""

    def luminance(color):
        parts = [part / 255 for part in rgb(color)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def text_on(background, panel_type):
    """The color that Grafana chooses for text: in a timeline by contrast, elsewhere by brightness."""
    if panel_type == "state-timeline":
        return "#FFFFFF" if contrast("#FFFFFF", background) >= 3 else "#000000"
    red, green, blue = rgb(background)
    return "#202226" if 0.299 * red + 0.587 * green + 0.114 * blue > 180 else "#F7F8FA"


def test_text_has_the_contrast_of_wcag_aa():
    checked = 0
    for title, panel in (item for name in DASHBOARDS for item in panels(name).items()):
        fields = [panel["fieldConfig"]["defaults"], *overrides(panel).values()]
        steps = {step["color"] for field in fields for step in field.get("thresholds", {}).get("steps", [])} - {"transparent", "text"}
        states = {state["color"]: state["text"] for mapping in mappings(panel) for state in mapping["options"].values()}
        for color in set(states) | steps if panel["options"].get("colorMode") == "background_solid" else states:
            assert contrast(text_on(color, panel["type"]), color) >= 4.5, f"{title}: {color}"
            checked += 1
        if {"UP", "DOWN"} <= set(states.values()):
            up, down = (color for word in ("UP", "DOWN") for color, text in states.items() if text == word)
            assert contrast(up, down) >= 3, title
        if panel["options"].get("colorMode") == "value":
            for color in steps:
                assert all(contrast(theme, background) >= 4.5 for theme, background in zip(NAMED[color], PANEL)), f"{title}: {color}"
                checked += 1
        cells = [field for field in fields if field.get("custom.cellOptions", {}).get("type") == "color-background" and "thresholds" in field]
        for color in {step["color"] for field in cells for step in field["thresholds"]["steps"]} - {"transparent"}:
            assert contrast(text_on(color, panel["type"]), color) >= 4.5, f"{title}: {color}"
            checked += 1
        # For readers who can't tell red from green.
        assert panel["type"] in ("timeseries", "heatmap", "bargauge") or not steps & {"green"}, title
    assert checked >= 16
