//! The dashboards' files against the lab: their times, the red line, and that they show metrics that exist.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one that shows one model.
fn dashboard() -> Value {
    serde_json::from_str(&read("stack/grafana/dashboards/model.json")).unwrap()
}

/// The one that shows all.
fn class() -> Value {
    serde_json::from_str(&read("stack/grafana/dashboards/class.json")).unwrap()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

fn expressions(dashboard: &Value) -> Vec<&str> {
    let targets = panels(dashboard)
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

#[test]
fn they_refresh_every_5_s_and_show_the_last_15_minutes() {
    for (dashboard, uid) in [(dashboard(), "modelmock"), (class(), "modelmock-class")] {
        assert_eq!(dashboard["refresh"], "5s");
        assert_eq!(dashboard["time"]["from"], "now-15m");
        assert_eq!(dashboard["time"]["to"], "now");
        assert_eq!(dashboard["schemaVersion"], 42);
        assert_eq!(dashboard["uid"], uid);
        assert!(dashboard.get("id").is_none(), "Grafana gives the id");
    }
}

#[test]
fn its_red_line_is_where_the_rule_fires() {
    let rules = read("stack/prometheus/rules/model.yml");
    let rule = rules.lines().find(|line| line.contains("expr: model_result{")).unwrap();
    let figure: f64 = rule.rsplit("> ").next().unwrap().parse().unwrap();
    let dashboard = dashboard();
    let graph = &panels(&dashboard)[0];
    let defaults = &graph["fieldConfig"]["defaults"];
    assert_eq!(graph["type"], "timeseries");
    assert_eq!(
        (defaults["min"].as_f64(), defaults["max"].as_f64()),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(defaults["custom"]["thresholdsStyle"]["mode"], "line");
    let steps = defaults["thresholds"]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[1]["color"], "red");
    assert_eq!(steps[1]["value"].as_f64(), Some(figure));
    // The class counts the results above it, and marks them in its table.
    let class = class();
    let high = format!("> {figure})");
    assert!(expressions(&class).iter().any(|text| text.contains(&high)));
    let table = panels(&class).iter().find(|panel| panel["type"] == "table");
    let marks = table.unwrap()["fieldConfig"]["overrides"].to_string();
    assert!(marks.contains(&format!(r#"{{"color":"red","value":{figure}}}"#)));
}

#[test]
fn its_graph_goes_in_steps_as_a_result_holds_until_the_next() {
    let dashboard = dashboard();
    let graph = &panels(&dashboard)[0];
    let drawn = &graph["fieldConfig"]["defaults"]["custom"]["lineInterpolation"];
    assert_eq!(drawn, "stepAfter");
    assert!(graph["description"].as_str().unwrap().contains("steps"));
}

#[test]
fn their_panels_have_room_and_the_provisioned_data_source() {
    let source = read("stack/grafana/provisioning/datasources/prometheus.yml");
    let uid = source
        .lines()
        .find_map(|line| line.trim().strip_prefix("uid: "))
        .unwrap();
    // Another store of the same metrics can be chosen for the class; this one is its default.
    let class = class();
    let choice = &class["templating"]["list"][0];
    assert_eq!(choice["name"], "datasource");
    assert_eq!(choice["current"]["value"], uid);
    for (dashboard, uid) in [(&dashboard(), uid), (&class, "${datasource}")] {
        have_room(dashboard, uid);
    }
}

fn have_room(dashboard: &Value, uid: &str) {
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(dashboard) {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is wider than the grid");
        for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], uid, "{title}");
        }
        assert!(
            panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{title}"
        );
    }
}

#[test]
fn its_states_are_drawn_by_their_mappings() {
    let dashboard = dashboard();
    let states = panels(&dashboard)
        .iter()
        .find(|panel| panel["type"] == "state-timeline")
        .unwrap();
    let defaults = &states["fieldConfig"]["defaults"];
    let mapped = defaults["mappings"][0]["options"].as_object().unwrap();
    let texts: Vec<_> = mapped.values().map(|state| &state["text"]).collect();
    assert_eq!(texts, ["inactive", "pending", "firing"]);
    // Grafana draws merged values by their thresholds instead, where it may (mergeThresholdValues).
    assert_eq!(states["options"]["mergeValues"], true);
    assert_ne!(defaults["color"]["mode"], "thresholds");
}

#[test]
fn its_list_picks_one_model_and_every_query_heeds_it() {
    let dashboard = dashboard();
    let list = &dashboard["templating"]["list"][0];
    assert_eq!(list["name"], "instance");
    assert_eq!((&list["multi"], &list["includeAll"]), (&false.into(), &false.into()));
    assert!(list["current"].get("value").is_none(), "the first is picked");
    for expression in expressions(&dashboard) {
        let selectors = expression.matches('{').count();
        let heeding = expression.matches(r#"instance="$instance""#).count();
        assert_eq!(heeding, selectors, "{expression}");
    }
}

#[test]
fn the_class_is_chosen_by_its_label_and_each_model_leads_to_its_own_dashboard() {
    let class = class();
    let list = &class["templating"]["list"][1];
    assert_eq!(list["name"], "class");
    assert_eq!(list["allValue"], ".*");
    assert_eq!(list["current"]["value"][0], "$__all");
    for expression in expressions(&class) {
        let selectors = expression.matches("{job=").count();
        let heeding = expression.matches(r#"class=~"$class""#).count();
        assert_eq!(heeding, selectors, "{expression}");
    }
    for kind in ["table", "state-timeline"] {
        let panel = panels(&class).iter().find(|panel| panel["type"] == kind);
        let fields = panel.unwrap()["fieldConfig"].to_string();
        assert!(fields.contains("/d/modelmock?var-instance=${"), "{kind}");
    }
}

#[test]
fn they_show_metrics_that_exist_one_of_each_type() {
    let page = read("tests/page.prom");
    let dashboard = dashboard();
    let class = class();
    let all = [expressions(&dashboard), expressions(&class)].concat();
    let expressions = all.join("\n");
    let names = expressions.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    for name in names.filter(|name| name.starts_with("model_") && *name != "model_mock") {
        assert!(page.contains(&format!("\n{name}")), "the page has no {name}");
    }
    for kind in ["gauge", "counter", "histogram", "summary"] {
        let mut families = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE model_")?.strip_suffix(kind));
        assert!(
            families.any(|name| expressions.contains(&format!("model_{}", name.trim()))),
            "no {kind}"
        );
    }
    for alert in ["ModelResultHigh", "ModelMockDown", "ModelResultStale"] {
        assert!(expressions.contains(alert), "no {alert}");
    }
}
