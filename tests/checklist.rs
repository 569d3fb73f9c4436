//! Every point of the protocol's conformance checklist has a test, or a reason why it has none.

use std::collections::BTreeSet;
use std::path::Path;

/// The last point of the checklist.
const LAST: u32 = 87;

/// Points that no test of today owes, each with its reason.
const NOT_OWED: &[(u32, &str)] = &[
    (6, "index files carry an ETag and no Last-Modified, so If-Modified-Since is never sent"),
    (11, "there are no policies yet"),
    (32, "there are no policies yet"),
    (84, "there is no trusted publishing yet"),
    (85, "there is no trusted publishing yet"),
    (86, "there is no trusted publishing yet"),
    (87, "there is no trusted publishing yet"),
];

#[test]
fn every_owed_number_has_a_test() {
    let covered = covered();
    let excused: BTreeSet<u32> = NOT_OWED.iter().map(|(point, _)| *point).collect();
    let owed: BTreeSet<u32> = (1..=LAST).filter(|point| !excused.contains(point)).collect();
    let missing: Vec<_> = owed.difference(&covered).collect();
    let needless: Vec<_> = covered.difference(&owed).collect();
    assert!(missing.is_empty(), "no test covers the points {missing:?}");
    assert!(needless.is_empty(), "excused or unknown, but covered: {needless:?}");
}

#[test]
fn numbers_are_read_from_the_macro_and_from_nothing_else() {
    let points = points("covers!(1, 23);\n  covers!(4);\n// covers 5\n");
    assert_eq!(points, BTreeSet::from([1, 4, 23]));
}

fn covered() -> BTreeSet<u32> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter(|path| path.file_name().is_some_and(|n| n != "checklist.rs"))
        .flat_map(|path| points(&std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn points(source: &str) -> BTreeSet<u32> {
    let calls = source.split("covers!(").skip(1).filter_map(|rest| rest.split_once(')'));
    calls.flat_map(|(list, _)| list.split(',').map(|n| n.trim().parse().unwrap())).collect()
}
