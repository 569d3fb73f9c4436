//! What is wrong with the settings of a bucket is told at once, in one line, with the key and the cure; and
//! `config check --connect` tells it before a start does.

use std::time::{Duration, Instant};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Builder, Gateway, UpstreamConfig};
use cratehouse_tests::rgw::Rgw;
use cratehouse_tests::s3::S3;
use cratehouse_tests::upstream::{Upstream, closed_port_url};

fn over(s3: &S3) -> Builder {
    Gateway::builder().certificate(&Authority::new()).s3(s3)
}

/// The exit status of a command, and all that it said.
fn run(gateway: &Gateway, args: &[&str]) -> (Option<i32>, String) {
    let output = gateway.cli(args);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// A start ends at once with 64, and so do a command and the check; each says why in one line.
fn is_told(mut gateway: Gateway, key: &str) {
    let one_line = |said: &str| {
        let lines: Vec<_> = said.lines().filter(|line| line.contains(key)).collect();
        assert_eq!(lines.len(), 1, "{key}: {said}");
        assert!(!said.contains("<Error>") && !said.contains("169.254"), "{said}");
    };
    for args in [&["user", "list"][..], &["config", "check", "--connect"]] {
        let (status, said) = run(&gateway, args);
        assert_eq!(status, Some(64), "{args:?}: {said}");
        one_line(&said);
    }
    let begun = Instant::now();
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(64), "{}", gateway.log());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    one_line(&gateway.log());
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let bucket = Rgw::shared().bucket();
    let missing = S3 { bucket: "nobodys-bucket".to_owned(), ..bucket };
    is_told(
        over(&missing).prepare(),
        "`store.url`: there is no bucket `nobodys-bucket` at http://",
    );
}

#[test]
fn keys_that_the_store_does_not_know_are_named() {
    let bucket = Rgw::shared().bucket();
    let stranger = S3 { access_key: "NOBODY".to_owned(), ..bucket.clone() };
    is_told(over(&stranger).prepare(), "`store.access_key_id`: ");
    let wrong = S3 { secret_key: "wrong".to_owned(), ..bucket };
    is_told(over(&wrong).prepare(), "`store.secret_access_key_file`: the secret key is not");
}

#[test]
fn without_credentials_their_keys_are_named() {
    let bucket = Rgw::shared().bucket();
    let gateway = over(&bucket).env("AWS_METADATA_ENDPOINT", &closed_port_url()).prepare();
    gateway.reconfigure(|text| {
        let is_key = |line: &&str| !line.contains("access_key");
        text.lines().filter(is_key).map(|line| format!("{line}\n")).collect()
    });
    is_told(gateway, "set `store.access_key_id` and `store.secret_access_key_file`");
}

#[test]
fn plain_http_is_refused_before_anybody_is_asked() {
    let gateway = over(&Rgw::shared().bucket()).prepare();
    gateway.reconfigure(|text| text.replace("allow_http = true", "allow_http = false"));
    is_told(gateway, "`store.endpoint` = `http://");
}

#[test]
fn a_port_that_speaks_no_tls_is_named() {
    let gateway = over(&Rgw::shared().bucket()).prepare();
    gateway.reconfigure(|text| text.replace("endpoint = \"http://", "endpoint = \"https://"));
    is_told(gateway, "does not speak TLS: write http:// and set `store.allow_http`");
}

#[test]
fn what_is_configured_is_tried_out_and_nothing_is_written() {
    let (upstream, bucket) = (Upstream::start(), Rgw::shared().bucket());
    let mut gateway = over(&bucket).upstream(&upstream).prepare();
    let (status, said) = run(&gateway, &["config", "check", "--connect"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("holds no registry yet: the first start makes one"), "{said}");
    assert!(said.contains("upstream `main` at") && said.contains(": answers"), "{said}");
    assert!(said.contains("certificate (`tls.cert`): is good for `127.0.0.1` until"), "{said}");
    assert_eq!(bucket.list(""), [""; 0]);
    gateway.start_again();
    let (_, said) = run(&gateway, &["config", "check", "--connect"]);
    assert!(said.contains("holds registry "), "{said}");

    upstream.set(|s| s.down = true);
    let (status, said) = run(&gateway, &["config", "check", "--connect"]);
    assert!(status == Some(1) && said.contains("upstream `main`"), "{said}");
    let host = gateway.url();
    gateway.reconfigure(|text| {
        text.replace(&format!("url = \"{host}\""), "url = \"https://crates.acme.example\"")
    });
    let (status, said) = run(&gateway, &["config", "check", "--connect"]);
    assert!(status == Some(64) && said.contains("it is not for `crates.acme.example`"), "{said}");
}

#[test]
fn a_folder_and_an_upstream_that_is_not_there_are_tried_out_too() {
    let nobody = UpstreamConfig::new("gone", &format!("{}/index/", closed_port_url()));
    let gateway = Gateway::builder().upstream(nobody).prepare();
    let (status, said) = run(&gateway, &["config", "check", "--connect"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("is not there yet: the first start makes it"), "{said}");
    assert!(said.contains("upstream `gone`"), "{said}");
    assert!(!gateway.data().exists(), "nothing is made");
}

#[test]
fn config_check_fails_for_places_where_a_start_would() {
    let gateway = Gateway::builder().prepare();
    std::fs::write(gateway.folder().join("file"), "x").unwrap();
    gateway.reconfigure(|text| format!("data = \"file/data\"\n{text}"));
    let (status, said) = run(&gateway, &["config", "check"]);
    assert!(
        status == Some(64) && said.contains("`data`") && said.contains("is no folder"),
        "{said}"
    );
    let mut elsewhere = Gateway::builder().prepare();
    elsewhere
        .reconfigure(|text| text.replacen("listen = \"127.0.0.1:", "listen = \"203.0.113.7:", 1));
    let (status, said) = run(&elsewhere, &["config", "check"]);
    assert!(status == Some(64) && said.contains("cannot listen on 203.0.113.7"), "{said}");
    elsewhere.spawn();
    assert!(!elsewhere.wait().success());
}
