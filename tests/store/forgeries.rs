//! Who can write into the store beside the registry: what they gain, and what is noticed.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::patience::until;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

fn publish(gateway: &Gateway, versions: u32, token: &str) {
    for n in 0..versions {
        let krate = Krate::new("foo", &format!("1.0.{n}"));
        gateway.client().publish(&krate, token).assert_status(200);
    }
}

/// Puts a checkpoint in place of all others that is sound, and in which the token with the number 1 is
/// an administrator's.
fn forge(gateway: &Gateway) -> String {
    let folder = gateway.data().join("store/checkpoints");
    let genuine = gateway.stored("checkpoints").pop().unwrap();
    let bytes = gateway.stored_bytes(&genuine);
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let forged: String = text.lines().map(|line| forged_line(line) + "\n").collect();
    assert_ne!(forged, text);
    let (seq, _) = genuine.trim_start_matches("checkpoints/").split_once('-').unwrap();
    let name = format!("{seq}-{}", sha256(forged.as_bytes()));
    for file in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        fs::remove_file(file.path()).unwrap();
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(forged.as_bytes()).unwrap();
    fs::write(folder.join(&name), gzip.finish().unwrap()).unwrap();
    format!("checkpoints/{name}")
}

fn forged_line(line: &str) -> String {
    let mut row: Value = serde_json::from_str(line).unwrap();
    if row[0] == "tokens" {
        row[2]["grant"]["scopes"] = json!(["admin"]);
    }
    // In the form in which it is written: a value keeps the order of its fields.
    if row[0] == "tokens" { row.to_string() } else { line.to_owned() }
}

#[test]
fn a_forged_checkpoint_gives_nobody_a_right() {
    let mut gateway = Gateway::start();
    let alice = gateway.token("alice");
    publish(&gateway, 3, &alice);
    gateway.cli_ok(&["checkpoint"]);
    let forged = forge(&gateway);
    gateway.restart_on_an_empty_disk();
    until("the log says so", || gateway.log_contains("no entry of the journal names it"));
    gateway.client().get_as("/api/v1/admin/users", &alice).assert_status(403);
    assert_eq!(gateway.client().index("foo").lines().len(), 3);
    assert_eq!(gateway.metric("cratehouse_checkpoints_total", &[("event", "loaded")]), 0.0);
    gateway.stop();
    let output = gateway.cli(&["journal", "verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&forged) && said.contains("is not what the entries"), "{said}");
    assert!(said.contains("the chain holds"), "{said}");
}

/// As in 0.1: until the level is enabled, whoever can write there is believed, and this is said.
#[test]
fn before_the_level_a_checkpoint_is_believed_with_a_warning_and_enabling_it_writes_one() {
    let mut gateway = Gateway::builder().prepare();
    begin_at_level_1(&gateway);
    gateway.start_again();
    let alice = gateway.token("alice");
    publish(&gateway, 3, &alice);
    gateway.cli_ok(&["checkpoint"]);
    gateway.restart_on_an_empty_disk();
    until("the log says so", || gateway.log_contains("`cratehouse format enable 2`"));
    assert_eq!(gateway.metric("cratehouse_checkpoints_total", &[("event", "loaded")]), 1.0);

    let enabled = gateway.cli_ok(&["format", "enable", "2"]);
    let written = gateway.stored("checkpoints");
    assert!(enabled.contains("format level 2 is now enabled"), "{enabled}");
    assert!(written.len() == 2 && enabled.contains(&written[1]), "{enabled} {written:?}");
    let trail = gateway.cli_ok(&["journal", "show"]);
    assert!(trail.lines().last().unwrap().contains("replica\twrote a checkpoint"), "{trail}");
    gateway.restart_on_an_empty_disk();
    assert_eq!(gateway.metric("cratehouse_checkpoints_total", &[("event", "loaded")]), 1.0);
    assert_eq!(gateway.metric("cratehouse_journal_format_level", &[("level", "enabled")]), 2.0);
    forge(&gateway);
    gateway.restart_on_an_empty_disk();
    assert_eq!(gateway.metric("cratehouse_checkpoints_total", &[("event", "loaded")]), 0.0);
    gateway.client().get_as("/api/v1/admin/users", &alice).assert_status(403);
}

/// A store as 0.1 founded it: with an entry.
fn begin_at_level_1(gateway: &Gateway) {
    let store = gateway.data().join("store");
    let registry = "0123456789abcdef0123456789abcdef";
    let entry = json!({
        "seq": 1, "id": "00".repeat(16), "prev": sha256(registry.as_bytes()),
        "time": "2026-01-01T00:00:00Z", "replica": "old",
        "events": [{ "by": "operator", "event": "user_created", "user": 1, "login": "carol" }],
    });
    fs::create_dir_all(store.join("journal")).unwrap();
    let format = json!({ "format": 1, "registry": registry });
    fs::write(store.join("format.json"), format.to_string()).unwrap();
    fs::write(store.join("journal/00000000000000000001.json"), entry.to_string()).unwrap();
}

#[test]
fn a_gap_in_the_journal_is_nobodys_end() {
    let mut gateway = Gateway::start();
    let alice = gateway.token("alice");
    publish(&gateway, 9, &alice);
    gateway.stop();
    let entries = gateway.stored("journal");
    assert_eq!(entries.len(), 11);
    fs::remove_file(gateway.data().join("store").join(&entries[4])).unwrap();
    gateway.wipe();
    let before = gateway.stored("");
    gateway.spawn();
    assert!(!gateway.wait().success());
    let told = "journal entry 5 is missing, but entry 11 is there";
    until("the log says so", || gateway.log_contains(told));
    until("the log says so", || gateway.log_contains("journal_broken"));
    let output = gateway.cli(&["user", "add", "fork"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(told), "{said}");
    let journal = |stored: &[String]| stored.iter().filter(|it| it.starts_with("journal/")).count();
    assert_eq!(journal(&gateway.stored("")), journal(&before), "nothing is put into it");
    fs::write(gateway.data().join("store").join(&entries[4]), b"?").unwrap();
    assert!(!gateway.cli(&["journal", "verify"]).status.success());
}

#[test]
fn an_entry_by_an_actor_that_no_entry_made_raises_an_alarm() {
    let gateway = Gateway::start();
    gateway.token("alice");
    let last = gateway.stored("journal").pop().unwrap();
    let bytes = gateway.stored_bytes(&last);
    let seq = serde_json::from_slice::<Value>(&bytes).unwrap()["seq"].as_u64().unwrap() + 1;
    let by = json!({ "user": { "user": 1, "token": 77 } });
    let entry = json!({
        "seq": seq, "id": "00".repeat(16), "prev": sha256(&bytes), "level": 2,
        "time": "2030-01-01T00:00:00Z", "replica": "forger",
        "events": [{ "by": by, "event": "user_created", "user": 2, "login": "mallory" }],
    });
    let path = gateway.data().join(format!("store/journal/{seq:020}.json"));
    fs::write(path, entry.to_string()).unwrap();
    let alarm = || gateway.metric("cratehouse_alarms_total", &[("alarm", "unknown_actor")]);
    until("the alarm is raised", || alarm() == 1.0);
    let output = gateway.cli(&["journal", "verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&format!("journal entry {seq} has an event by user 1")), "{said}");
}

#[test]
fn a_link_in_the_store_is_not_followed() {
    let mut gateway = Gateway::start();
    let alice = gateway.token("alice");
    publish(&gateway, 1, &alice);
    gateway.stop();
    let store = gateway.data().join("store");
    let blob = store.join(&gateway.stored("blobs/hosted")[0]);
    let outside = gateway.folder().join("outside");
    fs::rename(&blob, &outside).unwrap(); // even the very bytes
    symlink(&outside, &blob).unwrap();
    gateway.start_again();
    let reply = gateway.client().download("foo", "1.0.0");
    assert!(reply.status >= 500, "{reply}");
    until("the log says so", || gateway.log_contains("is a symbolic link"));
    fs::remove_file(&blob).unwrap();
    fs::rename(&outside, &blob).unwrap();
    gateway.client().download("foo", "1.0.0").assert_status(200);
}

/// Every file and folder below one, with its mode.
fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
    let mode = fs::metadata(folder).unwrap().permissions().mode();
    found.push((folder.display().to_string(), mode & 0o7777));
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => modes(&path, found),
            path => {
                let mode = entry.metadata().unwrap().permissions().mode();
                found.push((path.display().to_string(), mode & 0o7777));
            }
        }
    }
}

#[test]
fn what_is_made_is_its_owners_alone_whatever_the_umask() {
    let mut gateway = Gateway::builder().ulimit("-c 0 && umask 000").prepare();
    assert!(!gateway.data().exists());
    gateway.start_again();
    let alice = gateway.token("alice");
    publish(&gateway, 1, &alice);
    gateway.cli_ok(&["checkpoint"]);
    gateway.stop();
    let mut found = Vec::new();
    modes(&gateway.data(), &mut found);
    assert!(found.len() > 10, "{found:?}");
    for (path, mode) in found {
        assert!([0o700, 0o600].contains(&mode), "{path} has {mode:o}");
    }
}

/// Two users may share a store by a group: that is made by hand.
#[test]
fn a_store_that_was_made_for_a_group_stays_the_groups() {
    let mut gateway = Gateway::builder().prepare();
    let store = gateway.data().join("store");
    fs::create_dir_all(&store).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o2770)).unwrap();
    gateway.start_again();
    gateway.token("alice");
    let entry = store.join(&gateway.stored("journal")[0]);
    assert_eq!(fs::metadata(entry).unwrap().permissions().mode() & 0o777, 0o660);
}
