//! docs/operations.md says what is: its alerts, keys, commands, metrics, files and links exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::upstream::Upstream;

const GUIDE: &str = "docs/operations.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What stands between backticks on one line, outside of blocks of code.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    for block in text.split("```").step_by(2) {
        // A quotation may run over the end of a line, and never over a paragraph's.
        for paragraph in block.split("\n\n") {
            let words = |one: &str| one.split_whitespace().collect::<Vec<_>>().join(" ");
            quoted.extend(paragraph.split('`').skip(1).step_by(2).map(words));
        }
    }
    quoted
}

/// `section.key` of every key in the example configuration, commented out or not.
fn keys(toml: &str) -> BTreeSet<String> {
    let (mut keys, mut section) = (BTreeSet::new(), String::new());
    for line in toml.lines().filter(|line| !line.starts_with("# ")) {
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" =") {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

/// As the hosts of such pages make them.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
}

#[test]
fn every_alert_has_its_heading_and_every_such_heading_its_alert() {
    let rules = read("deploy/prometheus/rules.yaml");
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let guide = read(GUIDE);
    let told: BTreeSet<_> = headings(&guide).filter(|h| h.starts_with("Cratehouse")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(told, alerts);
    for alert in alerts {
        let link = format!("runbook_url: docs/operations.md#{}", anchor(alert));
        assert!(rules.lines().any(|line| line.trim() == link), "{link}");
    }
}

#[test]
fn every_key_that_it_names_exists() {
    let keys = keys(&read("deploy/cratehouse.toml"));
    let sections: BTreeSet<_> = keys.iter().filter_map(|key| key.split_once('.')).collect();
    let sections: BTreeSet<_> = sections.into_iter().map(|(section, _)| section).collect();
    let named: Vec<_> = quoted(&read(GUIDE))
        .into_iter()
        .filter_map(|text| text.split([' ', '=']).next().map(str::to_owned))
        .filter(|text| text.split_once('.').is_some_and(|(s, _)| sections.contains(s)))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for key in named {
        assert!(keys.contains(&key), "there is no key `{key}`");
    }
}

#[test]
fn every_command_that_it_names_exists() {
    let gateway = Gateway::builder().prepare();
    let commands: Vec<_> = quoted(&read(GUIDE))
        .into_iter()
        .filter_map(|text| text.strip_prefix("cratehouse ").map(str::to_owned))
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        let is_verb = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
        let verbs: Vec<&str> = words.iter().take_while(is_verb).copied().collect();
        let help = gateway.cli_ok(&[&verbs[..], &["--help"]].concat());
        let usage = format!("Usage: cratehouse {}", verbs.join(" "));
        assert!(help.contains(&usage), "there is no `{command}`: {help}");
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "`{command}`: {help}");
        }
    }
}

#[test]
fn every_metric_that_it_names_exists() {
    // Some count by upstream.
    let upstream = Upstream::with(&[]);
    let gateway = Gateway::mirroring(&upstream);
    let metrics = gateway.admin().get("/metrics").assert_status(200).text();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: Vec<_> = quoted(&read(GUIDE))
        .into_iter()
        .filter(|text| text.starts_with("cratehouse_"))
        .map(|text| text.split(|c| !is_name(c)).next().unwrap().to_owned())
        .collect();
    assert!(named.len() >= 3, "{named:?}");
    for name in named {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "there is no metric `{name}`");
    }
}

#[test]
fn every_file_and_link_that_it_names_exists() {
    let guide = read(GUIDE);
    let files = quoted(&guide).into_iter().filter(|text| {
        ["tests/", "gateway/", "bench/", "deploy/"].iter().any(|folder| text.starts_with(folder))
    });
    for file in files {
        let path = file.split(' ').next().unwrap();
        assert!(root().join(path).exists(), "there is no {path}");
    }
    let links: Vec<_> = guide.split("](").skip(1).filter_map(|l| l.split(')').next()).collect();
    assert!(links.len() > 10, "{links:?}");
    for link in links {
        let (file, place) = link.split_once('#').unwrap_or((link, ""));
        let text = match file {
            "" => guide.clone(),
            file => read(&format!("docs/{file}")),
        };
        let found = place.is_empty() || headings(&text).any(|heading| anchor(heading) == place);
        assert!(found, "{link} leads nowhere");
    }
}

#[test]
fn the_readers_of_the_guide_read() {
    assert_eq!(quoted("a `b` c\n`d\ne` f\n```\n`g`\n```\n`h`"), ["b", "d e", "h"]);
    let toml = "#data = 1\n# text = 2\n[server]\n# About it.\n#listen = 3\n[[upstream]]\n#name = 4";
    let wanted = [".data", "server.listen", "upstream.name"].map(str::to_owned);
    assert_eq!(keys(toml), BTreeSet::from(wanted));
    assert_eq!(anchor("Backup and restore"), "backup-and-restore");
}
