//! Borders: crates import what the drawing lets them, and no two modules of a crate need each other. The
//! compiler forbids circles of crates, but not those within one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each library crate may import of ours. `journal` and `mirror` do not know each other: hosted names are
/// never asked upstream.
const DRAWING: &[(&str, &[&str])] = &[
    ("cargo", &[]), // of the gateway's command line, and of the credential provider
    ("core", &[]),
    ("package", &["core"]),
    ("policy", &["core", "package"]),
    ("storage", &["core"]),
    ("journal", &["core", "package", "storage"]),
    ("mirror", &["core", "package", "policy", "storage"]),
    ("simulation", &[]), // tests alone, of the journal
];

#[test]
fn crates_import_what_the_drawing_lets_them() {
    let mut found: Vec<_> = folders(&root().join("crates"));
    found.sort();
    let drawn: BTreeSet<_> = DRAWING.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), drawn, "draw the new crate here");
    for (name, allowed) in DRAWING {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml"));
        let beyond: Vec<_> = imports_of_manifest(&manifest.unwrap())
            .into_iter()
            .filter(|import| !allowed.contains(&import.as_str()))
            .collect();
        assert!(beyond.is_empty(), "crates/{name} imports {beyond:?}");
    }
}

#[test]
fn no_module_stands_in_a_circle() {
    let crates = DRAWING.iter().map(|(name, _)| root().join("crates").join(name));
    let mut modules = 0;
    for package in crates.chain([root().join("gateway")]) {
        let sources = sources_of(&package.join("src"));
        modules += sources.len();
        let circle = circle(&edges(&sources));
        assert!(
            circle.is_empty(),
            "in {}: {circle:#?}\nlet one of them be two: what is known, and what is done with it",
            package.display()
        );
    }
    assert!(modules > 200, "the sources are elsewhere: {modules} modules");
}

// The checkers.

type Edges = BTreeMap<String, BTreeSet<String>>;

/// The crates of ours among the `[dependencies]` of a manifest.
fn imports_of_manifest(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let ours = lines.filter_map(|line| line.strip_prefix("cratehouse-"));
    ours.map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned()).collect()
}

/// Which module needs which. A module's own submodules may need it: they are one idea in several files.
fn edges(sources: &BTreeMap<String, String>) -> Edges {
    let tests = test_modules(sources);
    let is_test = |module: &str| tests.iter().any(|test| is_within(module, test));
    let mut edges = Edges::new();
    for (module, text) in sources.iter().filter(|(module, _)| !is_test(module)) {
        let needs = paths(&code(text)).into_iter().filter_map(|path| {
            let path = absolute(&path, module)?;
            longest_module(&path, sources).filter(|found| !is_within(module, found))
        });
        edges.entry(module.clone()).or_default().extend(needs);
    }
    edges
}

/// The modules that stand in a circle, or between two; none where there is no circle.
fn circle(edges: &Edges) -> Edges {
    let mut left = edges.clone();
    loop {
        let needed: BTreeSet<_> = left.values().flatten().cloned().collect();
        let inside: BTreeSet<_> =
            left.iter().filter(|(m, n)| needed.contains(*m) && !n.is_empty()).collect();
        let kept: BTreeSet<_> = inside.iter().map(|(module, _)| (*module).clone()).collect();
        let mut next: Edges =
            inside.into_iter().map(|(module, needs)| (module.clone(), needs.clone())).collect();
        next.values_mut().for_each(|needs| needs.retain(|module| kept.contains(module)));
        if next == left {
            return next;
        }
        left = next;
    }
}

/// Modules that are compiled for tests alone.
fn test_modules(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (module, text) in sources {
        let mut is_test = false;
        for line in text.lines() {
            if line.starts_with("#[cfg(") {
                is_test = line.contains("test");
            } else if !line.starts_with("#[") {
                let words = line.trim_end_matches(';').rsplit_once("mod ");
                if let Some((_, name)) = words.filter(|_| is_test && line.ends_with(';')) {
                    tests.insert(joined(module, name));
                }
                is_test = false;
            }
        }
    }
    tests
}

/// What is compiled into the program: without comments, and without the tests at the end of a file.
fn code(text: &str) -> String {
    let text = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(code, _)| code);
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    )
}

/// Every path that begins at the crate, at a parent or at the module itself, its groups unfolded.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || matches!(before, '_' | ':' | '$') {
                continue; // of another path, or of a macro
            }
            found.extend(unfolded(&code[at..]));
        }
    }
    found
}

/// The paths of one import: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn unfolded(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
    let (path, rest) = text.split_at(end.unwrap_or(text.len()));
    let Some(group) = rest.strip_prefix('{').filter(|_| path.ends_with("::")) else {
        return vec![path.trim_end_matches(':').to_owned()];
    };
    let (mut found, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                let one = unfolded(group[from..at].trim());
                found.extend(one.into_iter().map(|one| format!("{path}{one}")));
                from = at + 1;
                if c == '}' {
                    return found;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// A path of a module, seen from the root of its crate.
fn absolute(path: &str, module: &str) -> Option<String> {
    let mut from: Vec<_> = module.split("::").collect();
    let mut words = path.split("::").peekable();
    match *words.peek()? {
        "crate" => from.clear(),
        "super" => {}
        _ => drop(words.next()),
    }
    while words.peek() == Some(&"super") {
        from.pop()?;
        words.next();
    }
    from.extend(words.filter(|word| *word != "crate"));
    Some(from.join("::"))
}

fn longest_module(path: &str, sources: &BTreeMap<String, String>) -> Option<String> {
    let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
    let prefixes = ends.map(|end| &path[..end]).filter(|prefix| sources.contains_key(*prefix));
    prefixes.last().map(str::to_owned)
}

fn is_within(module: &str, other: &str) -> bool {
    module.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn joined(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

// The files.

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The text of each module below `src`, by its path. The root of a crate, which declares them, is none.
fn sources_of(src: &Path) -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut open = vec![src.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let inside = entry.strip_prefix(src).unwrap().with_extension("");
                let words: Vec<_> = inside.iter().map(|word| word.to_str().unwrap()).collect();
                let words = words.strip_suffix(&["mod"]).unwrap_or(&words);
                if !matches!(words, ["lib" | "main"]) {
                    sources.insert(words.join("::"), fs::read_to_string(&entry).unwrap());
                }
            }
        }
    }
    sources
}

mod the_checkers {
    use super::*;

    fn circle_of(sources: &[(&str, &str)]) -> Vec<String> {
        let owned = |(module, text): &(&str, &str)| ((*module).to_owned(), (*text).to_owned());
        circle(&edges(&sources.iter().map(owned).collect())).into_keys().collect()
    }

    #[test]
    fn see_two_modules_that_need_each_other() {
        let sources =
            [("a", "use crate::b::B;"), ("b", "fn f(_: &crate::a::A) {}"), ("c", "use crate::a;")];
        assert_eq!(circle_of(&sources), ["a", "b"]);
        assert!(circle_of(&sources[..1]).is_empty() && circle_of(&sources[1..]).is_empty());
    }

    #[test]
    fn see_a_long_way_round_and_through_groups_and_parents() {
        let long = [
            ("a", "use crate::{\n    x,\n    b::{self, B},\n};"),
            ("b", "pub mod c;\nuse self::c::C;"),
            ("b::c", "use super::super::d;"),
            ("d", "use crate::a::A;"),
        ];
        assert_eq!(circle_of(&long), ["a", "b", "b::c", "d"]);
    }

    #[test]
    fn see_no_harm_in_tests_comments_and_submodules() {
        let sources = [
            ("a", "mod b;\n#[cfg(test)]\nmod tests;\nuse self::b::B;\n// crate::c"),
            ("a::b", "use super::A;"),
            ("a::tests", "use crate::c;"),
            ("c", "use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}"),
        ];
        assert!(circle_of(&sources).is_empty(), "{:?}", circle_of(&sources));
    }

    #[test]
    fn see_what_a_manifest_imports() {
        let manifest = "[package]\nname = \"cratehouse-x\"\n[dependencies]\ncratehouse-core.workspace = true\n\
            serde.workspace = true\ncratehouse-package = { path = \"x\" }\n[dev-dependencies]\ncratehouse-y = \"1\"\n";
        assert_eq!(imports_of_manifest(manifest), ["core", "package"]);
    }
}
