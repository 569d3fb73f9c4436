//! Work on the store: its self-test, the audit trail, copies, garbage.

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::google::Google;
use cratehouse_tests::krate::Krate;

/// A registry with `foo` 1.0.0 and 2.0.0, published by alice; the second was removed.
fn site() -> Gateway {
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
    let gateway = site();
    let trail = gateway.cli_ok(&["journal", "show", "--crate", "foo"]);
    let deeds: Vec<Vec<_>> = trail.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert!(deeds[0][2].starts_with("alice (token "), "{trail}");
    assert!(deeds[0][3].starts_with("published foo 1.0.0 ("), "{trail}");
    let last = deeds.last().unwrap();
    assert_eq!(last[3], "removed foo 2.0.0: leaked");
    assert!(last[2].starts_with("operator ") && last[2].contains('@'), "{trail}");
    let chosen = |args: &[&str]| gateway.cli_ok(&[&["journal", "show"], args].concat());
    let alices = chosen(&["--user", "alice", "--kind", "published,yanked", "--tail", "2"]);
    assert_eq!(alices.lines().count(), 3, "{alices}");
    assert!(alices.lines().skip(1).all(|line| line.contains("\talice (token ")), "{alices}");
    assert_eq!(chosen(&["--token", "1", "--kind", "token_created"]).lines().count(), 2);
    assert_eq!(chosen(&["--user", "nobody"]).lines().count(), 1);
    let wrong = gateway.cli(&["journal", "show", "--kind", "publishd"]);
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(64) && told.contains("published"), "{told}");

    let json = gateway.cli_ok(&["journal", "show", "--json", "--since", last[0]]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["event"], &json["reason"]), (&"removed".into(), &"leaked".into()));
}

#[test]
fn a_copy_serves_what_the_original_serves() {
    let gateway = site();
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

fn over(url: &str, environment: &[(&str, String)]) -> Builder {
    let builder = Gateway::builder()
        .certificate(&Authority::new())
        .set("store", &format!("url = {url:?}"))
        .set("store", "allow_http = true");
    environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

/// By a server of our own that speaks its protocol: nobody has tried the real one.
#[test]
fn a_registry_lives_in_a_bucket_of_google_and_is_copied_from_there() {
    let ((server, environment), url) = (Google::start(), "gs://bucket/registry");
    let mut gateway = over(url, &environment).start();
    assert!(gateway.log_contains("24 races of 32 creates"), "{}", gateway.log());
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    let again = gateway.client().publish(&Krate::new("foo", "1.0.0"), &token);
    again.assert_refused(400, "already uploaded");
    let keys = server.keys();
    assert!(keys.contains(&"registry/journal/00000000000000000001.json".to_owned()));
    assert!(keys.iter().all(|key| !key.contains("selftest")), "{keys:?}");

    gateway.restart_on_an_empty_disk();
    gateway.client().download("foo", "1.0.0").assert_status(200);
    gateway.cli_ok(&["gc", "--grace", "0s"]);
    gateway.cli_ok(&["journal", "verify"]);
    let copy = format!("file://{}", gateway.folder().join("copy").display());
    assert!(gateway.cli_ok(&["store", "copy", url, &copy]).contains("holds registry"));
}

#[test]
fn a_bucket_without_a_name_or_without_what_its_cloud_wants_is_refused() {
    for (url, why) in [("gs://", "name a bucket"), ("az:///prefix", "name a bucket")] {
        let gateway = over(url, &[]).prepare();
        let refused = gateway.cli(&["config", "check"]);
        assert_eq!(refused.status.code(), Some(64), "{url}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("store.url") && said.contains(why), "{said}");
    }
    let refused = over("az://container", &[]).prepare().cli(&["config", "check"]);
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("AZURE_STORAGE_") && said.contains("Account"), "{said}");
}

#[test]
fn garbage_is_deleted_and_what_a_version_names_stays() {
    let gateway = site();
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
