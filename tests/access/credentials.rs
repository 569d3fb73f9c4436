//! `cargo-credential-cratehouse` as cargo runs it: one login for whatever index URL is ours, and for nothing
//! else.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::cargo::{Cargo, Project, REGISTRY};
use cratehouse_tests::gateway::{Gateway, credential_provider};
use cratehouse_tests::https::Https;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::upstream::Upstream;
use serde_json::{Value, json};

const LOGIN: [&str; 3] = ["login", "--registry", REGISTRY];
const LOGOUT: [&str; 3] = ["logout", "--registry", REGISTRY];

/// A gateway on which every read needs a token, with one mirrored crate.
fn closed() -> (Upstream, Gateway) {
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).auth_required().start();
    (upstream, gateway)
}

/// A cargo that has the provider in its `PATH`, and the configuration that a start prints.
fn with_provider(gateway: &Gateway) -> Cargo {
    let cargo = Cargo::new(gateway).with_credential_provider();
    let log = gateway.greeting();
    let (_, printed) = log.split_once("\nPoint cargo here:\n\n").unwrap();
    let printed = printed.lines().map_while(|line| match line {
        "" => Some(""),
        line => line.strip_prefix("    "),
    });
    cargo.configure(&printed.collect::<Vec<_>>().join("\n"));
    cargo
}

fn kept(cargo: &Cargo) -> PathBuf {
    cargo.cargo_home().join(".config/cratehouse/credentials.json")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// One question in cargo's protocol, to a provider whose home is this folder.
fn ask(home: &Path, request: &Value) -> Value {
    let mut provider = Command::new(credential_provider());
    provider.arg("--cargo-plugin");
    let mut answers = ask_all(provider, home, std::slice::from_ref(request));
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

/// Several to one process.
fn ask_all(mut provider: Command, home: &Path, requests: &[Value]) -> Vec<Value> {
    let path = std::env::var_os("PATH").unwrap();
    provider.env_clear().env("HOME", home).env("PATH", path).current_dir(home);
    provider.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = provider.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    requests.iter().for_each(|request| writeln!(stdin, "{request}").unwrap());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stderr)); // shown where the test fails
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.next(), Some(json!({ "v": [1] })));
    lines.collect()
}

#[test]
fn one_login_publishes_and_reads_through_both_indexes() {
    let (_upstream, gateway) = closed();
    let cargo = with_provider(&gateway);
    let token = gateway.token("alice");
    let told = cargo.told(gateway.folder(), &LOGIN, &token).assert_ok();
    let told = told.assert_says(&format!("logged in to {} as alice", gateway.url()));
    assert!(!told.says(&token), "{told}");
    assert_eq!(mode(&kept(&cargo)), 0o600);
    assert_eq!(mode(kept(&cargo).parent().unwrap()), 0o700);
    assert!(!cargo.cargo_home().join("credentials.toml").exists());

    let publish = ["publish", "--registry", REGISTRY, "--no-verify"];
    cargo.run(&Project::new("private").write(), &publish).assert_ok();
    let app = Project::new("app").ours("private", "0.1").dep("public", "1").write();
    cargo.run(&app, &["fetch"]).assert_ok();
    assert!(app.lock().contains("crates.io-index"), "{}", app.lock());

    // By cargo's own provider a source that is no registry has no token.
    let config = fs::read_to_string(cargo.config_path()).unwrap();
    cargo.configure(&config.replace(", \"cargo-credential-cratehouse\"", ""));
    cargo.forget_caches();
    let named = cargo.env("CARGO_REGISTRIES_CRATEHOUSE_TOKEN", &token);
    named.run(&app, &["fetch"]).assert_err("no token found");
}

#[test]
fn a_logout_forgets_and_says_that_the_token_still_counts() {
    let (_upstream, gateway) = closed();
    let cargo = with_provider(&gateway);
    cargo.told(gateway.folder(), &LOGIN, &gateway.token("alice")).assert_ok();
    cargo.run_at(gateway.folder(), &LOGOUT).assert_ok().assert_says("still counts");
    let text = fs::read_to_string(kept(&cargo)).unwrap();
    assert!(!text.contains("crh_") && !text.contains(&gateway.url()), "{text}");
    let project = Project::new("private").write();
    let publish = ["publish", "--registry", REGISTRY, "--no-verify"];
    cargo.run(&project, &publish).assert_err("no token found");
    cargo.run_at(gateway.folder(), &LOGOUT).assert_ok();
}

#[test]
fn a_token_that_the_server_refuses_is_not_kept() {
    let (_upstream, gateway) = closed();
    let cargo = with_provider(&gateway);
    let refused = cargo.told(gateway.folder(), &LOGIN, "crh_nobodys").assert_err("it was not kept");
    refused.assert_says(&format!("{}/me", gateway.url()));
    assert!(!kept(&cargo).exists());
    cargo.told(gateway.folder(), &LOGIN, "\n").assert_err("no token was given");
}

#[test]
fn the_ca_may_be_named_by_the_environment() {
    let (_upstream, gateway) = closed();
    let cargo = with_provider(&gateway);
    let config = fs::read_to_string(cargo.config_path()).unwrap();
    cargo.configure(&config.replace("cainfo", "timeout = 30 #"));
    let ca = gateway.ca_path();
    let cargo = cargo.env("CARGO_HTTP_CAINFO", ca.to_str().unwrap());
    let ran = cargo.told(gateway.folder(), &LOGIN, &gateway.token("alice"));
    ran.assert_ok().assert_says("as alice");
}

#[test]
fn in_ci_the_variable_that_cargo_has_counts_for_both_indexes() {
    let (_upstream, gateway) = closed();
    let cargo = with_provider(&gateway);
    let app = Project::new("app").dep("public", "1").write();
    cargo.run(&app, &["fetch"]).assert_err("no token found");
    let cargo = cargo.env("CARGO_REGISTRIES_CRATEHOUSE_TOKEN", &gateway.token("alice"));
    cargo.run(&app, &["fetch"]).assert_ok();
    let private = Project::new("private").write();
    cargo.run(&private, &["publish", "--registry", REGISTRY, "--no-verify"]).assert_ok();
    assert!(!kept(&cargo).exists(), "nothing is kept of it");
}

/// Over plain http, and over https at a URL of our form.
#[test]
fn the_login_of_another_registry_is_left_to_the_next_provider() {
    let (_upstream, gateway) = closed();
    let cargo = with_provider(&gateway);
    let other = Upstream::with(&[]);
    let authority = Authority::new();
    let port_of = |url: &str| url.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let https = Https::before(([127, 0, 0, 1], port_of(&other.origin())).into(), &authority);
    let ca = cargo.cargo_home().join("other-ca.pem");
    fs::write(&ca, &authority.ca).unwrap();
    cargo.configure(&format!(
        "[registry]\n\
         global-credential-providers = [\"cargo:token\", \"cargo-credential-cratehouse\"]\n\
         [http]\ncainfo = {}\n[registries]\nplain.index = \"sparse+{}\"\nother.index = \"sparse+https://127.0.0.1:{}/index/\"\n",
        json!(ca),
        other.index_url(),
        https.port(),
    ));
    for name in ["plain", "other"] {
        cargo.told(gateway.folder(), &["login", "--registry", name], "of-another").assert_ok();
        let toml = fs::read_to_string(cargo.cargo_home().join("credentials.toml")).unwrap();
        assert!(toml.contains(&format!("[registries.{name}]")), "{toml}");
        assert!(!kept(&cargo).exists());
    }
}

#[test]
fn a_registry_that_is_named_needs_no_server_to_be_known() {
    let home = tempfile::tempdir().unwrap();
    let url = "https://127.0.0.1:1";
    let request = |index: &str, more: Value| {
        let mut request = json!({ "v": 1, "registry": { "index-url": index }, "args": [url] });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let get = json!({ "kind": "get", "operation": "read" });
    let index = format!("sparse+{url}/index/");
    let err = |kind: &str| json!({ "Err": { "kind": kind } });
    assert_eq!(ask(home.path(), &request(&index, get.clone())), err("not-found"));
    let login = json!({ "kind": "login", "token": "crh_1" });
    let kept = ask(home.path(), &request(&index, login));
    assert_eq!(kept, json!({ "Ok": { "kind": "login" } }));
    let token = json!({ "Ok": { "kind": "get", "token": "crh_1", "cache": "session", "operation_independent": true } });
    for index in [index, format!("sparse+{url}/crates-io/index/")] {
        assert_eq!(ask(home.path(), &request(&index, get.clone())), token, "{index}");
    }
    for index in
        ["sparse+https://other.example/index/", "sparse+https://127.0.0.1:1/", "https://x/index"]
    {
        assert_eq!(
            ask(home.path(), &request(index, get.clone())),
            err("url-not-supported"),
            "{index}"
        );
    }
    let unknown =
        ask(home.path(), &request("sparse+https://127.0.0.1:1/index/", json!({ "kind": "later" })));
    assert_eq!(unknown, err("operation-not-supported"));
    let logout = ask(
        home.path(),
        &request("sparse+https://127.0.0.1:1/index/", json!({ "kind": "logout" })),
    );
    assert_eq!(logout, json!({ "Ok": { "kind": "logout" } }));
}

/// The Secret Service of GNOME, unlocked, in two sessions of one user.
#[test]
fn where_a_key_store_answers_it_has_the_token_and_the_file_has_none() {
    let home = tempfile::tempdir().unwrap();
    let session = || {
        // What the session starts talks on its standard output.
        let outside = "exec 3>&1; exec dbus-run-session -- sh -c \"$1\" \"$0\" >&2";
        // The daemon is in the background before it answers, and whoever asks it in that time starts another,
        // which is locked: the bus is asked whether it is there.
        let inside = "printf pw | gnome-keyring-daemon --unlock --components=secrets 3>&- && \
                      there='dbus-send --session --print-reply --dest=org.freedesktop.DBus / \
                      org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets' && \
                      tries=0 && until $there | grep -q true; do \
                      tries=$((tries + 1)); [ $tries -lt 300 ] || exit 1; sleep 0.1; done && \
                      exec \"$0\" --cargo-plugin >&3";
        let mut session = Command::new("sh");
        session.args(["-c", outside]).arg(credential_provider()).arg(inside);
        session
    };
    let about = |more: Value| {
        let registry = json!({ "index-url": "sparse+https://127.0.0.1:1/index/" });
        let mut request = json!({ "v": 1, "registry": registry, "args": ["https://127.0.0.1:1"] });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let login = about(json!({ "kind": "login", "token": "crh_1" }));
    let get = about(json!({ "kind": "get", "operation": "read" }));
    let logout = about(json!({ "kind": "logout" }));
    let kinds = |answers: Vec<Value>| -> Vec<Value> {
        let kind = |answer: &Value| answer["Ok"]["kind"].clone();
        answers.iter().map(kind).collect()
    };
    assert_eq!(kinds(ask_all(session(), home.path(), &[login, get.clone()])), ["login", "get"]);
    let file = home.path().join(".config/cratehouse/credentials.json");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("key-store") && !text.contains("crh_"), "{text}");
    // Outside of the session it is told where the token is.
    let told = ask(home.path(), &get)["Err"]["message"].to_string();
    assert!(told.contains("key store") && told.contains("cargo login"), "{told}");

    let answers = ask_all(session(), home.path(), &[get.clone(), logout, get]);
    assert_eq!(answers[0]["Ok"]["token"], "crh_1");
    assert_eq!(answers[1], json!({ "Ok": { "kind": "logout" } }));
    assert_eq!(answers[2], json!({ "Err": { "kind": "not-found" } }));
}

#[test]
fn run_by_hand_it_says_what_it_is_for() {
    let by_hand = |args: &[&str]| {
        let output = Command::new(credential_provider()).args(args).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (status, help) = by_hand(&["--help"]);
    assert!(status == 0 && help.contains("global-credential-providers"), "{help}");
    let version = concat!("cargo-credential-cratehouse ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(by_hand(&["--version"]), (0, version.to_owned()));
    for args in [&[][..], &["login"]] {
        let (status, told) = by_hand(args);
        assert!(status == 64 && told.contains("--help"), "{told}");
    }
}

#[test]
fn a_token_tells_whose_it_is_and_a_stranger_where_to_get_one() {
    let gateway = Gateway::start();
    let token = gateway.token_with("alice", &["--scope", "read", "--expires", "90d"]);
    let told = gateway.client().get_as("/api/v1/me", &token).assert_status(200);
    assert_eq!(told.header("cache-control"), Some("no-store"));
    let told = told.json();
    assert_eq!(
        (&told["user"]["login"], &told["token"]["scopes"]),
        (&json!("alice"), &json!(["read"]))
    );
    assert!(told["token"]["expires"].is_string(), "{told}");
    let page = format!("Cargo login_url=\"{}/me\"", gateway.url());
    let stranger = gateway.client().get("/api/v1/me").assert_status(401);
    assert_eq!(stranger.header("www-authenticate"), Some(page.as_str()));
    gateway.client().get_as("/api/v1/me", "crh_nobodys").assert_status(401);
}
