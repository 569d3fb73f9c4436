//! A policy is tried on a Cargo.lock, compared with another and explained, on the command line and
//! over HTTPS.

use std::fs;
use std::path::PathBuf;

use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::krate::{CRATES_IO, Krate, PUBTIME};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;
use serde_json::{Value, json};

const POLICY: &str = r#"
contact = "sec@acme.example"

[[ban]]
name = "evil"
version = "=1.0.0"
reason = "steals keys"

[age]
minimum = "3d"
exceptions = ["fresh-*"]
"#;

const CHECK: &str = "/api/v1/policy/check";

/// An upstream with `evil`, of which 1.0.0 is banned and 0.9.0 is not, `fresh`, whose 1.1.0 is young
/// for ever, and `good`.
fn public() -> Upstream {
    let of = |name, version| Krate::new(name, version);
    let upstream = Upstream::with(&[
        of("evil", "0.9.0"),
        of("evil", "1.0.0"),
        of("fresh", "1.0.0"),
        of("good", "1.0.0"),
    ]);
    let young = of("fresh", "1.1.0");
    upstream.publish_line(&young, &young.index_line().replace(PUBTIME, "2100-01-01T00:00:00Z"));
    upstream
}

/// A gateway with the policy in force.
fn site(upstream: &Upstream) -> Gateway {
    start(Gateway::builder().upstream(upstream))
}

fn start(builder: Builder) -> Gateway {
    let mut gateway = builder.set("policy", "dir = \"policies\"").prepare();
    write_policy(&gateway, "policies", POLICY);
    gateway.start_again();
    gateway
}

fn write_policy(gateway: &Gateway, folder: &str, text: &str) {
    let folder = gateway.folder().join(folder);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("policy.toml"), text).unwrap();
}

/// A lock file in the gateway's folder, where its commands run, and its text.
fn lock(gateway: &Gateway, packages: &[String]) -> (PathBuf, String) {
    let path = gateway.folder().join("Cargo.lock");
    let text = format!("version = 4\n\n{}", packages.concat());
    fs::write(&path, &text).unwrap();
    (path, text)
}

fn locked(name: &str, version: &str) -> String {
    with_checksum(name, version, &Krate::new(name, version).cksum())
}

fn with_checksum(name: &str, version: &str, cksum: &str) -> String {
    let source = format!("source = \"registry+{CRATES_IO}\"\nchecksum = \"{cksum}\"\n");
    format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}\n")
}

fn elsewhere() -> [String; 2] {
    let git = "source = \"git+https://git.acme.example/forked#0123456789\"\n";
    [
        "[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\n".to_owned(),
        format!("[[package]]\nname = \"forked\"\nversion = \"1.0.0\"\n{git}\n"),
    ]
}

/// The exit status of a command, and what it printed.
fn run(gateway: &Gateway, args: &[&str]) -> (i32, String, String) {
    let output = gateway.cli(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run_json(gateway: &Gateway, args: &[&str]) -> (i32, Value) {
    let (status, out, err) = run(gateway, &[args, &["--json"]].concat());
    (status, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn package<'a>(report: &'a Value, name: &str) -> &'a Value {
    let packages = report["packages"].as_array().unwrap();
    packages.iter().find(|package| package["name"] == name).unwrap()
}

#[test]
fn every_package_of_a_lock_file_has_its_verdict_as_a_table_and_as_json() {
    let upstream = public();
    let gateway = site(&upstream);
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("in-house", "1.0.0"), &token).assert_status(200);
    upstream.forget_requests();
    let public = [locked("evil", "1.0.0"), locked("fresh", "1.1.0"), locked("good", "1.0.0")];
    let own = [locked("in-house", "1.0.0")];
    let (_, text) = lock(&gateway, &[&elsewhere()[..], &public, &own].concat());
    let (status, table, _) = run(&gateway, &["policy", "check"]);
    let wanted = "\
package   version  verdict  why
evil      1.0.0    deny     rule `ban`: steals keys; the newest allowed version is 0.9.0
fresh     1.1.0    hold     rule `age`: it was published at 2100-01-01 00:00 UTC, and it must be \
3 days old (until 2100-01-04T00:00:00Z); the newest allowed version is 1.0.0
good      1.0.0    allow
in-house  1.0.0    allow
app       0.1.0    -        it is from no registry
forked    1.0.0    -        it is from git
note: in-house 1.0.0: it is locked as a crate of crates.io and is one of this registry: write \
`registry = \"cratehouse\"` at each dependency on `in-house` in Cargo.toml, then run \
`cargo update --package in-house`
6 packages by policy ";
    assert!(table.starts_with(wanted), "{table}");
    assert!(
        table.trim_end().ends_with("2 allowed, 1 held, 1 denied, 0 unknown, 2 from no registry")
    );
    assert_eq!(status, 1);

    let (status, report) = run_json(&gateway, &["policy", "check", "--lock", "Cargo.lock"]);
    assert_eq!((status, &report["outcome"]), (1, &json!("denied")));
    let counts = json!({ "allow": 2, "hold": 1, "deny": 1, "unknown": 0, "outside": 2 });
    assert_eq!(report["counts"], counts);
    let evil = package(&report, "evil");
    assert_eq!((&evil["verdict"], &evil["newest_allowed"]), (&json!("deny"), &json!("0.9.0")));
    assert_eq!(evil["findings"][0]["reason"], "steals keys");
    assert_eq!(package(&report, "fresh")["changes_at"], "2100-01-04T00:00:00Z");
    assert_eq!(package(&report, "forked")["source"], "git");

    let reply = gateway.client().call(Method::POST, CHECK, Some(text.into_bytes()), "");
    assert_eq!(reply.assert_status(200).json(), report, "the server says the same");
    assert_eq!(upstream.download_count(), 0, "nothing is downloaded");
    assert_eq!(upstream.mentions("in-house"), [], "an own name is nobody else's business");
    assert_eq!(upstream.mentions("forked"), []);
}

#[test]
fn the_status_tells_a_denied_package_from_one_that_could_not_be_judged() {
    let upstream = public();
    let gateway = site(&upstream);
    let check = |packages: &[String]| {
        lock(&gateway, packages);
        run(&gateway, &["policy", "check"])
    };
    let (good, evil) = (locked("good", "1.0.0"), locked("evil", "1.0.0"));
    let held = locked("fresh", "1.1.0");
    assert_eq!(check(&[good.clone(), held]).0, 0, "a held version builds");
    for (unknown, why) in [
        (locked("missing", "1.0.0"), "there is no crate `missing`"),
        (locked("good", "1.0.1"), "does not list this version"),
        (locked("Good", "1.0.0"), "spells its name `good`"),
        (with_checksum("good", "1.0.0", &"0".repeat(64)), "checksum"),
    ] {
        let (status, table, _) = check(std::slice::from_ref(&unknown));
        assert!(status == 2 && table.contains(why), "{status} {table}");
        assert_eq!(check(&[unknown, evil.clone()]).0, 1, "denied is denied");
    }
    upstream.set(|s| s.index = Answer::Status(500));
    upstream.publish(&Krate::new("unseen", "1.0.0"));
    let (status, table, _) = check(&[locked("unseen", "1.0.0"), good]);
    assert!(status == 2 && table.contains("1 allowed"), "{table}");

    fs::write(gateway.folder().join("Cargo.lock"), "[package").unwrap();
    let (status, _, err) = run(&gateway, &["policy", "check"]);
    assert!(status == 2 && err.contains("this is not a Cargo.lock"), "{err}");
    let (status, _, err) = run(&gateway, &["policy", "check", "--lock", "none/Cargo.lock"]);
    assert!(status == 2 && err.contains("none/Cargo.lock cannot be read"), "{err}");
}

#[test]
fn a_folder_is_tried_whatever_is_in_force_and_a_broken_one_is_no_verdict() {
    let upstream = public();
    let gateway = site(&upstream);
    lock(&gateway, &[locked("evil", "1.0.0"), locked("good", "1.0.0")]);
    let check = |folder: &str| run(&gateway, &["policy", "check", "--policy", folder]);
    write_policy(&gateway, "open", "");
    write_policy(&gateway, "watching", &format!("mode = \"observe\"\n{POLICY}"));
    write_policy(&gateway, "misspelled", "\n[[ban]]\nnmae = \"evil\"");
    write_policy(&gateway, "elsewhere", "[[ban]]\nname = \"evil\"\nupstream = \"nobody\"");
    assert_eq!(check("open").0, 0);
    let (status, table, _) = check("watching");
    assert!(status == 0 && table.contains("observed: rule `ban`: steals keys"), "{table}");
    for (folder, why) in
        [("misspelled", "line 3"), ("elsewhere", "`nobody`"), ("absent", "cannot be read")]
    {
        let (status, _, err) = check(folder);
        assert!(status == 2 && err.contains(why), "{folder}: {status} {err}");
    }
    write_policy(&gateway, "policies", "[[ban]]\nnmae = \"evil\"");
    assert_eq!(run(&gateway, &["policy", "check"]).0, 2);
    assert_eq!(check("open").0, 0, "the broken one has no say");

    // Without a database that the policy wants, the answer says so; a broken one is no answer.
    write_policy(&gateway, "advised", "[advisories]");
    let (status, table, _) = check("advised");
    assert!(status == 0 && table.contains("note: there is no advisory database"), "{table}");
    gateway.reconfigure(|text| text.replace("[policy]", "[policy]\nadvisories = \"no-database\""));
    let (status, _, err) = check("advised");
    assert!(status == 2 && err.contains("no-database"), "{err}");
}

#[test]
fn a_diff_shows_what_a_change_of_the_policy_would_do() {
    let upstream = public();
    let gateway = site(&upstream);
    let packages = ["evil 1.0.0", "fresh 1.1.0", "good 1.0.0"];
    let packages = packages.map(|spec| spec.split_once(' ').unwrap());
    lock(&gateway, &packages.map(|(name, version)| locked(name, version)));
    write_policy(&gateway, "new", "[[ban]]\nname = \"go*\"\n[[ban]]\nname = \"evil\"");
    let diff = ["policy", "diff", "policies", "new"];
    let (status, table, _) = run(&gateway, &diff);
    let wanted = "\
package  version  verdict        why
good     1.0.0    allow -> deny  rule `ban`: `go*` is banned; no version of it is allowed
fresh    1.1.0    hold -> allow  no longer rule `age`: it was published at";
    assert!(status == 1 && table.starts_with(wanted), "{status} {table}");
    assert!(!table.contains("evil"), "it is denied by both: {table}");

    let (status, json) = run_json(&gateway, &diff);
    assert_eq!((status, &json["outcome"], &json["packages"]), (1, &json!("denied"), &json!(3)));
    let changes = json["changes"].as_array().unwrap();
    let named: Vec<_> = changes.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["fresh", "good"]);
    assert_eq!(
        (&changes[1]["old"]["verdict"], &changes[1]["new"]["verdict"]),
        (&json!("allow"), &json!("deny"))
    );

    write_policy(&gateway, "open", "");
    let status = |old, new| run(&gateway, &["policy", "diff", old, new]).0;
    assert_eq!((status("new", "open"), status("new", "new")), (0, 0));
    assert_eq!(status("new", "absent"), 2);
    lock(&gateway, &[locked("missing", "1.0.0"), locked("good", "1.0.0")]);
    assert_eq!((status("new", "open"), status("open", "new")), (2, 1));
}

#[test]
fn a_lock_file_is_judged_over_https_for_who_may_read() {
    let upstream = public();
    let gateway = start(Gateway::builder().upstream(&upstream).auth_required());
    let token = gateway.token_with("ci", &["--scope", "read"]);
    let other = gateway.token_with("ci", &["--scope", "yank"]);
    let (_, text) = lock(&gateway, &[locked("evil", "1.0.0")]);
    let client = gateway.client();
    let post =
        |body: &[u8], token: &str| client.call(Method::POST, CHECK, Some(body.to_vec()), token);
    post(text.as_bytes(), "").assert_refused(401, "token");
    post(text.as_bytes(), &other).assert_refused(403, "read");
    // What was never asked for is looked up for those alone who may change something.
    let outcome = |token: &str| {
        post(text.as_bytes(), token).assert_status(200).json()["outcome"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!((outcome(&token).as_str(), upstream.mentions("evil").len()), ("unknown", 0));
    let writer = gateway.token_with("ci", &["--scope", "read", "--scope", "publish-update"]);
    assert_eq!((outcome(&writer).as_str(), upstream.mentions("evil").len()), ("denied", 1));
    assert_eq!(outcome(&token), "denied", "now it is held");
    post(b"[package", &token).assert_refused(400, "this is not a Cargo.lock");
    post(b"\xff", &token).assert_refused(400, "this is not a Cargo.lock");
    post(&vec![b' '; 5 << 20], &token).assert_refused(413, "too large");
    client.call(Method::GET, CHECK, None, &token).assert_refused(405, "POST");
    client.get("/api/v1/policy/explain/evil").assert_refused(401, "token");
    client.get("/api/v1/policy/waivers").assert_refused(401, "token");
    let seen = [("route", "policy_check"), ("status", "200")];
    assert_eq!(gateway.metric("cratehouse_http_request_seconds_count", &seen), 3.0);
    let denials = gateway.metric("cratehouse_policy_denials_total", &[]);
    assert_eq!(denials, 0.0, "nobody was refused anything");
}

#[test]
fn names_of_other_registries_are_asked_nowhere() {
    let upstream = public();
    let gateway = site(&upstream);
    let partner = "source = \"sparse+https://partner.example/index/\"\n";
    let foreign =
        |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n{partner}\n");
    let packages = [locked("good", "1.0.0"), foreign("secret"), foreign("evil")];
    let (_, text) = lock(&gateway, &packages);
    let (status, table, _) = run(&gateway, &["policy", "check"]);
    assert!(status == 0 && table.contains("it is from another registry"), "{table}");
    assert!(table.contains("1 allowed, 0 held, 0 denied, 0 unknown, 0 from no registry, 2 from"));
    let writer = gateway.token("alice");
    let reply = gateway.client().call(Method::POST, CHECK, Some(text.into_bytes()), &writer);
    let report = reply.assert_status(200).json();
    assert_eq!(package(&report, "secret")["source"], "other-registry");
    assert_eq!(report["counts"]["outside"], 2);
    let (status, out, err) = run(&gateway, &["prefetch", "--lock", "Cargo.lock"]);
    assert!(status == 0 && err.contains("secret 1.0.0: left out"), "{out}{err}");
    assert_eq!(upstream.mentions("secret"), []);
    assert_eq!(upstream.mentions("evil"), []);
    assert_eq!(upstream.download_count(), 1);
}

#[test]
fn every_version_is_explained_or_one() {
    let upstream = public();
    let gateway = site(&upstream);
    let client = gateway.client();
    let explain = |path: &str| client.get(&format!("/api/v1/policy/explain/{path}"));
    let all = explain("Fresh").assert_status(200).json();
    assert_eq!((&all["upstream"], &all["newest_allowed"]), (&json!("main"), &json!("1.0.0")));
    let versions = all["versions"].as_array().unwrap();
    let numbers: Vec<_> = versions.iter().map(|v| v["version"].as_str().unwrap()).collect();
    assert_eq!(numbers, ["1.1.0", "1.0.0"]);
    let young = &versions[0];
    assert_eq!((&young["verdict"], &young["yanked"]), (&json!("hold"), &json!(false)));
    let finding = &young["findings"][0];
    assert_eq!((&finding["rule"], &finding["action"]), (&json!("age"), &json!("hold")));
    assert_eq!((&finding["mode"], &finding["advisory"]), (&json!("enforce"), &Value::Null));
    assert_eq!(finding["until"], "2100-01-04T00:00:00Z");
    assert_eq!(young["changes_at"], finding["until"]);
    assert_eq!((&versions[1]["verdict"], &versions[1]["findings"]), (&json!("allow"), &json!([])));

    let one = explain("evil/1.0.0").assert_status(200).json();
    assert_eq!(one["versions"].as_array().unwrap().len(), 1);
    assert_eq!(one["versions"][0]["verdict"], "deny");
    assert_eq!(one["newest_allowed"], "0.9.0");
    explain("evil/3.0.0").assert_refused(404, "has no version 3.0.0");
    explain("missing").assert_refused(404, "there is no crate `missing`");
    explain("1a").assert_refused(404, "letter");
    let token = gateway.token("alice");
    client.publish(&Krate::new("in-house", "1.0.0"), &token).assert_status(200);
    let own = explain("in-house").assert_status(200).json();
    assert_eq!((&own["upstream"], &own["newest_allowed"]), (&Value::Null, &json!("1.0.0")));
    upstream.set(|s| s.index = Answer::Status(500));
    explain("unseen").assert_trouble();
}

#[test]
fn waivers_win_and_are_listed_and_a_running_server_takes_them_up() {
    let upstream = public();
    let gateway = site(&upstream);
    let waiver = |version: &str, until: &str| {
        format!(
            "[[waiver]]\nname = \"evil\"\nversion = \"{version}\"\nuntil = {until}\n\
             reason = \"TICKET-1\"\nwho = \"ada\"\n"
        )
    };
    let waivers = waiver("=1.0.0", "2099-12-31") + &waiver("<1", "2020-01-31");
    write_policy(&gateway, "policies", &format!("{POLICY}\n{waivers}"));
    lock(&gateway, &[locked("evil", "1.0.0")]);
    let (status, table, _) = run(&gateway, &["policy", "check"]);
    let wanted = "allow    waived until 2099-12-31 by ada: TICKET-1; rule `ban`: steals keys";
    assert!(status == 0 && table.contains(wanted), "{table}");
    let listed = gateway.cli_ok(&["policy", "waivers"]);
    let wanted = "\
name  version  state     from  until       who  reason
evil  =1.0.0   in force        2099-12-31  ada  TICKET-1
evil  <1       ended           2020-01-31  ada  TICKET-1
2 waivers, 1 in force";
    assert_eq!(listed, wanted);
    let (status, json) = run_json(&gateway, &["policy", "waivers", "--policy", "policies"]);
    assert_eq!((status, json["waivers"][0]["state"].as_str()), (0, Some("in_force")));
    let over_https = || gateway.client().get("/api/v1/policy/waivers").assert_status(200).json();
    until("the server has them", || over_https() == json);
    let why = gateway.client().get("/api/v1/policy/explain/evil/1.0.0").json();
    assert_eq!(why["versions"][0]["waiver"]["who"], "ada");
    assert_eq!(why["versions"][0]["verdict"], "allow");
    gateway.client().download("evil", "1.0.0").assert_status(200);
}
