//! Starting it: without a configuration file, from a checkout, and what it says of itself.

use std::path::Path;
use std::process::Command;

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::gateway::{Gateway, binary};
use cratehouse_tests::krate::{Krate, index_path};
use cratehouse_tests::proxy::Proxy;
use cratehouse_tests::upstream::Upstream;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::Value;

#[test]
fn flags_and_environment_are_all_that_it_needs() {
    let upstream = Upstream::with(&[Krate::new("outside", "1.0.0")]);
    let mut gateway = Gateway::builder()
        .by_flags_and_environment()
        .env("CRATEHOUSE_UPSTREAM__0__INDEX", &format!("sparse+{}", upstream.index_url()))
        .env("CRATEHOUSE_NAMES__RESERVED", "acme-*, in-house")
        .start();
    let token = gateway.token("alice");
    let client = gateway.client();
    for name in ["acme-tools", "in-house"] {
        client.publish(&Krate::new(name, "1.0.0"), &token).assert_status(200);
        assert_eq!(upstream.mentions(name), []);
    }
    let app = Project::new("app").ours("acme-tools", "1").dep("outside", "1").write();
    Cargo::new(&gateway).run(&app, &["fetch"]).assert_ok();
    // The preset's name with another index: its files stand under the preset's name.
    assert!(gateway.stored("mirror").iter().all(|path| path.starts_with("mirror/crates.io/")));
    gateway.restart();
    gateway.client().index("acme-tools").assert_status(200);
}

#[test]
fn a_second_server_on_a_data_folder_is_refused_and_touches_nothing_of_it() {
    let gateway = Gateway::start();
    let pair = || {
        ["server.pem", "server.key"]
            .map(|file| std::fs::read(gateway.data().join("tls").join(file)))
    };
    let before = pair().map(Result::unwrap);
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let other = ["--url", "https://crates.example/"];
    let second = gateway.cli(&[&["serve"], &ports[..], &other].concat());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another server runs on this data folder") && said.contains("--data"),
        "{said}"
    );
    assert_eq!(pair().map(Result::unwrap), before);
    gateway.client().get("/index/config.json").assert_status(200);
}

#[test]
fn without_a_word_about_upstreams_crates_io_is_asked() {
    let proxy = Proxy::start(&[]);
    let gateway =
        Gateway::builder().by_flags_and_environment().env("HTTPS_PROXY", &proxy.url()).start();
    gateway.client().get(&format!("/crates-io/index/{}", index_path("serde"))).assert_trouble();
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|l| l.ends_with(".crates.io:443 HTTP/1.1")), "{asked:?}");
}

#[test]
fn with_no_upstream_nothing_outside_is_asked() {
    let proxy = Proxy::start(&[]);
    let gateway = Gateway::builder()
        .by_flags_and_environment()
        .env("CRATEHOUSE_UPSTREAM", "")
        .env("HTTPS_PROXY", &proxy.url())
        .start();
    let token = gateway.token("alice");
    gateway.client().index("serde").assert_status(404);
    gateway.client().publish(&Krate::new("serde", "1.0.0"), &token).assert_status(200);
    assert_eq!(proxy.asked(), Vec::<String>::new());
}

/// As after a first start under a clock that was wrong; or under one that is right, if this one's is not.
#[test]
fn a_local_ca_of_the_future_is_refused_with_a_word_on_the_clock() {
    let mut gateway = Gateway::builder().prepare();
    let tls = gateway.data().join("tls");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2099, 1, 1), rcgen::date_time_ymd(2109, 1, 1));
    let ca = params.self_signed(&key).unwrap().pem();
    std::fs::create_dir_all(&tls).unwrap();
    std::fs::write(tls.join("ca.pem"), &ca).unwrap();
    std::fs::write(tls.join("ca.key"), key.serialize_pem()).unwrap();
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1), "{}", gateway.log());
    let log = gateway.log();
    assert!(log.contains("2099-01-01") && log.contains("Set the clock"), "{log}");
    assert_eq!(std::fs::read_to_string(tls.join("ca.pem")).unwrap(), ca, "clients may trust it");
    std::fs::remove_file(tls.join("ca.pem")).unwrap();
    gateway.start_again();
    gateway.client().get("/index/config.json").assert_status(200);
}

#[test]
fn it_tells_its_version_and_the_commit_that_it_was_made_from() {
    let said = Command::new(binary()).arg("--version").output().unwrap();
    assert!(said.status.success());
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let release = concat!("cratehouse ", env!("CARGO_PKG_VERSION"), " (");
    let commit = text.trim_end().strip_prefix(release).and_then(|rest| rest.strip_suffix(')'));
    let commit = commit.unwrap_or_else(|| panic!("{text}"));
    let digits = commit.strip_suffix("-dirty").unwrap_or(commit);
    let twelve = digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    assert!(twelve || commit == "unknown", "{text}");
}

/// `cargo run -- serve` of a checkout means the gateway, whatever binaries other members have.
#[test]
fn cargo_run_in_a_checkout_runs_the_gateway() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let metadata = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let [default] = metadata["workspace_default_members"].as_array().unwrap().as_slice() else {
        panic!("one default member: {}", metadata["workspace_default_members"]);
    };
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["id"] == *default).unwrap();
    assert_eq!(package["name"], "cratehouse");
    assert_eq!(package["default_run"], "cratehouse");
}
