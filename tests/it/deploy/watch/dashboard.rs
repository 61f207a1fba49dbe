//! The dashboard as a file: what Grafana would show empty or not at all. That its queries find something is in `live`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{read, yaml};

/// Kinds of panels that come with Grafana.
const KINDS: [&str; 4] = ["stat", "state-timeline", "table", "timeseries"];
/// What Grafana itself puts into queries.
const BUILT_IN: [&str; 1] = ["__rate_interval"];
/// Columns of the page.
const COLUMNS: u64 = 24;

/// A query of the dashboard.
pub(super) struct Query {
    /// The panel's title and the query's letter.
    pub(super) name: String,
    pub(super) expression: String,
    /// Of this moment, and not a graph.
    pub(super) is_instant: bool,
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/sse-sunset.json")).expect("JSON")
}

/// All panels; those of a row that is folded are in it.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().into_iter().flatten();
    all.flat_map(|panel| [panel].into_iter().chain(panel["panels"].as_array().into_iter().flatten())).collect()
}

/// All queries as Grafana would ask them, for every replica, and those of its annotations.
pub(super) fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let asked = |expression: &Value| {
        let text = expression.as_str().expect("a query");
        text.replace("$job", "sse-sunset").replace("$instance", ".+").replace("$__rate_interval", "30s")
    };
    let mut queries = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(Query {
                name: format!("{} {}", panel["title"], target["refId"]),
                expression: asked(&target["expr"]),
                is_instant: target["instant"] == true,
            });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        queries.push(Query {
            name: annotation["name"].to_string(),
            expression: asked(&annotation["expr"]),
            is_instant: false,
        });
    }
    queries
}

fn variables(expression: &str) -> impl Iterator<Item = &str> {
    expression.split('$').skip(1).map(|rest| {
        let rest = rest.trim_start_matches('{');
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// What is wrong with a dashboard.
fn faults(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let defined = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let defined: BTreeSet<&str> = defined.filter_map(|variable| variable["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap_or_default();
        let mut fault = |what: &str| faults.push(format!("{title:?}: {what}"));
        if panel["id"].as_u64().is_none_or(|id| !ids.insert(id)) {
            fault("no id of its own");
        }
        if title.is_empty() {
            fault("no title");
        }
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_default();
        let (x, y, width, height) = (place("x"), place("y"), place("w"), place("h"));
        if width == 0 || height == 0 || x + width > COLUMNS {
            fault("no room");
        }
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            if !taken.insert(cell) {
                fault("covers another");
                break;
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        if !KINDS.iter().any(|kind| panel["type"] == *kind) {
            fault("no kind of panel that comes with Grafana");
        }
        if panel["description"].as_str().is_none_or(str::is_empty) {
            fault("no description");
        }
        if panel["fieldConfig"]["defaults"]["unit"].as_str().is_none_or(str::is_empty) {
            fault("no unit");
        }
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.is_empty() {
            fault("asks nothing");
        }
        let letters: BTreeSet<_> = targets.iter().filter_map(|target| target["refId"].as_str()).collect();
        if letters.len() != targets.len() {
            fault("two queries of one letter");
        }
        for target in targets {
            if target["legendFormat"].as_str().is_none_or(str::is_empty) {
                fault("no legend");
            }
            let expression = target["expr"].as_str().unwrap_or_default();
            if !expression.contains("job=\"$job\"") {
                fault("asks for other jobs, too");
            }
            if !variables(expression).all(|name| defined.contains(name) || BUILT_IN.contains(&name)) {
                fault("asks for a variable that is not there");
            }
            for source in [&panel["datasource"], &target["datasource"]] {
                if source["uid"] != "${datasource}" || source["type"] != "prometheus" {
                    fault("a data source that cannot be chosen");
                }
            }
        }
    }
    if !defined.contains("datasource") {
        faults.push("no data source to choose".to_owned());
    }
    faults
}

#[test]
fn dashboard_has_nothing_that_grafana_would_show_empty() {
    let good = dashboard();
    assert_eq!(faults(&good), Vec::<String>::new());
    let first = good["panels"].as_array().expect("panels").iter().position(|panel| panel["type"] != "row");
    let first = format!("/panels/{}", first.expect("a panel"));
    for (part, value, expected) in [
        ("/id", json!(1), "no id of its own"),
        ("/title", json!(""), "no title"),
        ("/description", json!(""), "no description"),
        ("/type", json!("piechart2"), "no kind of panel that comes with Grafana"),
        ("/gridPos/x", json!(21), "no room"),
        ("/gridPos/w", json!(5), "covers another"),
        ("/fieldConfig/defaults/unit", json!(""), "no unit"),
        ("/targets", json!([]), "asks nothing"),
        ("/targets/0/legendFormat", json!(""), "no legend"),
        ("/targets/0/expr", json!("up{job=\"$jobs\"}"), "asks for a variable that is not there"),
        ("/targets/0/expr", json!("up"), "asks for other jobs, too"),
        ("/targets/0/datasource/uid", json!("mine"), "a data source that cannot be chosen"),
    ] {
        let mut broken = good.clone();
        *broken.pointer_mut(&format!("{first}{part}")).expect("a part") = value;
        assert!(faults(&broken).iter().any(|fault| fault.ends_with(expected)), "{part}: {:?}", faults(&broken));
    }
}

/// What Grafana's own models do not know in a dashboard.
fn unknown(dashboard: &Value) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(root.join("target/grafana/bin/python3"));
    python.arg(root.join("tests/it/deploy/watch/grafana.py"));
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().expect("Grafana's models, which tests/run puts below target");
    python.stdin.take().expect("piped").write_all(dashboard.to_string().as_bytes()).expect("it reads");
    let output = python.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn dashboard_is_what_grafanas_own_models_know() {
    let good = dashboard();
    assert_eq!(unknown(&good), Vec::<String>::new());
    let mut broken = good;
    broken["refesh"] = "1m".into();
    broken["panels"][1]["options"]["graphmode"] = "none".into();
    broken["panels"][1]["targets"][0]["legend"] = "x".into();
    broken["templating"]["list"][0]["hidden"] = true.into();
    let mut found = unknown(&broken);
    found.sort();
    let expected =
        ["/panels/1/options/graphmode", "/panels/1/targets/0/legend", "/refesh", "/templating/list/0/hidden"];
    assert_eq!(found, expected);
}

#[test]
fn dashboard_and_data_source_are_put_where_grafana_looks() {
    let source = &yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    let provider = &yaml("grafana/provisioning/dashboards/sse-sunset.yml")["providers"][0];
    let folder = provider["options"]["path"].as_str().expect("a folder");
    for file in ["compose/solo/compose.yaml", "compose/watch.yaml"] {
        let services = &yaml(file)["services"];
        let home = &services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
        assert_eq!(home, &json!(format!("{folder}/sse-sunset.json")), "{file}");
        let volumes: Vec<_> = services["grafana"]["volumes"].as_array().expect("volumes").iter().collect();
        let mounted =
            |place: &str| volumes.iter().any(|volume| volume.as_str().is_some_and(|text| text.contains(place)));
        assert!(mounted(&format!("/grafana/sse-sunset.json:{folder}/sse-sunset.json:ro")), "{volumes:?}");
        for name in ["datasources/prometheus.yml", "dashboards/sse-sunset.yml"] {
            let place = format!("/grafana/provisioning/{name}:/etc/grafana/provisioning/{name}:ro");
            assert!(mounted(&place), "{place}: {volumes:?}");
        }
        assert!(services["prometheus"].is_object() && source["url"] == "http://prometheus:9090", "{source}");
    }
    let interval = yaml("prometheus/prometheus.yml")["global"]["scrape_interval"].clone();
    assert_eq!(source["jsonData"]["timeInterval"], interval, "$__rate_interval rests on it");
}
