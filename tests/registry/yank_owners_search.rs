//! Yanking, owners, and search, as cargo's web API has them.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::{Client, Reply};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;
use serde_json::json;

/// A gateway with `foo` 1.0.0 and 1.1.0 by alice, and her token.
fn server() -> (Gateway, Client, String) {
    let gateway = Gateway::start();
    let (client, token) = (gateway.client(), gateway.token("alice"));
    for version in ["1.0.0", "1.1.0"] {
        client.publish(&Krate::new("foo", version), &token).assert_status(200);
    }
    (gateway, client, token)
}

fn assert_ok(reply: &Reply) {
    assert_eq!(reply.status, 200, "{reply}");
    assert_eq!(reply.json()["ok"], true, "{reply}");
}

#[test]
fn a_yanked_version_is_avoided_by_new_resolutions_alone() {
    covers!(74);
    let (gateway, client, token) = server();
    for _ in 0..2 {
        assert_ok(&client.yank("foo", "1.1.0", &token));
        assert_eq!(client.index("foo").line("1.1.0")["yanked"], true);
    }
    assert_eq!(client.index("foo").line("1.0.0")["yanked"], false);
    client.download("foo", "1.1.0").assert_status(200);
    let project = Project::new("app").ours("foo", "1").write();
    Cargo::new(&gateway).run(&project, &["generate-lockfile"]).assert_ok();
    assert!(project.lock().contains("version = \"1.0.0\""), "{}", project.lock());
}

#[test]
fn unyank_takes_any_content_type_or_none() {
    covers!(75);
    let (gateway, client, token) = server();
    for kind in [None, Some("application/json"), Some("application/octet-stream")] {
        assert_ok(&client.yank("foo", "1.1.0", &token));
        let mut headers = vec![("authorization", token.as_str())];
        headers.extend(kind.map(|kind| ("content-type", kind)));
        let path = "/api/v1/crates/foo/1.1.0/unyank";
        assert_ok(&client.send(Method::PUT, path, &headers, Some(Vec::new())));
        assert_eq!(client.index("foo").line("1.1.0")["yanked"], false);
    }
    let project = Project::new("app").ours("foo", "=1.1.0").write();
    Cargo::new(&gateway).run(&project, &["fetch"]).assert_ok();
}

#[test]
fn what_is_not_there_cannot_be_yanked() {
    let (_gateway, client, token) = server();
    client.yank("foo", "9.0.0", &token).assert_refused(404, "9.0.0");
    client.yank("bar", "1.0.0", &token).assert_refused(404, "bar");
    client.unyank("foo", "9.0.0", &token).assert_refused(404, "9.0.0");
}

#[test]
fn a_mirrored_crate_cannot_be_yanked_here() {
    covers!(76);
    let upstream = Upstream::with(&[Krate::new("serde", "1.0.0")]);
    let gateway = Gateway::mirroring(&upstream);
    let (client, token) = (gateway.client(), gateway.token("alice"));
    let line = client.index("serde").body;
    for reply in [client.yank("serde", "1.0.0", &token), client.unyank("serde", "1.0.0", &token)] {
        assert!([403, 404].contains(&reply.status), "{reply}");
        assert!(!reply.details().is_empty());
    }
    let reply = client.owners(Method::PUT, "serde", &["alice"], &token);
    assert!([403, 404].contains(&reply.status), "{reply}");
    assert_eq!(client.index("serde").body, line);
}

#[test]
fn owners_have_a_number_and_a_login() {
    covers!(77);
    let (gateway, client, token) = server();
    let reply = client.get_as("/api/v1/crates/foo/owners", &token).assert_status(200);
    let users = reply.json()["users"].clone();
    assert_eq!(users.as_array().map(Vec::len), Some(1));
    assert_eq!(users[0]["login"], "alice");
    assert!(users[0]["id"].as_u64().is_some_and(|id| u32::try_from(id).is_ok()), "{users}");
    let folder = Project::new("app").write();
    let args = ["owner", "--list", "foo", "--registry", "cratehouse"];
    Cargo::new(&gateway).token(&token).run(&folder, &args).assert_ok().assert_says("alice");
}

#[test]
fn owners_come_and_go_and_the_last_one_stays() {
    covers!(78, 79);
    let (gateway, client, alice) = server();
    let bob = gateway.token("bob");
    let said = |reply: Reply| {
        assert_ok(&reply);
        reply.json()["msg"].as_str().unwrap_or_else(|| panic!("no msg: {reply}")).to_owned()
    };
    client.owners(Method::PUT, "foo", &["bob"], &bob).assert_refused(403, "owner");
    client.owners(Method::PUT, "foo", &["nobody"], &alice).assert_refused(400, "nobody");
    assert!(said(client.owners(Method::PUT, "foo", &["bob"], &alice)).contains("bob"));
    client.publish(&Krate::new("foo", "2.0.0"), &bob).assert_status(200);
    said(client.owners(Method::DELETE, "foo", &["alice"], &bob));
    client.publish(&Krate::new("foo", "2.1.0"), &alice).assert_refused(403, "owner");
    client.owners(Method::DELETE, "foo", &["alice"], &bob).assert_refused(400, "alice");
    let last = client.owners(Method::DELETE, "foo", &["bob"], &bob);
    assert!((400..500).contains(&last.status), "{last}");
    assert!(last.details().contains("owner"), "{last}");
    let users = client.get_as("/api/v1/crates/foo/owners", &bob).json()["users"].clone();
    assert_eq!(users[0]["login"], "bob");
    for body in ["", "{}", "{\"users\":[]}", "[", "{\"users\":\"bob\"}"] {
        let path = "/api/v1/crates/foo/owners";
        let reply = client.call(Method::PUT, path, Some(body.into()), &bob);
        assert_eq!(reply.status, 400, "{body}: {reply}");
    }
}

#[test]
fn both_owners_cannot_leave_at_once() {
    covers!(79);
    let (gateway, client, alice) = server();
    let bob = gateway.token("bob");
    assert_ok(&client.owners(Method::PUT, "foo", &["bob"], &alice));
    let both = client.owners(Method::DELETE, "foo", &["alice", "bob"], &alice);
    assert!((400..500).contains(&both.status), "{both}");
    std::thread::scope(|scope| {
        scope.spawn(|| client.owners(Method::DELETE, "foo", &["alice"], &alice));
        scope.spawn(|| client.owners(Method::DELETE, "foo", &["bob"], &bob));
    });
    let left = client.get_as("/api/v1/crates/foo/owners", &alice).json()["users"].clone();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
}

#[test]
fn search_finds_names_and_descriptions() {
    covers!(80);
    let (_gateway, client, token) = server();
    for n in 0..12 {
        let krate = Krate::new(&format!("corp-tool-{n}"), "1.0.0")
            .package("description", format!("Polishes the brass & glass, part {n}"));
        client.publish(&krate, &token).assert_status(200);
    }
    let newer = Krate::new("corp-tool-0", "1.2.0-rc.1");
    let newer = newer.package("description", "Polishes the brass & glass, part 0");
    client.publish(&newer, &token).assert_status(200);
    let search = |query: &str| client.get(&format!("/api/v1/crates?{query}")).assert_status(200);
    let found = |query: &str| {
        let json = search(query).json();
        let total = u32::try_from(json["meta"]["total"].as_u64().unwrap()).unwrap();
        (json["crates"].as_array().unwrap().len(), total)
    };
    assert_eq!(found("q=corp-tool&per_page=100"), (12, 12));
    assert_eq!(found("q=corp-tool"), (10, 12), "ten without per_page");
    assert_eq!(found("q=corp-tool&per_page=3"), (3, 12));
    assert_eq!(found("q=corp_TOOL&per_page=100"), (12, 12));
    assert_eq!(found("q=the+brass+%26+glass&per_page=100").1, 12);
    assert_eq!(found("q=nothing-like-it"), (0, 0));
    assert!(found("q=&per_page=100").1 >= 13);
    assert!(found("q=corp&per_page=100000").0 <= 100);
    let page = |nth: u32| -> Vec<String> {
        let json = search(&format!("q=corp-tool&per_page=5&page={nth}")).json();
        assert_eq!(json["meta"]["total"], 12, "on every page");
        let names = json["crates"].as_array().unwrap().iter();
        names.map(|hit| hit["name"].as_str().unwrap().to_owned()).collect()
    };
    let pages = [1, 2, 3, 4].map(page);
    assert_eq!(pages.each_ref().map(Vec::len), [5, 5, 2, 0]);
    let all = search("q=corp-tool&per_page=100").json();
    let all: Vec<_> =
        all["crates"].as_array().unwrap().iter().map(|hit| hit["name"].clone()).collect();
    assert_eq!(pages.concat(), all, "in one order, each once");
    client.get("/api/v1/crates?q=x&page=0").assert_refused(400, "page");
    client.get("/api/v1/crates?q=x&per_page=100&page=101").assert_refused(400, "10000");
    search("q=%ff%00");
    client.get("/api/v1/crates?q=x&per_page=x").assert_refused(400, "per_page");
    let first = search("q=corp-tool-0").json()["crates"][0].clone();
    assert_eq!(first["name"], "corp-tool-0");
    assert_eq!(first["description"], "Polishes the brass & glass, part 0");
    assert!(first["max_version"].is_string());
}

#[test]
fn search_finds_what_was_mirrored_also_after_a_restart() {
    covers!(80);
    let upstream =
        Upstream::with(&[Krate::new("Serde-Like", "1.0.0"), Krate::new("unseen", "1.0.0")]);
    let mut gateway = Gateway::mirroring(&upstream);
    gateway.client().index("serde-like").assert_status(200);
    for round in ["before", "after"] {
        let search = |q: &str| gateway.client().get(&format!("/api/v1/crates?q={q}")).json();
        let found = search("serde");
        assert_eq!(found["meta"]["total"], 1, "{round}: {found}");
        assert_eq!(found["crates"][0]["max_version"], "1.0.0", "{round}: {found}");
        assert_eq!(search("unseen")["crates"], json!([]));
        gateway.restart_on_an_empty_disk();
    }
}

#[test]
fn a_crate_of_which_all_was_removed_is_gone_but_its_name_and_numbers_are_not_free() {
    let upstream = Upstream::with(&[Krate::new("later", "1.0.0")]);
    let gateway = Gateway::mirroring(&upstream);
    let (client, alice, bob) = (gateway.client(), gateway.token("alice"), gateway.token("bob"));
    let secret = Krate::new("foo", "1.0.0+build").package("description", "the password is hunter2");
    client.publish(&secret, &alice).assert_status(200);
    let project = Project::new("app").ours("foo", "1").write();
    Cargo::new(&gateway).run(&project, &["generate-lockfile"]).assert_ok();
    upstream.publish(&Krate::new("foo", "2.0.0"));
    upstream.forget_requests();

    let admin = gateway.token_with("root", &["--scope", "admin"]);
    let path = "/api/v1/admin/crates/foo/1.0.0+build";
    let body = |reason: &str| Some(json!({ "reason": reason }).to_string().into_bytes());
    client.call(Method::DELETE, path, body(" "), &admin).assert_refused(400, "why");
    let other = "/api/v1/admin/crates/foo/1.0.0";
    client.call(Method::DELETE, other, body("leaked"), &admin).assert_refused(404, "1.0.0+build");
    assert_ok(&client.call(Method::DELETE, path, body("leaked"), &admin));

    client.index("foo").assert_status(404);
    let gone = client.download("foo", "1.0.0+build").assert_status(404);
    assert!(gone.text().contains("removed by an administrator"), "{gone}");
    Cargo::new(&gateway).run(&project, &["fetch", "--locked"]).assert_err("foo");
    client.yank("foo", "1.0.0", &alice).assert_refused(404, "1.0.0");
    for query in ["foo", "hunter2"] {
        let found = client.get(&format!("/api/v1/crates?q={query}")).json();
        assert_eq!(found, json!({ "crates": [], "meta": { "total": 0 } }));
    }
    for version in ["1.0.0", "1.0.0+build", "1.0.0+other"] {
        client.publish(&Krate::new("foo", version), &alice).assert_refused(400, "burned");
    }
    client.publish(&Krate::new("foo", "1.1.0"), &bob).assert_refused(403, "owner");
    client.publish(&Krate::new("foo", "1.1.0"), &alice).assert_status(200);
    assert_eq!(client.index("foo").lines().len(), 1);
    assert_eq!(upstream.requests(), [], "the name is ours for ever");
}

#[test]
fn a_search_asks_no_upstream() {
    let upstream =
        Upstream::with(&[Krate::new("seen-one", "1.0.0"), Krate::new("seen-two", "1.1.0")]);
    let mut gateway = Gateway::mirroring(&upstream);
    for name in ["seen-one", "seen-two"] {
        gateway.client().index(name).assert_status(200);
    }
    gateway.restart();
    upstream.forget_requests();
    upstream.set(|s| s.down = true);
    let found = gateway.client().get("/api/v1/crates?q=seen").json();
    assert_eq!(found["meta"]["total"], 2, "{found}");
    assert_eq!(found["crates"][1]["max_version"], "1.1.0", "{found}");
    assert_eq!(upstream.requests(), []);
}
