//! What an attacker tries: each is refused, and nothing has changed by it.

use cratehouse_tests::client::base64;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, index_path};
use cratehouse_tests::patience::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::organisation::{HIDDEN, OPEN, Organisation};

fn closed() -> Organisation {
    let builder = Gateway::builder().auth_required();
    Organisation::new(builder.set("limits", "failed_credentials = 1000000"))
}

#[test]
fn a_token_counts_in_its_header_alone_and_once() {
    let organisation = closed();
    let (client, olga) = (organisation.gateway.client(), organisation.token("owner").to_owned());
    let path = format!("/index/{}", index_path(OPEN));
    let cookie = format!("token={olga}; Authorization={olga}");
    for headers in [
        &[("cookie", cookie.as_str())][..],
        &[("x-authorization", &olga), ("proxy-authorization", &olga)],
        &[("authorization", &olga), ("authorization", &olga)],
        &[("authorization", &olga), ("authorization", "Bearer other")],
    ] {
        client.get_with(&path, headers).assert_status(401);
    }
    for query in [format!("?token={olga}"), format!("?authorization={olga}&access_token={olga}")] {
        client.get(&format!("{path}{query}")).assert_status(401);
    }
    let as_login = format!("Basic {}", base64(&format!("{olga}:")));
    client.get_with(&path, &[("authorization", &as_login)]).assert_status(401);
    client.get_as(&path, &olga).assert_status(200);
}

/// In each of its 2^n spellings with dashes, underscores and cases.
#[test]
fn a_restricted_name_is_absent_in_every_spelling() {
    let organisation = closed();
    let (client, stan) = (organisation.gateway.client(), organisation.token("stranger"));
    let spellings = (0..64u32).map(|bits| {
        let mut nth = 0;
        let letter = |c: char| {
            let is_set = bits >> (nth % 6) & 1 == 1;
            nth += 1;
            match (c, is_set) {
                ('-', true) => '_',
                (c, true) => c.to_ascii_uppercase(),
                (c, false) => c,
            }
        };
        HIDDEN.chars().map(letter).collect::<String>()
    });
    let mut asked = std::collections::BTreeSet::from([HIDDEN.to_owned()]);
    asked.extend(spellings);
    assert_eq!(asked.len(), 64, "{asked:?}");
    for name in &asked {
        for path in [
            format!("/index/{}", index_path(name)),
            format!("/api/v1/crates/{name}/1.0.0/download"),
            format!("/api/v1/crates/{name}/owners"),
            format!("/api/v1/policy/explain/{name}"),
        ] {
            client.get_as(&path, stan).assert_status(404);
        }
        client.yank(name, "1.0.0", stan).assert_status(404);
    }
}

#[test]
fn a_reader_who_is_removed_while_a_download_is_under_way_gets_no_other() {
    let organisation = closed();
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let rita = organisation.token("reader").to_owned();
    let path = format!("/api/v1/crates/{HIDDEN}/1.0.0/download");
    let etag = client.get_as(&path, &rita).assert_status(200).header("etag").unwrap().to_owned();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                statuses.push(client.get_as(&path, &rita).status);
            }
            statuses
        });
        gateway.cli_ok(&["crate", "restrict", HIDDEN, "--remove-reader", "rita"]);
        until("it is gone", || gateway.client().get_as(&path, &rita).status == 404);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let statuses = reading.join().unwrap();
        let (allowed, refused) =
            statuses.split_at(statuses.iter().take_while(|s| **s == 200).count());
        assert!(refused.iter().all(|status| *status == 404), "{refused:?}");
        assert!(!allowed.is_empty() || !refused.is_empty());
    });
    let headers =
        [("authorization", rita.as_str()), ("if-none-match", &etag), ("range", "bytes=0-9")];
    client.get_with(&path, &headers).assert_status(404);
}

#[test]
fn a_service_account_takes_no_place_of_a_person() {
    let organisation = closed();
    let gateway = &organisation.gateway;
    gateway.cli_ok(&["user", "add", "robot", "--service"]);
    let journal = gateway.stored("journal").len();
    for args in [
        &["role", "grant", "robot", "admin"][..],
        &["role", "grant", "robot", "auditor"],
        &["token", "create", "--user", "robot", "--scope", "admin"],
    ] {
        let refused = gateway.cli(args);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && told.contains("service account"), "{args:?}: {told}");
    }
    assert_eq!(gateway.stored("journal").len(), journal, "nothing has changed");
}

#[test]
fn ten_thousand_teams_slow_nobody_down() {
    let organisation = closed();
    let (client, ada) = (organisation.gateway.client(), organisation.token("administrator"));
    let body = json!({ "users": ["stan", "rita"] }).to_string().into_bytes();
    // As many as a test can wait for; the simulation and the benchmarks have more.
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (client, body) = (&client, &body);
            scope.spawn(move || {
                for n in 0..125 {
                    let path = format!("/api/v1/admin/teams/team-{worker}-{n}/members");
                    client.call(Method::PUT, &path, Some(body.clone()), ada).assert_status(200);
                }
            });
        }
    });
    let teams = client.get_as("/api/v1/admin/teams", ada).assert_status(200).json();
    assert_eq!(teams.as_array().unwrap().len(), 1001);
    let shown = client.get_as("/api/v1/admin/users/stan", ada).assert_status(200).json();
    assert_eq!(shown["teams"].as_array().unwrap().len(), 1000);
    client
        .get_as(&format!("/index/{}", index_path(HIDDEN)), organisation.token("reader"))
        .assert_status(200);
    client
        .get_as(&format!("/index/{}", index_path(HIDDEN)), organisation.token("stranger"))
        .assert_status(404);
}

/// At the level of tracing that tells the most, in all that leaves the process.
#[test]
fn no_secret_stands_in_logs_errors_metrics_the_store_or_answers() {
    let gateway = Gateway::builder().auth_required().set("log", "filter = \"trace\"").start();
    let client = gateway.client();
    let admin = gateway.token_with("ada", &["--scope", "read,publish-new,tokens,admin"]);
    let body = json!({ "api_token": { "name": "ci" } }).to_string().into_bytes();
    let made = client.call(Method::PUT, "/api/v1/me/tokens", Some(body), &admin).assert_status(200);
    let own = made.json()["api_token"]["token"].as_str().unwrap().to_owned();
    let rotated = gateway.cli_ok(&["token", "rotate", "1", "--overlap", "1h"]);
    client.publish(&Krate::new("foo", "1.0.0"), &own).assert_status(200);
    let mut said = String::new();
    for path in [
        "me",
        "me/tokens",
        "admin/tokens",
        "admin/users/ada",
        "admin/journal",
        "admin/pulls?crate=foo",
    ] {
        said += &client.get_as(&format!("/api/v1/{path}"), &admin).text();
    }
    client.get_as("/index/3/f/foo", &format!("{own}x")).assert_status(401);
    let report: Value = json!([{ "token": own, "type": "t", "url": "https://example.com" }]);
    client
        .send(Method::POST, "/api/v1/tokens/report", &[], Some(report.to_string().into_bytes()))
        .assert_status(200);
    said += &client.get_as("/index/3/f/foo", &own).assert_status(401).text();
    said += &gateway.admin().get("/metrics").text();
    said += &gateway.cli_ok(&["journal", "show", "--json"]);
    said += &gateway.cli_ok(&["token", "list", "--json"]);
    said += &gateway.log();
    for path in gateway.stored("") {
        said += &String::from_utf8_lossy(&gateway.stored_bytes(&path));
    }
    for secret in [&admin, &own, &rotated] {
        // Neither it nor the part that cannot be guessed.
        assert!(!said.contains(secret.as_str()) && !said.contains(&secret[6..30]), "{secret}");
    }
    assert!(said.contains("foo"), "something was looked at");
}
