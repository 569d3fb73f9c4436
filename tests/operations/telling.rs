//! What it tells of its work: logs and metrics, and no secret in any.

use std::io::Write;
use std::net::TcpStream;

use cratehouse_tests::client::base64;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;
use serde_json::Value;

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// A gateway on which alice has published `foo`, and her token.
fn server() -> (Gateway, String) {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&foo(), &token).assert_status(200);
    (gateway, token)
}

#[test]
fn a_client_that_leaves_before_its_answer_is_told_of() {
    let upstream = Upstream::with(&[foo()]);
    upstream.set(|s| s.krate = Answer::Hold);
    let gateway = Gateway::builder().plain_http().upstream(&upstream).start();
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    stream.write_all(b"GET /api/v1/crates/foo/1.0.0/download HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    until("the upstream is asked", || upstream.download_count() == 1);
    drop(stream);
    let left = [("route", "download"), ("status", "499")];
    until("it is counted", || {
        gateway.metric("cratehouse_http_request_seconds_count", &left) == 1.0
    });
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("ended without an answer"));
    assert!(line.is_some_and(|l| l.contains("id=") && l.contains("/download")), "{log}");
}

#[test]
fn the_admin_listener_says_how_it_is() {
    let (gateway, _) = server();
    let admin = gateway.admin();
    for path in ["/livez", "/readyz"] {
        admin.get(path).assert_status(200);
    }
    let client = gateway.client();
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(client.get(path).status, 404, "{path} is not for the public");
    }
    client.index("foo").assert_status(200);
    client.index("foo").assert_status(200);
    client.index("none").assert_status(404);
    client.download("foo", "1.0.0").assert_status(200);
    let text = admin.get("/metrics").assert_status(200).text();
    for name in [
        "cratehouse_http_request_seconds_bucket",
        "cratehouse_http_sent_bytes_total",
        "cratehouse_index_lookups_total",
        "cratehouse_crate_lookups_total",
        "cratehouse_publishes_total",
        "cratehouse_refusals_total",
        "cratehouse_journal_head",
        "cratehouse_journal_lag_entries",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}:\n{text}");
    }
    assert!(gateway.metric("cratehouse_index_lookups_total", &[("outcome", "hit")]) >= 1.0);
    let entries = gateway.stored("journal").len() as f64;
    assert_eq!(gateway.metric("cratehouse_journal_head", &[]), entries);
    assert_eq!(gateway.metric("cratehouse_journal_lag_entries", &[]), 0.0);
    assert!(gateway.metric("cratehouse_journal_read_age_seconds", &[]) > 0.0);
    let answered = |route, status| {
        let labels = [("route", route), ("status", status)];
        gateway.metric("cratehouse_http_request_seconds_count", &labels)
    };
    assert_eq!(answered("index_file", "200"), 2.0);
    assert_eq!(answered("index_file", "404"), 1.0);
    assert_eq!(answered("download", "200"), 1.0);
    let sent = gateway.metric("cratehouse_http_sent_bytes_total", &[("route", "download")]);
    assert_eq!(sent, foo().crate_bytes().len() as f64);
    let kind = admin.get("/metrics").header("content-type").unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
}

#[test]
fn replicas_show_their_release_and_whether_they_are_configured_alike() {
    let gateway = Gateway::start();
    let check = gateway.cli_ok(&["config", "check"]);
    let hash = check.split(['(', ')']).nth(1).unwrap();
    let version = gateway.cli_ok(&["--version"]);
    let commit = version.split(['(', ')']).nth(1).unwrap();
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit", commit), ("config", hash)];
    assert_eq!(gateway.metric("cratehouse_build_info", &labels), 1.0);
}

#[test]
fn a_handshake_that_fails_is_counted() {
    let gateway = Gateway::start();
    let failures = || gateway.metric("cratehouse_tls_handshake_failures_total", &[]);
    let before = failures();
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    until("it is counted", || failures() == before + 1.0);
}

#[test]
fn json_logs_are_json_on_every_line() {
    let mut gateway =
        Gateway::builder().set("log", "format = \"json\"").set("log", "filter = \"debug\"").start();
    let token = gateway.token("alice");
    let client = gateway.client();
    client.publish(&foo(), &token).assert_status(200);
    client.get("/index/no/ne/none").assert_status(404);
    gateway.stop();
    for line in gateway.log().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn every_answer_carries_a_request_id_and_a_refusal_is_logged_under_it() {
    let (gateway, _) = server();
    let reply = gateway.client().publish_raw(Vec::new(), "wrong");
    let id = reply.header("x-request-id").unwrap_or_else(|| panic!("{reply}"));
    until("the log has it", || gateway.log_contains(id));
}

#[test]
fn an_id_stands_on_every_line_of_a_request_whatever_the_filter_lets_pass() {
    let upstream = Upstream::with(&[foo()]);
    upstream.set(|s| s.down = true);
    let gateway = Gateway::builder().upstream(&upstream).set("log", "filter = \"warn\"").start();
    let reply = gateway.client().index("foo");
    reply.assert_trouble();
    let id = reply.header("x-request-id").unwrap();
    let named = format!("id={id}");
    until("the failure is logged", || gateway.log_contains("/index/3/f/foo"));
    let log = gateway.log();
    let lines = log.lines().filter(|line| line.contains(" WARN "));
    let strangers: Vec<_> = lines.filter(|line| !line.contains(&named)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn a_time_in_the_log_has_two_decimals_at_most() {
    let (gateway, _) = server();
    until("a request is in the log", || gateway.log_contains("ms="));
    let log = gateway.log();
    let times: Vec<_> = log
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("ms="))
        .map(|time| time.split_once('.').map_or(0, |(_, decimals)| decimals.len()))
        .collect();
    assert!(!times.is_empty() && times.iter().all(|decimals| *decimals <= 2), "{log}");
}

/// Every secret that passes through, in every form in which it does.
#[test]
fn no_secret_reaches_a_log_at_any_level() {
    const UPSTREAMS: &str = "the-token-of-the-upstream";
    let upstream = Upstream::with(&[foo()]);
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .env("CRATEHOUSE_UPSTREAM__0__TOKEN", UPSTREAMS)
        .auth_required()
        .set("log", "filter = \"trace\"")
        .start();
    let root = gateway.token_with("root", &["--scope", "admin,read"]);
    let basic = format!("Basic {}", base64(&format!("root:{root}")));
    let mut secrets = vec![UPSTREAMS.to_owned(), root.clone(), base64(&format!("root:{root}"))];
    for client in [gateway.client(), gateway.client_with(|http| http.http1_only())] {
        let body = Some(br#"{"user":"root","name":"more"}"#.to_vec());
        let made = client.call(Method::POST, "/api/v1/admin/tokens", body, &root);
        let more = made.assert_status(200).json()["token"].as_str().unwrap().to_owned();
        for token in [&format!("Bearer {more}"), &basic] {
            client.get_as("/api/v1/crates/foo/1.0.0/download", token).assert_status(200);
        }
        client.publish(&Krate::new("bar", "1.0.0"), &more);
        client.get(&format!("/index/config.json?token={more}")).assert_status(401);
        client.get_as("/index/config.json", &format!("{more}{more}")).assert_status(401);
        secrets.push(more);
    }
    let asked = upstream.requests();
    assert!(asked.iter().all(|r| r.header("authorization") == Some(UPSTREAMS)), "{asked:?}");
    let log = gateway.log();
    assert!(log.contains("TRACE"), "it is a trace");
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None);
    }
}
