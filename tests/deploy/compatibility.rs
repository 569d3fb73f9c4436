//! What earlier releases wrote is read for ever: a store that each of them left behind, opened by
//! today's binary. What a later release writes is refused, in words that say what to do. The
//! stores stand in `golden/`, whose README says how they were made and why they never change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Builder, Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Krate, index_path, sha256};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Upstream, closed_port_url};
use serde_json::Value;

mod make;

/// Every golden store, with the SHA-256 of its list of checksums. Add one with a release that
/// writes something new; never change one.
const GOLDEN: &[(&str, &str)] = &[
    ("journal-0.1", "2935a9e553df6de970bc96d9bf6a6837b774ec5fdc033f77214d3945bcf5abaa"),
    ("journal-0.2", "d73c85961cc548a769d2eb28cf6c690567ed71faefe6559b144a92629f44c7fd"),
];
/// `sha256sum`'s own form: `sha256sum --check SHA256SUMS` reads it.
const SUMS: &str = "SHA256SUMS";

/// One golden store.
struct Golden {
    folder: PathBuf,
}

impl Golden {
    fn all() -> impl Iterator<Item = Self> {
        GOLDEN.iter().map(|(name, _)| Self::named(name))
    }

    fn named(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        Self { folder }
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A token of the store that still counts, or did once.
    fn token(&self, of: &str) -> String {
        let tokens: Value = serde_json::from_slice(&self.read("tokens.json")).unwrap();
        tokens[of].as_str().unwrap().to_owned()
    }

    /// A gateway on an empty disk over a copy of the store; not started.
    fn copy(&self, upstream: impl Into<UpstreamConfig>) -> Gateway {
        self.copy_for(Gateway::builder().upstream(upstream).auth_required())
    }

    fn copy_for(&self, builder: Builder) -> Gateway {
        // The records of pulls would be too old one day.
        let builder = builder.set("pulls", "retention_days = 36500");
        let gateway = builder.set("server", "replica = \"today\"").prepare();
        copy_folder(&self.folder.join("store"), &gateway.data().join("store"));
        gateway
    }

    /// The same, with nobody there to ask for mirrored crates.
    fn alone(&self) -> Gateway {
        self.copy(UpstreamConfig::new("main", &closed_port_url()))
    }

    /// What the store must show, by the name under `expected/`.
    fn expected(&self) -> BTreeMap<String, String> {
        let folder = self.folder.join("expected");
        let text = |path: &String| String::from_utf8(fs::read(folder.join(path)).unwrap()).unwrap();
        files_below(&folder).into_iter().map(|path| (path.clone(), text(&path))).collect()
    }

    /// An entry that was made by hand, put behind the last one. Gives its number.
    fn append(&self, gateway: &Gateway, made: &str) -> u64 {
        let bytes = self.read(&format!("made/{made}"));
        let entry: Value = serde_json::from_slice(&bytes).unwrap();
        let seq = entry["seq"].as_u64().unwrap();
        fs::write(gateway.data().join(format!("store/journal/{seq:020}.json")), bytes).unwrap();
        seq
    }
}

/// What a registry shows of its hosted state to users, administrators and auditors.
fn shown(gateway: &Gateway, golden: &Golden) -> BTreeMap<String, String> {
    let (client, alice, root) = (gateway.client(), golden.token("alice"), golden.token("root"));
    let mut shown = BTreeMap::new();
    for path in ["ac/me/acme-log", "ac/me/acme-net", "ac/me/acme-old", "pu/bl/public-crate"] {
        let file = client.get_as(&format!("/index/{path}"), &alice);
        let text = if file.status == 200 { file.text() } else { format!("{}\n", file.status) };
        shown.insert(format!("index/{path}"), text);
    }
    for name in ["acme-log", "acme-net", "acme-old"] {
        let owners = client.get_as(&format!("/api/v1/crates/{name}/owners"), &alice);
        shown.insert(format!("owners/{name}.json"), pretty(&owners.assert_status(200).json()));
    }
    for (path, name) in [("admin/users", "users"), ("admin/tokens", "tokens")] {
        let list = client.get_as(&format!("/api/v1/{path}"), &root).assert_status(200);
        shown.insert(format!("{name}.json"), pretty(&list.json()));
    }
    let found = client.get_as("/api/v1/crates?q=acme&per_page=100", &alice).assert_status(200);
    shown.insert("search.json".to_owned(), pretty(&found.json()));
    let journal = gateway.cli_ok(&["journal", "show", "--json"]);
    shown.insert("journal.jsonl".to_owned(), journal + "\n");
    for name in ["acme-log", "public-crate"] {
        let pulls = gateway.cli_ok(&["pulls", "--json", name]);
        shown.insert(format!("pulls/{name}.jsonl"), pulls + "\n");
    }
    shown
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// That an answer of the web API says all that it said then; a later release may add fields.
fn assert_tells(now: &Value, then: &Value, at: &str) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            for (key, then) in then {
                let now = now.get(key).unwrap_or_else(|| panic!("{at}/{key} is gone"));
                assert_tells(now, then, &format!("{at}/{key}"));
            }
        }
        (Value::Array(now), Value::Array(then)) => {
            assert_eq!(now.len(), then.len(), "{at}");
            for (nth, (now, then)) in now.iter().zip(then).enumerate() {
                assert_tells(now, then, &format!("{at}/{nth}"));
            }
        }
        _ => assert_eq!(now, then, "{at}"),
    }
}

/// That it is the golden state, and that every version's bytes are there.
fn assert_golden(gateway: &Gateway, golden: &Golden) {
    let (shown, expected) = (shown(gateway, golden), golden.expected());
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shown), names(&expected));
    for (name, text) in &shown {
        match name.ends_with(".json") {
            true => assert_tells(&parse(text), &parse(&expected[name]), name),
            false => assert_eq!(*text, expected[name], "{name}"),
        }
    }
    let (client, alice) = (gateway.client(), golden.token("alice"));
    for (_, file) in shown.iter().filter(|(name, _)| name.starts_with("index/")) {
        for line in file.lines().filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(line).unwrap();
            let (name, version) = (line["name"].as_str().unwrap(), line["vers"].as_str().unwrap());
            let reply = client.get_as(&download(name, version), &alice).assert_status(200);
            assert_eq!(sha256(&reply.body), line["cksum"], "{name}@{version}");
        }
    }
    client.get_as(&download("acme-log", "2.0.0-rc.1+build.5"), &alice).assert_status(404);
    let reads = |token: &str| client.get_as("/index/ac/me/acme-log", &golden.token(token)).status;
    assert_eq!(["alice", "bob", "ci"].map(reads), [200; 3]);
    for token in ["revoked", "carol", "root"] {
        assert!([401, 403].contains(&reads(token)), "{token}: {}", reads(token));
    }
}

fn download(name: &str, version: &str) -> String {
    format!("/api/v1/crates/{name}/{}/download", version.replace('+', "%2B"))
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(&file), target).unwrap();
    }
}

/// Every file below a folder, as sorted paths from it.
fn files_below(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => walk(&path, root, found),
                path => found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// `sha256sum`'s lines for all files of a golden store but the list itself.
fn sums(folder: &Path) -> String {
    let files = files_below(folder).into_iter().filter(|file| file != SUMS);
    let line =
        |file: String| format!("{}  {file}\n", sha256(&fs::read(folder.join(&file)).unwrap()));
    files.map(line).collect()
}

#[test]
fn the_golden_files_are_those_that_were_written_then() {
    for (name, wanted) in GOLDEN {
        let golden = Golden::named(name);
        let list = String::from_utf8(golden.read(SUMS)).unwrap();
        assert_eq!(sums(&golden.folder), list, "{name}: golden files never change");
        assert_eq!(sha256(list.as_bytes()), *wanted, "{name}: golden files never change");
    }
}

/// What no release has written yet: the golden store of the next one has it.
const UNRELEASED: [&str; 18] = [
    "pin_corrected",
    "user_enabled",
    "role_granted",
    "role_revoked",
    "team_created",
    "team_renamed",
    "team_removed",
    "member_added",
    "member_removed",
    "team_owner_added",
    "team_owner_removed",
    "creators_added",
    "creators_removed",
    "crate_restricted",
    "readers_removed",
    "crate_opened",
    "token_end_set",
    "token_reported",
];

#[test]
fn the_golden_journals_have_every_kind_of_event() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for golden in Golden::all() {
        let journal = &golden.expected()["journal.jsonl"];
        let made = String::from_utf8(golden.read("made/enables-level-1.json")).unwrap();
        for line in journal.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            *kinds.entry(event["event"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        *kinds.entry("level_enabled".to_owned()).or_default() +=
            made.matches("\"level_enabled\"").count();
    }
    let source = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/journal/src/entry.rs"),
    );
    let source = source.unwrap();
    let (_, variants) = source.split_once("pub enum EventKind {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    let variants: Vec<_> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| snake_case(line.split(['(', ' ', ',']).next().unwrap()))
        .collect();
    assert!(variants.len() >= 13, "{variants:?}");
    for kind in variants.iter().filter(|kind| !UNRELEASED.contains(&kind.as_str())) {
        assert!(kinds.contains_key(kind), "no golden journal has `{kind}`: {kinds:?}");
    }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// With a later catalog schema the old checkpoint is passed over, and this is where that is told.
#[test]
fn an_earlier_releases_store_is_opened_by_its_checkpoint_and_shows_the_same() {
    for golden in Golden::all() {
        let mut gateway = golden.alone();
        gateway.start_again();
        assert!(gateway.log_contains("loaded ("), "{}", gateway.log());
        assert_golden(&gateway, &golden);
    }
}

#[test]
fn an_earlier_releases_store_is_opened_by_its_whole_journal_and_shows_the_same() {
    for golden in Golden::all() {
        let mut gateway = golden.alone();
        fs::remove_dir_all(gateway.data().join("store/checkpoints")).unwrap();
        gateway.start_again();
        assert!(!gateway.log_contains("checkpoint"), "{}", gateway.log());
        assert_golden(&gateway, &golden);
        let verified = gateway.cli_ok(&["journal", "verify"]);
        assert!(verified.contains("the chain holds"), "{verified}");
    }
}

#[test]
fn an_earlier_releases_registry_goes_on() {
    for golden in Golden::all() {
        let mut gateway = golden.alone();
        gateway.start_again();
        let entries = gateway.stored("journal").len();
        let (client, alice) = (gateway.client(), golden.token("alice"));
        let next = Krate::new("acme-log", "3.0.0");
        client.publish(&next, &alice).assert_status(200);
        client.publish(&Krate::new("acme-log", "1.0.0").lib("//"), &alice).assert_refused(400, "");
        client.publish(&Krate::new("acme-log", "2.0.0-rc.1"), &alice).assert_refused(400, "");
        assert_eq!(gateway.stored("journal").len(), entries + 1);
        let lines = client.get_as("/index/ac/me/acme-log", &alice).lines();
        assert_eq!(lines.last().unwrap()["cksum"], next.cksum());
        gateway.cli_ok(&["journal", "verify"]);
        gateway.restart_on_an_empty_disk();
        let lines = gateway.client().get_as("/index/ac/me/acme-log", &alice).lines();
        assert_eq!(lines.last().unwrap()["cksum"], next.cksum());
    }
}

/// A registry of 0.1 goes on without what it does not know, says how to get it, and gets it.
#[test]
fn an_earlier_releases_registry_gets_roles_teams_and_restricted_crates_once_it_is_upgraded() {
    let golden = Golden::named("journal-0.1");
    let mut gateway = golden.alone();
    gateway.start_again();
    let (alice, root) = (golden.token("alice"), golden.token("root"));
    let before = gateway.stored("journal");
    for args in [
        &["user", "add", "robot", "--service"][..],
        &["role", "grant", "alice", "auditor"],
        &["team", "add", "core", "alice"],
        &["creators", "add", "acme-*", "user:alice"],
        &["crate", "restrict", "acme-log"],
        &["token", "create", "--user", "alice", "--scope", "tokens"],
        &["token", "create", "--user", "alice", "--read-only-crates", "acme-*"],
        &["user", "enable", "alice"],
    ] {
        let refused = gateway.cli(args);
        let told = String::from_utf8(refused.stderr).unwrap();
        let may_be_so_already = args[0] == "user" && args[1] == "enable";
        assert!(
            may_be_so_already || told.contains("cratehouse format enable 2"),
            "{args:?}: {told}"
        );
    }
    assert_eq!(gateway.stored("journal"), before, "nothing of it was written");

    gateway.cli_ok(&["format", "enable", "2"]);
    let client = gateway.client();
    let users = || client.get_as("/api/v1/admin/users", &root).assert_status(200).json();
    let role = |login: &str| {
        let users = users();
        users.as_array().unwrap().iter().find(|u| u["login"] == login).unwrap()["role"].clone()
    };
    assert_eq!(role("root"), "admin", "who holds a live admin token is an administrator");
    assert_eq!(role("alice"), Value::Null);
    gateway.cli_ok(&["team", "add", "core", "alice"]);
    gateway.cli_ok(&["crate", "restrict", "acme-log", "--reader", "team:core"]);
    let reads = |token: &str| client.get_as("/index/ac/me/acme-log", token).status;
    let stan = gateway.token_with("stan", &["--scope", "read"]);
    until("it is hidden from those who may not", || reads(&stan) == 404);
    assert_eq!(reads(&alice), 200);
    gateway.cli_ok(&["journal", "verify"]);
    gateway.restart_on_an_empty_disk();
    let reads = |token: &str| gateway.client().get_as("/index/ac/me/acme-log", token).status;
    assert_eq!([reads(&alice), reads(&stan)], [200, 404], "from a checkpoint or the journal");
}

/// The store's copy of an index file, with the pins beside it: an upstream that has replaced a
/// crate file since is not believed.
#[test]
fn the_index_of_an_earlier_releases_registry_stays_unified() {
    for golden in Golden::all() {
        let upstream = Upstream::with(&[Krate::new("new-to-it", "1.0.0")]);
        let builder = Gateway::builder().views().upstream(&upstream);
        let mut gateway = golden.copy_for(builder);
        gateway.start_again();
        gateway.client().index("new-to-it").assert_status(200);
        let view = format!("/crates-io/index/{}", index_path("new-to-it"));
        gateway.client().get(&view).assert_status(200);
    }
}

#[test]
fn what_an_earlier_release_pinned_stays_pinned() {
    for golden in Golden::all() {
        let upstream = Upstream::with(&[make::public().lib("pub fn replaced() {}")]);
        let mut gateway = golden.copy(&upstream);
        gateway.start_again();
        let reply =
            gateway.client().get_as(&download("public-crate", "1.2.3"), &golden.token("alice"));
        assert_ne!(reply.status, 200, "{reply}");
        let alarm = [("alarm", "checksum_changed")];
        assert_eq!(gateway.metric("cratehouse_alarms_total", &alarm), 1.0);
    }
}

#[test]
fn an_entry_that_enables_a_level_is_applied_where_the_level_is_known() {
    for golden in Golden::all() {
        let mut gateway = golden.alone();
        golden.append(&gateway, "enables-level-1.json");
        gateway.start_again();
        let alice = golden.token("alice");
        gateway.client().publish(&Krate::new("acme-log", "3.0.0"), &alice).assert_status(200);
    }
}

#[test]
fn an_entry_of_a_later_release_is_refused_by_everything_with_what_to_do() {
    for golden in Golden::all() {
        for (made, told) in [
            ("enables-level-1000.json", "enables format level 1000"),
            ("unknown-event.json", "cannot be read"),
            ("unknown-field.json", "cannot be read"),
        ] {
            let mut gateway = golden.alone();
            let seq = golden.append(&gateway, made);
            let before = gateway.stored("");
            gateway.spawn();
            assert_eq!(gateway.wait().code(), Some(1), "{made}");
            let told = format!("journal entry {seq} {told}");
            assert!(gateway.log_contains(&told), "{}", gateway.log());
            assert!(gateway.log_contains("upgrade"), "{}", gateway.log());
            let copy = format!("file://{}", gateway.folder().join("copy").display());
            let store = format!("file://{}", gateway.data().join("store").display());
            for refused in [
                ["user", "list"].as_slice(),
                &["user", "add", "dora"],
                &["gc", "--grace", "0s"],
                &["checkpoint"],
                &["journal", "show"],
                &["journal", "verify"],
                &["format", "show"],
                &["store", "copy", &store, &copy],
            ] {
                let output = gateway.cli(refused);
                let said = String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{refused:?}: {said}");
                assert!(said.contains(&told) && said.contains("upgrade"), "{refused:?}: {said}");
            }
            assert_eq!(gateway.stored(""), before, "{made}: nothing was changed");
            assert!(!gateway.folder().join("copy/format.json").exists(), "no registry was made");
        }
    }
}

#[test]
fn a_checkpoint_of_a_later_release_is_passed_over_and_never_needed() {
    for golden in Golden::all() {
        let made = files_below(&golden.folder.join("made/checkpoints"));
        assert_eq!(made.len(), 2, "{made:?}");
        for (sort, told) in [
            ("schema-1000", "another release wrote it, with the catalog schema 1000"),
            ("level-1000", "format level 1000 is enabled in it"),
        ] {
            let mut gateway = golden.alone();
            let file = made.iter().find(|file| file.starts_with(sort)).unwrap();
            let (_, name) = file.split_once('/').unwrap();
            let from = golden.folder.join("made/checkpoints").join(file);
            fs::copy(from, gateway.data().join("store/checkpoints").join(name)).unwrap();
            gateway.start_again();
            assert!(gateway.log_contains("a checkpoint is passed over"), "{}", gateway.log());
            // At level 2 what no entry names is not so much as fetched.
            let unnamed = "no entry of the journal names it";
            let told = gateway.log_contains(told) || gateway.log_contains(unnamed);
            assert!(told, "{}", gateway.log());
            assert_golden(&gateway, &golden);
        }
    }
}

#[test]
fn the_layout_of_a_later_release_is_refused_by_everything_with_what_to_do() {
    for golden in Golden::all() {
        let mut gateway = golden.alone();
        let format = gateway.data().join("store/format.json");
        fs::write(&format, golden.read("made/format-1000.json")).unwrap();
        let before = gateway.stored("");
        let told = "format.json in the object store names layout 1000";
        let what_to_do = "Run that release, or a later one";
        gateway.spawn();
        assert_eq!(gateway.wait().code(), Some(1));
        assert!(
            gateway.log_contains(told) && gateway.log_contains(what_to_do),
            "{}",
            gateway.log()
        );
        for refused in [["user", "list"].as_slice(), &["gc"], &["journal", "verify"]] {
            let output = gateway.cli(refused);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{refused:?}: {said}");
            assert!(said.contains(told) && said.contains(what_to_do), "{refused:?}: {said}");
        }
        assert_eq!(gateway.stored(""), before, "nothing was changed");
    }
}
