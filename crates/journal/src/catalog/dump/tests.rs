use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::GzDecoder;
use redb::ReadableDatabase;

use super::*;
use crate::catalog::Catalog;
use crate::checkpoint_format::Reader;
use crate::entry::Entry;
use crate::test_util::history;

const REGISTRY: &str = "registry";

type Applied = (Entry, Checksum);

fn entries() -> Vec<Applied> {
    history(REGISTRY, 20).into_iter().map(|(entry, _, hash)| (entry, hash)).collect()
}

fn catalog(entries: &[Applied]) -> Catalog {
    let catalog = Catalog::in_memory(REGISTRY).unwrap();
    catalog.apply(entries).unwrap();
    catalog
}

fn restore(catalog: &Catalog, (name, bytes): (Name, Bytes)) -> Result<Head> {
    catalog.restore(&mut Reader::open(name, bytes).unwrap(), true, |_, _| ())
}

fn lines(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_table_of_the_catalog_is_in_its_checkpoint() {
    let catalog = catalog(&entries());
    let txn = catalog.db.begin_read().unwrap();
    let tables: BTreeSet<_> =
        txn.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    let text = lines(&catalog.dump().unwrap().1);
    let named = text.lines().skip(1).map(|line| line.split('"').nth(1).unwrap().to_owned());
    let mut named: BTreeSet<_> = named.collect();
    named.insert("meta".to_owned()); // its rows are in the header so far
    assert_eq!(named, tables);
}

#[test]
fn the_same_entries_make_the_same_checkpoint_whatever_the_batches() {
    let entries = entries();
    let at_once = catalog(&entries).dump().unwrap();
    let one_by_one = catalog(&[]);
    entries.chunks(1).for_each(|chunk| drop(one_by_one.apply(chunk).unwrap()));
    assert_eq!(one_by_one.dump().unwrap(), at_once);

    // And when the first part came by a checkpoint, into a file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let (begun, later) = entries.split_at(9);
    let (resumed, _) = Catalog::open(&path, 1 << 20, REGISTRY).unwrap();
    let head = restore(&resumed, catalog(begun).dump().unwrap()).unwrap();
    assert_eq!(head, resumed.head().unwrap());
    drop(resumed);
    let (resumed, _) = Catalog::open(&path, 1 << 20, REGISTRY).unwrap();
    assert_eq!(resumed.head().unwrap(), head, "it is on disk");
    resumed.apply(later).unwrap();
    assert_eq!(resumed.dump().unwrap(), at_once);
}

#[test]
fn what_is_read_from_a_restored_catalog_is_what_was_there() {
    let original = catalog(&entries());
    let restored = catalog(&[]);
    restore(&restored, original.dump().unwrap()).unwrap();
    let seen = |catalog: &Catalog| {
        let view = catalog.view().unwrap();
        let crates = view.crates().unwrap();
        let versions: Vec<_> =
            crates.iter().map(|row| view.versions(&row.name.key()).unwrap()).collect();
        let holder = catalog.principal(&Checksum::of(&1_u32.to_be_bytes())).unwrap().unwrap();
        let foo: cratehouse_package::name::CrateName = "Foo_bar".parse().unwrap();
        let found = catalog.version(&foo.key(), &"1.0.2+build".parse().unwrap()).unwrap().unwrap();
        let users = (view.users().unwrap(), view.login("ALICE").unwrap().unwrap());
        format!("{crates:?}{versions:?}{users:?}{:?}{holder:?}{found:?}", view.tokens().unwrap())
    };
    assert_eq!(seen(&restored), seen(&original));
}

#[test]
fn a_checkpoint_replaces_what_the_catalog_held() {
    let whole = entries();
    let catalog_ahead = catalog(&whole);
    let earlier = catalog(&whole[..1]).dump().unwrap();
    restore(&catalog_ahead, earlier.clone()).unwrap();
    assert_eq!(catalog_ahead.dump().unwrap(), earlier);
}

#[test]
fn a_restore_that_fails_changes_nothing() {
    let whole = entries();
    let (name, bytes) = catalog(&whole).dump().unwrap();
    let behind = catalog(&whole[..3]);
    let before = behind.dump().unwrap();
    let misnamed = Name { hash: Checksum::of(b"other"), ..name };
    let error = restore(&behind, (misnamed, bytes.clone())).unwrap_err();
    assert!(error.message.contains("not what its name says"), "{error}");
    let cut = restore(&behind, (name, bytes.slice(..bytes.len() - 20))).unwrap_err();
    assert!(cut.message.contains("damaged"), "{cut}");
    assert_eq!(behind.dump().unwrap(), before);

    let theirs = Catalog::in_memory("theirs").unwrap();
    let foreign = restore(&theirs, (name, bytes)).unwrap_err();
    assert!(foreign.message.contains("another registry"), "{foreign}");
    assert_eq!(theirs.head().unwrap().seq, 0);
}

#[test]
fn a_checkpoint_that_is_being_made_holds_up_no_writer() {
    let whole = entries();
    let catalog = catalog(&whole[..3]);
    let as_it_was = catalog.db.begin_read().unwrap();
    let expected = catalog.dump().unwrap();
    catalog.apply(&whole[3..]).unwrap();
    assert_eq!(dump(as_it_was).unwrap(), expected);
}
