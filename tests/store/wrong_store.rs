//! A store that is not the one: not mounted, without its name, with a gap, shared with a group. Nothing is
//! founded there, nothing that knows better is thrown away, and what is wrong is said.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cratehouse_tests::gateway::Gateway;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A start that ends by itself, and what it said.
fn refused_start(gateway: &mut Gateway) -> String {
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1), "{}", gateway.log());
    gateway.log()
}

#[test]
fn an_unmounted_store_is_no_empty_one() {
    let mut gateway = Gateway::start();
    gateway.cli_ok(&["user", "add", "alice"]);
    gateway.restart(); // the catalog follows
    assert!(gateway.stop().success());
    let (store, away) = (gateway.data().join("store"), gateway.folder().join("away"));
    fs::rename(&store, &away).unwrap();
    fs::create_dir(&store).unwrap();

    let log = refused_start(&mut gateway);
    assert!(log.contains("there is no registry in") && log.contains("mounted"), "{log}");
    assert!(!log.contains("tried again"), "{log}");
    let init = gateway.cli(&["init"]);
    assert_eq!(init.status.code(), Some(1));
    assert_eq!(gateway.stored(""), Vec::<String>::new(), "nothing is founded");

    // Another registry in its place.
    fs::remove_dir_all(&store).unwrap();
    let other = Gateway::builder().prepare();
    other.cli_ok(&["init"]);
    fs::rename(other.data().join("store"), &store).unwrap();
    let log = refused_start(&mut gateway);
    assert!(log.contains("delete the catalog"), "{log}");

    fs::remove_dir_all(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    gateway.start_again();
    assert!(gateway.log_contains("stands at entry 1"), "the catalog was kept: {}", gateway.log());
    assert!(gateway.cli_ok(&["user", "list"]).contains("alice"));
}

#[test]
fn a_store_that_lost_its_name_is_not_founded_anew() {
    let mut gateway = Gateway::start();
    gateway.cli_ok(&["user", "add", "alice"]);
    assert!(gateway.stop().success());
    let name = gateway.data().join("store/format.json");
    let bytes = fs::read(&name).unwrap();
    fs::remove_file(&name).unwrap();
    fs::remove_file(gateway.data().join("catalog.redb")).unwrap();
    let log = refused_start(&mut gateway);
    assert!(log.contains("without format.json") && log.contains("backup"), "{log}");
    assert_eq!(gateway.cli(&["init"]).status.code(), Some(1));
    assert!(!name.exists());
    fs::write(&name, bytes).unwrap();
    gateway.start_again();
}

#[test]
fn the_trail_does_not_end_silently_before_a_gap() {
    let gateway = Gateway::start();
    for user in ["alice", "bob", "carol"] {
        gateway.cli_ok(&["user", "add", user]);
    }
    fs::remove_file(gateway.data().join("store").join(&gateway.stored("journal")[1])).unwrap();
    let shown = gateway.cli(&["journal", "show"]);
    let told = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert_eq!(shown.status.code(), Some(1), "{told}");
    assert!(told.contains("entry 2 is missing, but entry 3 is there"), "{told}");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("alice"));
}

#[test]
fn a_link_in_the_journals_place_is_named_and_not_waited_for() {
    let mut gateway = Gateway::start();
    gateway.cli_ok(&["user", "add", "alice"]);
    assert!(gateway.stop().success());
    let next = gateway.data().join("store/journal/00000000000000000002.json");
    symlink("/etc/passwd", &next).unwrap();
    let log = refused_start(&mut gateway);
    assert!(log.contains("is a symbolic link") && !log.contains("does not answer"), "{log}");
    fs::remove_file(next).unwrap();
    gateway.start_again();
}

#[test]
fn a_broken_policy_does_not_stand_in_the_way_of_a_revocation() {
    let policies = tempfile::tempdir().unwrap();
    let folder = policies.path().to_str().unwrap();
    let gateway = Gateway::builder().set("policy", &format!("dir = {folder:?}")).start();
    gateway.token("alice");
    fs::write(policies.path().join("policy.toml"), "x =").unwrap();
    gateway.cli_ok(&["token", "revoke", "1"]);
    gateway.cli_ok(&["user", "disable", "alice"]);
    assert!(gateway.cli_ok(&["token", "list"]).contains("revoked"));
}

#[test]
fn a_store_that_a_group_shares_leaves_the_data_folder_to_its_owner() {
    for (shared, written) in [(0o2770, 0o660), (0o1777, 0o600)] {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("store");
        fs::create_dir(&store).unwrap();
        fs::set_permissions(&store, fs::Permissions::from_mode(shared)).unwrap();
        let url = format!("file://{}", store.display());
        let gateway = Gateway::builder().set("store", &format!("url = {url:?}")).start();
        assert_eq!(mode(&gateway.data()), 0o700, "{shared:o}");
        assert_eq!(mode(&store.join("format.json")), written, "{shared:o}");
    }
}
