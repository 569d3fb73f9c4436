//! The replicas over one store: which releases they are of, and whether they are configured alike.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::finding::Finding;
use crate::flows::store::replica_note::EVERY;
use crate::model::replica_note::ReplicaNote;
use cratehouse_core::excerpt::excerpt;
use cratehouse_storage::format_level::Level;

/// Notes that a replica may miss before it counts as gone.
const MISSED: u32 = 3;
const CHECK: &str = "replicas";
/// The most that one finding names; there are seldom as many.
const SHOWN: usize = 20;

/// Judges what replicas noted of themselves. `enabled` is the registry's format level.
pub fn judge(notes: &[ReplicaNote], enabled: Level, now: Timestamp) -> Vec<Finding> {
    let too_old = SignedDuration::try_from(EVERY * MISSED).unwrap_or(SignedDuration::MAX);
    let is_heard = |note: &&ReplicaNote| now.duration_since(note.noted) <= too_old;
    let (heard, silent): (Vec<_>, Vec<_>) = notes.iter().partition(is_heard);
    let mut findings = vec![releases(&heard)];
    findings.extend(configurations(&heard));
    findings.extend(levels(&heard, enabled));
    findings.extend(silent.iter().take(SHOWN).map(|note| {
        let found = format!("`{}` was last heard of at {:.0}", excerpt(&note.replica), note.noted);
        let cure = "look whether it runs and reaches the store; if it is gone for good, its note is removed by itself after 30 days";
        Finding::mind(CHECK, found, cure)
    }));
    if let Some(more) = more(silent.len()) {
        findings.push(Finding::mind(
            CHECK,
            format!("{more} were not heard of for as long"),
            "look at `replicas/` in the store",
        ));
    }
    findings
}

fn more(all: usize) -> Option<String> {
    (all > SHOWN).then(|| format!("{} more", all - SHOWN))
}

fn named(notes: &[&ReplicaNote], what: impl Fn(&ReplicaNote) -> String) -> String {
    let shown = notes.iter().take(SHOWN);
    let each = shown.map(|note| format!("`{}` {}", excerpt(&note.replica), what(note)));
    each.chain(more(notes.len())).collect::<Vec<_>>().join(", ")
}

fn releases(heard: &[&ReplicaNote]) -> Finding {
    let releases: BTreeSet<_> = heard.iter().map(|note| (&note.release, &note.commit)).collect();
    let told =
        named(heard, |note| format!("{} ({})", excerpt(&note.release), excerpt(&note.commit)));
    match (heard.len(), releases.len()) {
        (0, _) => {
            Finding::fine(CHECK, "no server runs over this store now, as far as they note it")
        }
        (_, 1) => Finding::fine(CHECK, format!("of one release: {told}")),
        _ => Finding::mind(
            CHECK,
            format!("of different releases: {told}"),
            "bring the upgrade to its end; until then enable no format level",
        ),
    }
}

fn configurations(heard: &[&ReplicaNote]) -> Option<Finding> {
    let configs: BTreeSet<_> = heard.iter().map(|note| &note.config).collect();
    (configs.len() > 1).then(|| {
        let told = named(heard, |note| excerpt(&note.config));
        let cure =
            "compare their configurations: each prints its hash with `cratehouse config check`";
        Finding::mind(CHECK, format!("configured differently: {told}"), cure)
    })
}

fn levels(heard: &[&ReplicaNote], enabled: Level) -> Option<Finding> {
    let behind: Vec<_> = heard.iter().copied().filter(|note| note.level < enabled).collect();
    (!behind.is_empty()).then(|| {
        let told = named(&behind, |note| format!("knows levels up to {}", note.level));
        let found = format!("format level {enabled} is enabled, and {told}");
        Finding::wrong(CHECK, found, "upgrade them: they do not follow the journal any more")
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn note(replica: &str, release: &str, config: &str, minutes_ago: i64) -> ReplicaNote {
        let noted = now() - SignedDuration::from_mins(minutes_ago);
        ReplicaNote {
            replica: replica.to_owned(),
            release: release.to_owned(),
            commit: "abc".to_owned(),
            config: config.to_owned(),
            level: Level::FIRST,
            started: noted,
            noted,
        }
    }

    fn told(notes: &[ReplicaNote], enabled: Level) -> Vec<(Gravity, String)> {
        judge(notes, enabled, now()).into_iter().map(|f| (f.gravity, f.found)).collect()
    }

    #[test]
    fn replicas_of_one_release_and_configuration_are_fine() {
        assert_eq!(told(&[], Level::FIRST)[0].0, Gravity::Fine);
        let notes = [note("a", "0.1.0", "x", 1), note("b", "0.1.0", "x", 29)];
        let fine = "of one release: `a` 0.1.0 (abc), `b` 0.1.0 (abc)";
        assert_eq!(told(&notes, Level::FIRST), [(Gravity::Fine, fine.to_owned())]);
    }

    #[test]
    fn other_releases_configurations_levels_and_silence_are_told() {
        let notes =
            [note("a", "0.1.0", "x", 1), note("b", "0.2.0", "y", 1), note("c", "0.1.0", "x", 31)];
        let told = told(&notes, Level::KNOWN);
        let of = |nth: usize| (told[nth].0, told[nth].1.as_str());
        assert_eq!(
            of(0),
            (Gravity::Mind, "of different releases: `a` 0.1.0 (abc), `b` 0.2.0 (abc)")
        );
        assert_eq!(of(1), (Gravity::Mind, "configured differently: `a` x, `b` y"));
        assert!(of(2).0 == Gravity::Wrong && of(2).1.contains("knows levels up to 1"), "{told:?}");
        assert!(
            of(3).0 == Gravity::Mind && of(3).1.contains("`c` was last heard of at"),
            "{told:?}"
        );
        assert_eq!(told.len(), 4);
    }
}
