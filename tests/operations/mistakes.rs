//! What a client that is configured wrongly is told: where to go, what to ask for, which key it is.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, frame};
use cratehouse_tests::patience::until;
use reqwest::Method;

fn cargo_at(gateway: &Gateway, index: &str) -> Cargo {
    Cargo::at(index, &gateway.ca_path(), &std::env::temp_dir())
}

#[test]
fn plain_http_at_the_tls_port_is_told_the_https_url() {
    let gateway = Gateway::start();
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    stream.write_all(b"GET /index/config.json HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains(&format!("sparse+{}/index/", gateway.url())), "{answer}");

    let plain = gateway.index_url().replace("https:", "http:");
    let project = Project::new("app").ours("foo", "1").write();
    let ran = cargo_at(&gateway, &plain).run(&project, &["fetch"]);
    ran.assert_err(&format!(
        "this port speaks TLS, and was asked in plain http: use {}/",
        gateway.url()
    ));
    gateway.client().get("/index/config.json").assert_status(200);
}

#[test]
fn who_looks_for_the_index_at_a_wrong_place_is_told_where_it_is() {
    let gateway = Gateway::start();
    let right = format!("`index = \"{}\"`", gateway.index_url());
    let view = format!("`registry = \"sparse+{}/crates-io/index/\"`", gateway.url());
    let wrong = [
        "/config.json",
        "/api/v1/config.json",
        "/crates-io/config.json",
        "/index",
        "/index/",
        "/index/info/refs",
        "/crates-io",
        "/crates-io/index",
        "/crates-io/index/",
    ];
    for path in wrong {
        let status = if path.ends_with("config.json") { 400 } else { 404 };
        let reply = gateway.client().get(path).assert_status(status);
        for named in [&right, &view] {
            assert!(
                reply.text().contains(named) || reply.details().contains(named),
                "{path}: {reply}"
            );
        }
    }
    let project = Project::new("app").ours("foo", "1").write();
    for wrong in ["/", "/api/v1/"] {
        let index = format!("sparse+{}{wrong}", gateway.url());
        cargo_at(&gateway, &index).run(&project, &["fetch"]).assert_err(&right);
    }
}

#[test]
fn a_token_that_does_not_count_is_told_why_to_who_has_it() {
    let gateway = Gateway::start();
    let project = Project::new("foo").package("license = \"MIT\"").package("description = \"x\"");
    let project = project.write();
    let publish = |token: &str| {
        let cargo = Cargo::new(&gateway).token(token);
        cargo
            .run(&project, &["publish", "--no-verify", "--allow-dirty", "--registry", "cratehouse"])
    };
    publish("crh_nonsense").assert_err("this token is unknown to this registry");
    // A token that still counted would publish.
    let counts_no_more = |token: &str| {
        let refused = || gateway.client().yank("none", "1.0.0", token).status == 401;
        until("it counts no more", refused);
    };
    let ended = gateway.token_with("alice", &["--expires", "1s"]);
    counts_no_more(&ended);
    publish(&ended).assert_err("(number 1, of `alice`) ended at 20");
    let revoked = gateway.token("alice");
    gateway.cli_ok(&["token", "revoke", "2"]);
    counts_no_more(&revoked);
    publish(&revoked)
        .assert_err("(number 2, of `alice`) was revoked: ask an administrator for another")
        .assert_says("`cratehouse token create --user alice`");
    let limited = gateway.token_with("bob", &["--crate", "acme-*"]);
    publish(&limited).assert_err("this token is for `acme-*` alone, and `foo` is not among them");
    let of_disabled = gateway.token("carol");
    gateway.cli_ok(&["user", "disable", "carol"]);
    counts_no_more(&of_disabled);
    publish(&of_disabled).assert_err("the user `carol` of this token is disabled");
}

#[test]
fn an_index_url_with_another_name_of_ours_points_to_the_aliases() {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    let other = gateway.index_url().replace("127.0.0.1", "localhost");
    gateway.client().publish(&Krate::new("bar", "1.0.0"), &token).assert_status(200);
    let project = Project::new("foo").package("license = \"MIT\"").package("description = \"x\"");
    let project = project.ours("bar", "1").write();
    let ran = cargo_at(&gateway, &other)
        .token(&token)
        .run(&project, &["publish", "--no-verify", "--allow-dirty", "--registry", "cratehouse"]);
    let alias = gateway.url().replace("127.0.0.1", "localhost");
    ran.assert_err(&format!("add `{alias}` to `[server] aliases`"));
}

#[test]
fn what_is_too_slow_or_too_large_is_told_the_key() {
    let limits = ["body_seconds = 1", "publish_crate_kib = 1", "publish_json_kib = 2"];
    let builder = limits.iter().fold(Gateway::builder(), |b, limit| b.set("limits", limit));
    let gateway = builder.plain_http().start();
    let token = gateway.token("alice");
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    let head = format!(
        "PUT /api/v1/crates/new HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-length: 1000\r\n\r\nxx"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 2000];
    let read = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout"), "{answer}");
    assert!(answer.contains("`limits.body_seconds`"), "{answer}");
    assert_eq!(gateway.metric("cratehouse_refusals_total", &[("kind", "too_slow")]), 1.0);

    let large = Krate::new("foo", "1.0.0").ballast(10_000);
    let publish = |body: Vec<u8>| gateway.client().publish_raw(body, &token);
    publish(large.publish_body()).assert_refused(413, "`limits.publish_crate_kib`");
    publish(frame(&[b' '; 3000], b"")).assert_refused(413, "`limits.publish_json_kib`");
    let lock = vec![b' '; 5 * 1024 * 1024];
    let check = gateway.client().call(Method::POST, "/api/v1/policy/check", Some(lock), &token);
    check.assert_refused(413, "4194304 bytes at most");
}
