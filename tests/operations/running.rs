//! Running it: starting, stopping, the command line, and what an operator can see.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// A gateway on which alice has published `foo`, and her token.
fn registry() -> (Gateway, String) {
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
    let listening = format!("listening on {}", gateway.url());
    for told in [listening.as_str(), "admin on http://127.0.0.1:", "tls/ca.pem"] {
        until("the start is told", || gateway.log_contains(told));
    }
}

#[test]
fn the_cargo_configuration_that_it_prints_works() {
    let (gateway, _) = registry();
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
    let (mut gateway, token) = registry();
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
    let (mut gateway, token) = registry();
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
}

#[test]
fn a_file_that_the_configuration_names_and_that_is_no_use_is_refused_with_64() {
    let upstream = UpstreamConfig::new("main", "http://127.0.0.1:9/");
    let tls = Gateway::builder().set("tls", "cert = \"no.pem\"").set("tls", "key = \"no.key\"");
    for (builder, named) in [
        (tls, "tls.cert"),
        (Gateway::builder().upstream(upstream.text("ca_file", "no.pem")), "no.pem"),
    ] {
        let mut gateway = builder.prepare();
        let check = gateway.cli(&["config", "check"]);
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        assert_eq!(check.status.code(), Some(64), "{said}");
        assert!(said.contains(named) && said.contains("No such file"), "{said}");
        gateway.spawn();
        assert_eq!(gateway.wait().code(), Some(64), "{}", gateway.log());
    }
}

#[test]
fn the_exit_status_tells_wrong_use_from_failure() {
    let gateway = Gateway::start();
    gateway.token("alice");
    let status = |args: &[&str]| gateway.cli(args).status.code();
    for usage in [
        ["user", "add"].as_slice(),
        &["nonsense"],
        &["token", "create", "--user", "alice", "--expires", "2020-01-01"],
        &["token", "create", "--user", "alice", "--scope", "everything"],
        &["token", "revoke", "x"],
        &["remove", "foo", "--reason", "x"],
        &["mirror", "refresh", "1a"],
        &["user", "list", "--url", "nonsense"],
    ] {
        assert_eq!(status(usage), Some(64), "{usage:?}");
    }
    for failing in [
        ["user", "add", "alice"].as_slice(),
        &["user", "disable", "nobody"],
        &["token", "revoke", "99"],
        &["remove", "foo@1.0.0", "--reason", "x"],
        &["prefetch", "--lock", "none.lock"],
    ] {
        assert_eq!(status(failing), Some(1), "{failing:?}");
    }
    for fine in [["--help"].as_slice(), &["--version"], &["user", "list"]] {
        assert_eq!(status(fine), Some(0), "{fine:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    for key in ["listen", "admin_listen"] {
        let mut gateway = Gateway::builder().prepare();
        gateway.reconfigure(|text| {
            let mine = |line: &&str| line.starts_with(&format!("{key} ="));
            let old = text.lines().find(mine).unwrap().to_owned();
            text.replace(&old, &format!("{key} = \"{at}\""))
        });
        gateway.spawn();
        assert_eq!(gateway.wait().code(), Some(1));
        let told = format!("error: `server.{key}`: cannot listen on {at}: Address already in use");
        assert!(gateway.log_contains(&told), "{}", gateway.log());
    }
}

#[test]
fn the_environment_counts_as_the_file_does() {
    let gateway = Gateway::builder().env("CRATEHOUSE_AUTH__REQUIRED", "true").start();
    gateway.client().get("/index/config.json").assert_status(401);
}

#[test]
fn journal_verify_finds_damage_and_says_where() {
    let (mut gateway, token) = registry();
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
    let (gateway, token) = registry();
    let client = gateway.client();
    assert!(gateway.cli_ok(&["user", "list"]).contains("alice"));
    assert!(!gateway.cli(&["user", "add", "alice"]).status.success(), "there is one already");
    assert!(!gateway.cli(&["token", "create", "--user", "nobody"]).status.success());
    let bob = gateway.token("bob");
    client.publish(&Krate::new("bar", "1.0.0"), &bob).assert_status(200);
    client.owners(Method::PUT, "foo", &["bob"], &token).assert_status(200);
    let lines = gateway.cli_ok(&["token", "list", "--user", "bob"]);
    assert_eq!(lines.lines().count(), 2, "a heading and one token: {lines}");
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn the_command_line_works_before_the_first_start() {
    let mut gateway = Gateway::builder().prepare();
    assert!(gateway.cli_ok(&["init"]).ends_with("(new)"));
    let token = gateway.token("alice");
    gateway.start_again();
    gateway.client().publish(&foo(), &token).assert_status(200);
    assert!(gateway.cli_ok(&["init"]).ends_with("(already there)"));
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

#[test]
fn it_takes_as_many_open_files_as_the_system_allows_and_says_when_they_are_few() {
    const TOLD: &str = "the system allows 200 open files";
    let soft = Gateway::builder().ulimit("-Sn 200").start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", soft.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert!(!soft.log_contains(TOLD));
    let hard = Gateway::builder().ulimit("-n 200").start();
    assert!(hard.log_contains(TOLD), "{}", hard.log());
}
