//! The two views of the index, on the wire. What the real cargo makes of them: `sources.rs`.

use cratehouse_tests::cargo::{Folder, Project};
use cratehouse_tests::client::Reply;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Dep, Krate, index_path};
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;

const CRATES_IO_INDEX: &str = "https://github.com/rust-lang/crates.io-index";

/// A new registry with `ours`, in front of `public` and of what is reserved here.
fn new_registry() -> (Upstream, Gateway, String) {
    let crates = ["public", "acme-taken"].map(|name| Krate::new(name, "1.0.0"));
    let upstream = Upstream::with(&crates);
    let builder = Gateway::builder().views().reserved(&["acme-*"]);
    let gateway = builder.upstream(&upstream).start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("ours", "1.0.0"), &token).assert_status(200);
    upstream.forget_requests();
    (upstream, gateway, token)
}

fn view(gateway: &Gateway, name: &str) -> Reply {
    gateway.client().get(&format!("/crates-io/index/{}", index_path(name)))
}

/// What a client sees of an absence, but for the name.
fn absence(reply: &Reply, name: &str) -> (u16, String, Vec<String>) {
    let headers = ["content-type", "cache-control", "vary", "etag"];
    let headers = headers.map(|header| format!("{:?}", reply.header(header)));
    (reply.status, reply.text().replace(name, "NAME"), headers.to_vec())
}

#[test]
fn each_crate_stands_in_one_view() {
    let (upstream, gateway, _) = new_registry();
    gateway.client().index("ours").assert_status(200);
    gateway.client().index("public").assert_status(404);
    view(&gateway, "public").assert_status(200).line("1.0.0");
    let nowhere = absence(&view(&gateway, "nowhere"), "nowhere");
    for name in ["ours", "acme-taken", "acme-new"] {
        let absent = view(&gateway, name);
        assert_eq!(absence(&absent, name), nowhere, "a name of ours is absent like any other");
    }
    for name in ["ours", "acme-taken", "acme-new"] {
        assert_eq!(upstream.index_count(name), 0, "{name} was asked upstream");
    }
}

#[test]
fn our_own_index_asks_no_upstream_whose_crates_it_does_not_list() {
    let (upstream, gateway, _) = new_registry();
    for name in ["public", "nowhere"] {
        gateway.client().index(name).assert_status(404);
        assert_eq!(upstream.index_count(name), 0, "{name}");
    }
}

#[test]
fn crates_of_a_chained_registry_of_ours_stand_in_our_own_index() {
    let (first, chained) = (Upstream::start(), Upstream::with(&[Krate::new("tool", "1.0.0")]));
    first.publish(&Krate::new("public", "1.0.0"));
    let ours = cratehouse_tests::gateway::UpstreamConfig::new("partner", &chained.index_url());
    let builder = Gateway::builder().views().upstream(&first);
    let gateway = builder.upstream(ours.text("identity", "ours")).start();
    gateway.client().index("tool").assert_status(200);
    view(&gateway, "tool").assert_status(404);
    gateway.client().index("public").assert_status(404);
    view(&gateway, "public").assert_status(200);
    first.set(|switches| switches.index = Answer::Status(500));
    gateway.client().index("unknown-yet").assert_status(502);
}

#[test]
fn a_unified_index_lists_both_and_counts_who_relies_on_it() {
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).start();
    gateway.client().publish(&Krate::new("ours", "1.0.0"), &gateway.token("a")).assert_status(200);
    let unified = || gateway.metric("cratehouse_index_unified_lookups_total", &[]);
    gateway.client().index("ours").assert_status(200);
    view(&gateway, "public").assert_status(200);
    view(&gateway, "ours").assert_status(404);
    assert_eq!(unified(), 0.0);
    gateway.client().index("public").assert_status(200);
    gateway.client().index("public").assert_status(200);
    assert_eq!(unified(), 2.0);
}

#[test]
fn a_file_in_both_views_is_made_once() {
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0")]);
    let builder = Gateway::builder();
    let config = cratehouse_tests::gateway::UpstreamConfig::from(&upstream).fresh_seconds(600);
    let gateway = builder.upstream(config).start();
    let own = gateway.client().index("public").assert_status(200);
    let public = view(&gateway, "public").assert_status(200);
    assert_eq!(own.header("etag"), public.header("etag"));
    assert_eq!(upstream.index_count("public"), 1);
    let of = |outcome| gateway.metric("cratehouse_index_lookups_total", &[("outcome", outcome)]);
    assert_eq!((of("miss"), of("hit")), (1.0, 1.0));
}

#[test]
fn the_view_takes_no_changes() {
    let (_upstream, gateway, token) = new_registry();
    let config = gateway.client().get("/crates-io/index/config.json").assert_status(200).json();
    assert_eq!(config["api"], serde_json::Value::Null, "cargo publishes nothing there");
    let own = gateway.client().get("/index/config.json").assert_status(200).json();
    assert_eq!((&config["dl"], &own["api"]), (&own["dl"], &gateway.url().into()));
    let path = format!("/crates-io/index/{}", index_path("public"));
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        let headers = [("authorization", token.as_str())];
        gateway.client().send(method, &path, &headers, None).assert_status(405);
    }
    let before = gateway.stored("journal");
    let cargo = cratehouse_tests::cargo::Cargo::new(&gateway).token(&token);
    let args = ["publish", "--registry", "cratehouse-public", "--no-verify"];
    let project = Project::new("thing").package("publish = true").write();
    cargo.run(&project, &args).assert_err("does not support API commands");
    assert_eq!(gateway.stored("journal"), before);
}

#[test]
fn a_dependency_by_the_url_of_the_view_is_one_of_crates_io() {
    let (_upstream, gateway, token) = new_registry();
    let url = format!("sparse+{}/crates-io/index/", gateway.url());
    let dep = Dep::new("public", "^1").registry_index(&url);
    gateway.client().publish(&Krate::new("user", "1.0.0").with(dep), &token).assert_status(200);
    let line = gateway.client().index("user").line("1.0.0");
    assert_eq!(line["deps"][0]["registry"], CRATES_IO_INDEX);
}

#[test]
fn a_check_names_what_is_locked_under_another_identity_with_the_cure() {
    let (_upstream, gateway, _) = new_registry();
    let folder = Folder::empty();
    let package = |name: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"{source}\"\n\n")
    };
    let public = format!("registry+{CRATES_IO_INDEX}");
    let lock = format!(
        "version = 4\n\n{}{}",
        package("ours", &public),
        package("public", &gateway.index_url())
    );
    folder.write("Cargo.lock", &lock);
    let path = folder.path().join("Cargo.lock");
    let said = gateway.cli_ok(&["policy", "check", "--lock", path.to_str().unwrap()]);
    for told in [
        "ours 1.0.0: it is locked as a crate of crates.io and is one of this registry",
        "cargo update --package ours",
        "public 1.0.0: it is locked as a crate of this registry and is one of crates.io",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
}
