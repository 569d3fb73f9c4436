//! Work on the store: its self-test, the audit trail, copies, garbage.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;

/// A house with `foo` 1.0.0 and 2.0.0, published by alice; the second was removed.
fn house() -> Gateway {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    for version in ["1.0.0", "2.0.0"] {
        gateway.client().publish(&Krate::new("foo", version), &token).assert_status(200);
    }
    gateway.cli_ok(&["remove", "foo@2.0.0", "--reason", "leaked"]);
    gateway
}

#[test]
fn a_start_tries_its_store_and_leaves_nothing_there() {
    let gateway = Gateway::start();
    assert!(gateway.log_contains("the store behaves"), "{}", gateway.log());
    assert_eq!(gateway.stored("selftest"), Vec::<String>::new());
}

#[test]
fn the_audit_trail_tells_who_did_what() {
    let gateway = house();
    let trail = gateway.cli_ok(&["journal", "show", "--crate", "foo"]);
    let deeds: Vec<Vec<_>> = trail.lines().map(|line| line.split('\t').collect()).collect();
    assert!(deeds[0][2].starts_with("alice (token "), "{trail}");
    assert!(deeds[0][3].starts_with("published foo 1.0.0 ("), "{trail}");
    let last = deeds.last().unwrap();
    assert_eq!((last[2], last[3]), ("operator", "removed foo 2.0.0: leaked"));

    let json = gateway.cli_ok(&["journal", "show", "--json", "--since", last[0]]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["event"], &json["reason"]), (&"removed".into(), &"leaked".into()));
}

#[test]
fn a_copy_serves_what_the_original_serves() {
    let gateway = house();
    let copy = gateway.folder().join("copy");
    let (from, to) = (gateway.data().join("store"), format!("file://{}", copy.display()));
    let args = ["store", "copy", &format!("file://{}", from.display()), &to];
    let said = gateway.cli_ok(&args);
    assert!(said.contains("holds registry"), "{said}");
    assert!(gateway.cli_ok(&args).contains("(0 objects copied"));

    let other = Gateway::builder().set("store", &format!("url = {to:?}")).start();
    let bytes =
        |gateway: &Gateway| gateway.client().download("foo", "1.0.0").assert_status(200).body;
    assert_eq!(bytes(&other), bytes(&gateway));
    other.client().download("foo", "2.0.0").assert_status(404);
    let refused = gateway.cli(&["store", "copy", "file://nowhere", &to]);
    assert!(!refused.status.success() && !gateway.folder().join("nowhere").exists());
}

#[test]
fn garbage_is_deleted_and_what_a_version_names_stays() {
    let gateway = house();
    assert_eq!(gateway.stored("blobs/hosted").len(), 2);
    assert!(gateway.cli_ok(&["gc"]).contains("1 too young, 0 deleted"));
    let dry = gateway.cli_ok(&["gc", "--grace", "0s", "--dry-run"]);
    assert!(dry.contains("1 garbage") && gateway.stored("blobs/hosted").len() == 2, "{dry}");
    let swept = gateway.cli_ok(&["gc", "--grace", "0s"]);
    assert!(swept.contains("1 deleted"), "{swept}");
    assert_eq!(gateway.stored("blobs/hosted").len(), 1);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    gateway.cli_ok(&["journal", "verify"]);

    // The running server follows the sweep, and takes the same bytes again.
    let token = gateway.token("alice");
    let again = Krate::new("foo", "3.0.0");
    gateway.client().publish(&again, &token).assert_status(200);
    gateway.client().download("foo", "3.0.0").assert_status(200);
}
