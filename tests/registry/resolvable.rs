//! What is accepted is what cargo can read: small tables of features and dependencies, before our
//! judgement and the real cargo's.

use std::collections::BTreeMap;

use cratehouse_tests::cargo::{Cargo, Folder, Project};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Dep, Krate, index_path};
use cratehouse_tests::test_gateway::TestGateway;
use cratehouse_tests::upstream::Upstream;

/// Tables that are tried beside those that stand here by name.
const CASES: usize = 240;

/// The crates that are depended on.
const DEPENDENCIES: [&str; 5] = ["p", "q", "r", "d", "e"];

fn dependency(name: &str) -> Krate {
    Krate::new(name, "1.0.0").feature("x", &[])
}

/// Numbers that follow from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

fn some_table(name: &str, dice: &mut Dice) -> Krate {
    const VALUES: [&str; 18] = [
        "a",
        "b",
        "p",
        "q",
        "r",
        "dep:p",
        "dep:q",
        "dep:q",
        "dep:r",
        "dep:nodep",
        "p/x",
        "q/x",
        "q?/x",
        "p?/x",
        "r?/x",
        "nodep/x",
        "nodep?/x",
        "d/x",
    ];
    let mut krate = Krate::new(name, "1.1.0");
    let chance = |dice: &mut Dice, of: usize| dice.below(of) == 0;
    if !chance(dice, 4) {
        krate = krate.with(Dep::new("p", "1"));
    }
    if !chance(dice, 4) {
        krate = krate.with(Dep::new("q", "1").optional());
    }
    if chance(dice, 2) {
        krate = krate.with(Dep::new("r", "1").optional().build());
    }
    if chance(dice, 4) {
        krate = krate.with(Dep::new("d", "1").dev());
    }
    if chance(dice, 8) {
        krate = krate.with(Dep::new("q", "1").dev());
    }
    if chance(dice, 25) {
        krate = krate.with(Dep::new("e", "1").dev().optional());
    }
    for _ in 0..=dice.below(2) {
        let values: Vec<&str> = (0..dice.below(3)).map(|_| dice.one(&VALUES)).collect();
        krate = krate.feature(dice.one(&["a", "a", "b", "q", "r", "p"]), &values);
    }
    krate
}

/// Those that a report named, and those that are legal though they look alike.
fn named() -> Vec<(Krate, bool)> {
    let (p, q) = (Dep::new("p", "1"), Dep::new("q", "1").optional());
    let krate = |n: usize| Krate::new(&format!("named-{n}"), "1.1.0");
    let both = |n| krate(n).with(p.clone()).with(q.clone());
    vec![
        (krate(0).feature("x", &["nodep/feat"]), false),
        (krate(1).feature("x", &["nodep?/feat"]), false),
        (both(2).feature("x", &["p?/x"]), false),
        (both(3).feature("y", &["q"]).feature("z", &["dep:q"]), false),
        (both(4).feature("q", &[]), false),
        (both(5).feature("q", &["dep:q"]), true),
        (both(6).feature("x", &["q?/x", "p/x", "q"]), true),
        (both(7).feature("q", &["q/x"]), true),
        (both(8).feature("x", &["p"]), false),
        (krate(9).with(Dep::new("p", "1").features(&["x"])), true),
        (krate(10).with(Dep::new("p", "1").features(&["x/y"])), false),
        (krate(11).with(Dep::new("p", "1").features(&["dep:q"])), false),
        (krate(12).with(Dep::new("d", "1").dev().optional()), false),
        (both(13).feature("x", &["dep:q/x"]), false),
        (both(14).feature("x", &["x"]).feature("y", &["q"]), true),
    ]
}

/// A local registry of these index lines, as the replacement of crates.io.
fn registry(lines: &BTreeMap<String, String>) -> (Folder, String) {
    let folder = Folder::empty();
    for (name, text) in lines {
        folder.write(&format!("index/{}", index_path(name)), text);
    }
    let path = serde_json::json!(folder.path());
    let config = format!(
        "[source.crates-io]\nreplace-with = \"local\"\n[source.local]\nlocal-registry = {path}\n"
    );
    (folder, config)
}

/// Which of these versions cargo can read: it takes them, rather than an older one, as a
/// dependency.
fn readable(cargo: &Cargo, lines: &BTreeMap<String, String>) -> BTreeMap<String, bool> {
    let mut all = lines.clone();
    for (name, text) in &mut all {
        *text = format!("{}\n{text}\n", Krate::new(name, "1.0.0").index_line());
    }
    for name in DEPENDENCIES {
        all.insert(name.to_owned(), dependency(name).index_line() + "\n");
    }
    let (_registry, config) = registry(&all);
    cargo.configure(&config);
    let app = lines.keys().fold(Project::new("app"), |app, name| app.dep(name, "1")).write();
    cargo.run(&app, &["generate-lockfile"]).assert_ok();
    let lock = app.lock();
    let version = |name: &String| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap();
        (name.clone(), rest.starts_with("1.1.0"))
    };
    lines.keys().map(version).collect()
}

#[test]
fn what_is_accepted_is_what_the_real_cargo_reads() {
    let upstream = Upstream::with(&DEPENDENCIES.map(dependency));
    let server = TestGateway::of(Gateway::mirroring(&upstream));
    let cargo = Cargo::new(&server.gateway);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let drawn = (0..CASES).map(|n| some_table(&format!("drawn-{n}"), &mut dice));
    let named = named();
    let krates: Vec<Krate> = named.iter().map(|(krate, _)| krate.clone()).chain(drawn).collect();
    let (mut accepted, mut lines) = (BTreeMap::new(), BTreeMap::new());
    for krate in &krates {
        let reply = server.publish(krate);
        assert!([200, 400].contains(&reply.status), "{}: {reply}", krate.manifest());
        let line = match reply.status {
            200 => server.client.index(&krate.name).assert_status(200).text(),
            _ => krate.index_line(),
        };
        lines.insert(krate.name.clone(), line.trim_end().to_owned());
        accepted.insert(krate.name.clone(), reply.status == 200);
    }
    let readable = readable(&cargo, &lines);
    for krate in &krates {
        let (ours, cargos) = (accepted[&krate.name], readable[&krate.name]);
        assert_eq!(ours, cargos, "accepted, and readable by cargo:\n{}", krate.manifest());
    }
    for (krate, wanted) in &named {
        assert_eq!(accepted[&krate.name], *wanted, "{}", krate.manifest());
    }
    let good = accepted.values().filter(|accepted| **accepted).count();
    assert!((CASES / 8..CASES * 7 / 8).contains(&good), "{good} of {} are good", krates.len());
}
