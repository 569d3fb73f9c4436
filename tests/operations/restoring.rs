//! Backup and restore, as docs/operations.md has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use reqwest::Method;

fn foo(version: &str) -> Krate {
    Krate::new("foo", version)
}

fn store(gateway: &Gateway) -> String {
    format!("file://{}", gateway.data().join("store").display())
}

/// Puts the copy in the place of the store.
fn set_back(gateway: &Gateway, copy: &Path) {
    let store = gateway.data().join("store");
    fs::remove_dir_all(&store).unwrap();
    fs::rename(copy, store).unwrap();
}

#[test]
fn a_store_that_was_restored_is_refused_until_the_operator_accepts_it() {
    let mut gateway = Gateway::builder().auth_required().start();
    let token = gateway.token("alice");
    gateway.client().publish(&foo("1.0.0"), &token).assert_status(200);
    let copy = gateway.folder().join("copy");
    gateway.cli_ok(&["store", "copy", &store(&gateway), &format!("file://{}", copy.display())]);
    // Lost with the restoring: a version, and the end of a token.
    gateway.client().publish(&foo("1.1.0"), &token).assert_status(200);
    gateway.cli_ok(&["token", "revoke", "1"]);
    assert!(gateway.stop().success());
    set_back(&gateway, &copy);

    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1));
    for told in ["the store was set back, or is another one", "delete the catalog file"] {
        assert!(gateway.log_contains(told), "{}", gateway.log());
    }
    fs::remove_file(gateway.data().join("catalog.redb")).unwrap();
    gateway.start_again();
    let lines = gateway.client().get_as("/index/3/f/foo", &token).assert_status(200).lines();
    assert_eq!(lines.len(), 1, "and the token counts again");
    let again = foo("1.1.0").lib("pub fn other() {}");
    gateway.client().publish(&again, &token).assert_status(200);
    gateway.cli_ok(&["journal", "verify"]);
}

/// As a backup tool that knows nothing of Cratehouse copies it, in the guide's order, while the
/// registry is in use.
#[test]
fn files_that_are_copied_journal_first_make_a_whole_registry() {
    let mut gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&foo("1.0.0"), &token).assert_status(200);
    let (from, to) = (gateway.data().join("store"), gateway.folder().join("copy"));
    let copy = |folder: &str| {
        for path in gateway.stored(folder) {
            let target = to.join(&path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(from.join(&path), target).unwrap();
        }
    };
    copy("journal");
    gateway.client().publish(&foo("1.1.0"), &token).assert_status(200);
    copy("");
    fs::remove_file(to.join(gateway.stored("journal").pop().unwrap())).unwrap();
    gateway.stop();
    gateway.wipe();
    set_back(&gateway, &to);
    gateway.start_again();
    gateway.cli_ok(&["journal", "verify"]);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    gateway.client().download("foo", "1.1.0").assert_status(404);
}

/// What the guide says of a backup.
#[test]
fn a_local_ca_that_was_saved_is_the_one_that_clients_know() {
    let mut gateway = Gateway::start();
    let client = Client::new(&gateway.url(), Some(&fs::read(gateway.ca_path()).unwrap()));
    let tls = gateway.data().join("tls");
    let saved = ["ca.pem", "ca.key"].map(|name| (name, fs::read(tls.join(name)).unwrap()));
    gateway.restart_on_an_empty_disk();
    let asked = client.try_send(Method::GET, "/index/config.json", &[], None);
    assert!(asked.is_err(), "another CA is not trusted");
    gateway.stop();
    gateway.wipe();
    fs::create_dir(&tls).unwrap();
    for (name, bytes) in saved {
        fs::write(tls.join(name), bytes).unwrap();
        fs::set_permissions(tls.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    gateway.start_again();
    client.get("/index/config.json").assert_status(200);
}
