//! Running it: starting, stopping, the command line, and what an operator can see.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;
use serde_json::{Value, json};

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// A gateway on which alice has published `foo`, and her token.
fn house() -> (Gateway, String) {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&foo(), &token).assert_status(200);
    (gateway, token)
}

#[test]
fn a_start_in_an_empty_folder_makes_what_it_needs_and_says_how_to_use_it() {
    let gateway = Gateway::start();
    let data = gateway.data();
    for made in ["store/format.json", "tls/ca.pem", "catalog.redb"] {
        assert!(data.join(made).exists(), "{made}");
    }
    for entry in std::fs::read_dir(data.join("tls")).unwrap().map(Result::unwrap) {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        if text.contains("PRIVATE KEY") {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} is for its owner alone", entry.path());
        }
    }
    let log = gateway.log();
    assert!(log.contains(&format!("listening on {}", gateway.url())), "{log}");
    assert!(log.contains("admin on http://127.0.0.1:"), "{log}");
    assert!(log.contains("tls/ca.pem"), "{log}");
}

#[test]
fn the_cargo_configuration_that_it_prints_works() {
    let (gateway, _) = house();
    let log = gateway.log();
    let (_, after) = log.split_once("Point cargo here:\n").expect("it says so");
    let printed: String = after
        .lines()
        .skip_while(|line| line.is_empty())
        .take_while(|line| line.starts_with("    ") || line.trim().is_empty())
        .map(|line| format!("{}\n", line.trim_start()))
        .collect();
    let cargo = Cargo::new(&gateway);
    cargo.configure(&printed);
    let app = Project::new("app").ours("foo", "1").write();
    cargo.run(&app, &["fetch"]).assert_ok();
}

#[test]
fn a_second_start_reuses_everything() {
    let (mut gateway, token) = house();
    let ca = std::fs::read(gateway.ca_path()).unwrap();
    let client = gateway.client();
    let etag = client.index("foo").header("etag").unwrap().to_owned();
    gateway.restart();
    assert_eq!(std::fs::read(gateway.ca_path()).unwrap(), ca);
    let client = gateway.client();
    let index = client.get_with("/index/3/f/foo", &[("if-none-match", &etag)]);
    index.assert_status(304);
    client.publish(&Krate::new("foo", "1.1.0"), &token).assert_status(200);
}

#[test]
fn a_catalog_that_was_deleted_is_rebuilt_from_the_journal() {
    let (mut gateway, token) = house();
    gateway.client().yank("foo", "1.0.0", &token).assert_status(200);
    let before = gateway.client().index("foo").body;
    gateway.stop();
    std::fs::remove_file(gateway.data().join("catalog.redb")).unwrap();
    gateway.start_again();
    assert_eq!(gateway.client().index("foo").assert_status(200).body, before);

    gateway.stop();
    std::fs::write(gateway.data().join("catalog.redb"), b"damaged").unwrap();
    gateway.start_again();
    assert_eq!(gateway.client().index("foo").assert_status(200).body, before);

    gateway.restart_on_an_empty_disk();
    assert_eq!(gateway.client().index("foo").assert_status(200).body, before);
    gateway.client().publish(&Krate::new("foo", "1.1.0"), &token).assert_status(200);
}

#[test]
fn the_certificate_names_localhost_and_follows_the_url() {
    let mut gateway = Gateway::start();
    let ca = std::fs::read(gateway.ca_path()).unwrap();
    let port = gateway.addr().port();
    let localhost = Client::new(&format!("https://localhost:{port}"), Some(&ca));
    localhost.get("/index/config.json").assert_status(200);
    gateway.stop();
    let old = gateway.url();
    gateway.reconfigure(|text| text.replace(&old, "https://crates.acme.example"));
    gateway.start_again();
    assert_eq!(std::fs::read(gateway.ca_path()).unwrap(), ca, "the CA stays");
    let named = Client::build(&format!("https://crates.acme.example:{port}"), Some(&ca), |h| {
        h.resolve("crates.acme.example", gateway.addr())
    });
    let config = named.get("/index/config.json").assert_status(200).json();
    assert_eq!(config["api"], "https://crates.acme.example");
}

/// A gateway with a download under way that the upstream holds back, and with this long to stop.
fn held(drain_seconds: u32) -> (Upstream, Gateway, std::thread::JoinHandle<u16>) {
    let upstream = Upstream::with(&[foo()]);
    upstream.set(|s| s.krate = Answer::Hold);
    let drain = format!("drain_seconds = {drain_seconds}");
    let gateway = Gateway::builder().upstream(&upstream).set("server", &drain).start();
    let client = gateway.client();
    let asker = std::thread::spawn(move || {
        let path = "/api/v1/crates/foo/1.0.0/download";
        client.try_send(Method::GET, path, &[], None).map_or(0, |reply| reply.status)
    });
    until("the upstream is asked", || upstream.download_count() == 1);
    (upstream, gateway, asker)
}

#[test]
fn sigterm_stops_accepting_finishes_what_is_under_way_and_exits_0() {
    let (upstream, mut gateway, asker) = held(25);
    gateway.terminate();
    until("nothing new is accepted", || TcpStream::connect(gateway.addr()).is_err());
    upstream.set(|s| s.krate = Answer::Normal);
    assert_eq!(asker.join().unwrap(), 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (_upstream, mut gateway, asker) = held(3600); // nothing but the second one ends it
    gateway.terminate();
    until("it is stopping", || gateway.log_contains("stopping"));
    gateway.terminate();
    gateway.wait();
    assert_ne!(asker.join().unwrap(), 200);
}

#[test]
fn a_stop_is_bounded() {
    let (_upstream, mut gateway, asker) = held(1);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_ne!(asker.join().unwrap(), 200);
}

#[test]
fn a_wrong_configuration_is_refused_with_64_and_the_key() {
    for (section, line, named) in [
        ("server", "lisen = \"x\"", "server.lisen"),
        ("server", "drain_seconds = \"long\"", "server.drain_seconds"),
        ("cache", "index_mib = -1", "cache.index_mib"),
        ("nonsense", "x = 1", "nonsense"),
        ("names", "reserved = [\"a*b\"]", "names.reserved"),
        ("store", "url = \"ftp://x\"", "store.url"),
    ] {
        let mut gateway = Gateway::builder().set(section, line).prepare();
        let check = gateway.cli(&["config", "check"]);
        assert_eq!(check.status.code(), Some(64), "{line}");
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        assert!(said.contains(named), "{line}: {said}");
        gateway.spawn();
        assert_eq!(gateway.wait().code(), Some(64), "{line}");
        assert!(gateway.log_contains(named), "{}", gateway.log());
    }
    let gateway = Gateway::builder().prepare();
    gateway.cli_ok(&["config", "check"]);
    let missing = gateway.cli(&["user", "add"]);
    assert_eq!(missing.status.code(), Some(64));
}

#[test]
fn the_environment_counts_as_the_file_does() {
    let gateway = Gateway::builder().env("CRATEHOUSE_AUTH__REQUIRED", "true").start();
    gateway.client().get("/index/config.json").assert_status(401);
}

#[test]
fn journal_verify_finds_damage_and_says_where() {
    let (mut gateway, token) = house();
    gateway.client().yank("foo", "1.0.0", &token).assert_status(200);
    gateway.cli_ok(&["journal", "verify"]);
    gateway.stop();
    gateway.cli_ok(&["journal", "verify"]);
    let store = gateway.data().join("store");
    let entries = gateway.stored("journal");
    assert!(entries.len() >= 4, "{entries:?}");
    let broken = |gateway: &Gateway, number: &str| {
        let output = gateway.cli(&["journal", "verify"]);
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(number), "{said}");
    };
    let second = store.join(&entries[1]);
    let whole = std::fs::read(&second).unwrap();
    let changed = String::from_utf8(whole.clone()).unwrap().replacen("cli", "clj", 1);
    assert_ne!(changed.as_bytes(), whole, "the token's name stands there");
    std::fs::write(&second, changed).unwrap();
    broken(&gateway, "3");
    std::fs::remove_file(&second).unwrap();
    broken(&gateway, "2");
    std::fs::write(&second, whole).unwrap();
    gateway.cli_ok(&["journal", "verify"]);
    let blob = store.join(&gateway.stored("blobs/hosted")[0]);
    std::fs::write(&blob, b"damaged").unwrap();
    broken(&gateway, "foo");
    std::fs::remove_file(&blob).unwrap();
    broken(&gateway, "foo");
}

#[test]
fn the_command_line_and_a_running_server_see_each_other() {
    let (gateway, token) = house();
    let client = gateway.client();
    assert!(gateway.cli_ok(&["user", "list"]).contains("alice"));
    assert!(!gateway.cli(&["user", "add", "alice"]).status.success(), "there is one already");
    assert!(!gateway.cli(&["token", "create", "--user", "nobody"]).status.success());
    let bob = gateway.token("bob");
    client.publish(&Krate::new("bar", "1.0.0"), &bob).assert_status(200);
    client.owners(Method::PUT, "foo", &["bob"], &token).assert_status(200);
    let lines = gateway.cli_ok(&["token", "list", "--user", "bob"]);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn the_command_line_works_before_the_first_start() {
    let mut gateway = Gateway::builder().prepare();
    let token = gateway.token("alice");
    gateway.start_again();
    gateway.client().publish(&foo(), &token).assert_status(200);
}

#[test]
fn a_removed_version_is_gone_and_its_number_burned() {
    let (gateway, token) = house();
    let client = gateway.client();
    client.publish(&Krate::new("foo", "1.1.0"), &token).assert_status(200);
    client.download("foo", "1.0.0").assert_status(200);
    gateway.cli_ok(&["remove", "foo@1.0.0", "--reason", "leaked a key"]);
    until("the server knows", || client.index("foo").lines().len() == 1);
    client.download("foo", "1.0.0").assert_status(404);
    client.publish(&foo(), &token).assert_refused(400, "");
    client.publish(&foo().lib("again"), &token).assert_refused(400, "");
    let journal: String = gateway
        .stored("journal")
        .iter()
        .map(|path| String::from_utf8(gateway.stored_bytes(path)).unwrap())
        .collect();
    assert!(journal.contains("leaked a key"));
    assert!(!gateway.cli(&["remove", "foo@9.0.0", "--reason", "x"]).status.success());
    assert!(!gateway.cli(&["remove", "foo@1.1.0"]).status.success(), "a reason is needed");
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn the_mirror_is_refreshed_and_purged_on_demand() {
    let upstream = Upstream::with(&[foo()]);
    let config = UpstreamConfig::from(&upstream).fresh_seconds(3600);
    let mut gateway = Gateway::mirroring(config);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    upstream.publish(&Krate::new("foo", "1.1.0"));
    assert_eq!(gateway.client().index("foo").lines().len(), 1, "it is fresh for an hour");

    let admin = gateway.token_with("root", &["--scope", "admin"]);
    let refresh = "/api/v1/admin/mirror/foo/refresh";
    gateway.client().call(Method::POST, refresh, None, &admin).assert_status(200);
    assert_eq!(gateway.client().index("foo").lines().len(), 2);

    upstream.publish(&Krate::new("foo", "1.2.0"));
    gateway.cli_ok(&["mirror", "refresh", "foo"]);
    gateway.restart();
    assert_eq!(gateway.client().index("foo").lines().len(), 3, "the store's copy is new");

    let pins = |gateway: &Gateway| {
        gateway.stored("mirror").into_iter().filter(|p| p.contains("/pins/")).collect::<Vec<_>>()
    };
    let before = pins(&gateway);
    assert!(!before.is_empty());
    assert_eq!(gateway.stored("blobs/mirror").len(), 1);
    gateway.cli_ok(&["mirror", "purge", "foo@1.0.0"]);
    assert!(gateway.stored("blobs/mirror").is_empty());
    gateway.cli_ok(&["mirror", "purge", "foo"]);
    assert!(gateway.stored("mirror").iter().all(|p| !p.contains("/index/")));
    assert_eq!(pins(&gateway), before, "pins stay");
    gateway.restart();
    gateway.client().download("foo", "1.0.0").assert_status(200);
}

#[test]
fn prefetch_fills_the_mirror_ahead_of_need() {
    let crates = [foo(), Krate::new("bar", "1.0.0").dep("foo", "1")];
    let upstream = Upstream::with(&crates);
    let mut gateway = Gateway::mirroring(&upstream);
    let package = |k: &Krate| {
        format!(
            "[[package]]\nname = \"{}\"\nversion = \"{}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
             checksum = \"{}\"\n\n",
            k.name,
            k.version,
            k.cksum()
        )
    };
    let own = "[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\n";
    let lock = format!("version = 4\n\n{own}{}{}", package(&crates[1]), package(&crates[0]));
    let path = gateway.folder().join("Cargo.lock");
    std::fs::write(&path, &lock).unwrap();
    gateway.cli_ok(&["prefetch", "--lock", path.to_str().unwrap()]);
    assert_eq!(gateway.stored("blobs/mirror").len(), 2);

    upstream.set(|s| s.down = true);
    gateway.restart_on_an_empty_disk();
    for krate in &crates {
        let reply = gateway.client().download(&krate.name, &krate.version).assert_status(200);
        assert_eq!(reply.body, krate.crate_bytes());
    }
    upstream.set(|s| s.down = false);
    let missing = lock + &package(&Krate::new("missing", "1.0.0"));
    std::fs::write(&path, missing).unwrap();
    let output = gateway.cli(&["prefetch", "--lock", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("missing"), "{said}");
}

#[test]
fn names_audit_finds_names_that_an_upstream_has_taken_since() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let token = gateway.token("alice");
    for name in ["in-house", "acme-x", "safe"] {
        gateway.client().publish(&Krate::new(name, "1.0.0"), &token).assert_status(200);
    }
    gateway.cli_ok(&["names", "audit"]);
    upstream.publish(&Krate::new("in_house", "9.9.9"));
    upstream.publish(&Krate::new("acme-x", "9.9.9"));
    upstream.forget_requests();
    let output = gateway.cli(&["names", "audit"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("in-house") && said.contains("in_house"), "{said}");
    assert!(!said.contains("acme-x") && !said.contains("safe"), "{said}");
    assert_eq!(upstream.mentions("acme"), [], "a reserved name is never asked");
}

#[test]
fn users_and_tokens_are_managed_over_https_by_administrators_alone() {
    let (gateway, alice) = house();
    let root = gateway.token_with("root", &["--scope", "admin"]);
    let client = gateway.client();
    let post = |path: &str, body: Value, token: &str| {
        let body = Some(body.to_string().into_bytes());
        client.call(Method::POST, &format!("/api/v1/admin/{path}"), body, token)
    };
    post("users", json!({ "login": "carol" }), &alice).assert_refused(403, "admin");
    post("users", json!({ "login": "carol" }), "").assert_refused(401, "");
    post("users", json!({ "login": "carol" }), &root).assert_status(200);
    let made = post("tokens", json!({ "user": "carol", "name": "ci" }), &root).assert_status(200);
    let carol = made.json()["token"].as_str().unwrap().to_owned();
    client.publish(&Krate::new("bar", "1.0.0"), &carol).assert_status(200);
    let id = made.json()["id"].to_string();
    let path = format!("/api/v1/admin/tokens/{id}");
    client.call(Method::DELETE, &path, None, &root).assert_status(200);
    let refused = client.publish(&Krate::new("bar", "1.1.0"), &carol);
    assert!([401, 403].contains(&refused.status), "{refused}");
    let list = client.get_as("/api/v1/admin/tokens", &root).assert_status(200).text();
    assert!(list.contains("carol") && !list.contains(&carol), "{list}");
}

#[test]
fn the_admin_listener_says_how_it_is() {
    let (gateway, _) = house();
    let admin = gateway.admin();
    for path in ["/livez", "/readyz"] {
        admin.get(path).assert_status(200);
    }
    let client = gateway.client();
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(client.get(path).status, 404, "{path} is not for the public");
    }
    client.index("foo").assert_status(200);
    client.index("foo").assert_status(200);
    client.index("none").assert_status(404);
    client.download("foo", "1.0.0").assert_status(200);
    let text = admin.get("/metrics").assert_status(200).text();
    for name in [
        "cratehouse_http_request_seconds_bucket",
        "cratehouse_http_sent_bytes_total",
        "cratehouse_index_lookups_total",
        "cratehouse_crate_lookups_total",
        "cratehouse_publishes_total",
        "cratehouse_refusals_total",
        "cratehouse_journal_head",
        "cratehouse_journal_lag_entries",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}:\n{text}");
    }
    assert!(gateway.metric("cratehouse_index_lookups_total", &[("outcome", "hit")]) >= 1.0);
    let entries = gateway.stored("journal").len() as f64;
    assert_eq!(gateway.metric("cratehouse_journal_head", &[]), entries);
    assert_eq!(gateway.metric("cratehouse_journal_lag_entries", &[]), 0.0);
}

#[test]
fn json_logs_are_json_on_every_line() {
    let mut gateway =
        Gateway::builder().set("log", "format = \"json\"").set("log", "filter = \"debug\"").start();
    let token = gateway.token("alice");
    let client = gateway.client();
    client.publish(&foo(), &token).assert_status(200);
    client.get("/index/no/ne/none").assert_status(404);
    gateway.stop();
    for line in gateway.log().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn every_answer_carries_a_request_id_and_a_refusal_is_logged_under_it() {
    let (gateway, _) = house();
    let reply = gateway.client().publish_raw(Vec::new(), "wrong");
    let id = reply.header("x-request-id").unwrap_or_else(|| panic!("{reply}"));
    until("the log has it", || gateway.log_contains(id));
}

#[test]
fn a_browser_gets_a_page_that_needs_nothing_else() {
    let gateway = Gateway::start();
    let page = gateway.client().get_with("/", &[("accept", "text/html")]).assert_status(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let text = page.text();
    assert!(text.contains(&gateway.index_url()) && text.contains("replace-with"), "{text}");
    for outside in ["<script", "src=", "@import", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
}
