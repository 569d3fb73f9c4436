//! What administrators do, on the command line and over HTTPS: the table of deploy/README.md, row by row.

use cratehouse_tests::client::Reply;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;
use serde_json::{Value, json};

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// A gateway on which alice has published `foo`, and her token.
fn server() -> (Gateway, String) {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&foo(), &token).assert_status(200);
    (gateway, token)
}

#[test]
fn a_removed_version_is_gone_and_its_number_burned() {
    let (gateway, token) = server();
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
    gateway.stored_soon("blobs/mirror", 1);
    gateway.cli_ok(&["mirror", "purge", "foo@1.0.0"]);
    assert!(gateway.stored("blobs/mirror").is_empty());
    gateway.cli_ok(&["mirror", "purge", "foo"]);
    assert!(gateway.stored("mirror").iter().all(|p| !p.contains("/index/")));
    assert_eq!(pins(&gateway), before, "pins stay");
    gateway.restart();
    gateway.client().download("foo", "1.0.0").assert_status(200);
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
    let (gateway, alice) = server();
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

/// Calls the admin API as an administrator.
struct Admin<'a> {
    gateway: &'a Gateway,
    token: String,
}

impl<'a> Admin<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Self { gateway, token: gateway.token_with("root", &["--scope", "admin"]) }
    }

    fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let body = body.map(|value| value.to_string().into_bytes());
        let path = format!("/api/v1/admin/{path}");
        self.gateway.client().call(method, &path, body, &self.token)
    }

    #[track_caller]
    fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        self.call(method, path, body).assert_status(200).json()
    }
}

/// The lines of that table, as its words have them.
fn documented() -> Vec<(String, String)> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let (_, table) = text.split_once("## Administration").unwrap();
    let rows = table.lines().skip_while(|l| !l.starts_with('|')).take_while(|l| l.starts_with('|'));
    let cells = rows.skip(2).map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    });
    cells.collect()
}

#[test]
fn every_row_of_the_readme_is_proven() {
    let proven = [
        ("health", "GET /readyz"),
        ("", "GET /api/v1/me"),
        ("init", ""),
        ("user add", "POST /api/v1/admin/users"),
        ("user list", "GET /api/v1/admin/users"),
        ("user show", "GET /api/v1/admin/users/{login}"),
        ("user disable", "DELETE /api/v1/admin/users/{login}"),
        ("user enable", "PUT /api/v1/admin/users/{login}/enable"),
        ("role grant", "PUT /api/v1/admin/users/{login}/role"),
        ("role revoke", "DELETE /api/v1/admin/users/{login}/role"),
        ("team add", "PUT /api/v1/admin/teams/{team}/members"),
        ("team remove", "DELETE /api/v1/admin/teams/{team}"),
        ("team rename", "PUT /api/v1/admin/teams/{team}/name"),
        ("team list", "GET /api/v1/admin/teams"),
        ("owner set", "PUT /api/v1/admin/crates/{name}/owners"),
        ("owner list", "GET /api/v1/crates/{name}/owners"),
        ("creators add", "PUT /api/v1/admin/creators/{pattern}"),
        ("creators remove", "DELETE /api/v1/admin/creators/{pattern}"),
        ("creators list", "GET /api/v1/admin/creators"),
        ("crate restrict", "PUT /api/v1/admin/restrictions/{pattern}"),
        ("crate open", "DELETE /api/v1/admin/restrictions/{pattern}"),
        ("crate list", "GET /api/v1/admin/restrictions"),
        ("admin link", ""),
        ("token create", "POST /api/v1/admin/tokens"),
        ("token list", "GET /api/v1/admin/tokens"),
        ("token revoke", "DELETE /api/v1/admin/tokens/{id}"),
        ("token rotate", "POST /api/v1/admin/tokens/{id}/rotate"),
        ("", "/api/v1/me/tokens"),
        ("", "DELETE /api/v1/tokens/current"),
        ("", "POST /api/v1/tokens/report"),
        ("remove", "DELETE /api/v1/admin/crates/{name}/{version}"),
        ("gc", "POST /api/v1/admin/gc"),
        ("mirror refresh", "POST /api/v1/admin/mirror/{name}/refresh"),
        ("mirror purge", "POST /api/v1/admin/mirror/{name}/purge"),
        ("pin show", "GET /api/v1/admin/pins/{name}/{version}"),
        ("pin correct", "PUT /api/v1/admin/pins/{name}/{version}"),
        ("prefetch", "POST /api/v1/admin/prefetch"),
        ("names audit", "GET /api/v1/admin/names/audit"),
        ("policy check", "POST /api/v1/policy/check"),
        ("policy diff", "POST /api/v1/admin/policy/try"),
        ("policy waivers", "GET /api/v1/policy/waivers"),
        ("advisories fetch", "POST /api/v1/admin/advisories/fetch"),
        ("advisories show", "GET /api/v1/admin/advisories"),
        ("journal show", "GET /api/v1/admin/journal"),
        ("pulls", "GET /api/v1/admin/pulls"),
        ("store copy", ""),
        ("checkpoint", "POST /api/v1/admin/checkpoints"),
        ("format show", "GET /api/v1/admin/format"),
        ("format enable", "PUT /api/v1/admin/format"),
        ("journal verify", "POST /api/v1/admin/journal/verify"),
        ("doctor", "GET /api/v1/admin/doctor"),
        ("completions", ""),
    ];
    let rows = documented();
    assert_eq!(rows.len(), proven.len(), "{rows:?}");
    for ((shell, https), (command, call)) in rows.iter().zip(proven) {
        assert!(shell.trim_start_matches('`').starts_with(command), "{shell}");
        assert!(command.is_empty() == shell.is_empty(), "{shell}");
        assert!(https.is_empty() == call.is_empty() && https.contains(call), "{https}");
    }
}

#[test]
fn users_come_and_go_in_both_ways() {
    let gateway = Gateway::start();
    let admin = Admin::of(&gateway);
    let seen = |login: &str, state: &str| {
        let list = gateway.cli_ok(&["user", "list"]);
        let line = list.lines().find(|line| line.split('\t').nth(1) == Some(login));
        assert!(line.is_some_and(|line| line.ends_with(state)), "{login}: {list}");
        until("it is seen over HTTPS", || {
            let users = admin.ok(Method::GET, "users", None);
            let user = users.as_array().unwrap().iter().find(|u| u["login"] == login).cloned();
            user.is_some_and(|user| user["disabled"] == (state == "disabled"))
        });
    };
    assert!(gateway.cli_ok(&["user", "add", "alice"]).contains("alice"));
    let bob = admin.ok(Method::POST, "users", Some(json!({ "login": "bob" })));
    assert!(bob["id"].is_u64() && bob["login"] == "bob" && bob["disabled"] == false, "{bob}");
    ["alice", "bob"].iter().for_each(|login| seen(login, "active"));
    gateway.cli_ok(&["user", "disable", "bob"]);
    admin.ok(Method::DELETE, "users/alice", None);
    ["alice", "bob"].iter().for_each(|login| seen(login, "disabled"));
    for (body, status) in [
        (json!({ "login": "bob" }), 400),
        (json!({ "login": "a b" }), 400),
        (json!({ "name": "carol" }), 400),
        (json!("x".repeat(100_000)), 413),
    ] {
        admin.call(Method::POST, "users", Some(body)).assert_refused(status, "");
    }
    admin.call(Method::POST, "users", None).assert_refused(400, "JSON");
}

#[test]
fn tokens_come_and_go_in_both_ways() {
    let gateway = Gateway::start();
    let admin = Admin::of(&gateway);
    let limits = ["--name", "ci", "--scope", "read,yank", "--crate", "a-*", "--expires", "90d"];
    let shell = gateway.token_with("alice", &limits);
    let body = json!({
        "user": "alice", "name": "ci", "scopes": ["read", "yank"], "crates": ["a-*"],
        "expires": "90d",
    });
    let made = admin.ok(Method::POST, "tokens", Some(body));
    let https = made["token"].as_str().unwrap().to_owned();
    let list = admin.ok(Method::GET, "tokens?user=alice", None);
    let rows = list.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{list}");
    for row in rows {
        assert_eq!((&row["user"], &row["name"]), (&json!("alice"), &json!("ci")));
        assert_eq!(row["scopes"], json!(["read", "yank"]));
        assert_eq!(row["crates"], json!(["a-*"]));
        assert_eq!(row["revoked"], false);
        let day = |key: &str| row[key].as_str().unwrap()[..10].to_owned();
        assert!(day("expires") > day("created"), "{row}");
    }
    let shown = gateway.cli_ok(&["token", "list", "--user", "alice"]);
    assert_eq!(shown.matches("\tread,yank\ta-*\t20").count(), 2, "{shown}");
    assert!(!shown.contains(&shell) && !list.to_string().contains(&https));
    assert_eq!(admin.ok(Method::GET, "tokens", None).as_array().unwrap().len(), 3);
    admin.call(Method::GET, "tokens?user=nobody", None).assert_refused(404, "nobody");

    let counts = |token: &str| gateway.client().yank("none", "1.0.0", token).status != 401;
    assert!(counts(&shell) && counts(&https));
    let id = rows[0]["id"].to_string();
    gateway.cli_ok(&["token", "revoke", &id]);
    until("the revocation is seen", || !counts(&shell));
    admin.ok(Method::DELETE, &format!("tokens/{}", made["id"]), None);
    assert!(!counts(&https), "at once");
    admin.call(Method::DELETE, "tokens/99", None).assert_refused(404, "99");
    admin.call(Method::DELETE, "tokens/x", None).assert_refused(404, "");
    for wrong in [
        json!({ "user": "nobody" }),
        json!({ "user": "alice", "scopes": [] }),
        json!({ "user": "alice", "scopes": ["everything"] }),
        json!({ "user": "alice", "crates": ["a*b"] }),
        json!({ "user": "alice", "expires": "2020-01-01" }),
        json!({ "user": "alice", "expires": "soon" }),
        json!({ "user": "alice", "scope": "read" }),
    ] {
        admin.call(Method::POST, "tokens", Some(wrong)).assert_refused(400, "");
    }
}

#[test]
fn a_version_is_removed_and_the_journal_looked_at_over_https() {
    let (gateway, token) = server();
    let admin = Admin::of(&gateway);
    let head = admin.ok(Method::GET, "journal/head", None);
    let path = "crates/foo/1.0.0";
    admin.call(Method::DELETE, path, None).assert_refused(400, "JSON");
    admin.call(Method::DELETE, path, Some(json!({}))).assert_refused(400, "reason");
    admin.call(Method::DELETE, path, Some(json!({ "reason": "" }))).assert_refused(400, "reason");
    admin.ok(Method::DELETE, path, Some(json!({ "reason": "leaked a key" })));
    gateway.client().download("foo", "1.0.0").assert_status(404);
    gateway.client().publish(&foo(), &token).assert_refused(400, "");
    let again = admin.call(Method::DELETE, path, Some(json!({ "reason": "x" })));
    again.assert_refused(404, "1.0.0");
    let after = admin.ok(Method::GET, "journal/head", None);
    assert_eq!(after["seq"].as_u64(), head["seq"].as_u64().map(|seq| seq + 1));
    let verified = gateway.cli_ok(&["journal", "verify"]);
    let hash = after["sha256"].as_str().unwrap();
    assert!(verified.contains(&format!("entry {} ({hash})", after["seq"])), "{verified}");
    assert!(gateway.admin().get("/").text().contains(hash));
}

/// Puts an entry behind the journal's last one, as a replica of a later release would.
fn append_from_a_later_release(gateway: &Gateway, event: Value) -> u64 {
    let last = gateway.stored("journal").pop().unwrap();
    let bytes = gateway.stored_bytes(&last);
    let entry: Value = serde_json::from_slice(&bytes).unwrap();
    let seq = entry["seq"].as_u64().unwrap() + 1;
    let entry = json!({
        "seq": seq, "id": "00".repeat(16), "prev": sha256(&bytes),
        "time": "2030-01-01T00:00:00Z", "replica": "later", "events": [event],
    });
    let path = gateway.data().join(format!("store/journal/{seq:020}.json"));
    std::fs::write(path, entry.to_string()).unwrap();
    seq
}

#[test]
fn a_format_level_is_enabled_only_where_it_is_known_and_stops_who_does_not_know_it() {
    let (mut gateway, token) = server();
    let levels = "format level 2 is enabled; this release knows levels up to 2";
    assert_eq!(gateway.cli_ok(&["format", "show"]), levels);
    let lower = gateway.cli(&["format", "enable", "1"]);
    assert!(String::from_utf8(lower.stderr).unwrap().contains("there is no way back"));
    assert!(gateway.cli_ok(&["format", "enable", "2"]).contains("already enabled"));
    let refused = gateway.cli(&["format", "enable", "3"]);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("this release knows format levels up to 2"), "{said}");
    let level = |what| gateway.metric("cratehouse_journal_format_level", &[("level", what)]);
    assert_eq!((level("enabled"), level("known")), (2.0, 2.0));

    let event = json!({ "by": "operator", "event": "level_enabled", "level": 3 });
    let seq = append_from_a_later_release(&gateway, event);
    let why = format!("journal entry {seq} enables format level 3");
    let ready = || gateway.admin().get("/readyz");
    until("it is not ready any more", || ready().status == 503);
    assert!(ready().text().contains(&why), "{}", ready());
    let alarm = [("alarm", "release_too_old")];
    assert_eq!(gateway.metric("cratehouse_alarms_total", &alarm), 1.0);
    until("it knows that it is behind", || {
        gateway.metric("cratehouse_journal_lag_seconds", &[]) > 0.0
    });
    gateway.client().publish(&Krate::new("bar", "1.0.0"), &token).assert_refused(503, &why);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    assert_eq!(gateway.stored("journal").len() as u64, seq, "nothing is put behind it");

    gateway.stop();
    gateway.spawn();
    assert!(!gateway.wait().success());
    assert!(gateway.log_contains("upgrade this replica"), "{}", gateway.log());
    assert!(!gateway.cli(&["user", "list"]).status.success());
}

#[test]
fn the_mirror_and_the_names_are_looked_after_over_https() {
    let upstream = Upstream::with(&[foo()]);
    let config = UpstreamConfig::from(&upstream).fresh_seconds(3600);
    let gateway = Gateway::mirroring(config);
    let admin = Admin::of(&gateway);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    upstream.publish(&Krate::new("foo", "1.1.0"));
    let told = admin.ok(Method::POST, "mirror/foo/refresh", None);
    assert!(told["ok"] == true && told["msg"].is_string(), "{told}");
    assert_eq!(gateway.client().index("foo").lines().len(), 2);
    admin.ok(Method::POST, "mirror/foo/purge?version=1.0.0", None);
    assert!(gateway.stored("blobs/mirror").is_empty());
    admin.ok(Method::POST, "mirror/foo/purge", None);
    assert!(gateway.stored("mirror").iter().all(|path| !path.contains("/index/")));
    let purge = admin.call(Method::POST, "mirror/foo/purge?version=1", None);
    purge.assert_refused(400, "version");

    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("in-house", "1.0.0"), &token).assert_status(200);
    assert_eq!(admin.ok(Method::GET, "names/audit", None), json!([]));
    upstream.publish(&Krate::new("in_house", "9.9.9"));
    let clashes = admin.ok(Method::GET, "names/audit", None);
    let wanted = json!([{ "name": "in-house", "upstream": "main", "spelling": "in_house" }]);
    assert_eq!(clashes, wanted);
}
