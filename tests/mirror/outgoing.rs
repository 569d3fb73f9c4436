//! What goes out: through the company's proxy, trusting the company's CA, with AWS's variables.

use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::http::{Action, Request, Response, Server};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::proxy::Proxy;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;

/// A name that no resolver knows.
const PARTNER: &str = "crates.partner.example";

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// Another gateway that has published `foo`: an upstream that speaks TLS. `host` is its name.
fn partner(host: &str) -> Gateway {
    let mut partner = Gateway::builder().prepare();
    let url = format!("url = \"https://{host}:{}\"", partner.addr().port());
    partner.reconfigure(|text| text.replace(&format!("url = \"{}\"", partner.url()), &url));
    partner.start_again();
    partner.client().publish(&foo(), &partner.token("bob")).assert_status(200);
    partner
}

fn upstream(partner: &Gateway, host: &str) -> UpstreamConfig {
    let index = format!("https://{host}:{}/index/", partner.addr().port());
    UpstreamConfig::new("partner", &index).text("identity", "ours")
}

fn ca_of(partner: &Gateway) -> String {
    format!("ca_file = {:?}", partner.ca_path())
}

#[test]
fn an_upstream_is_asked_through_the_proxy_and_trusted_by_the_extra_ca() {
    let partner = partner(PARTNER);
    let place = format!("{PARTNER}:{}", partner.addr().port());
    let proxy = Proxy::start(&[(&place, partner.addr())]);
    let builder = || {
        let builder = Gateway::builder().env("HTTPS_PROXY", &proxy.url());
        builder.env("NO_PROXY", "127.0.0.1").upstream(upstream(&partner, PARTNER))
    };
    let gateway = builder().set("outgoing", &ca_of(&partner)).start();
    assert_eq!(gateway.client().index("foo").assert_status(200).lines().len(), 1);
    let crate_file = gateway.client().download("foo", "1.0.0").assert_status(200);
    assert_eq!(crate_file.body, foo().crate_bytes());
    let tunnel = format!("CONNECT {place} HTTP/1.1");
    assert!(!proxy.asked().is_empty());
    assert!(proxy.asked().iter().all(|line| *line == tunnel), "{:?}", proxy.asked());

    let trusting_nobody = builder().start();
    trusting_nobody.client().index("foo").assert_trouble();
}

#[test]
fn no_proxy_names_those_who_are_asked_directly() {
    let partner = partner("127.0.0.1");
    let builder = || {
        let builder = Gateway::builder().env("HTTPS_PROXY", "http://127.0.0.1:1");
        builder.upstream(upstream(&partner, "127.0.0.1")).set("outgoing", &ca_of(&partner))
    };
    builder().start().client().index("foo").assert_trouble();
    let gateway = builder().env("NO_PROXY", "127.0.0.1,localhost").start();
    gateway.client().index("foo").assert_status(200);
}

#[test]
fn an_upstream_may_have_a_ca_of_its_own() {
    let partner = partner("127.0.0.1");
    let config = upstream(&partner, "127.0.0.1");
    Gateway::mirroring(config.clone()).client().index("foo").assert_trouble();
    let config = config.text("ca_file", partner.ca_path().to_str().unwrap());
    Gateway::mirroring(config).client().index("foo").assert_status(200);
}

#[test]
fn redirects_are_followed_as_often_as_the_configuration_says() {
    let upstream = Upstream::with(&[foo()]);
    upstream.set(|s| s.index = Answer::RedirectForEver);
    for redirects in [0, 2] {
        upstream.forget_requests();
        let limit = format!("redirects = {redirects}");
        let gateway = Gateway::builder().upstream(&upstream).set("limits", &limit).start();
        gateway.client().index("foo").assert_trouble();
        assert_eq!(upstream.index_count("foo"), redirects + 1);
    }
}

#[test]
fn no_upstream_hears_of_a_reserved_name_whatever_is_asked_for() {
    covers!(66);
    let upstream = Upstream::with(&[foo(), Krate::new("Acme-x", "1.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let (client, token) = (gateway.client(), gateway.token_with("root", &["--scope", "admin"]));
    for name in ["acme-x", "acme_x", "Acme-x", "ACME_X"] {
        client.get(&format!("/index/ac/me/{}", name.to_lowercase())).assert_status(404);
        client.download(name, "1.0.0").assert_status(404);
        client.get(&format!("/api/v1/crates?q={name}")).assert_status(200);
        for errand in ["refresh", "purge"] {
            let path = format!("/api/v1/admin/mirror/{name}/{errand}");
            client.call(Method::POST, &path, None, &token);
            gateway.cli(&["mirror", errand, name]);
        }
    }
    let lock = gateway.folder().join("Cargo.lock");
    let package = "version = 4\n\n[[package]]\nname = \"Acme-x\"\nversion = \"1.0.0\"\n\
                   source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    std::fs::write(&lock, package).unwrap();
    gateway.cli(&["prefetch", "--lock", lock.to_str().unwrap()]);
    let alice = gateway.token("alice");
    let uses_it = Krate::new("acme-y", "1.0.0").dep("acme-x", "1");
    client.publish(&uses_it, &alice).assert_refused(400, "acme-x");
    client.publish(&Krate::new("acme-x", "2.0.0"), &alice).assert_status(200);
    client.download("acme-x", "1.0.0").assert_status(404);
    client.download("acme_x", "2.0.0").assert_status(404);
    gateway.cli(&["names", "audit"]);
    assert_eq!(upstream.mentions("acme"), []);
    client.index("foo").assert_status(200);
    assert_eq!(upstream.index_count("foo"), 1, "others are asked for");
}

/// An S3 that lets nobody in.
fn closed_bucket() -> Server {
    Server::start(|_, _| Action::Answer(Response::status(403)))
}

/// The first request that a command line sends to an S3, which is told by `set` and `env`
/// where it is and who asks.
fn asked_of_s3(
    server: &Server,
    url: &str,
    set: &[(&str, &str)],
    env: &[(&str, &str)],
) -> (Request, String) {
    server.forget_requests();
    let builder = Gateway::builder().plain_http().set("store", &format!("url = {url:?}"));
    let builder = builder.set("store", "allow_http = true");
    let builder = set.iter().fold(builder, |b, (k, v)| b.set("store", &format!("{k} = {v:?}")));
    let builder = env.iter().fold(builder, |b, (name, value)| b.env(name, value));
    let refused = builder.prepare().cli(&["user", "list"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let request = server.requests().first().cloned().expect("it was asked");
    (request, String::from_utf8_lossy(&refused.stderr).into_owned())
}

#[test]
fn the_usual_aws_variables_say_where_s3_is_and_who_asks() {
    let s3 = closed_bucket();
    let origin = s3.origin();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "id-of-environment"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_SESSION_TOKEN", "token-of-environment"),
        ("AWS_REGION", "eu-test-7"),
        ("AWS_ENDPOINT_URL", &origin),
    ];
    let (request, said) = asked_of_s3(&s3, "s3://bucket/a/b", &[], &variables);
    let signature = request.header("authorization").unwrap();
    assert!(signature.contains("Credential=id-of-environment/"), "{signature}");
    assert!(signature.contains("/eu-test-7/s3/"), "{signature}");
    assert_eq!(request.header("x-amz-security-token"), Some("token-of-environment"));
    assert_eq!(request.path, "/bucket/a/b/format.json");
    assert!(!said.contains("hush") && !said.contains("token-of-environment"), "{said}");
}

#[test]
fn configured_s3_keys_are_not_mixed_with_those_of_the_environment() {
    let s3 = closed_bucket();
    let origin = s3.origin();
    let keys =
        [("endpoint", origin.as_str()), ("region", "eu-test-8"), ("access_key_id", "configured")];
    let variables = [
        ("CRATEHOUSE_STORE__SECRET_ACCESS_KEY", "hush"),
        ("AWS_ACCESS_KEY_ID", "id-of-environment"),
        ("AWS_SECRET_ACCESS_KEY", "other"),
        ("AWS_SESSION_TOKEN", "token-of-environment"),
        ("AWS_REGION", "eu-test-7"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
    ];
    let (request, said) = asked_of_s3(&s3, "s3://bucket", &keys, &variables);
    let signature = request.header("authorization").unwrap();
    assert!(signature.contains("Credential=configured/"), "{signature}");
    assert!(signature.contains("/eu-test-8/s3/"), "{signature}");
    assert_eq!(request.header("x-amz-security-token"), None);
    assert_eq!(request.path, "/bucket/format.json");
    assert!(!said.contains("hush"), "{said}");
}
