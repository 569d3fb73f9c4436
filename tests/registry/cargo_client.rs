//! The real cargo against the real gateway, over TLS.

use cratehouse_tests::cargo::{Cargo, Folder, Project, REGISTRY, Ran};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Dep, Krate};
use cratehouse_tests::upstream::Upstream;
use serde_json::Value;

const CRATES_IO_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A gateway that mirrors these crates, and alice's cargo.
fn site(crates: &[Krate]) -> (Upstream, Gateway, Cargo) {
    let upstream = Upstream::with(crates);
    let gateway = Gateway::mirroring(&upstream);
    let cargo = Cargo::new(&gateway).token(&gateway.token("alice"));
    (upstream, gateway, cargo)
}

/// Publishes without building first, which other tests have cargo do.
fn publish(cargo: &Cargo, project: &Project) -> Ran {
    let args = ["publish", "--registry", REGISTRY, "--no-verify"];
    cargo.run(&project.write(), &args).assert_ok()
}

/// The `[[package]]` of a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> &'a str {
    let start = format!("name = \"{name}\"\n");
    lock.split("[[package]]\n").find(|p| p.starts_with(&start)).unwrap_or_else(|| {
        panic!("{name} is not in the lock file:\n{lock}");
    })
}

fn metadata(cargo: &Cargo, folder: &Folder) -> Value {
    let ran = cargo.run(folder, &["metadata", "--format-version", "1"]).assert_ok();
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn publish_says_so_and_another_project_builds_with_it() {
    covers!(47);
    let (_upstream, gateway, cargo) = site(&[]);
    let greeter = Project::new("greeter").lib("pub fn hello() -> &'static str { \"hello\" }");
    let ran = cargo.run(&greeter.write(), &["publish", "--registry", REGISTRY]).assert_ok();
    ran.assert_says("Published greeter v0.1.0 at registry `cratehouse`");
    let app = Project::new("app")
        .ours("greeter", "0.1")
        .main("fn main() { println!(\"{}\", greeter::hello()) }")
        .write();
    cargo.run(&app, &["run", "--quiet"]).assert_ok().assert_says("hello");
    let source = format!("source = \"{}\"", gateway.index_url());
    assert!(locked(&app.lock(), "greeter").contains(&source), "{}", app.lock());
}

#[test]
fn publish_again_is_stopped_and_warnings_are_printed() {
    covers!(53, 67);
    let (_upstream, _gateway, cargo) = site(&[]);
    let project = Project::new("greeter");
    publish(&cargo, &project).assert_says("reserve");
    let args = ["publish", "--registry", REGISTRY, "--no-verify"];
    cargo.run(&project.write(), &args).assert_err("already exists");
}

#[test]
fn a_large_crate_is_published() {
    covers!(50);
    let (_upstream, _gateway, cargo) = site(&[]);
    let noise: String = (0..40_000u64)
        .map(|n| format!("// {:016x}{:016x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n.pow(3)))
        .collect();
    publish(&cargo, &Project::new("large").lib(&noise)).assert_says("Published large");
}

#[test]
fn add_writes_a_dependency_on_either_origin() {
    let (_upstream, _gateway, cargo) = site(&[Krate::new("public", "1.2.3")]);
    publish(&cargo, &Project::new("private").version("0.3.0"));
    let app = Project::new("app").write();
    cargo.run(&app, &["add", "public"]).assert_ok();
    cargo.run(&app, &["add", "private", "--registry", REGISTRY]).assert_ok();
    let manifest = app.read("Cargo.toml");
    assert!(manifest.contains("public = \"1.2.3\""), "{manifest}");
    assert!(manifest.contains("version = \"0.3.0\", registry = \"cratehouse\""), "{manifest}");
    cargo.run(&app, &["check"]).assert_ok();
}

#[test]
fn a_private_crate_with_both_kinds_of_dependencies_duplicates_nothing() {
    covers!(62, 64, 83);
    let public = Krate::new("public", "1.0.0").lib("pub struct Thing;");
    let (_upstream, gateway, cargo) = site(&[public]);
    publish(&cargo, &Project::new("base").lib("pub struct Base;"));
    let wrapper = Project::new("wrapper")
        .ours("base", "0.1")
        .dep("public", "1")
        .lib("pub fn thing() -> public::Thing { public::Thing }\npub use base::Base;");
    let args = ["publish", "--registry", REGISTRY];
    cargo.run(&wrapper.write(), &args).assert_ok();
    // Whatever does not go to the gateway would go through a proxy that is not there.
    let cargo = cargo.env("https_proxy", "http://127.0.0.1:9").env("http_proxy", "127.0.0.1:9");
    let cargo = cargo.env("no_proxy", "127.0.0.1");
    let app = Project::new("app")
        .ours("wrapper", "0.1")
        .ours("base", "0.1")
        .dep("public", "1")
        .main("fn main() { let _: public::Thing = wrapper::thing(); let _: base::Base = wrapper::Base; }");
    let app = Folder::workspace(&[app, Project::new("other").dep("public", "1")]);
    cargo.run(&app, &["build"]).assert_ok();
    let tree = cargo.run(&app, &["tree", "--duplicates"]).assert_ok();
    assert_eq!(tree.stdout.trim(), "", "{tree}");
    let lock = app.lock();
    assert!(locked(&lock, "public").contains(CRATES_IO_SOURCE), "{lock}");
    for ours in ["base", "wrapper"] {
        assert!(locked(&lock, ours).contains(&gateway.index_url()), "{lock}");
    }
}

#[test]
fn an_alias_of_our_url_in_a_manifest_is_us() {
    covers!(63, 64);
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .set("server", "aliases = [\"https://old.acme.example\"]")
        .start();
    let token = gateway.token("alice");
    let client = gateway.client();
    client.publish(&Krate::new("base", "0.1.0"), &token).assert_status(200);
    let old = Dep::new("base", "0.1").registry_index("sparse+https://old.acme.example/index/");
    client.publish(&Krate::new("wrapper", "0.1.0").with(old), &token).assert_status(200);
    let app = Project::new("app").ours("wrapper", "0.1").ours("base", "0.1").write();
    let cargo = Cargo::new(&gateway);
    cargo.run(&app, &["check"]).assert_ok();
    assert_eq!(app.lock().matches("name = \"base\"").count(), 1);
}

#[test]
fn renamed_optional_target_build_and_dev_dependencies_survive() {
    covers!(16, 17, 18);
    let crates = ["real", "opt", "unixy", "builder", "tester"].map(|name| {
        Krate::new(name, "1.0.0").feature("default", &["std"]).feature("std", &[]).feature("x", &[])
    });
    let (_upstream, gateway, cargo) = site(&crates);
    let project = Project::new("lib")
        .line("dependencies", "alias = { package = \"real\", version = \"1\", features = [\"x\"] }")
        .line(
            "dependencies",
            "opt = { version = \"1\", optional = true, default-features = false }",
        )
        .line("target.'cfg(unix)'.dependencies", "unixy = \"1\"")
        .line("build-dependencies", "builder = \"1\"")
        .line("dev-dependencies", "tester = \"1\"")
        .line("features", "nice = [\"dep:opt\"]\nnicer = [\"nice\", \"opt?/x\"]\nplain = []")
        .file("build.rs", "fn main() {}");
    let written = project.write();
    let args = ["publish", "--registry", REGISTRY, "--no-verify"];
    cargo.run(&written, &args).assert_ok();

    let line = gateway.client().index("lib").line("0.1.0");
    let find = |deps: &Value, name: &str| {
        let mut found = deps.as_array().unwrap().iter();
        found.find(|d| d["name"] == name).unwrap_or_else(|| panic!("{name}: {deps}")).clone()
    };
    let alias = find(&line["deps"], "alias");
    assert_eq!((&alias["package"], &alias["features"][0]), (&"real".into(), &"x".into()));
    assert_eq!(line["features2"]["nicer"][1], "opt?/x");

    let app = Project::new("app")
        .line(
            "dependencies",
            "lib = { version = \"0.1\", registry = \"cratehouse\", features = [\"nicer\"] }",
        )
        .write();
    let packages = metadata(&cargo, &app)["packages"].clone();
    let deps = find(&packages, "lib")["dependencies"].clone();
    let dep = |name: &str| find(&deps, name);
    assert_eq!(dep("real")["rename"], "alias");
    assert_eq!(dep("real")["features"][0], "x");
    assert_eq!(dep("opt")["optional"], true);
    assert_eq!(dep("opt")["uses_default_features"], false);
    assert_eq!(dep("unixy")["target"], "cfg(unix)");
    assert_eq!(dep("builder")["kind"], "build");
    assert_eq!(dep("tester")["kind"], "dev");

    let tree = cargo.run(&app, &["tree", "-e", "features", "--offline"]).assert_ok();
    assert!(tree.says("opt feature \"x\"") && !tree.says("opt feature \"std\""), "{tree}");
    cargo.run(&app, &["check"]).assert_ok();
}

#[test]
fn links_and_rust_version_reach_the_resolver() {
    covers!(19);
    let (_upstream, gateway, cargo) = site(&[]);
    for name in ["one", "two"] {
        let project = Project::new(name)
            .package("links = \"z\"")
            .package("rust-version = \"1.70\"")
            .file("build.rs", "fn main() {}");
        publish(&cargo, &project);
        let line = gateway.client().index(name).line("0.1.0");
        assert_eq!((&line["links"], &line["rust_version"]), (&"z".into(), &"1.70".into()));
    }
    let app = Project::new("app").ours("one", "0.1").ours("two", "0.1").write();
    cargo.run(&app, &["generate-lockfile"]).assert_err("links");
}

#[test]
fn a_workspace_of_three_crates_is_published_in_order() {
    covers!(71);
    let (_upstream, gateway, cargo) = site(&[]);
    let ours = |name: &str| {
        format!("{name} = {{ path = \"../{name}\", version = \"0.1\", registry = \"cratehouse\" }}")
    };
    let workspace = Folder::workspace(&[
        Project::new("aa").line("dependencies", &ours("bb")).lib("pub use bb::N;"),
        Project::new("bb").line("dependencies", &ours("cc")).lib("pub use cc::N;"),
        Project::new("cc").lib("pub const N: u8 = 3;"),
    ]);
    let args = ["publish", "--workspace", "--registry", REGISTRY];
    cargo.run(&workspace, &args).assert_ok();
    for name in ["aa", "bb", "cc"] {
        gateway.client().index(name).assert_status(200);
    }
    let app = Project::new("app").ours("aa", "0.1").lib("pub const M: u8 = aa::N;").write();
    cargo.run(&app, &["check"]).assert_ok();
}

#[test]
fn a_lock_file_made_with_crates_io_is_fetched_unchanged() {
    covers!(81);
    let inner = Krate::new("inner", "1.4.2");
    let outer = Krate::new("outer", "2.0.0").dep("inner", "^1");
    let (_upstream, _gateway, cargo) = site(&[inner.clone(), outer.clone()]);
    let app = Project::new("app").dep("outer", "2").write();
    let package = |k: &Krate, deps: &str| {
        format!(
            "\n[[package]]\nname = \"{}\"\nversion = \"{}\"\nsource = \"{CRATES_IO_SOURCE}\"\nchecksum = \"{}\"\n{deps}",
            k.name,
            k.version,
            k.cksum()
        )
    };
    let lock = format!(
        "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 4\n\n\
         [[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"outer\",\n]\n{}{}",
        package(&inner, ""),
        package(&outer, "dependencies = [\n \"inner\",\n]\n"),
    );
    app.write("Cargo.lock", &lock);
    cargo.run(&app, &["fetch", "--locked"]).assert_ok();
    assert_eq!(app.lock(), lock);
    cargo.forget_caches();
    cargo.run(&app, &["build", "--locked"]).assert_ok();
    assert_eq!(app.lock(), lock);
}

#[test]
fn an_update_sees_a_new_version_upstream() {
    let (upstream, _gateway, cargo) = site(&[Krate::new("public", "1.0.0")]);
    let app = Project::new("app").dep("public", "1").write();
    cargo.run(&app, &["fetch"]).assert_ok();
    upstream.publish(&Krate::new("public", "1.1.0"));
    cargo.run(&app, &["fetch", "--locked"]).assert_ok();
    cargo.run(&app, &["update"]).assert_ok().assert_says("v1.0.0 -> v1.1.0");
    cargo.run(&app, &["fetch", "--locked"]).assert_ok();
}

#[test]
fn binaries_are_installed_from_either_origin_through_the_gateway_alone() {
    covers!(82);
    let helper = Krate::new("helper", "1.0.0").lib("pub const N: u8 = 7;");
    let finder = Krate::new("findgrep", "14.0.0")
        .dep("helper", "1")
        .file("src/main.rs", "fn main() { println!(\"found {}\", helper::N) }");
    let (upstream, gateway, cargo) = site(&[helper, finder]);
    let tool = Project::new("our-tool").dep("helper", "1");
    publish(&cargo, &tool.main("fn main() { println!(\"ours {}\", helper::N) }"));
    let cargo = cargo.env("https_proxy", "http://127.0.0.1:9").env("no_proxy", "127.0.0.1");
    let anywhere = Folder::empty();
    cargo.run(&anywhere, &["install", "findgrep"]).assert_ok();
    cargo.run(&anywhere, &["install", "our-tool", "--registry", REGISTRY]).assert_ok();
    for (name, says) in [("findgrep", "found 7"), ("our-tool", "ours 7")] {
        let binary = cargo.cargo_home().join("bin").join(name);
        let output = std::process::Command::new(binary).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(says));
    }
    assert_eq!(upstream.count("/crates/findgrep/14.0.0/download"), 1);
    assert_eq!(gateway.metric("cratehouse_crate_lookups_total", &[("outcome", "error")]), 0.0);
}

#[test]
fn yank_and_its_undoing_by_cargo() {
    covers!(74, 75);
    let (_upstream, gateway, cargo) = site(&[]);
    publish(&cargo, &Project::new("lib"));
    let anywhere = Folder::empty();
    let yank = ["yank", "lib@0.1.0", "--registry", REGISTRY];
    cargo.run(&anywhere, &yank).assert_ok();
    assert_eq!(gateway.client().index("lib").line("0.1.0")["yanked"], true);
    let app = Project::new("app").ours("lib", "0.1").write();
    cargo.run(&app, &["fetch"]).assert_err("yanked");
    cargo.run(&anywhere, &[&yank[..], &["--undo"]].concat()).assert_ok();
    cargo.run(&app, &["fetch"]).assert_ok();
}

#[test]
fn owners_by_cargo() {
    covers!(77, 78);
    let (_upstream, gateway, cargo) = site(&[]);
    gateway.token("bob");
    publish(&cargo, &Project::new("lib"));
    let owner = |change: &[&str]| {
        let args = [&["owner"], change, &["lib", "--registry", REGISTRY]].concat();
        cargo.run(&Folder::empty(), &args)
    };
    owner(&["--add", "bob"]).assert_ok().assert_says("bob");
    owner(&["--list"]).assert_ok().assert_says("bob");
    owner(&["--remove", "alice"]).assert_ok();
    owner(&["--add", "alice"]).assert_err("403");
}

#[test]
fn search_and_info_by_cargo() {
    covers!(80);
    let (_upstream, _gateway, cargo) = site(&[Krate::new("public", "1.0.0")]);
    let lib = Project::new("lib")
        .package("description = \"Does what it does & more\"")
        .package("license = \"MIT\"");
    publish(&cargo, &lib);
    let anywhere = Folder::empty();
    let search = |what: &str| {
        cargo.run(&anywhere, &["search", what, "--limit", "100", "--registry", REGISTRY])
    };
    search("lib").assert_ok().assert_says("lib = \"0.1.0\"");
    search("does & more").assert_ok().assert_says("# Does what it does & more");
    let info = |what: &str| cargo.run(&anywhere, &["info", what, "--registry", REGISTRY]);
    info("lib").assert_ok().assert_says("Does what it does & more");
    info("public").assert_ok().assert_says("version: 1.0.0");
}

#[test]
fn a_cold_home_builds_by_its_lock_file() {
    let (upstream, mut gateway, cargo) = site(&[Krate::new("public", "1.0.0")]);
    publish(&cargo, &Project::new("lib").dep("public", "1"));
    let app = Project::new("app").ours("lib", "0.1").write();
    cargo.run(&app, &["build"]).assert_ok();
    let lock = app.lock();
    upstream.set(|s| s.down = true);
    gateway.restart();
    cargo.forget_caches();
    cargo.run(&app, &["build", "--locked"]).assert_ok();
    assert_eq!(app.lock(), lock);
}
