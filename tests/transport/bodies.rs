//! Request bodies: what one client promises or sends slowly stops nobody else, and no byte of an archive
//! is wanted from one who may not publish it.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::h2::{Connection, Stream};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::{eventually, until};
use cratehouse_tests::test_gateway::TestGateway;
use cratehouse_tests::upstream::Upstream;
use serde_json::json;

const CHECK: &str = "/api/v1/policy/check";
const NEW: &str = "/api/v1/crates/new";
/// A body of the largest size, or so.
const LARGE: &str = "10000000";

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

fn answer(stream: &Stream) -> (u16, String) {
    eventually("there is an answer", || stream.answer())
}

fn memory(gateway: &Gateway, body: &str) -> f64 {
    gateway.metric("cratehouse_request_body_memory_bytes", &[("body", body)])
}

fn refused(gateway: &Gateway) -> f64 {
    gateway.metric("cratehouse_request_bodies_refused_total", &[])
}

#[test]
fn slow_promises_on_one_connection_do_not_stop_a_publish_or_a_check() {
    let server = TestGateway::new();
    let slow = Connection::open(&server.gateway);
    let promise = [("content-length", "4194304")];
    let streams: Vec<_> = (0..70).map(|_| slow.begin("POST", CHECK, &promise)).collect();
    slow.trickle(&streams);
    let last = slow.begin("GET", "/index/config.json", &[]);
    assert_eq!(answer(&last).0, 200, "all of them have begun");
    server.accept(&foo());
    until("they are being read", || memory(&server.gateway, "policy_check") > 0.0);
    let lock = b"version = 4\n".to_vec();
    let checked = server.client.send(reqwest::Method::POST, CHECK, &[], Some(lock));
    checked.assert_status(200);
    assert!(streams.iter().all(|stream| stream.answer().is_none()), "they are still under way");
    assert!(memory(&server.gateway, "policy_check") < 1e6, "what has arrived counts");
    assert_eq!(refused(&server.gateway), 0.0);
    drop((streams, slow));
    until("it is given back", || memory(&server.gateway, "policy_check") == 0.0);
}

#[test]
fn slow_publishes_of_one_who_may_not_are_refused_before_their_bodies() {
    let server = TestGateway::new();
    let reader = server.gateway.token_with("bob", &["--scope", "read"]);
    let slow = Connection::open(&server.gateway);
    let headers = [("content-length", LARGE), ("authorization", reader.as_str())];
    let streams: Vec<_> = (0..27).map(|_| slow.begin("PUT", NEW, &headers)).collect();
    for stream in &streams {
        let (status, text) = answer(stream);
        assert!(status == 403 && text.contains("publish-new"), "{status} {text}");
    }
    server.accept(&foo());
    assert_eq!(memory(&server.gateway, "publish"), 0.0);
    let refused = [("outcome", "refused")];
    assert_eq!(server.gateway.metric("cratehouse_publishes_total", &refused), 27.0);
}

/// The length and the JSON of a publish, and the length of a crate file that never comes.
fn beginning(krate: &Krate) -> Vec<u8> {
    let json = krate.publish_json("").to_string();
    let whole = krate.publish_body();
    whole[..4 + json.len() + 4].to_vec()
}

#[test]
fn name_pattern_owner_and_version_are_judged_before_the_archive() {
    let server = TestGateway::new();
    server.accept(&foo());
    let limited = server.gateway.token_with("alice", &["--crate", "acme-*"]);
    let updates = server.gateway.token_with("alice", &["--scope", "publish-update"]);
    let stranger = server.gateway.token("bob");
    let connection = Connection::open(&server.gateway);
    for (krate, token, status, said) in [
        (Krate::new("foo", "1.1.0"), &stranger, 403, "owners"),
        (Krate::new("foo", "1.1.0"), &limited, 403, "is not among them"),
        (Krate::new("bar", "1.0.0"), &updates, 403, "publish-new"),
        (Krate::new("FOO", "1.1.0"), &server.token, 400, "exists already"),
        (Krate::new("std", "1.0.0"), &server.token, 400, "std"),
        (foo(), &server.token, 400, "already uploaded"),
    ] {
        let headers = [("content-length", LARGE), ("authorization", token.as_str())];
        let stream = connection.begin("PUT", NEW, &headers);
        stream.send(beginning(&krate));
        let (got, text) = answer(&stream);
        assert!(got == status && text.contains(said), "{said}: {got} {text}");
    }
    until("all room is given back", || memory(&server.gateway, "publish") == 0.0);
    server.accept(&Krate::new("foo", "1.1.0"));
}

#[test]
fn whom_a_crate_gets_for_an_owner_is_read_from_owners_alone() {
    let server = TestGateway::new();
    server.accept(&foo());
    let stranger = server.gateway.token("bob");
    let connection = Connection::open(&server.gateway);
    let headers = [("content-length", "60000"), ("authorization", stranger.as_str())];
    for method in ["PUT", "DELETE"] {
        let stream = connection.begin(method, "/api/v1/crates/foo/owners", &headers);
        let (status, text) = answer(&stream);
        assert!(status == 403 && text.contains("owners"), "{method}: {status} {text}");
    }
}

#[test]
fn one_address_and_one_token_take_no_more_than_their_share() {
    let limits = "publish_memory_mib = 40";
    let server = TestGateway::of(Gateway::builder().set("limits", limits).start());
    let connection = Connection::open(&server.gateway);
    let whole = 40.0 * 1024.0 * 1024.0;
    let headers = [("content-length", LARGE), ("authorization", server.token.as_str())];
    let begun = beginning(&foo());
    let streams: Vec<_> = (0..12)
        .map(|_| {
            let stream = connection.begin("PUT", NEW, &headers);
            stream.send(begun.clone());
            stream.send(vec![0; 4_000_000]);
            stream
        })
        .collect();
    // Two of the largest bodies are more than a quarter of so little: 22 MiB.
    until("the share is used up", || memory(&server.gateway, "publish") > 0.2 * whole);
    until("some are refused", || refused(&server.gateway) > 0.0);
    assert!(memory(&server.gateway, "publish") < 0.6 * whole);
    let refused: Vec<_> = streams.iter().filter_map(Stream::answer).collect();
    for (status, text) in refused {
        assert!(status == 503 && text.contains("your address"), "{status} {text}");
    }
    drop((streams, connection));
    server.accept(&foo());
}

#[test]
fn hundreds_of_jobs_behind_one_address_with_one_token_are_not_refused() {
    let upstream = Upstream::start();
    let server =
        TestGateway::of(Gateway::builder().upstream(&upstream).reserved(&["foo*"]).start());
    let connections: Vec<_> = (0..4).map(|_| Connection::open(&server.gateway)).collect();
    let headers = [("authorization", server.token.as_str())];
    let streams: Vec<_> = (0..200)
        .map(|nth| {
            let krate = Krate::new(&format!("foo{nth}"), "1.0.0").ballast(100_000);
            let body = krate.publish_body();
            let length = body.len().to_string();
            let headers = [headers[0], ("content-length", length.as_str())];
            let mut stream = connections[nth % 4].begin("PUT", NEW, &headers);
            let (first, last) = body.split_at(body.len() / 2);
            stream.send(first.to_vec());
            stream.send(last.to_vec());
            stream.end();
            stream
        })
        .collect();
    for stream in &streams {
        let (status, text) = answer(stream);
        assert_eq!(status, 200, "{text}");
    }
    assert_eq!(refused(&server.gateway), 0.0);
}

#[test]
fn a_json_body_that_is_no_publish_is_judged_as_before() {
    let server = TestGateway::new();
    let connection = Connection::open(&server.gateway);
    let headers = [("authorization", server.token.as_str())];
    let stream = connection.begin("PUT", NEW, &headers);
    let mut json = foo().publish_json("");
    json["readme"] = json!("x".repeat((1 << 20) + 1));
    let json = json.to_string();
    stream.send(u32::try_from(json.len()).unwrap().to_le_bytes().to_vec());
    stream.send(json);
    let (status, text) = answer(&stream);
    assert!(status == 413 && text.contains("metadata"), "{status} {text}");
}
