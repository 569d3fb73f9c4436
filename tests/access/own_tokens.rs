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
    let [first, second, bobs] = ["alice", "alice", "bob"].map(|user| gateway.token(user));
    let counts = |token: &str| client.get_as("/index/config.json", token).status == 200;
    let id = |token: &str| client.get_as("/api/v1/me", token).json()["token"]["id"].to_string();
    let (second_id, bobs_id) = (id(&second), id(&bobs));
    let delete = |path: &str, token: &str| client.call(Method::DELETE, path, None, token);
    delete(&format!("/api/v1/me/tokens/{bobs_id}"), &first)
        .assert_refused(404, "you have no token");
    delete(&format!("/api/v1/me/tokens/{second_id}"), &first).assert_status(200);
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
