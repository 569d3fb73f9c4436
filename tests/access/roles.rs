//! Principals, roles, teams and creators, on the command line and over HTTPS.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::organisation::{HIDDEN, OPEN, Organisation};

fn admin(organisation: &Organisation, method: Method, path: &str, body: Option<Value>) -> Value {
    let body = body.map(|body| body.to_string().into_bytes());
    let (client, ada) = (organisation.gateway.client(), organisation.token("administrator"));
    client.call(method, &format!("/api/v1/admin/{path}"), body, ada).assert_status(200).json()
}

fn refused(gateway: &Gateway, args: &[&str]) -> String {
    let output = gateway.cli(args);
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_auditor_reads_what_administrators_read_and_changes_nothing() {
    let organisation = Organisation::new(Gateway::builder());
    let (client, audrey) = (organisation.gateway.client(), organisation.token("auditor"));
    let journal = organisation.gateway.stored("journal");
    for path in [
        "users",
        "users/olga",
        "tokens",
        "teams",
        "teams/core",
        "creators",
        "restrictions",
        "journal/head",
    ] {
        client.get_as(&format!("/api/v1/admin/{path}"), audrey).assert_status(200);
    }
    for (method, path, body) in [
        (Method::POST, "users", json!({ "login": "eve" })),
        (Method::POST, "tokens", json!({ "user": "olga" })),
        (Method::DELETE, "tokens/1", json!({})),
        (Method::PUT, "users/audrey/role", json!({ "role": "admin" })),
        (Method::PUT, "teams/core/members", json!({ "users": ["audrey"] })),
        (Method::DELETE, "restrictions/acme-hidden", json!({})),
        (Method::DELETE, "crates/acme-open/1.0.0", json!({ "reason": "x" })),
    ] {
        let body = Some(body.to_string().into_bytes());
        client.call(method, &format!("/api/v1/admin/{path}"), body, audrey).assert_status(403);
    }
    assert_eq!(organisation.gateway.stored("journal"), journal);
}

#[test]
fn a_token_outlives_the_role_of_its_holder_and_then_administers_nothing() {
    let organisation = Organisation::new(Gateway::builder());
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let second = gateway.token_with("second", &["--scope", "admin"]);
    let users = |token: &str| client.get_as("/api/v1/admin/users", token).status;
    until("it counts", || users(&second) == 200);
    admin(&organisation, Method::DELETE, "users/second/role", None);
    assert_eq!(users(&second), 403, "at once");
    let last = refused(gateway, &["role", "revoke", "ada"]);
    assert!(last.contains("`ada` is the last administrator"), "{last}");
    let last = refused(gateway, &["user", "disable", "ada"]);
    assert!(last.contains("`ada` is the last administrator"), "{last}");
    let path = "/api/v1/admin/users/ada";
    client
        .call(Method::DELETE, path, None, organisation.token("administrator"))
        .assert_refused(400, "the last");
    let machine = {
        gateway.cli_ok(&["user", "add", "robot", "--service"]);
        refused(gateway, &["role", "grant", "robot", "admin"])
    };
    assert!(machine.contains("service account"), "{machine}");
    let machine = refused(gateway, &["token", "create", "--user", "robot", "--scope", "admin"]);
    assert!(machine.contains("service account"), "{machine}");
    let link = gateway.cli_ok(&["admin", "link", "second"]);
    until("the break-glass counts", || users(&link) == 200);
    let log = gateway.cli_ok(&["journal", "show"]);
    assert!(log.contains("gave second the role admin"), "{log}");
}

#[test]
fn a_disabled_user_is_enabled_again_with_their_tokens() {
    let organisation = Organisation::new(Gateway::builder().auth_required());
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let status = || client.get_as("/index/config.json", organisation.token("stranger")).status;
    assert_eq!(status(), 200);
    gateway.cli_ok(&["user", "disable", "stan"]);
    until("they are disabled", || status() == 401);
    admin(&organisation, Method::PUT, "users/stan/enable", None);
    assert_eq!(status(), 200);
}

#[test]
fn members_of_an_owning_team_publish_and_yank_and_only_users_change_owners() {
    let organisation = Organisation::new(Gateway::builder());
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let tom = organisation.token("member of an owning team");
    client.publish(&Krate::new(OPEN, "1.1.0"), tom).assert_status(200);
    client.yank(OPEN, "1.1.0", tom).assert_status(200);
    let owners = |method, logins: &[&str], token: &str| client.owners(method, OPEN, logins, token);
    let stuck = owners(Method::PUT, &["tom"], tom).assert_status(403).details();
    assert!(stuck.contains("cratehouse owner set acme-open"), "{stuck}");
    let olga = organisation.token("owner");
    let last = owners(Method::DELETE, &["olga"], olga).assert_status(400).details();
    assert!(last.contains("owner set acme-open"), "{last}");
    admin(
        &organisation,
        Method::PUT,
        "crates/acme-open/owners",
        Some(json!({ "owners": ["user:tom"] })),
    );
    owners(Method::PUT, &["team:core"], olga).assert_status(403);
    owners(Method::PUT, &["team:core", "olga"], tom).assert_status(200);
    let listed = client.get(&format!("/api/v1/crates/{OPEN}/owners")).json();
    let logins: Vec<_> =
        listed["users"].as_array().unwrap().iter().map(|u| u["login"].clone()).collect();
    assert_eq!(logins, ["tom", "olga", "team:core"]);
    for (args, said) in [
        (&["owner", "set", OPEN, "team:core"][..], "at least one user"),
        (&["owner", "set", OPEN, "user:nobody"], "no user `nobody`"),
        (&["owner", "set", "acme-none", "user:olga"], "not a crate that is hosted here"),
        (&["team", "add", "core", "nobody"], "no user `nobody`"),
        (&["team", "remove", "none"], "no team `none`"),
        (&["team", "rename", "core", "a b"], "ASCII letters"),
    ] {
        assert!(refused(gateway, args).contains(said), "{args:?}");
    }
}

/// A team is known by its number: another of its name is another team.
#[test]
fn a_team_that_is_renamed_keeps_its_rights_and_one_that_is_removed_has_none() {
    let organisation = Organisation::new(Gateway::builder());
    let (gateway, client) = (&organisation.gateway, organisation.gateway.client());
    let tom = organisation.token("member of an owning team");
    let yanks = || client.yank(OPEN, "1.0.0", tom).status;
    admin(&organisation, Method::PUT, "teams/core/name", Some(json!({ "name": "kernel" })));
    assert_eq!(yanks(), 200);
    admin(&organisation, Method::DELETE, "teams/kernel/members", Some(json!({ "users": ["tom"] })));
    assert_eq!(yanks(), 403, "emptied");
    admin(&organisation, Method::PUT, "teams/kernel/members", Some(json!({ "users": ["tom"] })));
    assert_eq!(yanks(), 200);
    admin(&organisation, Method::DELETE, "teams/kernel", None);
    assert_eq!(yanks(), 403, "removed");
    gateway.cli_ok(&["team", "add", "kernel", "tom"]);
    until("it is there", || gateway.cli_ok(&["team", "list"]).contains("\tkernel\ttom"));
    assert_eq!(yanks(), 403, "another one of its name");
    let owners = gateway.cli_ok(&["owner", "list", OPEN]);
    assert!(owners.contains("\tolga") && !owners.contains("team:"), "{owners}");
}

#[test]
fn new_names_are_for_their_creators_and_the_most_specific_rule_counts() {
    let organisation = Organisation::new(Gateway::builder());
    let client = organisation.gateway.client();
    let (tom, stan) =
        (organisation.token("member of an owning team"), organisation.token("stranger"));
    let create = |name: &str, token: &str| client.publish(&Krate::new(name, "1.0.0"), token).status;
    assert_eq!(create("acme-before", stan), 200, "without a rule everybody may");
    let rule = |pattern: &str, who: &str| {
        let path = format!("creators/{pattern}");
        admin(&organisation, Method::PUT, &path, Some(json!({ "subjects": [who] })));
    };
    rule("acme-*", "team:core");
    assert_eq!([create("acme-one", tom), create("acme-two", stan)], [200, 403]);
    rule("acme-tools-*", "user:stan");
    assert_eq!([create("acme-tools-a", stan), create("acme_tools_b", tom)], [200, 403]);
    assert_eq!(create("acme-before", tom), 403, "an update is for its owners");
    admin(&organisation, Method::DELETE, "creators/acme-*", None);
    assert_eq!(create("acme-two", stan), 200);
}

#[test]
fn a_user_is_shown_with_what_would_be_orphaned() {
    let organisation = Organisation::new(Gateway::builder());
    let shown = admin(&organisation, Method::GET, "users/olga", None);
    assert_eq!(shown["crates"], json!([HIDDEN, OPEN]));
    assert_eq!(shown["would_be_orphaned"], json!([HIDDEN, OPEN]));
    assert_eq!((&shown["kind"], &shown["role"]), (&json!("person"), &Value::Null));
    let text = organisation.gateway.cli_ok(&["user", "show", "tom"]);
    assert!(text.starts_with("tom (2): person\nteams: core\ncrates: none\nid\tuser\t"), "{text}");
    let missing = refused(&organisation.gateway, &["user", "show", "nobody"]);
    assert!(missing.contains("no user `nobody`"), "{missing}");
}

#[test]
fn the_real_cargo_makes_a_team_an_owner() {
    let organisation = Organisation::new(Gateway::builder());
    let cargo = |who: &str| Cargo::new(&organisation.gateway).token(organisation.token(who));
    let project = Project::new("app").write();
    let owner = |who: &str, args: &[&str]| {
        let all = [&["owner", "--registry", "cratehouse"], args, &[OPEN]].concat();
        cargo(who).run(&project, &all)
    };
    owner("owner", &["--remove", "team:core"]).assert_ok();
    owner("owner", &["--add", "team:core"]).assert_ok();
    owner("owner", &["--list"]).assert_ok().assert_says("team:core");
    owner("owner", &["--add", "github:acme:core"]).assert_err("`user:NAME` or `team:NAME`");
    owner("member of an owning team", &["--add", "stan"]).assert_err("cratehouse owner set");
}
