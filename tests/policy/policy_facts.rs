//! What the policy asks of crates beyond their index line: what hosted ones must have, which
//! licence a crate file states, when a version without a date was first seen, and whether its
//! upstream kept its word.

use cratehouse_tests::cargo::{Cargo, Folder, Project, REGISTRY, Ran};
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{CRATES_IO, Krate};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

/// A gateway under a policy, which is a folder beside it.
struct Scene {
    upstream: Upstream,
    gateway: Gateway,
    policy: Folder,
}

impl Scene {
    fn new(policy: &str, crates: &[Krate]) -> Self {
        let (upstream, folder) = (Upstream::with(crates), Folder::empty());
        folder.write("policy.toml", policy);
        let gateway = Gateway::builder()
            .upstream(UpstreamConfig::from(&upstream))
            .set("policy", &format!("dir = {:?}", folder.path()))
            .set("policy", "reload_seconds = 1")
            .start();
        Self { upstream, gateway, policy: folder }
    }

    fn cargo(&self) -> Cargo {
        Cargo::new(&self.gateway).token(&self.gateway.token("alice"))
    }

    fn publish(&self, cargo: &Cargo, project: &Project) -> Ran {
        cargo.run(&project.write(), &["publish", "--registry", REGISTRY, "--no-verify"])
    }

    fn is_yanked(&self, name: &str, version: &str) -> bool {
        let index = self.gateway.client().index(name).assert_status(200);
        index.line(version)["yanked"] == true
    }

    fn objections(&self, section: &str, mode: &str) -> f64 {
        let labels = [("section", section), ("mode", mode)];
        self.gateway.metric("cratehouse_policy_objections_total", &labels)
    }
}

fn under(name: &str, version: &str, license: &str) -> Krate {
    Krate::new(name, version).package("license", license)
}

#[test]
fn a_publish_without_what_the_policy_requires_is_refused_in_cargos_words() {
    let rules = "[publish]\nrequire = [\"description\", \"license\"]\n";
    let scene = Scene::new(rules, &[]);
    let cargo = scene.cargo();
    let bare = Project::new("greeter");
    let refused = scene.publish(&cargo, &bare);
    refused.assert_err("it lacks a `description`, a `license`");
    scene.gateway.client().index("greeter").assert_status(404);
    assert_eq!(scene.gateway.stored("blobs/hosted"), [""; 0]);
    assert_eq!(scene.objections("publish", "enforce"), 1.0);
    let whole = bare.clone().package("description = \"d\"").package("license = \"MIT\"");
    scene.publish(&cargo, &whole).assert_ok();

    scene.policy.write("policy.toml", &format!("{rules}mode = \"observe\"\n"));
    until("the rule is observed", || scene.publish(&cargo, &bare.clone().version("0.2.0")).ok);
    assert_eq!(scene.objections("publish", "observe"), 1.0);
}

#[test]
fn a_first_publish_under_a_name_like_another_is_refused() {
    let scene = Scene::new("[names]\n", &[]);
    let cargo = scene.cargo();
    scene.publish(&cargo, &Project::new("acme-tokens")).assert_ok();
    let refused = scene.publish(&cargo, &Project::new("acme-token"));
    refused.assert_err("`acme-token` could be taken for `acme-tokens`");
    scene.publish(&cargo, &Project::new("acme-tokens").version("0.2.0")).assert_ok();
    scene.publish(&cargo, &Project::new("acme-http")).assert_ok();
    assert_eq!(scene.objections("names", "enforce"), 1.0);
}

#[test]
fn a_denied_licence_is_found_by_the_first_download_and_the_next_build_falls_back() {
    let rules = "contact = \"#crates\"\n[licenses]\nallow = [\"MIT\"]\n";
    let crates = [under("lib", "1.0.0", "MIT"), under("lib", "1.1.0", "GPL-3.0-only")];
    let mut scene = Scene::new(rules, &crates);
    let cargo = scene.cargo();
    let app = || Project::new("app").dep("lib", "1").write();
    assert!(!scene.is_yanked("lib", "1.1.0"), "nobody has looked yet");
    cargo.run(&app(), &["fetch"]).assert_err(
        "`lib` 1.1.0 is denied by the policy of this registry, rule `license`: its licence \
         `GPL-3.0-only` is not allowed; no version of it is known to be allowed: the licences of \
         others were not read yet; ask #crates",
    );
    assert!(scene.gateway.metric("cratehouse_policy_denied_downloads_total", &[]) >= 1.0);
    assert_eq!(scene.gateway.metric("cratehouse_licenses_read_total", &[]), 1.0);
    assert!(scene.is_yanked("lib", "1.1.0") && !scene.is_yanked("lib", "1.0.0"));
    let folder = app();
    cargo.run(&folder, &["fetch"]).assert_ok();
    assert!(folder.lock().contains("version = \"1.0.0\""), "{}", folder.lock());

    let kept = "mirror/main/licenses/3/l/lib";
    let has_both = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.contains("MIT") && text.contains("GPL-3.0-only")
    };
    until("both licences are kept in the store", || {
        scene.gateway.stored("mirror/main/licenses").iter().any(|path| path.ends_with("3/l/lib"))
            && has_both(&scene.gateway.stored_bytes(kept))
    });
    scene.gateway.restart_on_an_empty_disk();
    assert!(scene.is_yanked("lib", "1.1.0"), "another replica need not read it again");
    scene.gateway.client().download("lib", "1.1.0").assert_status(403);
    scene.gateway.client().download("lib", "1.0.0").assert_status(200);
    assert_eq!(scene.gateway.metric("cratehouse_licenses_read_total", &[]), 0.0);
}

#[test]
fn a_version_without_a_date_is_young_when_it_appears_and_old_when_it_was_there() {
    let scene = Scene::new("[age]\nminimum = \"3d\"\n", &[]);
    let publish = |version: &str| {
        let krate = Krate::new("lib", version);
        let line = krate.index_line();
        let (before, rest) = line.split_once(",\"pubtime\":\"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        scene.upstream.publish_line(&krate, &format!("{before}{after}"));
    };
    publish("1.0.0");
    assert!(!scene.is_yanked("lib", "1.0.0"));
    publish("1.1.0");
    assert!(scene.is_yanked("lib", "1.1.0") && !scene.is_yanked("lib", "1.0.0"));
    scene.gateway.client().download("lib", "1.1.0").assert_status(200);
}

#[test]
fn a_changed_checksum_may_be_waived_on_a_running_server() {
    let lib = Krate::new("lib", "1.0.0");
    let scene = Scene::new("", std::slice::from_ref(&lib));
    let client = scene.gateway.client();
    client.download("lib", "1.0.0").assert_status(200);
    scene.upstream.publish(&lib.lib("pub fn other() {}"));
    assert!(scene.is_yanked("lib", "1.0.0"), "without any policy");
    let refused = client.download("lib", "1.0.0").assert_status(403);
    assert!(refused.text().contains("another checksum"), "{refused}");
    let waiver = "[[waiver]]\nname = \"lib\"\nversion = \"=1.0.0\"\nuntil = 2099-12-31\n\
                  reason = \"its authors told us\"\nwho = \"ada\"\n";
    scene.policy.write("policy.toml", waiver);
    until("the waiver is in force", || client.download("lib", "1.0.0").status == 200);
    assert!(!scene.is_yanked("lib", "1.0.0"));
    assert_eq!(scene.gateway.metric("cratehouse_alarms_total", &[]), 1.0);
}

/// A lock file in the gateway's folder, where its commands run.
fn lock(scene: &Scene, krates: &[Krate]) {
    let package = |krate: &Krate| {
        format!(
            "[[package]]\nname = \"{}\"\nversion = \"{}\"\nsource = \"registry+{CRATES_IO}\"\nchecksum = \
             \"{}\"\n\n",
            krate.name,
            krate.version,
            krate.cksum()
        )
    };
    let text = krates.iter().map(package).collect::<String>();
    std::fs::write(scene.gateway.folder().join("Cargo.lock"), format!("version = 4\n\n{text}"))
        .unwrap();
}

/// The exit status of a command, and what it printed.
fn run(scene: &Scene, args: &[&str]) -> (i32, String) {
    let output = scene.gateway.cli(args);
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text + &String::from_utf8_lossy(&output.stderr))
}

const CHECK: &[&str] = &["policy", "check", "--policy", "mit-alone"];

/// A gateway without any rules, and a folder beside it that is to be tried.
fn dry_run(crates: &[Krate]) -> Scene {
    let scene = Scene::new("", crates);
    let folder = scene.gateway.folder().join("mit-alone");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("policy.toml"), "[licenses]\nallow = [\"MIT\"]\n").unwrap();
    scene
}

#[test]
fn a_dry_run_reads_what_is_in_the_mirror_and_fetches_the_rest_when_told_to() {
    let (good, bad) = (under("good", "1.0.0", "MIT"), under("bad", "1.0.0", "GPL-3.0-only"));
    let unseen = under("unseen", "1.0.0", "MIT");
    let all = [good, bad, unseen];
    let scene = dry_run(&all);
    let client = scene.gateway.client();
    client.download("good", "1.0.0").assert_status(200);
    client.download("bad", "1.0.0").assert_status(200);
    scene.gateway.stored_soon("blobs/mirror", 2);
    lock(&scene, &all);
    let (status, table) = run(&scene, CHECK);
    assert!(table.contains("1 allowed, 0 held, 1 denied, 1 unknown"), "{table}");
    assert!(table.contains("`cratehouse policy check --fetch` reads it"), "{table}");
    assert_eq!((status, scene.upstream.download_count()), (1, 2));

    lock(&scene, &[all[0].clone(), all[2].clone()]);
    assert_eq!(run(&scene, CHECK).0, 2, "something is not known");
    let (status, table) = run(&scene, &[CHECK, &["--fetch"]].concat());
    assert!(status == 0 && table.contains("2 allowed"), "{table}");
    assert_eq!((run(&scene, CHECK).0, scene.upstream.download_count()), (0, 3), "it is kept");
    assert_eq!(scene.gateway.stored("mirror/main/licenses").len(), 3);
}

#[test]
fn no_version_is_named_that_was_not_judged() {
    let versions = [
        under("lib", "1.0.0", "MIT"),
        under("lib", "1.1.0", "GPL-3.0-only"),
        under("lib", "1.2.0", "GPL-3.0-only"),
    ];
    let scene = dry_run(&versions);
    scene.gateway.client().download("lib", "1.2.0").assert_status(200);
    scene.gateway.stored_soon("blobs/mirror", 1);
    lock(&scene, &versions[2..]);
    let (status, table) = run(&scene, CHECK);
    assert!(status == 1 && table.contains("no version of it is known to be allowed"), "{table}");
    let (_, table) = run(&scene, &[CHECK, &["--fetch"]].concat());
    assert!(table.contains("the newest allowed version is 1.0.0"), "{table}");
    let (_, table) = run(&scene, CHECK);
    assert!(table.contains("the newest allowed version is 1.0.0"), "it is known now: {table}");
}

#[test]
fn a_prefetch_ends_when_all_licences_are_in_the_store() {
    let krates: Vec<_> = (0..30).map(|n| under(&format!("lib{n}"), "1.0.0", "MIT")).collect();
    for rules in
        ["[licenses]\nallow = [\"MIT\"]\n", "[licenses]\nallow = [\"MIT\"]\naction = \"hold\"\n"]
    {
        let scene = Scene::new(rules, &krates);
        lock(&scene, &krates);
        let (status, said) = run(&scene, &["prefetch"]);
        assert_eq!(status, 0, "{said}");
        assert_eq!(scene.gateway.stored("mirror/main/licenses").len(), krates.len(), "{rules}");
    }
}
