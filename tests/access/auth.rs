//! Who may do what, and what is said to those who may not.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::{Reply, base64};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;

const READS: [&str; 5] = [
    "/index/config.json",
    "/index/3/f/foo",
    "/api/v1/crates/foo/1.0.0/download",
    "/api/v1/crates?q=foo",
    "/api/v1/crates/foo/owners",
];

/// Every other request, with a body where it has one.
const CHANGES: [(&str, &str, &str); 19] = [
    ("PUT", "/api/v1/crates/new", "x"),
    ("DELETE", "/api/v1/crates/foo/1.0.0/yank", ""),
    ("PUT", "/api/v1/crates/foo/1.0.0/unyank", ""),
    ("PUT", "/api/v1/crates/foo/owners", r#"{"users":["alice"]}"#),
    ("DELETE", "/api/v1/crates/foo/owners", r#"{"users":["alice"]}"#),
    ("GET", "/api/v1/admin/users", ""),
    ("POST", "/api/v1/admin/users", r#"{"login":"eve"}"#),
    ("DELETE", "/api/v1/admin/users/alice", ""),
    ("GET", "/api/v1/admin/tokens", ""),
    ("GET", "/api/v1/admin/tokens?user=alice", ""),
    ("POST", "/api/v1/admin/tokens", r#"{"user":"alice"}"#),
    ("DELETE", "/api/v1/admin/tokens/1", ""),
    ("DELETE", "/api/v1/admin/crates/foo/1.0.0", r#"{"reason":"x"}"#),
    ("POST", "/api/v1/admin/mirror/foo/refresh", ""),
    ("POST", "/api/v1/admin/mirror/foo/purge", ""),
    ("POST", "/api/v1/admin/mirror/foo/purge?version=1.0.0", ""),
    ("GET", "/api/v1/admin/names/audit", ""),
    ("GET", "/api/v1/admin/journal/head", ""),
    ("HEAD", "/api/v1/admin/users", ""),
];

/// A gateway on which every read needs a token, with a crate, and that crate's owner's token.
fn closed() -> (Gateway, String) {
    let gateway = Gateway::builder().auth_required().start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    (gateway, token)
}

fn login_url(reply: &Reply) -> String {
    let challenge = reply.header("www-authenticate").unwrap_or_else(|| panic!("{reply}"));
    let url = challenge.strip_prefix("Cargo login_url=\"").and_then(|rest| rest.strip_suffix('"'));
    url.unwrap_or_else(|| panic!("not cargo's form: {challenge}")).to_owned()
}

#[test]
fn strangers_are_told_where_to_get_a_token() {
    covers!(36, 40);
    let (gateway, _) = closed();
    let client = gateway.client();
    for path in READS {
        let reply = client.get(path).assert_status(401);
        assert!(login_url(&reply).starts_with(&gateway.url()), "{reply}");
    }
    for path in ["/index/no/ne/none", "/api/v1/crates/none/1.0.0/download"] {
        client.get(path).assert_status(401);
    }
}

#[test]
fn no_change_is_made_for_a_stranger_or_without_its_scope() {
    let open = Gateway::start();
    let token = open.token("alice");
    open.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    for (gateway, _) in [(open, token), closed()] {
        let client = gateway.client();
        let reader = gateway.token_with("alice", &["--name", "r", "--scope", "read"]);
        let journal = gateway.stored("journal");
        for (method, path, body) in CHANGES {
            let method: Method = method.parse().unwrap();
            let body = (!body.is_empty()).then(|| body.as_bytes().to_vec());
            let ask =
                |headers: &[(&str, &str)]| client.send(method.clone(), path, headers, body.clone());
            let stranger = ask(&[]).assert_status(401);
            assert_eq!(login_url(&stranger), format!("{}/me", gateway.url()));
            login_url(&ask(&[("authorization", "nonsense")]).assert_status(401));
            let refused = ask(&[("authorization", &reader)]);
            // Also of a publish: the scope is judged before the body is read.
            assert_eq!(refused.status, 403, "{method} {path}: {refused}");
            assert_eq!(refused.header("www-authenticate"), None);
            assert_eq!(refused.header("cache-control"), Some("no-store"));
        }
        assert_eq!(gateway.stored("journal"), journal);
        for page in ["/", "/me"] {
            client.get(page).assert_status(200);
        }
    }
}

#[test]
fn where_reads_are_open_a_token_for_another_registry_does_no_harm() {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    for path in READS {
        let reply = gateway.client().get_as(path, "of-another").assert_status(200);
        let cache = reply.header("cache-control").unwrap_or_default();
        assert!(!cache.contains("private"), "{path}: {reply}");
    }
}

#[test]
fn a_token_opens_every_read_in_every_form() {
    covers!(37, 39);
    let (gateway, token) = closed();
    let basic = format!("Basic {}", base64(&format!("alice:{token}")));
    for authorization in [token.clone(), format!("Bearer {token}"), basic] {
        for path in READS {
            let reply = gateway.client().get_as(path, &authorization).assert_status(200);
            let cache = reply.header("cache-control").unwrap_or_default();
            assert!(cache.contains("private") || cache.contains("no-store"), "{path}: {reply}");
        }
    }
    let config = gateway.client().get_as("/index/config.json", &token).json();
    assert_eq!(config["auth-required"], true);
}

#[test]
fn an_etag_opens_nothing() {
    let (gateway, token) = closed();
    let reply = gateway.client().get_as("/index/3/f/foo", &token);
    let etag = reply.header("etag").unwrap();
    let headers = [("if-none-match", etag)];
    gateway.client().get_with("/index/3/f/foo", &headers).assert_status(401);
    let headers = [headers[0], ("authorization", token.as_str())];
    let same = gateway.client().get_with("/index/3/f/foo", &headers).assert_status(304);
    assert_eq!(same.header("cache-control"), Some("private, no-cache"));
}

#[test]
fn a_bad_token_is_refused_and_cargo_says_so() {
    covers!(38);
    let (gateway, token) = closed();
    for bad in ["nonsense", "Bearer nonsense", "Basic nonsense", "Bearer", &token[..20]] {
        gateway.client().get_as("/index/config.json", bad).assert_status(401);
    }
    let project = Project::new("app").ours("foo", "1").write();
    let cargo = Cargo::new(&gateway).token("nonsense");
    cargo.run(&project, &["fetch"]).assert_err("token rejected");
}

#[test]
fn cargo_fetches_with_a_token_from_a_closed_registry() {
    covers!(37);
    let (gateway, token) = closed();
    let project = Project::new("app").ours("foo", "1").write();
    Cargo::new(&gateway).token(&token).run(&project, &["fetch"]).assert_ok();
}

#[test]
fn cargo_without_a_credential_provider_says_what_it_lacks() {
    covers!(41);
    let (gateway, token) = closed();
    let project = Project::new("app").ours("foo", "1").write();
    let cargo = Cargo::new(&gateway).token(&token);
    let config = std::fs::read_to_string(cargo.config_path()).unwrap();
    cargo.configure(&config.replace("credential-provider = [\"cargo:token\"]\n", ""));
    cargo.run(&project, &["fetch"]).assert_err("credential-provider");
}

#[test]
fn cargo_login_shows_a_page_that_exists() {
    covers!(42);
    let (gateway, _) = closed();
    let anonymous = gateway.client().get("/index/config.json");
    let url = login_url(&anonymous);
    let folder = Project::new("app").write();
    let ran = Cargo::new(&gateway).run(&folder, &["login", "--registry", "cratehouse"]);
    assert!(ran.says(&url) || ran.says(&format!("{}/me", gateway.url())), "{ran}");
    for path in [url.strip_prefix(&gateway.url()).unwrap(), "/me"] {
        let page = gateway.client().get(path).assert_status(200);
        assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page}");
    }
}

#[test]
fn an_expired_token_no_longer_publishes() {
    covers!(43);
    let gateway = Gateway::start();
    let token = gateway.token_with("alice", &["--expires", "1s"]);
    let krate = Krate::new("foo", "1.0.0");
    let mut version = 0;
    until("the token has expired", || {
        version += 1;
        let reply = gateway.client().publish(&Krate::new("foo", &format!("{version}.0.0")), &token);
        reply.status != 200
    });
    let reply = gateway.client().publish(&krate, &token);
    assert!([401, 403].contains(&reply.status), "{reply}");
    assert!(!reply.details().is_empty());
}

#[test]
fn a_revoked_token_and_a_disabled_user_are_refused_within_a_moment() {
    covers!(43);
    let gateway = Gateway::start();
    let (revoked, kept) =
        (gateway.token_with("alice", &["--name", "to-go"]), gateway.token("alice"));
    let publish =
        |version: &str, token: &str| gateway.client().publish(&Krate::new("foo", version), token);
    publish("1.0.0", &revoked).assert_status(200);
    let list = gateway.cli_ok(&["token", "list"]);
    assert!(!list.contains(&revoked) && !list.contains(&sha256(revoked.as_bytes())), "{list}");
    let line = list.lines().find(|line| line.contains("to-go")).expect("the token is listed");
    let id = line.split_whitespace().next().unwrap();
    gateway.cli_ok(&["token", "revoke", id]);
    let mut n = 0;
    until("the revocation counts", || {
        n += 1;
        [401, 403].contains(&publish(&format!("1.0.{n}"), &revoked).status)
    });
    publish("2.0.0", &kept).assert_status(200);
    gateway.cli_ok(&["user", "disable", "alice"]);
    until("the disabling counts", || {
        n += 1;
        [401, 403].contains(&publish(&format!("2.0.{n}"), &kept).status)
    });
}

#[test]
fn a_token_does_what_its_scopes_say_and_no_more() {
    covers!(44);
    let gateway = Gateway::start();
    let client = gateway.client();
    let all = gateway.token("alice");
    client.publish(&Krate::new("foo", "1.0.0"), &all).assert_status(200);

    let update = gateway.token_with("alice", &["--scope", "publish-update"]);
    client.publish(&Krate::new("new-name", "1.0.0"), &update).assert_refused(403, "publish-new");
    client.publish(&Krate::new("foo", "1.1.0"), &update).assert_status(200);
    client.yank("foo", "1.0.0", &update).assert_refused(403, "yank");
    client.owners(Method::PUT, "foo", &["alice"], &update).assert_refused(403, "change-owners");

    let new = gateway.token_with("alice", &["--scope", "publish-new"]);
    client.publish(&Krate::new("new-name", "1.0.0"), &new).assert_status(200);
    client.publish(&Krate::new("foo", "1.2.0"), &new).assert_refused(403, "publish-update");

    let yank = gateway.token_with("alice", &["--scope", "yank"]);
    client.yank("foo", "1.0.0", &yank).assert_status(200);
    client.publish(&Krate::new("foo", "1.2.0"), &yank).assert_refused(403, "publish-update");
}

#[test]
fn reading_is_a_scope_where_reads_need_a_token() {
    let (gateway, _) = closed();
    let read = gateway.token_with("reader", &["--scope", "read"]);
    let publish = gateway.token_with("robot", &["--scope", "publish-new"]);
    for path in READS {
        gateway.client().get_as(path, &read).assert_status(200);
    }
    gateway.client().get_as("/index/3/f/foo", &publish).assert_status(403);
    let reply = gateway.client().publish(&Krate::new("bar", "1.0.0"), &read);
    reply.assert_refused(403, "publish-new");
}

#[test]
fn a_token_for_some_crates_touches_no_others() {
    covers!(45);
    let gateway = Gateway::start();
    let client = gateway.client();
    let token = gateway.token_with("alice", &["--crate", "corp-*", "--crate", "exact"]);
    for name in ["corp-x", "corp-y", "exact"] {
        client.publish(&Krate::new(name, "1.0.0"), &token).assert_status(200);
    }
    for name in ["other", "corp_z", "exactly", "Corp-Z"] {
        client.publish(&Krate::new(name, "1.0.0"), &token).assert_refused(403, "");
    }
}

#[test]
fn nobody_but_an_owner_publishes_further_versions() {
    let gateway = Gateway::start();
    let client = gateway.client();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    client.publish(&Krate::new("foo", "1.0.0"), &alice).assert_status(200);
    client.publish(&Krate::new("foo", "1.1.0"), &bob).assert_refused(403, "owner");
    client.yank("foo", "1.0.0", &bob).assert_refused(403, "owner");
    assert_eq!(client.index("foo").lines().len(), 1);
}

#[test]
fn a_token_stands_nowhere_but_with_its_owner() {
    covers!(46);
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .auth_required()
        .set("log", "filter = \"trace\"")
        .start();
    let token = gateway.token("alice");
    let client = gateway.client();
    client.publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    client.get_as("/index/3/f/foo", &format!("Bearer {token}")).assert_status(200);
    let (most, last) = token.split_at(token.len() - 1);
    let almost = format!("{most}{}", if last == "x" { "y" } else { "x" });
    client.get_as("/index/3/f/foo", &almost).assert_status(401);
    let journal: String = gateway
        .stored("journal")
        .iter()
        .map(|path| String::from_utf8(gateway.stored_bytes(path)).unwrap())
        .collect();
    assert!(journal.contains(&sha256(token.as_bytes())), "its hash is what is kept");
    for secret in [&token, &almost] {
        assert!(!journal.contains(secret.as_str()));
        assert!(!gateway.log_contains(secret));
        assert!(!gateway.admin().get("/metrics").text().contains(secret.as_str()));
    }
    assert!(upstream.requests().iter().all(|r| r.header("authorization").is_none()));
}
