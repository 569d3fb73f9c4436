//! Every point of the protocol's conformance checklist has a test, or a reason why it has none.

use std::collections::BTreeSet;
use std::path::Path;

/// The last point of the checklist.
const LAST: u32 = 87;

/// Points that no test of today owes, each with its reason.
const NOT_OWED: &[(u32, &str)] = &[
    (6, "index files carry an ETag and no Last-Modified, so If-Modified-Since is never sent"),
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
fn every_number_stands_in_the_checklist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let page = std::fs::read_to_string(page).unwrap();
    let points = page.lines().filter_map(|line| line.split_once(". ")?.0.parse::<u32>().ok());
    assert!(points.eq(1..=LAST), "docs/conformance.md numbers its points from 1 to {LAST}");
}

#[test]
fn numbers_are_read_from_tests_that_run_and_from_nothing_else() {
    let points = |source: &str| points(source).unwrap();
    let test = |attributes: &str, body: &str| format!("{attributes}fn a() {{\n    {body}\n}}\n");
    let run = test("#[test]\n", "covers!(1, 23);") + &test("#[test]\n#[x]\n", "covers!(4);");
    assert_eq!(points(&run), BTreeSet::from([1, 4, 23]));
    let ignored = test("#[test]\n#[ignore = \"gated\"]\n", "covers!(1);");
    assert_eq!(points(&(ignored + "// covers 5\n")), BTreeSet::new());
    for elsewhere in [test("", "covers!(1);"), test("#[test]\n", "f();\n    covers!(1);")] {
        assert!(self::points(&elsewhere).is_err(), "{elsewhere}");
    }
}

fn covered() -> BTreeSet<u32> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.collect::<Vec<_>>()
    };
    let folders = entries(tests).into_iter().filter(|path| path.is_dir());
    folders
        .flat_map(|folder| entries(&folder))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter(|path| path.file_name().is_some_and(|n| n != "checklist.rs"))
        .flat_map(|path| {
            let points = points(&std::fs::read_to_string(&path).unwrap());
            points.unwrap_or_else(|why| panic!("{}: {why}", path.display()))
        })
        .collect()
}

/// The points that the tests of a source cover, but for ignored tests.
fn points(source: &str) -> Result<BTreeSet<u32>, String> {
    let (mut points, mut named) = (BTreeSet::new(), 0);
    for test in source.split("#[test]\n").skip(1) {
        let lines = test.lines().map(str::trim);
        let (attributes, body): (Vec<_>, Vec<_>) = lines.partition(|l| l.starts_with("#["));
        let ignored = attributes.iter().any(|l| l.starts_with("#[ignore"));
        let first = body.get(1); // behind the line of its `fn`
        let Some(list) = first.and_then(|l| l.strip_prefix("covers!(")) else { continue };
        named += 1;
        let list = list.split(')').next().unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = list.split(',').map(|n| n.trim().parse()).collect();
        let numbers = numbers.map_err(|e| format!("covers!({list}): {e}"))?;
        points.extend(numbers.into_iter().filter(|_| !ignored));
    }
    match source.matches("covers!(").count() == named {
        true => Ok(points),
        false => Err("covers!(…) is the first statement of a test, and stands nowhere else".into()),
    }
}
