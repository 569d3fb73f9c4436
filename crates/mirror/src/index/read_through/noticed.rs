//! What an index file tells only beside its former state: pure, and kept with the store's copy.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::store::Sights;
use cratehouse_core::checksum::Checksum;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::version::CrateVersion;

/// Versions that are not listed any more whose sights are kept at the most: no crate has as many.
const MAX_AWAY: usize = 10_000;

/// When the versions without a `pubtime` were first seen here. One that was there at the first
/// fetch has no entry: it counts as old. One that loses its `pubtime` keeps its age.
pub(super) fn first_sights(
    former: &IndexFile,
    seen: &BTreeMap<CrateVersion, Timestamp>,
    new: &IndexFile,
    now: Timestamp,
) -> BTreeMap<CrateVersion, Timestamp> {
    let undated = new.versions().filter(|listed| listed.pubtime.is_none());
    let sight = |listed: &Listed| match former.version(&listed.version) {
        // One whose line could not be read for a while keeps its age.
        None => seen.get(&listed.version).copied().or(Some(now)),
        Some(was) => seen.get(&listed.version).copied().or(was.pubtime),
    };
    undated.filter_map(|listed| Some((listed.version.clone(), sight(listed)?))).collect()
}

/// Adds what must not be forgotten of versions that are not listed any more where lines could not be
/// read: they may be theirs, so that those versions were not removed, and come back as old as they are.
/// No more of them than there are such lines, the oldest first: a file that changes with every fetch must
/// not make a list that only grows. One that is left out counts as new when it comes back.
pub(super) fn keep_sights(
    former: &IndexFile,
    seen: &BTreeMap<CrateVersion, Timestamp>,
    new: &IndexFile,
    unreadable: u64,
    kept: &mut BTreeMap<CrateVersion, Timestamp>,
) {
    let away = |version: &CrateVersion| new.version(version).is_none();
    let old = |was: &Listed| was.pubtime.unwrap_or(Timestamp::UNIX_EPOCH);
    let listed = former.versions().filter(|was| away(&was.version));
    let mut gone: BTreeMap<_, _> = listed.map(|was| (was.version.clone(), old(was))).collect();
    gone.extend(seen.iter().filter(|(version, _)| away(version)).map(|(v, at)| (v.clone(), *at)));
    let mut oldest: Vec<_> = gone.into_iter().collect();
    oldest.sort_by_key(|(_, at)| *at);
    oldest.truncate(usize::try_from(unreadable).unwrap_or(MAX_AWAY).min(MAX_AWAY));
    kept.extend(oldest);
}

/// The same where no former file is left, by what was noted of all versions without a date. One that
/// was not noted has come since.
pub(super) fn recalled(
    noted: &Sights,
    new: &IndexFile,
    now: Timestamp,
) -> BTreeMap<CrateVersion, Timestamp> {
    let undated = new.versions().filter(|listed| listed.pubtime.is_none());
    let sight = |listed: &Listed| noted.get(&listed.version).copied().unwrap_or(Some(now));
    undated.filter_map(|listed| Some((listed.version.clone(), sight(listed)?))).collect()
}

/// What is to be noted of a file: its versions without a date, and when they were first seen.
pub(super) fn to_note(file: &IndexFile, seen: &BTreeMap<CrateVersion, Timestamp>) -> Sights {
    let undated = file.versions().filter(|listed| listed.pubtime.is_none());
    let note = |listed: &Listed| (listed.version.clone(), seen.get(&listed.version).copied());
    undated.map(note).collect()
}

/// Those of the versions that had changed their checksum, given with their pins, that are listed
/// with another one still.
pub(super) fn still_changed(
    before: &BTreeMap<CrateVersion, Checksum>,
    new: &IndexFile,
) -> BTreeMap<CrateVersion, Checksum> {
    let other = |(version, pinned): &(&CrateVersion, &Checksum)| {
        new.version(version).is_some_and(|listed| listed.cksum != **pinned)
    };
    before.iter().filter(other).map(|(version, pinned)| (version.clone(), *pinned)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn file(versions: &[(&str, Option<&str>, &str)]) -> IndexFile {
        let listed = versions.iter().map(|(version, pubtime, bytes)| Listed {
            name: "foo".parse().unwrap(),
            version: version.parse().unwrap(),
            cksum: Checksum::of(bytes.as_bytes()),
            yanked: false,
            pubtime: pubtime.map(at),
        });
        IndexFile::new(Bytes::new(), listed.collect())
    }

    fn at(day: &str) -> Timestamp {
        format!("2026-01-{day}T00:00:00Z").parse().unwrap()
    }

    #[test]
    fn a_version_that_appears_without_a_date_is_as_old_as_its_first_sight() {
        let first = file(&[("1.0.0", None, ""), ("1.1.0", Some("01"), "")]);
        let second = file(&[
            ("1.0.0", None, ""),
            ("1.1.0", None, ""),
            ("2.0.0", None, ""),
            ("3.0.0", Some("02"), ""),
        ]);
        let sights = first_sights(&first, &BTreeMap::new(), &second, at("03"));
        let expected = |list: &[(&str, &str)]| -> BTreeMap<CrateVersion, Timestamp> {
            list.iter().map(|(version, day)| (version.parse().unwrap(), at(day))).collect()
        };
        assert_eq!(sights, expected(&[("1.1.0", "01"), ("2.0.0", "03")]));
        let third = file(&[("1.0.0", None, ""), ("2.0.0", None, ""), ("2.0.1", None, "")]);
        let later = first_sights(&second, &sights, &third, at("04"));
        assert_eq!(later, expected(&[("2.0.0", "03"), ("2.0.1", "04")]));
    }

    #[test]
    fn of_versions_that_are_gone_no_more_is_kept_than_lines_could_not_be_read() {
        let mut seen: BTreeMap<CrateVersion, Timestamp> = BTreeMap::new();
        let mut former = file(&[("1.0.0", None, ""), ("0.0.1", Some("01"), "")]);
        for n in 2..30 {
            let (young, day) = (format!("{n}.0.0"), format!("{n:02}"));
            let new = file(&[("1.0.0", None, ""), (&young, None, "")]);
            let mut kept = first_sights(&former, &seen, &new, at(&day));
            keep_sights(&former, &seen, &new, 2, &mut kept);
            (seen, former) = (kept, new);
        }
        let expected = [("0.0.1", "01"), ("2.0.0", "02"), ("29.0.0", "29")];
        assert_eq!(seen, expected.map(|(version, day)| (version.parse().unwrap(), at(day))).into());
    }

    #[test]
    fn what_was_noted_makes_up_for_a_former_file_that_is_lost() {
        let file = file(&[("1.0.0", None, ""), ("1.1.0", None, ""), ("1.2.0", Some("01"), "")]);
        let seen = [("1.1.0".parse().unwrap(), at("02"))].into();
        let noted = to_note(&file, &seen);
        assert_eq!(recalled(&noted, &file, at("09")), seen);
        let more = super::tests::file(&[
            ("1.0.0", None, ""),
            ("1.1.0", None, ""),
            ("1.2.0", Some("01"), ""),
            ("1.3.0", None, ""),
        ]);
        let later = recalled(&noted, &more, at("09"));
        let expected = [("1.1.0", "02"), ("1.3.0", "09")];
        let expected = expected.map(|(version, day)| (version.parse().unwrap(), at(day)));
        assert_eq!(later, expected.into());
    }

    #[test]
    fn a_changed_version_stays_so_until_it_is_listed_as_it_was_or_not_at_all() {
        let changed = ["1.0.0", "1.1.0", "1.2.0"].map(|v| (v.parse().unwrap(), Checksum::of(b"a")));
        let new = file(&[("1.0.0", None, "a"), ("1.1.0", None, "b")]);
        let left = still_changed(&changed.into(), &new);
        assert_eq!(left.keys().map(ToString::to_string).collect::<Vec<_>>(), ["1.1.0"]);
    }
}
