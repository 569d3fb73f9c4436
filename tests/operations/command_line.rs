//! What the command line does beside its errands: completions, manual, lists for programs, and `doctor`.

use std::fs;
use std::process::Stdio;

use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Gateway, free_port};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn completions_and_manual_need_no_configuration() {
    let gateway = Gateway::builder().set("server", "lisen = \"x\"").prepare();
    let refused = gateway.cli(&["config", "check"]);
    assert!(said(&refused).contains("(did you mean `server.listen`?)"), "{}", said(&refused));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = gateway.cli_ok(&["completions", shell]);
        assert!(
            script.contains("prefetch") && script.contains("admin-listen"),
            "{shell}: {script}"
        );
    }
    let page = gateway.cli_ok(&["man"]);
    assert!(page.contains(".TH cratehouse 1") && page.contains("doctor"), "{page}");
    let pages = gateway.folder().join("man1");
    gateway.cli_ok(&["man", pages.to_str().unwrap()]);
    for name in ["cratehouse.1", "cratehouse-serve.1", "cratehouse-token-create.1"] {
        assert!(fs::read_to_string(pages.join(name)).unwrap().contains(".SH"), "{name}");
    }
}

#[test]
fn lists_are_for_people_and_for_programs() {
    let gateway = Gateway::start();
    gateway.token_with("alice", &["--name", "ci", "--crate", "a-*", "--expires", "90d"]);
    gateway.token("bob");
    gateway.cli_ok(&["token", "revoke", "2"]);
    let carol = gateway.token("carol");
    gateway.cli_ok(&["user", "disable", "carol"]);
    assert!(!carol.is_empty());
    let lines = gateway.cli_ok(&["user", "list"]);
    assert!(
        lines.starts_with("id\tuser\tkind\trole\tstate\n1\talice\tperson\t\tactive\n"),
        "{lines}"
    );
    let users = parsed(&gateway.cli_ok(&["user", "list", "--json"]));
    assert_eq!(
        users[2],
        json!({ "id": 3, "login": "carol", "disabled": true, "kind": "person", "role": null })
    );
    let lines = gateway.cli_ok(&["token", "list"]);
    assert!(
        lines.starts_with("id\tuser\tname\tscopes\tcrates\tcreated\tends\tlast used\tstate\n"),
        "{lines}"
    );
    assert!(!lines.contains('.'), "no parts of a second: {lines}");
    let states = |tokens: &Value| -> Vec<String> {
        let all = tokens.as_array().unwrap().iter();
        all.map(|token| token["state"].as_str().unwrap().to_owned()).collect()
    };
    let tokens = parsed(&gateway.cli_ok(&["token", "list", "--json"]));
    assert_eq!(states(&tokens), ["active", "revoked", "user_disabled"]);
    assert_eq!(tokens[0]["crates"], json!(["a-*"]));
    assert_eq!(parsed(&gateway.cli_ok(&["names", "audit", "--json"])), json!([]));
    let garbage = parsed(&gateway.cli_ok(&["gc", "--dry-run", "--json"]));
    assert_eq!(garbage, json!({ "crate_files": 0, "garbage": [], "too_young": 0, "deleted": 0 }));
    let trail = gateway.cli_ok(&["journal", "show"]);
    assert!(trail.starts_with("entry\ttime\twho\tdeed\n1\t"), "{trail}");
}

#[test]
fn prefetch_takes_names_requirements_and_lock_files_and_says_what_it_did() {
    let crates = ["1.0.0", "1.1.0", "2.0.0"].map(|version| Krate::new("foo", version));
    let upstream = Upstream::with(&[&crates[..], &[Krate::new("bar", "1.0.0")]].concat());
    let gateway = Gateway::mirroring(&upstream);
    let told = gateway.cli_ok(&["prefetch", "foo@1", "bar"]);
    assert!(told.starts_with("2 packages fetched ("), "{told}");
    assert!(told.ends_with(" bytes), 0 there already, 0 failed"), "{told}");
    let package = |name: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n{source}\n")
    };
    let source = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let files = ["a.lock", "b.lock"].map(|name| gateway.folder().join(name));
    fs::write(&files[0], package("bar", source) + &package("app", "")).unwrap();
    let partner = "source = \"sparse+https://partner.example/index/\"";
    fs::write(&files[1], package("foo", source) + &package("theirs", partner)).unwrap();
    let files = files.map(|file| file.display().to_string());
    let args = ["prefetch", "--json", "foo@1.1.0", "--lock", &files[0], "--lock", &files[1]];
    let done = parsed(&gateway.cli_ok(&args));
    assert_eq!([&done["fetched"], &done["present"], &done["unpublished"]], [1, 2, 1]);
    assert_eq!(done["elsewhere"][0]["package"], "theirs 1.0.0");
    let failed = gateway.cli(&["prefetch", "foo@3", "none"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        said(&failed).contains("foo@3: the crate `foo` has no such version: its newest is 2.0.0")
    );
    assert!(said(&failed).contains("none: there is no crate `none`"), "{}", said(&failed));
    let none = gateway.cli(&["prefetch"]);
    assert!(said(&none).contains("Cargo.lock cannot be read"), "{}", said(&none));
}

#[test]
fn doctor_finds_what_is_wrong_and_says_what_to_do() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::mirroring(&upstream);
    until("the replica has noted itself", || gateway.stored("replicas").len() == 1);
    let healthy = gateway.cli(&["doctor"]);
    let text = said(&healthy);
    assert!(healthy.status.success(), "{text}");
    assert!(text.contains("\tstore\t") && text.contains("behaves, and holds registry"), "{text}");
    assert!(text.contains("replicas\tof one release"), "{text}");
    assert!(text.contains("certificate\tgood for `127.0.0.1` until"), "{text}");
    assert!(text.contains("server\tit runs on this machine, and is ready"), "{text}");
    assert!(text.contains(" looks, 0 wrong"), "{text}");

    upstream.set(|s| s.down = true);
    gateway.stop();
    assert_eq!(gateway.stored("replicas"), Vec::<String>::new(), "it took its note away");
    let sick = gateway.cli(&["doctor", "--json"]);
    assert_eq!(sick.status.code(), Some(1));
    let findings = parsed(&String::from_utf8_lossy(&sick.stdout));
    let of = |check: &str| {
        let mut all = findings.as_array().unwrap().iter();
        all.find(|finding| finding["check"] == check)
            .unwrap_or_else(|| panic!("{findings:#}"))
            .clone()
    };
    assert_eq!(of("upstreams")["gravity"], "wrong");
    assert_eq!(of("server")["gravity"], "mind");
    assert!(of("upstreams")["cure"].as_str().unwrap().contains("HTTPS_PROXY"));
    assert_eq!(of("store")["gravity"], "fine");

    let nowhere = gateway.cli(&["doctor", "--store", "file:///nowhere/at/all"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(said(&nowhere).contains("cratehouse init"), "{}", said(&nowhere));
}

#[test]
fn the_admin_listener_can_be_given_on_the_command_line() {
    let gateway = Gateway::builder().prepare();
    let at = format!("127.0.0.1:{}", free_port());
    let mut command = gateway.command_line(&["serve", "--admin-listen", &at]);
    let mut server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let admin = Client::new(&format!("http://{at}"), None);
    until("it is ready there", || {
        admin.try_send(Method::GET, "/readyz", &[], None).is_ok_and(|reply| reply.status == 200)
    });
    server.kill().unwrap();
    server.wait().unwrap();
}
