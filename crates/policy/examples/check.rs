//! Judges a version by a folder of policy files, as the registry would.
//!
//! ```sh
//! cargo run -p cratehouse-policy --example check -- policies/starter serde 1.0.0 2020-01-01T00:00:00Z
//! ```

#![allow(clippy::disallowed_macros, reason = "it is all that this prints")]

use std::error::Error;

use cratehouse_policy::{AgeFact, IntegrityFact, Policy, PolicyText, Source, Subject};
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, name, version, published] = words.as_slice() else {
        return Err("name a folder, a crate, a version, and when it was published".into());
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let (name, text) = (path.display().to_string(), std::fs::read_to_string(&path)?);
            files.push(PolicyText { name, text });
        }
    }
    let policy = Policy::parse(&files)?;
    let (name, version) = (name.parse()?, version.parse()?);
    let subject = Subject {
        name: &name,
        version: &version,
        source: Source::Mirrored { upstream: "crates.io" },
        age: AgeFact::Published(published.parse()?),
        yanked: false,
        license: None,
        integrity: IntegrityFact::Sound,
    };
    let judgement = policy.judge(&subject, None, Timestamp::now());
    println!("`{name}` {version}: {}", judgement.verdict.label());
    for finding in &judgement.findings {
        println!("  {}: {}", finding.rule, finding.reason);
    }
    Ok(())
}
