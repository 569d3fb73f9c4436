use proptest::prelude::*;

use super::*;
use crate::test_util::{CrateFile, gzip, pax};

const LIMITS: TarballLimits =
    TarballLimits { unpacked_bytes: 64 * 1024, entries: 20, manifest_bytes: 4096 };

fn check(crate_file: &[u8]) -> Result<String, TarballError> {
    contents(crate_file).map(|contents| contents.manifest)
}

fn contents(crate_file: &[u8]) -> Result<Contents, TarballError> {
    read(crate_file, &"foo".parse().unwrap(), &"1.0.0".parse().unwrap(), &LIMITS)
}

fn minimal() -> CrateFile {
    CrateFile::minimal("foo", "1.0.0")
}

fn empty() -> CrateFile {
    CrateFile::new("foo", "1.0.0")
}

/// Asserts that a crate file is refused with an error of this shape.
macro_rules! refused {
    ($file:expr, $pattern:pat) => {
        let result = check(&$file);
        assert!(matches!(result, Err($pattern)), "{result:?}");
    };
}

#[test]
fn a_plain_crate_file_gives_its_manifest() {
    let file = minimal().entry(EntryType::Directory, "foo-1.0.0/src/", "").build();
    assert!(check(&file).unwrap().starts_with("[package]"));
}

#[test]
fn what_the_tar_library_writes_is_accepted_with_long_paths_too() {
    let long = format!("foo-1.0.0/src/{}/é.rs", "x".repeat(150));
    let mut builder = tar::Builder::new(Vec::new());
    for path in ["foo-1.0.0/Cargo.toml", &long] {
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_cksum();
        builder.append_data(&mut header, path, &b"text"[..]).unwrap();
    }
    assert_eq!(check(&gzip(&builder.into_inner().unwrap())).unwrap(), "text");
}

#[test]
fn the_old_lower_case_manifest_is_accepted() {
    assert_eq!(check(&empty().file("cargo.toml", "x").build()).unwrap(), "x");
}

#[test]
fn a_missing_manifest_is_refused() {
    refused!(empty().file("src/Cargo.toml", "").build(), TarballError::NoManifest);
}

#[test]
fn two_manifests_are_refused_in_any_case() {
    for second in ["Cargo.toml", "cargo.toml", "CARGO.TOML"] {
        refused!(minimal().file(second, "").build(), TarballError::SeveralManifests);
    }
}

#[test]
fn a_manifest_in_wrong_case_is_refused() {
    refused!(empty().file("CARGO.TOML", "").build(), TarballError::OddManifest(_));
    refused!(empty().file("Cargo.Toml", "").build(), TarballError::OddManifest(_));
}

#[test]
fn a_manifest_that_is_a_directory_is_refused() {
    let directory = empty().entry(EntryType::Directory, "foo-1.0.0/Cargo.toml/", "");
    refused!(directory.build(), TarballError::OddManifest(_));
    refused!(empty().file("cargo.toml/x", "").build(), TarballError::OddManifest(_));
}

#[test]
fn an_overlong_manifest_is_refused() {
    refused!(
        empty().file("Cargo.toml", [b'#'; 4097]).build(),
        TarballError::ManifestTooLarge(4096)
    );
}

#[test]
fn a_manifest_that_is_no_text_is_refused() {
    refused!(empty().file("Cargo.toml", [0xff]).build(), TarballError::ManifestNotText);
}

#[test]
fn links_and_special_files_are_refused() {
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNUSparse,
        EntryType::GNULongLink,
        EntryType::XGlobalHeader,
        EntryType::new(b'S'),
        EntryType::new(b'V'),
    ];
    for kind in kinds {
        let file = minimal().entry(kind, "foo-1.0.0/odd", "").build();
        refused!(file, TarballError::EntryKind { .. });
    }
}

#[test]
fn pax_sparse_files_are_refused() {
    let file =
        minimal().entry(EntryType::XHeader, "pax", pax("GNU.sparse.major", "1")).file("sparse", "");
    refused!(file.build(), TarballError::Ambiguous { .. });
}

#[test]
fn dotdot_and_its_relatives_are_refused() {
    for path in [
        "foo-1.0.0/../bar",
        "foo-1.0.0/src/..",
        "foo-1.0.0/./lib.rs",
        "./foo-1.0.0/lib.rs",
        "foo-1.0.0//lib.rs",
        "foo-1.0.0/lib.rs/",
        "foo-1.0.0/..\\bar",
        "foo-1.0.0/a\nb",
        "..",
        "",
    ] {
        let file = minimal().entry(EntryType::Regular, path, "").build();
        refused!(file, TarballError::UnsafePath(_));
    }
}

#[test]
fn absolute_paths_are_refused() {
    for path in ["/etc/passwd", "/foo-1.0.0/lib.rs"] {
        let file = minimal().entry(EntryType::Regular, path, "").build();
        refused!(file, TarballError::UnsafePath(_));
    }
}

#[test]
fn a_foreign_prefix_is_refused() {
    for path in ["bar-1.0.0/lib.rs", "foo-1.0.0x/lib.rs", "foo-1.0.0", "lib.rs", "FOO-1.0.0/lib.rs"]
    {
        let file = minimal().entry(EntryType::Regular, path, "").build();
        refused!(file, TarballError::ForeignPath { .. });
    }
}

#[test]
fn paths_that_are_not_utf8_are_refused() {
    let file = minimal().entry_with(EntryType::Regular, "foo-1.0.0/x", "", |header| {
        header.as_old_mut().name[10] = 0xff;
    });
    refused!(file.build(), TarballError::UnsafePath(_));
}

#[test]
fn a_zip_bomb_is_not_inflated_beyond_the_limit() {
    let bomb = minimal().file("zeros", vec![0; 10 * 1024 * 1024]).build();
    assert!(bomb.len() < 200 * 1024, "{}", bomb.len());
    refused!(bomb, TarballError::UnpacksTooLarge(_));
    let hidden_behind_the_end = minimal().raw(&vec![0; 10 * 1024 * 1024]).build();
    refused!(hidden_behind_the_end, TarballError::UnpacksTooLarge(_));
    let many = (0..10).fold(minimal(), |file, n| file.file(&n.to_string(), vec![0; 8000]));
    refused!(many.build(), TarballError::UnpacksTooLarge(_));
}

#[test]
fn the_unpack_limit_itself_is_allowed() {
    let padding = 64 * 1024 - 1024 - 4 * 512;
    let file = empty().file("Cargo.toml", "x").file("big", vec![0; padding]);
    assert!(check(&file.clone().raw(&[0; 512]).build_without_end()).is_err());
    assert!(check(&file.build()).is_ok());
}

#[test]
fn a_header_that_announces_too_much_is_refused() {
    let file = minimal()
        .entry_with(EntryType::Regular, "foo-1.0.0/big", "", |header| header.set_size(1 << 32));
    refused!(file.build(), TarballError::UnpacksTooLarge(_));
}

#[test]
fn too_many_entries_are_refused() {
    let many = (0..19).fold(minimal(), |file, n| file.file(&format!("{n}.rs"), ""));
    refused!(many.build(), TarballError::TooManyEntries(20));
}

#[test]
fn a_pax_size_other_than_the_headers_is_refused() {
    let with = |size: &str| {
        minimal().entry(EntryType::XHeader, "pax", pax("size", size)).file("x", "four").build()
    };
    assert!(check(&with("4")).is_ok());
    for size in ["0", "5", "512", "18446744073709551615"] {
        refused!(with(size), TarballError::PaxSize(_));
    }
    refused!(with("+4"), TarballError::Ambiguous { .. });
}

#[test]
fn pax_records_hidden_from_some_readers_are_refused() {
    let hidden = format!("\n{}", pax("size", "5"));
    let twice = format!("{}{}", pax("size", "4"), pax("size", "5"));
    let within = pax("comment", &format!("x\n{}", pax("size", "5")));
    for records in [hidden, twice, within, "9 size=5\n\n".to_owned(), "x".to_owned()] {
        let file = minimal().entry(EntryType::XHeader, "pax", &records).file("x", "four").build();
        refused!(file, TarballError::Ambiguous { .. });
    }
}

#[test]
fn a_long_name_may_only_continue_the_headers_own() {
    let header = format!("foo-1.0.0/{}", "x".repeat(90));
    let long = format!("{header}/lib.rs");
    let gnu = |name: &str| minimal().entry(EntryType::GNULongName, "././@LongLink", name);
    let posix = |name: &str| minimal().entry(EntryType::XHeader, "pax", pax("path", name));
    for with in [gnu as fn(&str) -> _, posix] as [fn(&str) -> CrateFile; 2] {
        let entry =
            |name: &str, header: &str| with(name).entry(EntryType::Regular, header, "").build();
        assert!(check(&entry(&long, &header)).is_ok());
        refused!(entry("foo-1.0.0/evil.rs", "foo-1.0.0/good.rs"), TarballError::Ambiguous { .. });
        refused!(
            entry("foo-1.0.0/Cargo.tomlx", "foo-1.0.0/Cargo.toml"),
            TarballError::Ambiguous { .. }
        );
        refused!(entry("foo-1.0.0/../x", "foo-1.0.0/"), TarballError::UnsafePath(_));
        refused!(entry("bar-1.0.0/x", ""), TarballError::ForeignPath { .. });
    }
    let both = gnu(&long).entry(EntryType::XHeader, "pax", pax("path", &long));
    refused!(both.entry(EntryType::Regular, &header, "").build(), TarballError::Ambiguous { .. });
}

#[test]
fn a_long_name_cannot_smuggle_a_second_manifest() {
    let header = "foo-1.0.0/";
    let file = minimal()
        .entry(EntryType::GNULongName, "././@LongLink", "foo-1.0.0/cargo.toml\0")
        .entry(EntryType::Regular, header, "");
    refused!(file.build(), TarballError::SeveralManifests);
}

#[test]
fn extensions_that_describe_nothing_or_too_much_are_refused() {
    let dangling = minimal().entry(EntryType::GNULongName, "././@LongLink", "foo-1.0.0/x");
    refused!(dangling.build(), TarballError::BadEnd);
    let twice = minimal().entry(EntryType::GNULongName, "././@LongLink", "foo-1.0.0/x").entry(
        EntryType::GNULongName,
        "././@LongLink",
        "foo-1.0.0/y",
    );
    refused!(twice.build(), TarballError::Ambiguous { .. });
    let huge = minimal().entry(EntryType::GNULongName, "././@LongLink", [b'x'; 16 * 1024 + 1]);
    refused!(huge.build(), TarballError::Ambiguous { .. });
}

#[test]
fn headers_that_readers_read_differently_are_refused() {
    type Bend = fn(&mut Header);
    let bends: [Bend; 5] = [
        |header| header.as_old_mut().size = *b"+0000000000\0",
        |header| header.as_old_mut().size = [b' '; 12],
        |header| header.as_old_mut().size[0] = 0x80,
        |header| header.as_old_mut().size = *b"000\x00000000\0\0",
        |header| header.as_mut_bytes()[257..265].fill(0),
    ];
    for bend in bends {
        let file = minimal().entry_with(EntryType::Regular, "foo-1.0.0/x", "", bend);
        refused!(file.build(), TarballError::Ambiguous { .. } | TarballError::Malformed(_));
    }
    let directory = minimal().entry(EntryType::Directory, "foo-1.0.0/src/", "content");
    refused!(directory.build(), TarballError::Ambiguous { .. });
}

#[test]
fn a_crate_file_cut_anywhere_is_refused() {
    let whole = minimal().build();
    for end in 0..whole.len() {
        assert!(check(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn bytes_after_the_gzip_member_are_refused_even_when_they_are_another_member() {
    let whole = minimal().build();
    refused!([&whole[..], b"x"].concat(), TarballError::TrailingBytes(1));
    refused!([&whole[..], &gzip(b"more")].concat(), TarballError::TrailingBytes(_));
    refused!([&whole[..], &whole[..]].concat(), TarballError::TrailingBytes(_));
}

#[test]
fn an_archive_without_its_end_or_with_more_behind_it_is_refused() {
    refused!(minimal().build_without_end(), TarballError::BadEnd);
    refused!(minimal().raw(&[0; 512]).build_without_end(), TarballError::BadEnd);
    let behind = minimal().raw(&[0; 1024]).file("hidden.rs", "");
    refused!(behind.build(), TarballError::BadEnd);
}

#[test]
fn what_is_not_gzip_is_refused() {
    refused!(*b"", TarballError::Malformed(_));
    refused!(*b"PK\x03\x04 something else", TarballError::Malformed(_));
}

proptest! {
    #[test]
    fn any_bytes_are_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = check(&bytes);
        let _ = check(&gzip(&bytes));
    }

    #[test]
    fn a_damaged_crate_file_is_a_manifest_or_an_error(at: prop::sample::Index, byte: u8) {
        let mut file = minimal().build();
        let at = at.index(file.len());
        file[at] = byte;
        let _ = check(&file);
    }

    #[test]
    fn a_damaged_archive_is_a_manifest_or_an_error(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        field in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut tar = minimal()
            .entry(EntryType::XHeader, "pax", pax("path", "foo-1.0.0/x"))
            .entry(EntryType::Regular, "foo-1.0.0/", &field)
            .raw(&[0; 1024])
            .into_tar();
        for (at, byte) in damage {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        let _ = check(&gzip(&tar));
    }

    #[test]
    fn any_bytes_are_pax_records_or_an_error(records in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Pax::parse(&records);
    }
}
