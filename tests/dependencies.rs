//! The dependencies of a published crate: which are accepted, and how the index has them.

use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::house::House;
use cratehouse_tests::krate::{CRATES_IO, Dep, Krate};
use cratehouse_tests::upstream::Upstream;
use serde_json::{Value, json};

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

#[test]
fn dependencies_must_exist_and_be_bounded() {
    covers!(60);
    let upstream = Upstream::with(&[Krate::new("Real-Dep", "1.0.0")]);
    let house = House::of(Gateway::mirroring(&upstream));
    house.refuse(&foo().dep("Real-Dep", "*"), 400, "*");
    house.refuse(&foo().dep("unheard-of", "1"), 400, "unheard-of");
    house.refuse(&foo().with(Dep::new("unheard-of", "1").dev()), 400, "unheard-of");
    house.refuse(&foo().dep("Real-Dep", "not a requirement"), 400, "");
    house.refuse(&foo().dep("real_dep", "1"), 400, "");
    let ours = house.gateway.index_url();
    let unknown = foo().with(Dep::new("private", "1").registry_index(&ours));
    house.refuse(&unknown, 400, "private");
    house.accept(&foo().dep("Real-Dep", "1.*"));
    upstream.set(|s| s.down = true);
    let reply = house.publish(&Krate::new("foo", "1.1.0").dep("never-asked", "1"));
    reply.assert_trouble();
    assert!(!reply.details().is_empty(), "trouble is not an answer: {reply}");
}

#[test]
fn dependencies_come_from_registries_on_the_list_alone() {
    covers!(61);
    let theirs = "sparse+https://elsewhere.example/index/";
    let krate = foo().with(Dep::new("theirs", "1").registry_index(theirs));
    let house = House::new();
    house.refuse(&krate, 400, theirs);
    house.refuse(
        &foo().with(Dep::new("x", "1").registry_index(&format!("{theirs}.git"))),
        400,
        "elsewhere",
    );
    let allowed = format!("allowed_registries = [\"{theirs}\"]");
    let open = House::of(Gateway::builder().set("publish", &allowed).start());
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
    let house = House::of(gateway);
    let ours = house.gateway.index_url();
    house.accept(&Krate::new("private", "1.0.0"));
    for (n, url) in [ours.as_str(), "sparse+https://old.acme.example/index/"].iter().enumerate() {
        let version = format!("1.{n}.0");
        let krate = Krate::new("foo", &version)
            .with(Dep::new("private", "1").registry_index(url))
            .dep("public", "1");
        house.accept(&krate);
        let line = house.client.index("foo").line(&version);
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
    let house = House::of(Gateway::mirroring(&upstream));
    let krate = foo()
        .with(Dep::new("a", "^1.0").renamed("alias").optional().features(&["x"]))
        .with(Dep::new("b", "1").build().no_default_features())
        .with(Dep::new("c", "1").dev().target("cfg(unix)"))
        .with(Dep::new("d", ">=1, <2").target("x86_64-unknown-linux-gnu"))
        .feature("nice", &["dep:alias"]);
    house.accept(&krate);
    let line = house.client.index("foo").line("1.0.0");
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
