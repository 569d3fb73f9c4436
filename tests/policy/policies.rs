//! Policies, as cargo and the operator see them.

use std::path::Path;
use std::time::Duration;

use cratehouse_tests::cargo::{Cargo, Folder, Project, REGISTRY};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use tempfile::TempDir;

const CRATES_IO_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
const VERDICTS: &str = "cratehouse_policy_verdicts_total";
const FINDINGS: &str = "cratehouse_policy_findings_total";
const BROKEN: &str = "cratehouse_policy_broken";

/// A gateway before an upstream, with a folder of policy files.
struct TestGateway {
    upstream: Upstream,
    gateway: Gateway,
    cargo: Cargo,
    policies: TempDir,
}

impl TestGateway {
    fn new(crates: &[Krate], policy: &str) -> Self {
        Self::with(Upstream::with(crates), policy)
    }

    fn with(upstream: Upstream, policy: &str) -> Self {
        let policies = tempfile::tempdir().unwrap();
        write(policies.path(), "policy.toml", policy);
        std::fs::create_dir_all(policies.path().join("db/crates")).unwrap();
        let shown = policies.path().display();
        let gateway = Gateway::builder()
            .upstream(UpstreamConfig::from(&upstream).fresh_seconds(3600))
            .set("policy", &format!("dir = \"{shown}\""))
            .set("policy", &format!("advisories = \"{shown}/db\""))
            .set("policy", "reload_seconds = 1")
            .start();
        let cargo = Cargo::new(&gateway);
        Self { upstream, gateway, cargo, policies }
    }

    fn policy(&self, text: &str) {
        write(self.policies.path(), "policy.toml", text);
    }

    /// The yanked versions of a crate, as its index file shows them.
    fn yanked(&self, name: &str) -> Vec<String> {
        let file = self.gateway.client().index(name).assert_status(200).text();
        let lines = file.lines().map(|line| serde_json::from_str(line).unwrap());
        let yanked = lines.filter(|line: &serde_json::Value| line["yanked"] == true);
        yanked.map(|line| line["vers"].as_str().unwrap().to_owned()).collect()
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    // As editors and ConfigMaps do: never half a file.
    let new = folder.join(format!(".{name}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, folder.join(name)).unwrap();
}

fn published(krate: &Krate, ago: Duration) -> String {
    let time = jiff::Timestamp::now().as_second() - i64::try_from(ago.as_secs()).unwrap();
    let time = jiff::Timestamp::from_second(time).unwrap();
    let mut line: serde_json::Value = serde_json::from_str(&krate.index_line()).unwrap();
    line["pubtime"] = time.to_string().into();
    line.to_string()
}

/// An app that depends on `public` 1, with a lock file that has this version of it.
fn locked_to(krate: &Krate) -> Folder {
    let app = Project::new("app").dep("public", "1").write();
    let lock = format!(
        "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"public\",\n]\n\n\
         [[package]]\nname = \"public\"\nversion = \"{}\"\nsource = \"{CRATES_IO_SOURCE}\"\nchecksum = \"{}\"\n",
        krate.version,
        krate.cksum()
    );
    app.write("Cargo.lock", &lock);
    app
}

fn resolved(server: &TestGateway) -> String {
    let app = Project::new("app").dep("public", "1").write();
    server.cargo.run(&app, &["generate-lockfile"]).assert_ok();
    let lock = app.lock();
    let (_, rest) = lock.split_once("name = \"public\"\nversion = \"").expect("it is locked");
    rest.split('"').next().unwrap().to_owned()
}

fn one(version: &str) -> Krate {
    Krate::new("public", version)
}

const BAN: &str = r#"
contact = "the platform team"
[[ban]]
name = "public"
version = "=1.1.0"
reason = "known to be malicious"
"#;

#[test]
fn a_version_too_young_is_not_chosen_until_it_is_old_enough() {
    let upstream = Upstream::start();
    let (old, young) = (one("1.0.0"), one("1.1.0"));
    upstream.publish_line(&old, &published(&old, Duration::from_secs(10_000)));
    // Old enough in a while.
    let ago = Duration::from_secs(3600) - Duration::from_secs(20);
    upstream.publish_line(&young, &published(&young, ago));
    let server = TestGateway::with(upstream, "[age]\nminimum = \"1h\"\n");
    assert_eq!(resolved(&server), "1.0.0");
    let etag = server.gateway.client().index("public").header("etag").unwrap().to_owned();
    let app = locked_to(&young);
    server.cargo.run(&app, &["fetch", "--locked"]).assert_ok();
    server.cargo.run(&app, &["build", "--locked"]).assert_ok();
    let aged = || server.yanked("public").is_empty();
    until("the version is old enough", aged);
    assert_eq!(resolved(&server), "1.1.0");
    assert_ne!(server.gateway.client().index("public").header("etag").unwrap(), etag);
    assert_eq!(server.upstream.index_count("public"), 1, "nobody asked the upstream for that");
}

#[test]
fn a_banned_version_is_passed_over_and_its_download_says_why() {
    covers!(32);
    let server = TestGateway::new(&[one("1.0.0"), one("1.1.0"), one("1.2.0").yanked()], BAN);
    assert_eq!(resolved(&server), "1.0.0");
    let fetch = server.cargo.run(&locked_to(&one("1.1.0")), &["fetch", "--locked"]);
    fetch
        .assert_err("`public` 1.1.0 is denied by the policy of this registry")
        .assert_says("rule `ban`: known to be malicious")
        .assert_says("the newest allowed version is 1.0.0")
        .assert_says("ask the platform team");
    server.gateway.client().download("public", "1.0.0").assert_status(200);
    assert_eq!(server.gateway.metric("cratehouse_policy_denied_downloads_total", &[]), 1.0);
    let labels = [("rule", "ban"), ("action", "deny"), ("mode", "enforce")];
    assert_eq!(server.gateway.metric(FINDINGS, &labels), 1.0);
}

/// Cargo has no words for a policy; it must not fail on the file, and say what it can.
#[test]
fn of_a_crate_that_is_banned_whole_cargo_says_that_its_versions_are_yanked() {
    covers!(11);
    let server = TestGateway::new(&[one("1.0.0"), one("1.1.0")], "[[ban]]\nname = \"public\"\n");
    let app = Project::new("app").dep("public", "1").write();
    server
        .cargo
        .run(&app, &["generate-lockfile"])
        .assert_err("version 1.1.0 is yanked")
        .assert_says("version 1.0.0 is yanked");
    server.gateway.client().index("public").assert_status(200);
}

#[test]
fn hosted_versions_are_judged_too() {
    let policies = BAN.replace("public", "ours");
    let server = TestGateway::new(&[], &policies);
    let token = server.gateway.token("alice");
    let publish =
        |version: &str| server.gateway.client().publish(&Krate::new("ours", version), &token);
    publish("1.0.0").assert_status(200);
    publish("1.1.0").assert_refused(403, "known to be malicious");
    assert!(server.yanked("ours").is_empty(), "nothing was published");
    server.policy("");
    until("nothing is banned", || publish("1.1.0").status == 200);
    server.policy(&policies);
    until("the ban is in force", || server.yanked("ours") == ["1.1.0"]);
    server.gateway.client().download("ours", "1.0.0").assert_status(200);
    let denied = server.gateway.client().download("ours", "1.1.0").assert_status(403);
    assert!(denied.text().contains("known to be malicious"), "{}", denied.text());
    server.policy("");
    until("the ban is lifted", || server.yanked("ours").is_empty());
    server.gateway.client().download("ours", "1.1.0").assert_status(200);
}

/// cargo looks for what it has published in the index, where it passes over what is yanked.
#[test]
fn a_publish_that_is_held_says_so_and_one_that_is_denied_is_refused_in_cargos_words() {
    let hold = BAN.replace("public", "ours").replace("[[ban]]", "[[ban]]\naction = \"hold\"");
    let server = TestGateway::new(&[], &hold);
    let token = server.gateway.token("alice");
    let published = server.gateway.client().publish(&Krate::new("ours", "1.1.0"), &token);
    let warnings = published.assert_status(200).json()["warnings"]["other"].to_string();
    for part in ["known to be malicious", "appears as yanked", "there is no need to wait"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    assert_eq!(server.yanked("ours"), ["1.1.0"]);

    server.policy(&BAN.replace("public", "ours").replace("=1.1.0", "=1.2.0"));
    until("the ban is in force", || server.yanked("ours").is_empty());
    let cargo = Cargo::new(&server.gateway).token(&token);
    let project = Project::new("ours").version("1.2.0").write();
    let ran = cargo.run(&project, &["publish", "--registry", REGISTRY, "--no-verify"]);
    ran.assert_err("known to be malicious").assert_says("nothing was published");
    let refusals = [("section", "verdict"), ("mode", "enforce")];
    let objections = server.gateway.metric("cratehouse_policy_objections_total", &refusals);
    assert_eq!(objections, 1.0);
}

#[test]
fn a_waiver_lets_a_version_through_while_it_lasts() {
    let waiver = |until: &str| {
        format!(
            "{BAN}\n[[waiver]]\nname = \"public\"\nversion = \"=1.1.0\"\nuntil = {until}\nreason = \"reviewed\"\nwho = \"ada\"\n"
        )
    };
    let server = TestGateway::new(&[one("1.0.0"), one("1.1.0")], &waiver("2999-12-31"));
    assert_eq!(resolved(&server), "1.1.0");
    server.cargo.run(&locked_to(&one("1.1.0")), &["fetch", "--locked"]).assert_ok();
    assert_eq!(server.gateway.metric("cratehouse_policy_waivers", &[("state", "in_force")]), 1.0);
    server.policy(&waiver("2020-12-31"));
    let ended = || server.yanked("public") == ["1.1.0"];
    until("the waiver has ended", ended);
    server.cargo.forget_caches();
    let fetch = server.cargo.run(&locked_to(&one("1.1.0")), &["fetch", "--locked"]);
    fetch.assert_err("known to be malicious");
}

#[test]
fn a_policy_is_taken_up_without_a_restart_and_a_broken_one_is_not() {
    let server = TestGateway::new(&[one("1.0.0"), one("1.1.0")], "");
    assert!(server.yanked("public").is_empty());
    server.policy(BAN);
    until("the ban is in force", || server.yanked("public") == ["1.1.0"]);
    server.policy(&BAN.replace("reason", "raison"));
    let broken = || server.gateway.metric(BROKEN, &[("what", "policy")]) == 1.0;
    until("the broken policy is told", broken);
    assert_eq!(server.yanked("public"), ["1.1.0"], "the last good one stays");
    let log = "policy.toml";
    until("the log names the file", || {
        server.gateway.log_contains(log) && server.gateway.log_contains("raison")
    });
    server.policy("");
    until("the policy is mended", || {
        server.yanked("public").is_empty()
            && server.gateway.metric(BROKEN, &[("what", "policy")]) == 0.0
    });
}

#[test]
fn a_start_with_a_broken_policy_is_refused() {
    let mut server = TestGateway::new(&[], "");
    server.gateway.stop();
    server.policy("[age]\nminimun = \"3d\"\n");
    server.gateway.spawn();
    assert!(!server.gateway.wait().success());
    assert!(server.gateway.log_contains("minimun"), "{}", server.gateway.log());
}

#[test]
fn an_advisory_that_is_added_takes_effect() {
    let policy = "[advisories]\nvulnerability = \"hold\"\n";
    let server = TestGateway::new(&[one("1.0.0"), one("1.1.0")], policy);
    assert!(server.yanked("public").is_empty());
    let folder = server.policies.path().join("db/crates/public");
    std::fs::create_dir_all(&folder).unwrap();
    let advisory = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"public\"\ndate = \"2026-01-02\"\n\n[versions]\npatched = [\">= 1.1.0\"]\n```\n\n# A hole in public\n\nIt leaks.\n";
    write(&folder, "RUSTSEC-2026-0001.md", advisory);
    let held = || server.yanked("public") == ["1.0.0"];
    until("the advisory is in force", held);
    server.cargo.run(&locked_to(&one("1.0.0")), &["fetch", "--locked"]).assert_ok();
    assert_eq!(server.gateway.metric("cratehouse_policy_advisories", &[]), 1.0);
}

#[test]
fn what_is_observed_is_counted_and_changes_nothing() {
    let server =
        TestGateway::new(&[one("1.0.0"), one("1.1.0")], &format!("mode = \"observe\"\n{BAN}"));
    assert_eq!(server.gateway.client().index("public").body, server.upstream.index_file("public"));
    server.gateway.client().download("public", "1.1.0").assert_status(200);
    let labels = [("rule", "ban"), ("action", "deny"), ("mode", "observe")];
    assert_eq!(server.gateway.metric(FINDINGS, &labels), 1.0);
    assert_eq!(server.gateway.metric(VERDICTS, &[("verdict", "allow")]), 2.0);
}

#[test]
fn verdicts_are_given_once_and_not_for_each_request() {
    let server = TestGateway::new(&[one("1.0.0"), one("1.1.0")], BAN);
    let client = server.gateway.client();
    for _ in 0..10 {
        client.index("public").assert_status(200);
        client.download("public", "1.0.0").assert_status(200);
    }
    let verdicts = |verdict| server.gateway.metric(VERDICTS, &[("verdict", verdict)]);
    assert_eq!((verdicts("allow"), verdicts("deny")), (1.0, 1.0));
}
