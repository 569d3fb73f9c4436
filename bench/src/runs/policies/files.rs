//! The index files that are judged.

use cratehouse_tests::krate::index_path;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::journal::index_line;

/// Crates of one sort, which differ in their names alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Sort {
    pub(super) label: &'static str,
    stem: &'static str,
    size: Size,
    /// Whether no rule has anything against any version.
    pub(super) harmless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Size {
    Versions(usize),
    Bytes(usize),
}

/// All sorts: what most lookups are for is small, so that what a lookup itself costs is seen.
pub(super) const SORTS: [Sort; 4] = [
    Sort { label: "3 versions", stem: "few", size: Size::Versions(3), harmless: false },
    Sort { label: "300 versions", stem: "usual", size: Size::Versions(300), harmless: false },
    Sort { label: "10 MB", stem: "huge", size: Size::Bytes(10_000_000), harmless: false },
    Sort { label: "10 MB, harmless", stem: "calm", size: Size::Bytes(10_000_000), harmless: true },
];

/// Every so many versions the minor number is the next.
const PATCHES: usize = 100;
/// The age of the newest version, and what lies between two. No version comes of a whole number of
/// days while it is measured, so that no verdict changes by itself.
const NEWEST: SignedDuration = SignedDuration::from_hours(3);
const BETWEEN: SignedDuration = SignedDuration::from_hours(6);
/// Older than any rule asks for.
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

impl Sort {
    /// The name of the crate of a round.
    pub(super) fn name(&self, round: usize) -> String {
        format!("{}-crate-{round:02}", self.stem)
    }

    /// A pattern that covers them all.
    pub(super) fn pattern(&self) -> String {
        format!("{}-crate-*", self.stem)
    }

    /// Where the index file of a round is.
    pub(super) fn path(&self, round: usize) -> String {
        index_path(&self.name(round))
    }

    /// How many versions there are.
    pub(super) fn versions(&self) -> usize {
        match self.size {
            Size::Versions(count) => count,
            Size::Bytes(bytes) => bytes / (self.line(0, 0, Timestamp::UNIX_EPOCH).len() + 1),
        }
    }

    /// The index file of a round, as an upstream has it.
    pub(super) fn file(&self, round: usize, now: Timestamp) -> Vec<u8> {
        let (count, mut age) = (self.versions(), NEWEST);
        let mut lines = Vec::with_capacity(count);
        for nth in (0..count).rev() {
            lines.push(self.line(round, nth, now - age));
            age += BETWEEN;
        }
        lines.reverse();
        (lines.join("\n") + "\n").into_bytes()
    }

    fn line(&self, round: usize, nth: usize, published: Timestamp) -> String {
        let published = match self.harmless {
            true => LONG_AGO.to_owned(),
            false => published.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        index_line(&self.name(round), &version(nth), &published).to_string()
    }
}

/// The number of a version; they rise.
pub(super) fn version(nth: usize) -> String {
    format!("1.{}.{}", nth / PATCHES, nth % PATCHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_as_large_as_their_names_say() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (sort, versions, bytes) in SORTS
            .iter()
            .zip([3..4, 300..301, 5_000..12_000, 5_000..12_000])
            .zip([1_000..10_000, 200_000..500_000, 9_500_000..10_500_000, 9_500_000..10_500_000])
            .map(|((sort, versions), bytes)| (sort, versions, bytes))
        {
            let file = sort.file(0, now);
            assert!(versions.contains(&file.split_inclusive(|b| *b == b'\n').count()));
            assert!(bytes.contains(&file.len()), "{}: {}", sort.label, file.len());
        }
    }

    #[test]
    fn the_newest_version_is_the_last_line() {
        let file = SORTS[0].file(7, "2026-01-02T03:00:00Z".parse().unwrap());
        let lines: Vec<serde_json::Value> = file
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let last = lines.last().unwrap();
        assert_eq!((&last["vers"], &last["name"]), (&"1.0.2".into(), &"few-crate-07".into()));
        assert_eq!(last["pubtime"], "2026-01-02T00:00:00Z");
        assert_eq!(lines[0]["pubtime"], "2026-01-01T12:00:00Z");
    }
}
