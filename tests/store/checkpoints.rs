//! A new replica starts from a checkpoint: the real binary, its log and its store.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use serde_json::Value;

/// What the gateway has printed since some length of its log.
fn since(gateway: &Gateway, length: usize) -> String {
    gateway.log().get(length..).unwrap_or_default().to_owned()
}

/// Stops, deletes the catalog, and starts; gives what that printed.
fn start_without_a_catalog(gateway: &mut Gateway) -> String {
    gateway.stop();
    std::fs::remove_file(gateway.data().join("catalog.redb")).unwrap();
    let before = gateway.log().len();
    gateway.start_again();
    since(gateway, before)
}

fn index_of(gateway: &Gateway) -> Vec<Value> {
    gateway.client().index("foo").assert_status(200).lines()
}

#[test]
fn a_new_replica_loads_the_newest_checkpoint_and_passes_over_a_damaged_one() {
    let mut gateway = Gateway::start();
    let token = gateway.token("alice");
    for n in 0..30 {
        let krate = Krate::new("foo", &format!("1.0.{n}"));
        gateway.client().publish(&krate, &token).assert_status(200);
    }
    let name = gateway.cli_ok(&["checkpoint"]);
    assert_eq!(gateway.stored("checkpoints"), [name.as_str()]);
    assert_eq!(gateway.cli_ok(&["checkpoint"]), name, "it is the same, and written once");
    assert_eq!(gateway.stored("checkpoints").len(), 1);
    // What comes after it is read from the journal.
    gateway.client().yank("foo", "1.0.3", &token).assert_status(200);
    let lines = index_of(&gateway);
    assert_eq!(lines.len(), 30);

    let seq: u64 =
        name.trim_start_matches("checkpoints/").split('-').next().unwrap().parse().unwrap();
    let started = start_without_a_catalog(&mut gateway);
    assert!(started.contains(&format!("checkpoint {seq} loaded (30 versions)")), "{started}");
    // The entry that names it, and the yank.
    assert!(started.contains(&format!("journal read up to entry {}", seq + 2)), "{started}");
    assert_eq!(index_of(&gateway), lines);
    assert_eq!(gateway.metric("cratehouse_checkpoints_total", &[("event", "loaded")]), 1.0);
    assert_eq!(gateway.metric("cratehouse_checkpoint_seq", &[]), seq as f64);
    gateway.client().publish(&Krate::new("foo", "2.0.0"), &token).assert_status(200);

    let path = gateway.data().join("store").join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let lines = index_of(&gateway);
    let started = start_without_a_catalog(&mut gateway);
    assert!(started.contains("a checkpoint is passed over"), "{started}");
    assert!(!started.contains("versions)"), "{started}");
    assert_eq!(index_of(&gateway), lines);
    assert_eq!(gateway.metric("cratehouse_checkpoints_total", &[("event", "passed_over")]), 1.0);
    // What deletes, and what writes a checkpoint by hand, does not even look at it.
    let passed_over = |args: &[&str]| {
        let output = gateway.cli(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).contains("a checkpoint is passed over")
    };
    assert!(passed_over(&["user", "list"]));
    assert!(!passed_over(&["gc", "--dry-run"]));
    assert!(!passed_over(&["checkpoint"]));
    let output = gateway.cli(&["journal", "verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains(&name) && said.contains("damaged"), "{said}");
    std::fs::remove_file(&path).unwrap();
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn a_server_writes_checkpoints_by_itself() {
    let mut gateway = Gateway::builder().set("catalog", "checkpoint_entries = 5").start();
    let token = gateway.token("alice");
    for n in 0..8 {
        let krate = Krate::new("foo", &format!("1.0.{n}"));
        gateway.client().publish(&krate, &token).assert_status(200);
    }
    until("a checkpoint is written", || !gateway.stored("checkpoints").is_empty());
    until("it is counted", || {
        gateway.metric("cratehouse_checkpoints_total", &[("event", "written")]) >= 1.0
    });
    let lines = index_of(&gateway);
    let before = gateway.log().len();
    gateway.restart_on_an_empty_disk();
    assert!(since(&gateway, before).contains(" loaded ("), "{}", gateway.log());
    assert_eq!(index_of(&gateway), lines);
}

#[test]
fn there_is_no_checkpoint_of_nothing() {
    let gateway = Gateway::start();
    let output = gateway.cli(&["checkpoint"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("nothing"), "{said}");
    assert!(gateway.stored("checkpoints").is_empty());
}
