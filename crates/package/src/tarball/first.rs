//! The Cargo.toml of a crate file that somebody else took, for the licence that it states.

use std::io::Read;

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType};

use super::{Bounded, TarballLimits, read_extension, read_manifest};
use crate::name::CrateName;
use crate::version::CrateVersion;

/// The text of the first Cargo.toml of a crate file; `None` when none can be read within the
/// limits.
///
/// Unlike [`super::read`] this forgives what other registries once took (links, odd headers), and
/// reads no further than it must. That is enough for what a crate *states*: whoever could hide a
/// second manifest behind the first could as well write something else into the first.
pub fn first_manifest(
    crate_file: &[u8],
    name: &CrateName,
    version: &CrateVersion,
    limits: &TarballLimits,
) -> Option<String> {
    let inflated =
        Bounded { inner: GzDecoder::new(crate_file), left: limits.unpacked_bytes, exceeded: false };
    let wanted = format!("{name}-{version}/Cargo.toml");
    let mut archive = Archive::new(inflated);
    let mut long_name = None;
    for entry in archive.entries().ok()?.raw(true).take(limits.entries) {
        let mut entry = entry.ok()?;
        if entry.header().entry_type() == EntryType::GNULongName {
            long_name = read_extension(&mut entry).ok();
            continue;
        }
        if is_at(&entry, long_name.take(), &wanted) {
            return read_manifest(&mut entry, limits.manifest_bytes).ok();
        }
    }
    None
}

fn is_at<R: Read>(entry: &Entry<'_, R>, long_name: Option<Vec<u8>>, wanted: &str) -> bool {
    let path = match &long_name {
        Some(name) => name.strip_suffix(&[0]).unwrap_or(name).to_vec(),
        None => entry.header().path_bytes().into_owned(),
    };
    let file = matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous);
    file && path.strip_prefix(b"./").unwrap_or(&path) == wanted.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::CrateFile;

    const LIMITS: TarballLimits =
        TarballLimits { unpacked_bytes: 64 * 1024, entries: 5, manifest_bytes: 100 };

    fn first(crate_file: &[u8]) -> Option<String> {
        first_manifest(crate_file, &"foo".parse().unwrap(), &"1.0.0".parse().unwrap(), &LIMITS)
    }

    fn empty() -> CrateFile {
        CrateFile::new("foo", "1.0.0")
    }

    #[test]
    fn what_would_not_be_published_here_is_read_all_the_same() {
        let odd = empty().entry(EntryType::Symlink, "foo-1.0.0/link", "");
        let found = first(&odd.file("Cargo.toml", "a").file("Cargo.toml", "b").build());
        assert_eq!(found.as_deref(), Some("a"));
    }

    #[test]
    fn a_manifest_elsewhere_or_beyond_the_limits_is_none() {
        assert_eq!(first(&empty().file("src/Cargo.toml", "a").build()), None);
        assert_eq!(first(&empty().file("Cargo.toml", "a".repeat(101)).build()), None);
        assert_eq!(
            first(&empty().file("x", "a".repeat(70_000)).file("Cargo.toml", "a").build()),
            None
        );
        let many = (0..5).fold(empty(), |file, n| file.file(&format!("{n}"), ""));
        assert_eq!(first(&many.file("Cargo.toml", "a").build()), None);
        assert_eq!(first(b"no archive"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8..255, 0..600)) {
            let _ = first(&crate::test_util::gzip(&bytes));
        }
    }
}
