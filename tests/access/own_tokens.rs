//! Tokens: their form, and those that their holders make, list, exchange and revoke.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use reqwest::Method;
use serde_json::{Value, json};

fn make(gateway: &Gateway, token: &str, wanted: Value) -> cratehouse_tests::client::Reply {
    let body = Some(json!({ "api_token": wanted }).to_string().into_bytes());
    gateway.client().call(Method::PUT, "/api/v1/me/tokens", body, token)
}

#[test]
fn a_token_shows_what_kind_it_is_and_one_that_was_cut_is_refused_before_it_is_looked_up() {
    let gateway = Gateway::builder().auth_required().start();
    let person = gateway.token("alice");
    gateway.cli_ok(&["user", "add", "robot", "--service"]);
    let machine = gateway.cli_ok(&["token", "create", "--user", "robot"]);
    assert!(person.starts_with("crh_p_") && machine.starts_with("crh_s_"));
    let status = |token: &str| gateway.client().get_as("/index/config.json", token);
    assert_eq!([status(&person).status, status(&machine).status], [200, 200]);
    let swapped = person.replace("crh_p_", "crh_s_");
    let flipped =
        format!("{}{}", &person[..person.len() - 1], if person.ends_with('a') { 'b' } else { 'a' });
    for bad in
        [&person[..person.len() - 1], &person[..10], "crh_p_", swapped.as_str(), flipped.as_str()]
    {
        let told = status(bad).assert_status(401).text();
        assert!(told.contains("not whole"), "{bad}: {told}");
    }
    let former = "crh_jWguwoYyRxDMudr65rcnaEGH5TcOUfFT";
    let told = status(former).assert_status(401).text();
    assert!(told.contains("unknown to this registry"), "{told}");
}

#[test]
fn a_holder_makes_narrower_tokens_and_no_wider_ones() {
    let gateway = Gateway::start();
    let client = gateway.client();
    let maker = gateway.token_with(
        "alice",
        &[
            "--scope",
            "read,publish-new,publish-update,yank,tokens",
            "--crate",
            "acme-*",
            "--expires",
            "90d",
        ],
    );
    let made = make(&gateway, &maker, json!({ "name": "ci" })).assert_status(200).json();
    let made = &made["api_token"];
    assert_eq!(made["crate_scopes"], json!(["acme-*"]));
    assert_eq!(made["endpoint_scopes"], json!(["read", "publish-new", "publish-update", "yank"]));
    assert!(made["expired_at"].is_string(), "{made}");
    let secret = made["token"].as_str().unwrap();
    client.publish(&Krate::new("acme-x", "1.0.0"), secret).assert_status(200);
    let journal = gateway.stored("journal").len();
    for wider in [
        json!({ "name": "x", "endpoint_scopes": ["change-owners"] }),
        json!({ "name": "x", "endpoint_scopes": ["admin"] }),
        json!({ "name": "x", "crate_scopes": ["*"] }),
        json!({ "name": "x", "crate_scopes": [] }),
        json!({ "name": "x", "expired_at": "2126-01-01T00:00:00Z" }),
    ] {
        make(&gateway, &maker, wider).assert_refused(403, "may do more than itself");
    }
    make(&gateway, secret, json!({ "name": "x" })).assert_refused(403, "scope `tokens`");
    for broken in [json!({}), json!({ "name": "x", "scopes": [] }), json!({ "name": 7 })] {
        make(&gateway, &maker, broken).assert_status(400);
    }
    assert_eq!(gateway.stored("journal").len(), journal, "nothing was made");

    let list = client.get_as("/api/v1/me/tokens", &maker).assert_status(200).json();
    assert_eq!(list["api_tokens"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(secret));
    client.get_as("/api/v1/me/tokens", secret).assert_status(403);
}

#[test]
fn a_token_ends_itself_and_others_of_its_holder_and_nobody_elses() {
    let gateway = Gateway::builder().auth_required().start();
    let client = gateway.client();
    let makes = &["--scope", "read,tokens"];
    let [first, second, bobs] =
        ["alice", "alice", "bob"].map(|user| gateway.token_with(user, makes));
    let narrow = gateway.token_with("alice", &["--scope", "read"]);
    let counts = |token: &str| client.get_as("/index/config.json", token).status == 200;
    let id = |token: &str| client.get_as("/api/v1/me", token).json()["token"]["id"].to_string();
    let (second_id, bobs_id) = (id(&second), id(&bobs));
    let delete = |path: &str, token: &str| client.call(Method::DELETE, path, None, token);
    delete(&format!("/api/v1/me/tokens/{bobs_id}"), &first)
        .assert_refused(404, "you have no token");
    let path = format!("/api/v1/me/tokens/{second_id}");
    delete(&path, &narrow).assert_refused(403, "scope `tokens`");
    delete(&path, &first).assert_status(200);
    assert!(counts(&first) && !counts(&second) && counts(&bobs));
    delete("/api/v1/tokens/current", &first).assert_status(200);
    assert!(!counts(&first));
    delete("/api/v1/tokens/current", &first).assert_refused(401, "was revoked");
}

#[test]
fn a_token_is_exchanged_without_a_pause() {
    let gateway = Gateway::builder().auth_required().start();
    let client = gateway.client();
    let former = gateway.token_with("alice", &["--scope", "read,yank,tokens", "--expires", "90d"]);
    let me = |token: &str| client.get_as("/api/v1/me", token).assert_status(200).json();
    let counts = |token: &str| client.get_as("/index/config.json", token).status == 200;
    let id = me(&former)["token"]["id"].to_string();
    let newer = gateway.cli_ok(&["token", "rotate", &id, "--overlap", "24h"]);
    until("it counts", || counts(&newer));
    assert!(counts(&former));
    assert_eq!(me(&newer)["token"]["scopes"], me(&former)["token"]["scopes"]);
    let ends = |token: &str| me(token)["token"]["expires"].as_str().unwrap()[..10].to_owned();
    assert!(ends(&former) < ends(&newer), "the former one ends tomorrow, the new one in 90 days");
    let body = Some(json!({ "overlap": "1h" }).to_string().into_bytes());
    let newer_id = me(&newer)["token"]["id"].to_string();
    let path = format!("/api/v1/me/tokens/{newer_id}/rotate");
    let newest = client.call(Method::POST, &path, body.clone(), &newer).assert_status(200).json();
    assert!(counts(newest["token"].as_str().unwrap()));
    let bob = gateway.token_with("bob", &["--scope", "read,tokens"]);
    client.call(Method::POST, &path, body, &bob).assert_refused(404, "you have no token");
}

/// A scanner's list, in the form of GitHub's partners.
#[test]
fn a_token_that_a_scanner_found_is_ended_and_its_holder_is_told() {
    let gateway = Gateway::builder().auth_required().start();
    let client = gateway.client();
    let [found, kept] = ["alice", "bob"].map(|user| gateway.token(user));
    let report = |list: Value| {
        let body = Some(list.to_string().into_bytes());
        client.send(Method::POST, "/api/v1/tokens/report", &[], body)
    };
    let url = "https://example.com/blob/main/.env";
    let one = |token: &str| json!({ "token": token, "type": "cratehouse", "url": url });
    let cut = &kept[..kept.len() - 1];
    let told = report(json!([one(&found), one(cut), one("hello")])).assert_status(200).json();
    let labels: Vec<_> = told.as_array().unwrap().iter().map(|one| one["label"].clone()).collect();
    assert_eq!(labels, ["true_positive", "false_positive", "false_positive"]);
    let shown = |token: &str| client.get_as("/index/config.json", token);
    let refusal = shown(&found).assert_status(401).text();
    assert!(refusal.contains("was found where others read it (https://example.com/"), "{refusal}");
    shown(&kept).assert_status(200);
    let again = report(json!([one(&found)])).assert_status(200).json();
    assert_eq!(again[0]["label"], "false_positive", "it counts no more");
    for wrong in [json!({}), json!([{ "tokn": "x" }]), json!(vec![one("x"); 101])] {
        report(wrong).assert_status(400);
    }
    let trail = gateway.cli_ok(&["journal", "show", "--user", "alice", "--kind", "token_reported"]);
    assert!(trail.contains("\treplica\trevoked token 1 of alice, which was found"), "{trail}");
    assert_eq!(trail.lines().count(), 2, "{trail}");
    assert!(!gateway.log().contains(&found));
    let tokens = gateway.cli_ok(&["token", "list", "--user", "alice", "--json"]);
    let tokens: Value = serde_json::from_str(&tokens).unwrap();
    assert_eq!((&tokens[0]["state"], &tokens[0]["reported"]), (&json!("revoked"), &json!(url)));
}

#[test]
fn tokens_are_chosen_by_their_use_end_and_age() {
    let mut gateway = Gateway::builder().auth_required().start();
    let client = gateway.client();
    let used = gateway.token_with("alice", &["--scope", "read,tokens"]);
    gateway.token_with("alice", &["--expires", "30d"]);
    client.get_as("/index/config.json", &used).assert_status(200);
    let own = client.get_as("/api/v1/me/tokens", &used).assert_status(200).json();
    let today = jiff::Timestamp::now().to_string()[..10].to_owned();
    let shown = &own["api_tokens"][0];
    assert_eq!(
        (&shown["last_used_at"], &shown["last_used_from"]),
        (&json!(today), &json!("127.0.0.0/24"))
    );
    assert_eq!(own["api_tokens"][1]["last_used_at"], Value::Null);
    gateway.stop();
    let ids = |flags: &[&str]| {
        let listed = gateway.cli_ok(&[&["token", "list", "--json"], flags].concat());
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [1, 2]);
    assert_eq!(ids(&["--never-used"]), [2], "what the server noted stands in the store");
    assert_eq!(ids(&["--without-end"]), [1]);
    assert_eq!(ids(&["--older-than", "1d"]), [0; 0]);
    assert_eq!(ids(&["--older-than", "0s", "--user", "alice"]), [1, 2]);
    let table = gateway.cli_ok(&["token", "list"]);
    assert!(table.contains(&format!("\t{today} from 127.0.0.0/24\tactive")), "{table}");
}

#[test]
fn no_token_lives_longer_than_is_configured() {
    let gateway = Gateway::builder()
        .set("auth", "default_token_days = 30")
        .set("auth", "longest_token_days = 90")
        .start();
    let days = |token: &str| {
        let me = gateway.client().get_as("/api/v1/me", token).assert_status(200).json();
        let end: jiff::Timestamp = me["token"]["expires"].as_str().unwrap().parse().unwrap();
        (end.duration_since(jiff::Timestamp::now()).as_hours() + 1) / 24
    };
    let admin = gateway.token_with("alice", &["--scope", "read,tokens,admin"]);
    assert_eq!(days(&admin), 30);
    let long = gateway.cli(&["token", "create", "--user", "alice", "--expires", "91d"]);
    let told = String::from_utf8(long.stderr).unwrap();
    assert!(!long.status.success() && told.contains("auth.longest_token_days"), "{told}");
    let far = json!({ "name": "ci", "expired_at": "2126-01-01T00:00:00Z" });
    make(&gateway, &admin, far).assert_refused(400, "auth.longest_token_days");
    let body = Some(json!({ "user": "alice", "expires": "91d" }).to_string().into_bytes());
    let call = gateway.client().call(Method::POST, "/api/v1/admin/tokens", body, &admin);
    call.assert_refused(400, "90 days at most");
    let made = make(&gateway, &admin, json!({ "name": "ci" })).assert_status(200).json();
    assert_eq!(days(made["api_token"]["token"].as_str().unwrap()), 30);
}
