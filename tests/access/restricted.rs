//! Restricted crates: for who may not read them they do not exist, on every path.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::Reply;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Dep, Krate, index_path};
use cratehouse_tests::patience::until;
use reqwest::Method;
use serde_json::json;

use super::organisation::{ABSENT, HIDDEN, OPEN, Organisation, PUBLIC, PUBLIC_HIDDEN};

fn organisation() -> Organisation {
    Organisation::new(Gateway::builder().auth_required())
}

/// Every request that names a crate, with its body.
fn requests(name: &str) -> Vec<(Method, String, String)> {
    let get = |path: String| (Method::GET, path, String::new());
    let body = r#"{"users":["stan"]}"#.to_owned();
    let lock = format!(
        "version = 3\n\n[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n"
    );
    vec![
        get(format!("/index/{}", index_path(name))),
        get(format!("/crates-io/index/{}", index_path(name))),
        get(format!("/api/v1/crates/{name}/1.0.0/download")),
        get(format!("/api/v1/crates/{name}/2.0.0/download")),
        get(format!("/api/v1/crates?q={name}")),
        get(format!("/api/v1/crates/{name}/owners")),
        get(format!("/api/v1/admin/pulls?crate={name}")),
        get(format!("/api/v1/policy/explain/{name}")),
        get(format!("/api/v1/policy/explain/{name}/1.0.0")),
        (Method::POST, "/api/v1/policy/check".to_owned(), lock),
        (Method::DELETE, format!("/api/v1/crates/{name}/1.0.0/yank"), String::new()),
        (Method::PUT, format!("/api/v1/crates/{name}/1.0.0/unyank"), String::new()),
        (Method::PUT, format!("/api/v1/crates/{name}/owners"), body.clone()),
        (Method::DELETE, format!("/api/v1/crates/{name}/owners"), body),
    ]
}

/// What a reply says, but for the name that was asked for and what no two replies share.
fn said(reply: &Reply, name: &str) -> String {
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id" | "content-length"))
        .map(|(name, value)| format!("{name}: {}", value))
        .collect();
    headers.sort();
    let text = reply.text();
    format!("{} {headers:?} {}", reply.status, text.replace(name, "NAME"))
}

#[test]
fn to_who_may_not_read_it_a_restricted_crate_is_absent_by_status_headers_and_words() {
    let organisation = organisation();
    let client = organisation.gateway.client();
    for who in ["stranger", "administrator", "auditor"] {
        let token = organisation.token(who);
        for (hidden, absent) in [(HIDDEN, ABSENT), (PUBLIC_HIDDEN, "public-absent")] {
            for (asked, other) in requests(hidden).into_iter().zip(requests(absent)) {
                let ask = |(method, path, body): (Method, String, String)| {
                    let body = (!body.is_empty()).then(|| body.into_bytes());
                    client.call(method, &path, body, token)
                };
                let what = format!("{who}: {} {}", asked.0, asked.1);
                let (mine, theirs) = (ask(asked), ask(other));
                assert_eq!(said(&mine, hidden), said(&theirs, absent), "{what}");
                assert!(!mine.text().contains("1.0.0\",\"cksum"), "{what}");
            }
        }
    }
}

#[test]
fn its_owners_their_team_and_its_readers_read_it_in_every_form_of_their_token() {
    let organisation = organisation();
    let client = organisation.gateway.client();
    let reads = |who: &str, name: &str| {
        let token = organisation.token(who);
        let index = client.get_as(&format!("/index/{}", index_path(name)), token);
        let download = client.get_as(&format!("/api/v1/crates/{name}/1.0.0/download"), token);
        assert_eq!(index.status, download.status, "{who} {name}");
        if index.status == 200 {
            for reply in [&index, &download] {
                assert!(reply.header("cache-control").unwrap().contains("private"), "{reply}");
            }
        }
        index.status == 200
    };
    for (who, hidden, public_hidden) in [
        ("owner", true, false),
        ("member of an owning team", true, true),
        ("reader", true, true),
        ("stranger", false, false),
        ("administrator", false, false),
        ("auditor", false, false),
    ] {
        assert_eq!(
            (reads(who, HIDDEN), reads(who, PUBLIC_HIDDEN)),
            (hidden, public_hidden),
            "{who}"
        );
        assert!(reads(who, OPEN) && reads(who, PUBLIC), "{who}");
        let found = client.get_as("/api/v1/crates?q=hidden", organisation.token(who)).json();
        let total = u64::from(hidden) + u64::from(public_hidden);
        assert_eq!(found["meta"]["total"], total, "{who}: {found}");
    }
}

#[test]
fn who_lost_access_gets_no_304_and_no_bytes_from_then_on() {
    let organisation = organisation();
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let rita = organisation.token("reader");
    let (index, download) = (
        format!("/index/{}", index_path(HIDDEN)),
        format!("/api/v1/crates/{HIDDEN}/1.0.0/download"),
    );
    let etags: Vec<_> = [&index, &download]
        .map(|path| client.get_as(path, rita).assert_status(200).header("etag").unwrap().to_owned())
        .into();
    let again = |path: &str, etag: &str| {
        client.get_with(path, &[("authorization", rita), ("if-none-match", etag)]).status
    };
    assert_eq!([again(&index, &etags[0]), again(&download, &etags[1])], [304, 304]);
    gateway.cli_ok(&["crate", "restrict", HIDDEN, "--remove-reader", "rita"]);
    until("it is no more", || again(&index, &etags[0]) == 404);
    assert_eq!([again(&index, &etags[0]), again(&download, &etags[1])], [404, 404]);
    gateway.cli_ok(&["crate", "open", HIDDEN]);
    until("it is open", || again(&index, &etags[0]) == 304);
}

#[test]
fn no_spelling_of_a_restricted_name_tells_that_it_is_taken() {
    let organisation = organisation();
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    gateway.cli_ok(&["creators", "add", "acme-*", "user:olga"]);
    let stan = organisation.token("stranger");
    until("the rule is known", || {
        client.publish(&Krate::new("acme-new", "1.0.0"), stan).status == 403
    });
    let refused = |name: &str| {
        let reply = client.publish(&Krate::new(name, "9.0.0"), stan).assert_status(403);
        reply.details().replace(name, "NAME")
    };
    let words = refused("acme-nobody-has-it");
    for spelling in [HIDDEN, "acme_hidden", "Acme-Hidden", "ACME_hidden"] {
        assert_eq!(refused(spelling), words, "{spelling}");
    }
    // Who owns it hears how it is spelled.
    let olga = client.publish(&Krate::new("acme_hidden", "9.0.0"), organisation.token("owner"));
    olga.assert_refused(400, "acme-hidden");
}

#[test]
fn a_dependency_on_a_restricted_crate_is_absent_and_an_open_one_on_it_is_warned_of() {
    let organisation = organisation();
    let client = organisation.gateway.client();
    let ours = organisation.gateway.index_url();
    let app = |dep: &str, version: &str| {
        Krate::new("acme-app", version).with(Dep::new(dep, "1").registry_index(&ours))
    };
    let stan = organisation.token("stranger");
    let refused = |dep: &str| {
        client.publish(&app(dep, "1.0.0"), stan).assert_status(400).details().replace(dep, "NAME")
    };
    assert_eq!(refused(HIDDEN), refused(ABSENT));
    let olga = organisation.token("owner");
    let warned = client.publish(&app(HIDDEN, "1.0.0"), olga).assert_status(200).json();
    let warned = warned["warnings"]["other"].to_string();
    assert!(warned.contains("which is restricted"), "{warned}");
    let restricted = organisation.gateway.cli(&["crate", "restrict", OPEN]);
    assert!(restricted.status.success());
    let told = organisation.gateway.cli(&["crate", "restrict", HIDDEN, "--reader", "stan"]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("the open crate `acme-app` depends on `acme-hidden`"), "{told}");
}

#[test]
fn where_reads_are_open_restricted_crates_exist_for_nobody_who_reads() {
    let organisation = Organisation::new(Gateway::builder());
    let client = organisation.gateway.client();
    for token in [organisation.token("owner"), organisation.token("reader"), "of-another"] {
        client.get_as(&format!("/index/{}", index_path(HIDDEN)), token).assert_status(404);
        client.get_as(&format!("/api/v1/crates/{HIDDEN}/1.0.0/download"), token).assert_status(404);
        client.get_as(&format!("/api/v1/crates/{HIDDEN}/owners"), token).assert_status(404);
        let found = client.get_as("/api/v1/crates?q=hidden", token).json();
        assert_eq!(found["meta"]["total"], 0);
    }
    // What shows a token goes on.
    client.yank(HIDDEN, "1.0.0", organisation.token("owner")).assert_status(200);
    client.yank(HIDDEN, "1.0.0", organisation.token("stranger")).assert_status(404);
    let checked = organisation.gateway.cli_ok(&["config", "check", "--connect"]);
    assert!(checked.contains("there are 2, and `auth.required` is off"), "{checked}");
    let told = organisation.gateway.cli(&["crate", "restrict", "other-*"]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("restricted crates exist for nobody"), "{told}");
}

#[test]
fn the_real_cargo_builds_with_it_for_its_readers_and_finds_no_such_crate_for_others() {
    let organisation = organisation();
    let build = |who: &str| {
        let project = Project::new("app").ours(HIDDEN, "1").write();
        let cargo = Cargo::new(&organisation.gateway).token(organisation.token(who));
        cargo.run(&project, &["fetch"])
    };
    for who in ["owner", "member of an owning team", "reader"] {
        build(who).assert_ok();
    }
    build("stranger").assert_err("no matching package named `acme-hidden` found");
}

#[test]
fn a_token_that_reads_some_crates_alone_finds_no_others() {
    let organisation = organisation();
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let narrow = gateway.token_with("olga", &["--read-only-crates", "acme-*"]);
    let status =
        |name: &str| client.get_as(&format!("/index/{}", index_path(name)), &narrow).status;
    assert_eq!([status(OPEN), status(HIDDEN), status(PUBLIC)], [200, 200, 404]);
    let me = client.get_as("/api/v1/me", &narrow).json();
    assert_eq!(me["token"]["read_only_crates"], json!(["acme-*"]));
}

/// A name that resembles a hidden one is refused without naming that, and the name of a mirrored one without asking for it.
#[test]
fn what_resembles_a_restricted_name_or_is_one_of_an_upstream_is_refused_without_a_hint() {
    let policy = tempfile::tempdir().unwrap();
    std::fs::write(policy.path().join("names.toml"), "[names]\n").unwrap();
    let builder = Gateway::builder().auth_required();
    let folder = format!("dir = {:?}", policy.path());
    let organisation = Organisation::new(builder.set("policy", &folder));
    let client = organisation.gateway.client();
    let publish =
        |name: &str, who: &str| client.publish(&Krate::new(name, "1.0.0"), organisation.token(who));
    for name in ["acme-hiden", PUBLIC_HIDDEN] {
        let told = publish(name, "stranger").assert_status(403).details();
        assert!(
            told.contains("you may not create a crate named") && !told.contains(HIDDEN),
            "{told}"
        );
    }
    let told = publish("acme-hiden", "reader").assert_status(400).details();
    assert!(told.contains(HIDDEN), "{told}");
}
