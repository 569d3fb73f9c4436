//! The rights that a gateway needs in its bucket: the policy of docs/operations.md, word for word,
//! is enough for everything that it does, and with less it does not start.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::fault_proxy::FaultProxy;
use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::rgw::Rgw;
use cratehouse_tests::s3::S3;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;
use serde_json::{Value, json};

const GUIDE: &str = include_str!("../../docs/operations.md");
const ACTIONS: [&str; 4] = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"];

/// What the queries of a listing consist of, and of a request for one object.
const LISTING: [&str; 5] = ["", "list-type", "prefix", "delimiter", "start-after"];

/// The guide's policy for a place, given to a user of the server by way of the bucket.
fn policy(place: &S3, without: Option<&str>) -> Value {
    let (_, after) = GUIDE.split_once("```json\n").expect("the guide has a policy");
    let (text, _) = after.split_once("```").unwrap();
    let text = text.replace("registry/main", &place.prefix).replace("acme-crates", &place.bucket);
    let mut policy: Value = serde_json::from_str(&text).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut() {
        let user = format!("arn:aws:iam:::user/{}", place.access_key);
        statement["Principal"] = json!({ "AWS": [user] });
        let actions = statement["Action"].as_array_mut().unwrap();
        actions.retain(|action| action.as_str() != without);
    }
    statements.retain(|statement| !statement["Action"].as_array().unwrap().is_empty());
    policy
}

fn gateway(place: &S3) -> Builder {
    Gateway::builder().s3(place).certificate(&Authority::new())
}

#[test]
fn the_guides_policy_is_enough_for_everything() {
    let bucket = Rgw::shared().bucket();
    let place = Rgw::shared().stranger("least", &bucket);
    bucket.set_policy(&policy(&place, None));
    let upstream = Upstream::with(&[Krate::new("public-crate", "1.0.0")]);
    let mut gateway = gateway(&place).upstream(&upstream).start();
    let (token, client) = (gateway.token("alice"), gateway.client());
    for version in ["1.0.0", "1.1.0"] {
        client.publish(&Krate::new("foo", version), &token).assert_status(200);
    }
    client.yank("foo", "1.0.0", &token).assert_status(200);
    client.download("foo", "1.0.0").assert_status(200);
    client.download("public-crate", "1.0.0").assert_status(200);
    gateway.cli_ok(&["remove", "foo@1.0.0", "--reason", "x"]);
    let swept = gateway.cli_ok(&["gc", "--grace", "0s"]);
    assert!(swept.contains("1 deleted"), "{swept}");
    gateway.cli_ok(&["checkpoint"]);
    gateway.cli_ok(&["mirror", "purge", "public-crate"]);
    assert!(gateway.stop().success());
    gateway.wipe();
    gateway.start_again();
    gateway.client().download("foo", "1.1.0").assert_status(200);
    assert!(!gateway.cli_ok(&["pulls", "foo"]).is_empty());
    gateway.cli_ok(&["journal", "verify"]);
    let copy = format!("file://{}", gateway.folder().join("copy").display());
    gateway.cli_ok(&["store", "copy", &place.url(), &copy]);
    // Its own place, and nothing beside it.
    let beside = S3 { prefix: "registry/other".to_owned(), ..place };
    assert!(beside.create_only("x", b"x").is_err());
}

/// In a registry that somebody else founded: in Ceph, who wrote an object may read it by its ACL.
#[test]
fn without_any_one_right_it_does_not_start() {
    for (nth, action) in ACTIONS.into_iter().enumerate() {
        let bucket = Rgw::shared().bucket();
        let founder = gateway(&bucket).prepare();
        founder.cli_ok(&["init"]);
        founder.cli_ok(&["user", "add", "alice"]);
        let place = Rgw::shared().stranger(&format!("less-{nth}"), &bucket);
        let policy = policy(&place, Some(action));
        let named = ACTIONS.iter().filter(|action| policy.to_string().contains(**action)).count();
        assert_eq!(named, ACTIONS.len() - 1, "the guide's policy names {action}: {policy}");
        bucket.set_policy(&policy);
        let mut gateway = gateway(&place).prepare();
        gateway.spawn();
        until("it says why", || gateway.log_contains("orbidden"));
        let ready = gateway.admin().try_send(Method::GET, "/readyz", &[], None);
        assert!(ready.is_err() || ready.is_ok_and(|ready| ready.status == 503), "without {action}");
        assert!(!gateway.log_contains("listening on"), "without {action}:\n{}", gateway.log());
        assert_eq!(bucket.list("journal").len(), 1);
    }
}

/// What is absent has no prefix to compare, so it is forbidden again.
#[test]
fn with_a_condition_on_the_listed_prefix_it_does_not_start() {
    let bucket = Rgw::shared().bucket();
    let place = Rgw::shared().stranger("conditional", &bucket);
    let mut policy = policy(&place, None);
    let statements = policy["Statement"].as_array_mut().unwrap();
    let listing = statements.iter_mut().find(|s| s["Action"][0] == "s3:ListBucket").unwrap();
    listing["Condition"] =
        json!({ "StringLike": { "s3:prefix": [format!("{}/*", place.prefix)] } });
    bucket.set_policy(&policy);
    let mut gateway = gateway(&place).prepare();
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1));
    assert!(gateway.log_contains("s3:ListBucket"), "{}", gateway.log());
}

/// What the gateway calls the store for, counted where it passes: nothing else is ever asked.
#[test]
fn it_asks_for_nothing_but_objects_and_listings() {
    let bucket = Rgw::shared().bucket();
    let proxy = FaultProxy::before(Rgw::shared().addr());
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let note = Arc::clone(&seen);
    proxy.plan(move |request| {
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let keys = query.split('&').filter_map(|pair| pair.split('=').next());
        let more: Vec<_> = keys.filter(|key| !LISTING.contains(key)).collect();
        note.lock().unwrap().insert(format!("{} {}", request.method, more.join(",")));
        None
    });
    let upstream = Upstream::with(&[Krate::new("public-crate", "1.0.0").ballast(3_000_000)]);
    let gateway = gateway(&bucket.through(&proxy.origin())).upstream(&upstream).start();
    let (token, client) = (gateway.token("alice"), gateway.client());
    client.publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    client.owners(Method::PUT, "foo", &["alice"], &token).assert_status(200);
    client.download("public-crate", "1.0.0").assert_status(200);
    gateway.cli_ok(&["remove", "foo@1.0.0", "--reason", "x"]);
    gateway.cli_ok(&["gc", "--grace", "0s"]);
    gateway.cli_ok(&["checkpoint"]);
    let seen: Vec<_> = seen.lock().unwrap().iter().cloned().collect();
    // Deletes come as a request for several, which needs the same right.
    assert_eq!(seen, ["GET ", "POST delete", "PUT "]);
}
