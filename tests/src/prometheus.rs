//! A real Prometheus on a port of its own, which keeps what it scrapes in a folder that vanishes, and
//! `promtool`, which comes with it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::gateway::free_port;
use crate::patience::until;
use crate::watchdog::Watchdog;

const INSTALL: &str = "it is not installed: run `tests/run --install`";

/// A running Prometheus; it ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    client: Client,
    folder: TempDir,
}

/// One series of an answer, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels, as an object.
    pub labels: Value,
    /// Its value; perhaps no number (`NaN`).
    pub value: f64,
}

impl Prometheus {
    /// Starts one that loads this file of rules and scrapes these targets, each second; returns when
    /// it answers.
    pub fn start(rules: &Path, job: &str, targets: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{ "job_name": job, "static_configs": [{ "targets": targets }] }],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let addr = format!("127.0.0.1:{}", free_port());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={addr}"))
            .current_dir(folder.path())
            .process_group(Watchdog::shared().group())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus: {e}; {INSTALL}"));
        let client = Client::new(&format!("http://{addr}"), None);
        let mut this = Self { process, client, folder };
        until("Prometheus is ready", || {
            if let Some(status) = this.process.try_wait().unwrap() {
                panic!("Prometheus ended with {status}:\n{}", this.log());
            }
            let reply = this.client.try_send(reqwest::Method::GET, "/-/ready", &[], None);
            reply.is_ok_and(|reply| reply.status == 200)
        });
        this
    }

    /// What a query gives now. An error of the query is the test's mistake, or the dashboard's.
    pub fn query(&self, expr: &str) -> Vec<Sample> {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = self.client.get(&format!("/api/v1/query?query={encoded}"));
        let reply = reply.assert_status(200).json();
        let result = reply["data"]["result"].as_array().unwrap_or_else(|| panic!("{reply}"));
        let sample = |one: &Value| Sample {
            labels: one["metric"].clone(),
            value: one["value"][1].as_str().unwrap().parse().unwrap(),
        };
        result.iter().map(sample).collect()
    }

    /// The names of the rules that record something.
    pub fn recorded(&self) -> Vec<String> {
        let rules = self.client.get("/api/v1/rules?type=record").assert_status(200).json();
        let groups = rules["data"]["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What went wrong when rules were evaluated.
    pub fn rule_errors(&self) -> Vec<String> {
        let rules = self.client.get("/api/v1/rules").assert_status(200).json();
        let groups = rules["data"]["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let broken = rules.filter(|rule| rule["health"] == "err");
        broken.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect()
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `promtool` in a folder, with something to read.
pub fn promtool(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(folder)
        .process_group(Watchdog::shared().group())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool: {e}; {INSTALL}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Beside the reading of what it says, or both could wait for each other.
    let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}
