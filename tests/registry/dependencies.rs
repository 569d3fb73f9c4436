//! The dependencies of a published crate: which are accepted, and how the index has them.

use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{CRATES_IO, Dep, Krate};
use cratehouse_tests::test_gateway::TestGateway;
use cratehouse_tests::upstream::Upstream;
use serde_json::{Value, json};

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

#[test]
fn dependencies_must_exist_and_be_bounded() {
    covers!(60);
    let upstream = Upstream::with(&[Krate::new("Real-Dep", "1.0.0")]);
    let server = TestGateway::of(Gateway::mirroring(&upstream));
    server.refuse(&foo().dep("Real-Dep", "*"), 400, "*");
    server.refuse(&foo().dep("unheard-of", "1"), 400, "unheard-of");
    server.refuse(&foo().with(Dep::new("unheard-of", "1").dev()), 400, "unheard-of");
    server.refuse(&foo().dep("Real-Dep", "not a requirement"), 400, "");
    server.refuse(&foo().dep("real_dep", "1"), 400, "");
    let ours = server.gateway.index_url();
    let unknown = foo().with(Dep::new("private", "1").registry_index(&ours));
    server.refuse(&unknown, 400, "private");
    server.accept(&foo().dep("Real-Dep", "1.*"));
    upstream.set(|s| s.down = true);
    let reply = server.publish(&Krate::new("foo", "1.1.0").dep("never-asked", "1"));
    reply.assert_trouble();
    assert!(!reply.details().is_empty(), "trouble is not an answer: {reply}");
}

#[test]
fn dependencies_come_from_registries_on_the_list_alone() {
    covers!(61);
    let theirs = "sparse+https://elsewhere.example/index/";
    let krate = foo().with(Dep::new("theirs", "1").registry_index(theirs));
    let server = TestGateway::new();
    server.refuse(&krate, 400, theirs);
    server.refuse(
        &foo().with(Dep::new("x", "1").registry_index(&format!("{theirs}.git"))),
        400,
        "elsewhere",
    );
    let allowed = format!("allowed_registries = [\"{theirs}\"]");
    let open = TestGateway::of(Gateway::builder().set("publish", &allowed).start());
    open.accept(&krate);
    assert_eq!(open.client.index("foo").line("1.0.0")["deps"][0]["registry"], theirs);
}

#[test]
fn the_index_says_where_each_dependency_comes_from() {
    covers!(62, 63);
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0")]);
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .set("server", "aliases = [\"https://old.acme.example\"]")
        .start();
    let server = TestGateway::of(gateway);
    let ours = server.gateway.index_url();
    server.accept(&Krate::new("private", "1.0.0"));
    for (n, url) in [ours.as_str(), "sparse+https://old.acme.example/index/"].iter().enumerate() {
        let version = format!("1.{n}.0");
        let krate = Krate::new("foo", &version)
            .with(Dep::new("private", "1").registry_index(url))
            .dep("public", "1");
        server.accept(&krate);
        let line = server.client.index("foo").line(&version);
        let registry = |name: &str| {
            let deps = line["deps"].as_array().unwrap();
            deps.iter().find(|d| d["name"] == name).unwrap()["registry"].clone()
        };
        assert_eq!(registry("private"), Value::Null, "{url}");
        assert_eq!(registry("public"), CRATES_IO, "{url}");
    }
}

#[test]
fn an_index_line_keeps_every_flag_of_a_dependency() {
    let upstream = Upstream::with(&["a", "b", "c", "d"].map(|name| Krate::new(name, "1.0.0")));
    let server = TestGateway::of(Gateway::mirroring(&upstream));
    let krate = foo()
        .with(Dep::new("a", "^1.0").renamed("alias").optional().features(&["x"]))
        .with(Dep::new("b", "1").build().no_default_features())
        .with(Dep::new("c", "1").dev().target("cfg(unix)"))
        .with(Dep::new("d", ">=1, <2").target("x86_64-unknown-linux-gnu"))
        .feature("nice", &["dep:alias"]);
    server.accept(&krate);
    let line = server.client.index("foo").line("1.0.0");
    let dep = |name: &str| {
        let deps = line["deps"].as_array().unwrap();
        deps.iter().find(|d| d["name"] == name).unwrap_or_else(|| panic!("{name}: {line}")).clone()
    };
    assert_eq!(dep("alias")["package"], "a");
    assert_eq!(dep("alias")["optional"], true);
    assert_eq!(dep("alias")["features"], json!(["x"]));
    assert_eq!(dep("alias")["req"], "^1.0");
    assert_eq!(
        (&dep("b")["kind"], &dep("b")["default_features"]),
        (&json!("build"), &json!(false))
    );
    assert_eq!((&dep("c")["kind"], &dep("c")["target"]), (&json!("dev"), &json!("cfg(unix)")));
    assert_eq!(dep("d")["req"], ">=1, <2");
    assert_eq!(line["features2"], json!({ "nice": ["dep:alias"] }));
    assert_eq!(line["v"], 2);
}

#[test]
fn a_crate_may_depend_on_itself_for_its_tests() {
    let upstream = Upstream::with(&[Krate::new("foo-bar", "9.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let server = TestGateway::of(gateway);
    let ours = server.gateway.index_url();
    for name in ["acme-self", "alone"] {
        let itself = || Dep::new(name, "1").dev().registry_index(&ours);
        server.accept(&Krate::new(name, "1.0.0").with(itself()));
        server.accept(&Krate::new(name, "1.1.0").with(itself()));
        let line = server.client.index(name).line("1.0.0");
        assert_eq!(line["deps"][0]["registry"], Value::Null, "{line}");
    }
    assert!(
        upstream.requests().iter().all(|r| !r.path.contains("acme")),
        "{:?}",
        upstream.requests()
    );
    // Of another spelling it would be another crate, and there is none.
    let other = Dep::new("acme_self", "1").dev().registry_index(&ours);
    server.refuse(&Krate::new("acme-self", "1.2.0").with(other), 400, "acme-self");
}

#[test]
fn a_reserved_name_is_unknown_until_it_is_published_and_never_asked_for() {
    let upstream = Upstream::with(&[Krate::new("acme-lib", "1.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let server = TestGateway::of(gateway);
    upstream.forget_requests();
    let app = |version: &str| Krate::new("acme-app", version).dep("acme-lib", "1");
    server.refuse(&app("1.0.0"), 400, "acme-lib");
    server.accept(&Krate::new("acme-lib", "1.0.0"));
    // The manifest says crates.io, but the name is ours.
    server.accept(&app("1.0.0"));
    assert_eq!(server.client.index("acme-app").line("1.0.0")["deps"][0]["registry"], Value::Null);
    assert_eq!(upstream.requests(), []);
}

#[test]
fn a_renamed_dependency_on_a_hosted_crate_keeps_both_names() {
    let server = TestGateway::new();
    let ours = server.gateway.index_url();
    server.accept(&Krate::new("Corp_Base", "1.0.0"));
    let renamed = |package: &str| Dep::new(package, "1").renamed("base").registry_index(&ours);
    server.accept(&foo().with(renamed("Corp_Base")));
    let dep = server.client.index("foo").line("1.0.0")["deps"][0].clone();
    assert_eq!((&dep["name"], &dep["package"]), (&json!("base"), &json!("Corp_Base")));
    assert_eq!(dep["registry"], Value::Null);
    server.refuse(&Krate::new("foo", "1.1.0").with(renamed("corp-base")), 400, "Corp_Base");
}
