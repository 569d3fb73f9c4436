//! Prometheus and Grafana: that the rules are sound and every alert is tried, that what rules and
//! dashboard name exists, and that a real Prometheus gets an answer to each of their questions from a
//! gateway under load.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cratehouse_tests::cargo::Folder;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::prometheus::{Prometheus, promtool};
use cratehouse_tests::upstream::Upstream;
use serde_json::Value;

mod queries;

use queries::{Named, named};

const JOB: &str = "cratehouse";

/// Labels that Prometheus adds.
const SCRAPED: &[&str] = &["job", "instance"];

fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path).canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rules() -> String {
    read(&deployed("prometheus/rules.yaml"))
}

/// What the code's own table says of a metric.
struct Known {
    kind: String,
    /// With all values, where they are known.
    labels: BTreeMap<String, Vec<String>>,
}

/// `docs/metrics.md`, which a test of the gateway keeps equal to the code.
fn table() -> BTreeMap<String, Known> {
    let page = read(&deployed("..").join("docs/metrics.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let table: BTreeMap<_, _> = rows.map(row).collect();
    assert!(table.len() > 40, "the table is elsewhere");
    table
}

fn row(line: &str) -> (String, Known) {
    let cells: Vec<_> = line.split(" | ").collect();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let labels = cells[2].split(';').map(quoted).filter(|words: &Vec<String>| !words.is_empty());
    let labels = labels.map(|words| (words[0].clone(), words[1..].to_vec())).collect();
    let name = cells[0].trim_end_matches('`').to_owned();
    (name, Known { kind: cells[1].to_owned(), labels })
}

fn dashboard() -> Value {
    serde_json::from_str(&read(&deployed("grafana/dashboard.json"))).unwrap()
}

/// Every query of the dashboard, after the title of its panel; those of its variables too.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables = variables.filter_map(|variable| {
        let inner = variable["definition"].as_str()?.strip_prefix("label_values(")?;
        let (selector, label) = inner.strip_suffix(')')?.rsplit_once(", ")?;
        Some((variable["name"].to_string(), format!("count by ({label}) ({selector})")))
    });
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].to_string(), target["expr"].as_str().unwrap().into()))
    });
    let queries: Vec<_> = variables.chain(targets).collect();
    assert!(queries.len() > 60, "the queries are elsewhere: {queries:?}");
    queries
}

/// As Grafana fills it in, for all replicas.
fn filled_in(query: &str) -> String {
    query
        .replace("$job", JOB)
        .replace("$instance", ".*")
        .replace("$__rate_interval", "30s")
        .replace("$__range", "5m")
}

/// What is wrong with the metrics and labels that a text of queries names.
fn unknown(text: &str, table: &BTreeMap<String, Known>) -> Vec<String> {
    let Named { metrics, grouped_by } = named(text);
    let mut wrong = Vec::new();
    for (name, labels) in &metrics {
        let Some((known, is_bucket)) = look_up(name, table) else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        for (label, value) in labels {
            let values = known.labels.get(label);
            let is_known = values.is_some_and(|all| {
                let possible = |one: &str| all.is_empty() || all.iter().any(|it| it == one);
                value.split('|').all(possible)
            });
            let added = SCRAPED.contains(&label.as_str()) || is_bucket && label == "le";
            if !(is_known || added) {
                wrong.push(format!("{name} has no label {label} that could be {value}"));
            }
        }
    }
    let everywhere: BTreeSet<_> = table.values().flat_map(|known| known.labels.keys()).collect();
    let fine = |label: &String| {
        everywhere.contains(label) || SCRAPED.contains(&label.as_str()) || label == "le"
    };
    let strange = grouped_by.into_iter().filter(|label| !fine(label));
    wrong.extend(strange.map(|label| format!("nothing has a label {label}")));
    wrong
}

/// A metric by the name of one of its series.
fn look_up<'t>(name: &str, table: &'t BTreeMap<String, Known>) -> Option<(&'t Known, bool)> {
    if let Some(known) = table.get(name) {
        return (known.kind != "histogram").then_some((known, false));
    }
    let (base, part) = name.rsplit_once('_')?;
    let known = table.get(base).filter(|known| known.kind == "histogram")?;
    ["bucket", "count", "sum"].contains(&part).then_some((known, part == "bucket"))
}

#[test]
fn the_rules_are_sound_and_every_alert_fires_and_stays_silent_when_it_should() {
    let folder = deployed("prometheus");
    for args in [["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]] {
        let output = promtool(&folder, &args, "");
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn every_alert_is_tried_and_says_what_to_do_first() {
    let (rules, tests) = (rules(), read(&deployed("prometheus/rules.test.yaml")));
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 30, "the alerts are elsewhere");
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let fires = format!("alertname=\"{name}\", alertstate=\"firing\"");
        assert!(tests.contains(&fires), "{name} is not tried");
        assert_eq!(rules.matches(&format!("- alert: {name}\n")).count(), 1, "{name}");
        let chapter = format!("runbook_url: docs/operations.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&chapter), "{name} names no chapter");
        for key in ["labels: {severity: ", "summary: ", "description: >-\n"] {
            assert!(alert.contains(key), "{name} lacks {key}");
        }
        let mut words = alert.split_whitespace();
        assert!(words.any(|word| word == "First" || word == "first"), "{name} says nothing to do");
    }
}

#[test]
fn every_alarm_that_the_gateway_can_raise_has_an_alert() {
    let table = table();
    for alarm in &table["cratehouse_alarms_total"].labels["alarm"] {
        let watched =
            |line: &&str| line.contains("cratehouse_alarms_total{") && line.contains(alarm);
        assert!(rules().lines().any(|line| watched(&line)), "{alarm}");
    }
}

#[test]
fn what_rules_and_dashboard_name_exists() {
    let (table, rules) = (table(), rules());
    let mut wrong = unknown(&rules, &table);
    for (title, query) in dashboard_queries() {
        wrong.extend(unknown(&query, &table).into_iter().map(|why| format!("{title}: {why}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let queries: String = dashboard_queries().into_iter().map(|(_, query)| query + "\n").collect();
    let shown = named(&queries).metrics;
    let is_shown = |name: &str| {
        let series = ["", "_bucket", "_count"].map(|part| format!("{name}{part}"));
        shown.iter().any(|(one, _)| series.contains(one))
    };
    let table = table();
    let missing: Vec<_> = table.keys().filter(|name| !is_shown(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn metrics_are_named_as_prometheus_wants_them() {
    let scene = Scene::start();
    scene.act(0);
    let scrape = scene.gateway.admin().get("/metrics").assert_status(200).text();
    let output = promtool(Path::new("/"), &["check", "metrics"], &scrape);
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && told.is_empty(), "{told}");
}

#[test]
fn each_query_of_dashboard_and_rules_has_an_answer_from_a_gateway_under_load() {
    let scene = Scene::start();
    let target = scene.gateway.admin().base().trim_start_matches("http://").to_owned();
    let prometheus = Prometheus::start(&deployed("prometheus/rules.yaml"), JOB, &[target]);
    until("it is scraped", || prometheus.query("up == 1").len() == 1);
    let recorded = prometheus.recorded().into_iter().map(|name| (name.clone(), name));
    let mut open: Vec<_> = dashboard_queries().into_iter().chain(recorded).collect();
    let mut round = 0;
    until("each query has an answer", || {
        scene.act(round);
        round += 1;
        open.retain(|(_, query)| {
            let samples = prometheus.query(&filled_in(query));
            !samples.iter().any(|sample| !sample.value.is_nan())
        });
        if round % 10 == 0 {
            eprintln!("round {round}, without an answer: {open:?}");
        }
        open.is_empty()
    });
    assert_eq!(prometheus.rule_errors(), Vec::<String>::new());
    let alarms = prometheus.query("ALERTS{alertname=\"CratehouseStoredBytesDamaged\"}");
    assert_eq!(alarms, [], "what did not happen is not told");
}

/// A gateway with a policy and an upstream, and everything that can happen to it.
struct Scene {
    upstream: Upstream,
    gateway: Gateway,
    token: String,
    /// Must live as long.
    _policy: Folder,
}

const POLICY: &str = "\
[advisories]
vulnerability = \"hold\"
[licenses]
allow = [\"MIT\"]
action = \"hold\"
mode = \"observe\"
[[ban]]
name = \"bad-*\"
reason = \"known to be malicious\"
[publish]
require = [\"description\"]
";

const ADVISORY: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"public\"\n\
    date = \"2026-01-02\"\n\n[versions]\npatched = [\">= 2.0.0\"]\n```\n\n# A hole\n\nIt leaks.\n";

impl Scene {
    fn start() -> Self {
        let (upstream, policy) = (Upstream::start(), Folder::empty());
        policy.write("policy.toml", POLICY);
        policy.write("db/crates/public/RUSTSEC-2026-0001.md", ADVISORY);
        let path = policy.path().display();
        let gateway = Gateway::builder()
            .upstream(UpstreamConfig::from(&upstream).fresh_seconds(1))
            .set("policy", &format!("dir = \"{path}\""))
            .set("policy", &format!("advisories = \"{path}/db\""))
            .set("pulls", "flush_seconds = 1")
            .set("catalog", "checkpoint_entries = 2")
            .set("log", "filter = \"error\"")
            .start();
        let token = gateway.token("alice");
        Self { upstream, gateway, token, _policy: policy }
    }

    /// Hits, misses, refusals, verdicts, publishes; in every third round the upstream fails.
    fn act(&self, round: u32) {
        let client = self.gateway.client();
        let (good, bad) = (format!("good-{round}"), format!("bad-{round}"));
        for name in ["public", &good, &bad] {
            self.upstream.publish(&Krate::new(name, "1.0.0"));
        }
        self.upstream.set(|switches| switches.down = round % 3 == 2);
        for _ in 0..2 {
            client.index("public");
            client.index(&good);
            client.index(&bad);
            client.download("public", "1.0.0");
            client.download(&good, "1.0.0");
            client.download(&bad, "1.0.0");
        }
        client.index("absent");
        client.get("/index/config.json").assert_status(200);
        client.get("/api/v1/crates?q=public").assert_status(200);
        let krate = Krate::new(&format!("ours-{round}"), "1.0.0");
        let described = krate.clone().package("description", "ours");
        client.publish(&krate, &self.token);
        client.publish(&described, &self.token);
        client.publish(&described, "wrong").assert_status(401);
    }
}
