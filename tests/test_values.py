"""The values of the dashboards' queries, by promtool, and the look of the panels."""

import itertools
import json
import re

import pytest

from lab import ROOT
from test_files import promtool

FOLDER = ROOT / "stack/grafana/dashboards"
DASHBOARDS = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("class", "model")}
RULES_FILE = (ROOT / "stack/prometheus/rules/model.yml").read_text()
RULES = dict(re.findall(r"- alert: (\w+)(.*?)(?=- alert|\Z)", RULES_FILE, re.S))
TENTHS = [f"{tenth / 10}" for tenth in range(1, 11)]


def panels(name):
    """The panels that ask Prometheus, by title."""
    return {panel["title"]: panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"}


PANELS = panels("class") | panels("model")


# Four models and a foreign target, scraped for 15 minutes. The last scrape, number 180, is at 900 s.
ADA = 'class="a", instance="localhost:5001", student="Ada"'  # every result is 0.95
BEN = 'class="a", instance="localhost:5002", student="Ben"'  # a quarter of the last 60 results is 0.95
CLEO = 'class="b", instance="localhost:5003", student="Cleo"'  # down for the last 30 scrapes
OWN = 'instance="localhost:5000"'  # in no class
REFRESHED = "model_last_refresh_timestamp_seconds"
METRICS = {
    ADA: {"up": "1x180", "model_result": "0.95x180", REFRESHED: "-2+5x180"},
    BEN: {
        "up": "1x180",
        "model_result": "0.3x120 0.95x14 0.3x44",
        REFRESHED: "-4+5x180",
        "model_refreshes_total": "0+1x180",
        "model_result_distribution_sum": "0+0.75x180",
        "model_result_distribution_count": "0+1x180",
    },
    CLEO: {"up": "1x150 0x29", "model_result": "0.5x150 stale", REFRESHED: "0+5x150 stale"},
    OWN: {"up": "1x180", "model_result": "0.92x180", REFRESHED: "-40+5x180"},
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
        ],
        "Distribution of the results": [tenths(13.2, 14.4, 15.6, 16.8, 18, 21.6, 25.2, 28.8, 32.4, 36)],
        "Models that were down": [{CLEO + ', job="model_mock"': 0}],
    },
    ("class", "a"): {
        "Up": [2, 2],
        "Down": [0],
        "Above 0.9": [1],
        "Alerts firing": [2],
        "Models": [{ADA: 1, BEN: 1}, {ADA: 1, BEN: 0.25}, {ADA: 0.95, BEN: 0.3}, {ADA: 2, BEN: 4}],
        "Distribution of the results": [tenths(1.2, 2.4, 3.6, 4.8, 6, 9.6, 13.2, 16.8, 20.4, 24)],
        "Models that were down": [{'instance="none was down"': 1}],
    },
    ("model", "localhost:5002"): {
        "Result": [{BEN_JOB: 0.3}],
        "Latest result": [{BEN_JOB: 0.3}],
        "Target": [{BEN_JOB: 1}],
        "Refreshes/min": [{BEN_JOB: 12}],
        "Distribution of all results": [tenths(0, 0, 0, 0, 0, 36, 72, 108, 144, 180)],
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
    (tmp_path / "values.yml").write_text(json.dumps({"evaluation_interval": "5s", "tests": [test]}))
    promtool("test", "rules", "values.yml", folder=tmp_path)


def test_the_dashboards_show_the_last_15_minutes_and_refresh_every_5_s():
    class_source, own_sources = {("prometheus", "${datasource}")}, {("prometheus", "prometheus"), ("loki", "loki")}
    sources = {"modelmock-class": class_source, "modelmock": own_sources}
    for dashboard in DASHBOARDS.values():
        shown = [dashboard[key] for key in ("refresh", "time", "timezone", "editable")]
        assert shown == ["5s", {"from": "now-15m", "to": "now"}, "browser", True] and "id" not in dashboard
        asked = set(re.findall(r'"type": "(\w+)", "uid": "(.*?)"', json.dumps(dashboard["panels"])))
        assert asked == sources[dashboard["uid"]]
    (model,), (source, classes) = (DASHBOARDS[name]["templating"]["list"] for name in ("model", "class"))
    lists = [(each["name"], each["query"]["query"], each["multi"], each["refresh"]) for each in (model, classes)]
    query = 'label_values(up{job="model_mock"}, %s)'
    assert lists == [("instance", query % "instance", False, 1), ("class", query % "class", True, 2)]
    # The lists start with the first model, with all classes, and with the lab's Prometheus.
    assert (model["current"], classes["current"]["value"], classes["allValue"]) == ({}, ["$__all"], ".*")
    assert source["current"]["value"] == "prometheus"
    for here, there in itertools.permutations(DASHBOARDS.values()):
        link = here["links"][0]
        assert (link["url"], link["title"], link["keepTime"]) == (f"/d/{there['uid']}", there["title"], True)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_has_a_place_of_its_own_and_a_description(name):
    taken = set()
    for title, panel in panels(name).items():
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        cells = {(row, column) for row in range(y, y + height) for column in range(x, x + width)}
        assert x + width <= 24 and not cells & taken, title
        taken |= cells
        assert len(panel["description"]) > 20 and panel["description"].endswith("."), title
        windows = re.findall(r"\[(\d+)m", json.dumps(panel["targets"]))
        assert all({"1": "minute"}.get(each, f" {each} minutes") in panel["description"] for each in windows), title
        # A graph asks for the range; every other panel asks for now.
        over_time = panel["type"] in ("timeseries", "state-timeline", "heatmap")
        assert all((each["range"], each["instant"]) == (over_time, not over_time) for each in panel["targets"]), title


def overrides(panel):
    """The properties of each field, by its name."""
    found = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
    return {name: {entry["id"]: entry["value"] for entry in entries} for name, entries in found.items()}


def limits(field):
    return [(step["color"], step["value"]) for step in field["thresholds"]["steps"]]


ORANGE, BLUE, RED = "#FFB357", "#1F60C4", "#C4162A"
NUMBERED = ("ModelResultHigh", "ModelResultDrift", "ModelResultStale")
HIGH, DRIFT, STALE = (float(re.search(r"> ([\d.]+)", RULES[alert])[1]) for alert in NUMBERED)
FROM_0_TO_1 = {"min": 0, "max": 1}
COUNT = ({"decimals": 0}, [("transparent", 0), (ORANGE, 1)])
# The scale and the thresholds. A graph's red line is at the limit of its rule.
LOOK = {
    "Down": COUNT,
    "Above 0.9": COUNT,
    "Alerts firing": COUNT,
    "Result": (FROM_0_TO_1, [("green", 0), ("red", HIGH)]),
    "Latest result": ({"decimals": 3, "noValue": "none"}, [("blue", 0), ("red", HIGH)]),
    "Target": ({}, [(ORANGE, 0), (BLUE, 1)]),
    "Refreshes/min": ({"decimals": 1, "noValue": "none"}, [("blue", 0)]),
    "Quantiles: summary and histogram": (FROM_0_TO_1, [("green", 0)]),
    "Mean of 10 minutes": (FROM_0_TO_1, [("green", 0), ("red", DRIFT)]),
}
QUANTILES = [f"{each} from the {source}" for each in ("0.5", "0.9") for source in ("summary", "histogram")]
LEGENDS = {"Up": ["up", "of"], "Quantiles: summary and histogram": QUANTILES, "Alerts": list(RULES)}
LEGENDS |= {"Result": ["{{instance}}"], "Models that were down": ["{{instance}} {{student}}"]}


def test_the_panels_have_their_scales_thresholds_and_legends():
    for title, (scale, steps) in LOOK.items():
        field = PANELS[title]["fieldConfig"]["defaults"]
        assert ({key: field[key] for key in scale}, limits(field)) == (scale, steps) and "unit" not in field, title
        colored = PANELS[title]["options"].get("colorMode") == "background_solid"
        assert colored == (ORANGE in dict(steps)), title
    for title, legends in LEGENDS.items():
        assert [target["legendFormat"] for target in PANELS[title]["targets"]] == legends
    for title, panel in PANELS.items():
        field = panel["fieldConfig"]["defaults"]
        if panel["type"] == "timeseries":
            lines = len(limits(field)) > 1
            assert field["custom"]["thresholdsStyle"]["mode"] == ("line" if lines else "off"), title
            # A result stays until the next one. While the model is down, the line has a gap.
            assert field["custom"]["lineInterpolation"] == ("stepAfter" if title == "Result" else "linear"), title
            assert not field["custom"]["spanNulls"] and panel["options"]["legend"]["showLegend"], title
        # Only in this format, Grafana subtracts each bucket from the next one.
        assert title.startswith("Distribution") == (panel["targets"][0].get("format") == "heatmap"), title
        if panel["type"] == "state-timeline":
            # If the color's mode were "thresholds", Grafana would draw merged states without the mappings' colors.
            assert panel["options"]["mergeValues"] and field["color"]["mode"] == "fixed"
            assert (panel["options"]["showValue"], field["custom"]["fillOpacity"]) == ("auto", 100)


def test_the_table_of_a_class_is_on_the_first_screen():
    table = PANELS["Models"]
    # At 1280x720, Grafana shows 14 rows of its grid.
    assert table["gridPos"] == {"x": 0, "y": 3, "w": 24, "h": 12}
    organize = next(each["options"] for each in table["transformations"] if each["id"] == "organize")
    labels = {"instance": "Model", "student": "Student", "class": "Class"}
    values = {"Value #A": "State", "Value #B": "High in 5 min", "Value #C": "Result", "Value #D": "Age"}
    assert organize["renameByName"] == labels | values and organize["excludeByName"] == {"Time": True}
    assert organize["indexByName"] == {column: place for place, column in enumerate(labels | values)}
    assert [target["refId"] for target in table["targets"]] == list("ABCD")
    # Models that are down come first, then those with the most high results.
    order = [(each["displayName"], each["desc"]) for each in table["options"]["sortBy"]]
    assert order == [("State", False), ("High in 5 min", True)]
    fields = overrides(table)
    shown = [(fields[name].get("unit"), fields[name]["decimals"]) for name in ("High in 5 min", "Result", "Age")]
    assert shown == [("percentunit", 0), (None, 3), ("suffix: s", 1)]
    cells = [fields[name]["custom.cellOptions"]["type"] for name in ("State", "High in 5 min", "Result", "Age")]
    assert cells == ["color-background", "color-background", "gauge", "color-background"]
    assert limits(fields["High in 5 min"]) == [("transparent", 0), (ORANGE, 0.5)]
    assert limits(fields["Age"]) == [("transparent", 0), (ORANGE, STALE)]
    assert limits(fields["Result"]) == [("blue", 0), ("orange", HIGH)]
    assert (fields["Result"]["min"], fields["Result"]["max"]) == (0, 1)
    # A click leads to the model.
    assert "?var-instance=${__field.labels.instance}&" in PANELS["Result"]["fieldConfig"]["defaults"]["links"][0]["url"]
    timeline = PANELS["Models that were down"]["fieldConfig"]["defaults"]["links"][0]["url"]
    for url, model in ((fields["Model"]["links"][0]["url"], "__value.raw"), (timeline, "__field.labels.instance")):
        assert url == f"/d/modelmock?var-instance=${{{model}}}&from=${{__from}}&to=${{__to}}"


def states(panel):
    """The word and the color of each state that the panel prints, by its number."""
    fields = (panel["fieldConfig"]["defaults"], *overrides(panel).values())
    found = [mapping["options"] for field in fields for mapping in field.get("mappings", [])]
    return {value: (state["text"], state["color"]) for options in found for value, state in options.items()}


def test_a_state_is_printed_in_words():
    found = {title: states(panel) for title, panel in PANELS.items() if states(panel)}
    assert found.pop("Alerts") == {"0": ("inactive", BLUE), "1": ("pending", ORANGE), "2": ("firing", RED)}
    up_or_down = {"0": ("DOWN", ORANGE), "1": ("UP", BLUE)}
    assert found == dict.fromkeys(["Models", "Models that were down", "Target"], up_or_down)


# On the first three, Grafana writes with a contrast of at least 4.5 (WCAG 2 AA), and blue and orange differ without
# color, too. The next two are text that is readable in both themes. The others are neither text nor behind text.
COLORS = {ORANGE, BLUE, RED, "blue", "red", "transparent", "green", "orange", "text", "rgba(255,0,255,0.7)"}


def test_the_colors_are_those_whose_contrast_was_computed():
    assert set(re.findall(r'"color": "([^"]+)"', json.dumps(DASHBOARDS))) == COLORS
