//! What policies make of the 300 versions of an index file.

use std::collections::HashSet;
use std::fmt::Write as _;

use cratehouse_package::index::Listed;
use cratehouse_policy::{
    Advisories, Advisory, AgeFact, IntegrityFact, Policy, PolicyText, Source, Subject, hide,
};
use divan::Bencher;

use crate::input::{self, File, NAME};

/// The starter policy of this repository.
pub(crate) const STARTER: &str = include_str!("../../../policies/starter/policy.toml");
/// What a version is judged at: every version is old then.
const NOW: &str = "2026-01-01T00:00:00Z";

/// The starter policy; or that many bans, allows and waivers beside it.
#[divan::bench(args = [0, 20, 200])]
fn judging(bencher: Bencher, entries: usize) {
    let policy = policy(entries);
    let (advisories, now) = (advisories(), NOW.parse().unwrap());
    let listed = File::Usual.read().versions;
    bencher.bench(|| {
        let rules = policy.about(&input::name());
        let hides = |listed: &&Listed| {
            rules.judge(&subject(listed), Some(&advisories), now).verdict.hides()
        };
        listed.iter().filter(hides).count()
    });
}

/// Half of the lines are shown as yanked.
#[divan::bench(args = [File::Usual, File::Large])]
fn hiding(bencher: Bencher, file: File) {
    let read = file.read();
    let half = read.versions.iter().take(read.versions.len() / 2);
    let hidden: HashSet<_> = half.map(|listed| listed.version.clone()).collect();
    bencher.bench(|| hide(&read.lines, &hidden));
}

fn subject(listed: &Listed) -> Subject<'_> {
    Subject {
        name: &listed.name,
        version: &listed.version,
        source: Source::Mirrored { upstream: "up" },
        age: listed.pubtime.map_or(AgeFact::Unknown, AgeFact::Published),
        yanked: listed.yanked,
        license: None,
        integrity: IntegrityFact::Sound,
    }
}

fn policy(entries: usize) -> Policy {
    let mut text = STARTER.to_owned();
    for nth in 0..entries {
        let star = if nth % 2 == 0 { "-*" } else { "" };
        let _ = writeln!(text, "[[ban]]\nname = \"banned-{nth:04}{star}\"\nversion = \"<1.2.0\"");
        let _ = writeln!(text, "[[allow]]\nname = \"allowed-{nth:04}{star}\"");
        let _ = writeln!(text, "[[waiver]]\nname = \"waived-{nth:04}\"\nversion = \"=1.0.0\"");
        let _ = writeln!(text, "until = 2999-12-31\nreason = \"reviewed\"\nwho = \"ada\"");
    }
    Policy::parse(&[PolicyText { name: "policy.toml".to_owned(), text }]).unwrap()
}

/// Eight about the crate, the last of which is about half of its versions; others about others.
fn advisories() -> Advisories {
    let about = (1..=8).map(|nth| advisory(nth, NAME, &format!("1.{nth}.0")));
    let others = (9..500).map(|nth| advisory(nth, &format!("elsewhere-{nth}"), "1.2.3"));
    Advisories::of(about.chain(others).flatten()).unwrap()
}

fn advisory(nth: usize, krate: &str, patched: &str) -> Option<Advisory> {
    let text = format!(
        "```toml\n[advisory]\nid = \"RUSTSEC-2024-{nth:04}\"\npackage = \"{krate}\"\n\
         date = \"2024-01-02\"\ncvss = \"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H\"\n\n\
         [versions]\npatched = [\">= {patched}\"]\n```\n\n# What is wrong\n\nSomething.\n"
    );
    Advisory::parse(&text).unwrap()
}
