//! The newest version of a crate, as a search shows it, and lists of them as text.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::index::Listed;
use crate::name::CrateName;
use crate::version::{CrateVersion, MAX_VERSION_BYTES};

/// The newest version, a stable one that is not yanked before all others, and how its line spells
/// the name.
pub fn newest<'a>(versions: impl Iterator<Item = &'a Listed>) -> Option<&'a Listed> {
    versions.max_by(|a, b| {
        let rank = |v: &Listed| (!v.yanked, !v.version.is_prerelease());
        rank(a).cmp(&rank(b)).then_with(|| a.version.cmp(&b.version))
    })
}

/// Adds the line of a crate: its name, and its newest version where that is known.
pub fn write_line(text: &mut String, name: &CrateName, version: Option<&str>) {
    let space = if version.is_some() { " " } else { "" };
    let _ = writeln!(text, "{name}{space}{}", version.unwrap_or_default()); // a String takes all
}

/// What a line says; `None`: it is none of ours.
pub fn read_line(line: &str) -> Option<(CrateName, Option<&str>)> {
    let (name, version) = match line.split_once(' ') {
        None => (line, None),
        Some((name, version)) => (name, Some(version)),
    };
    let is_version = |v: &str| v.len() <= MAX_VERSION_BYTES && v.parse::<CrateVersion>().is_ok();
    let version = version.filter(|version| is_version(version));
    Some((CrateName::parse(name).ok()?, version))
}

/// A text as names are compared: lower case, with `_` for `-`.
pub fn folded(text: &str) -> Cow<'_, str> {
    let is_plain = |b: u8| b.is_ascii() && !b.is_ascii_uppercase() && b != b'-';
    match text.bytes().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.to_lowercase().replace('-', "_")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::checksum::Checksum;

    fn listed(version: &str, yanked: bool) -> Listed {
        let (name, version) = ("Foo".parse().unwrap(), version.parse().unwrap());
        Listed { name, version, cksum: Checksum::of(b""), yanked, pubtime: None }
    }

    #[test]
    fn a_stable_version_that_is_not_yanked_comes_before_all_others() {
        let of = |versions: &[(&str, bool)]| {
            let all: Vec<_> = versions.iter().map(|(v, yanked)| listed(v, *yanked)).collect();
            newest(all.iter()).map(|best| best.version.to_string())
        };
        assert_eq!(
            of(&[("1.0.0", false), ("1.2.0", true), ("2.0.0-rc.1", false)]).unwrap(),
            "1.0.0"
        );
        assert_eq!(of(&[("1.2.0", true), ("2.0.0-rc.1", false)]).unwrap(), "2.0.0-rc.1");
        assert_eq!(of(&[("1.2.0", true), ("1.10.0", true)]).unwrap(), "1.10.0");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_nonsense_is_none() {
        let mut text = String::new();
        let names = [("Foo-Bar", Some("1.0.0+b")), ("a", None)];
        for (name, version) in names {
            write_line(&mut text, &name.parse().unwrap(), version);
        }
        let read: Vec<_> = text.lines().map(|line| read_line(line).unwrap()).collect();
        let read: Vec<_> = read.iter().map(|(name, version)| (name.as_str(), *version)).collect();
        assert_eq!(read, names);
        assert_eq!(read_line("foo 1.0 x").unwrap().1, None);
        assert!(read_line("1foo 1.0.0").is_none() && read_line("").is_none());
    }

    #[test]
    fn texts_are_compared_as_names_are() {
        assert_eq!(folded("Foo-Bar"), "foo_bar");
        assert!(matches!(folded("foo_bar"), Cow::Borrowed("foo_bar")));
    }
}
