//! What the policy asks of crates beyond their index line: what hosted ones must have, which
//! licence a crate file states, when a version without a date was first seen, and whether its
//! upstream kept its word.

use cratehouse_tests::cargo::{Cargo, Folder, Project, REGISTRY, Ran};
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
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
         `GPL-3.0-only` is not allowed; the newest allowed version is 1.0.0; ask #crates",
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
