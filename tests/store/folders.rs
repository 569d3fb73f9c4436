//! The right folder, the right user, and a folder that can hold a registry.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn only_serve_and_init_found_a_registry() {
    let gateway = Gateway::builder().prepare();
    let lock = gateway.folder().join("Cargo.lock");
    fs::write(&lock, "version = 4\n").unwrap();
    let commands: &[&[&str]] = &[
        &["user", "add", "alice"],
        &["user", "list"],
        &["token", "create", "--user", "alice"],
        &["token", "list"],
        &["journal", "verify"],
        &["journal", "show"],
        &["pulls", "foo"],
        &["checkpoint"],
        &["gc"],
        &["format", "show"],
        &["format", "enable", "1"],
        &["remove", "foo@1.0.0", "--reason", "x"],
        &["mirror", "refresh", "foo"],
        &["prefetch", "--lock", "Cargo.lock"],
        &["names", "audit"],
        &["policy", "check", "--lock", "Cargo.lock"],
    ];
    let store = gateway.data().join("store");
    for exists in [false, true] {
        for command in commands {
            let output = gateway.cli(command);
            let told = told(&output);
            assert!(!output.status.success(), "{command:?}");
            assert!(told.contains("there is no registry in file:///"), "{command:?}: {told}");
            assert!(told.contains(store.to_str().unwrap()), "{command:?}: {told}");
            assert!(told.contains("cratehouse init"), "{command:?}: {told}");
            assert_eq!(gateway.stored(""), Vec::<String>::new(), "{command:?}");
            assert_eq!(store.exists(), exists, "{command:?}");
        }
        fs::create_dir_all(&store).unwrap();
    }
    assert!(gateway.cli_ok(&["init"]).ends_with("(new)"));
    assert_eq!(gateway.stored(""), ["format.json"]);
    gateway.cli_ok(&["user", "add", "alice"]);
}

#[test]
fn a_command_says_which_store_it_acted_on() {
    let gateway = Gateway::start();
    let store = format!("store file://{}", gateway.data().join("store").display());
    for command in [["user", "add", "alice"].as_slice(), &["user", "list"], &["journal", "show"]] {
        let output = gateway.cli(command);
        assert!(output.status.success() && told(&output).contains(&store), "{}", told(&output));
    }
}

#[test]
fn the_start_prints_commands_that_mean_this_server_from_everywhere() {
    let gateway = Gateway::start();
    until("it says how to go on", || gateway.log_contains("token create --user alice"));
    let log = gateway.log();
    let line = log.lines().find(|line| line.ends_with(" user add alice")).unwrap().trim();
    let program = gateway.command_line(&[]).get_program().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let line = line.replacen("cratehouse", program.to_str().unwrap(), 1);
    let output =
        Command::new("sh").args(["-c", &line]).current_dir(elsewhere.path()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", told(&output));
    assert!(gateway.cli_ok(&["user", "list"]).contains("alice"));
}

/// All files and folders below one, itself included.
fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => below(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// The user and group that a service might have.
const SERVICE: u32 = 54_321;

/// Runs as root, as the tests that mount do.
#[test]
fn a_command_that_root_runs_writes_as_the_owner_of_the_stores_folder() {
    let mut gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    assert!(gateway.stop().success());
    let all = || {
        let mut all = Vec::new();
        below(&gateway.data(), &mut all);
        all
    };
    for path in all() {
        chown(path, Some(SERVICE), Some(SERVICE)).expect("run this test as root");
    }
    fs::set_permissions(gateway.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let lock = gateway.folder().join("Cargo.lock");
    fs::write(&lock, "version = 4\n").unwrap();
    for command in [
        ["user", "add", "bob"].as_slice(),
        &["token", "create", "--user", "bob"],
        &["remove", "foo@1.0.0", "--reason", "x"],
        &["gc", "--grace", "0s"],
        &["checkpoint"],
        &["init"],
    ] {
        let line = gateway.command_line(command);
        let script = "umask 077 && exec \"$0\" \"$@\"";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(line.get_program())
            .args(line.get_args())
            .current_dir(gateway.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {}", told(&output));
        assert!(told(&output).contains(&format!("working as user {SERVICE}")), "{}", told(&output));
    }
    for path in all().iter().filter(|path| path.starts_with(gateway.data().join("store"))) {
        let owner = fs::metadata(path).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (SERVICE, SERVICE), "{}", path.display());
    }
    gateway.start_again();
    assert!(gateway.log_contains("this server runs as root"), "{}", gateway.log());
}

/// As after `mkdir /var/lib/cratehouse` and `chown`.
#[test]
fn a_registry_that_root_founds_in_another_users_folder_is_that_users() {
    let gateway = Gateway::builder().prepare();
    fs::set_permissions(gateway.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = gateway.folder().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(SERVICE), Some(SERVICE)).expect("run this test as root");
    let data = home.join("new").join("data");
    let output = Command::new(cratehouse_tests::gateway::binary())
        .arg("--data")
        .arg(&data)
        .arg("init")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let mut made = vec![home.join("new"), data.clone()];
    below(&data, &mut made);
    assert!(made.len() > 3, "{made:?}");
    for path in made {
        assert_eq!(fs::metadata(&path).unwrap().uid(), SERVICE, "{}", path.display());
    }
}

/// A start over a folder whose file system lacks something, by these arguments of strace.
fn is_refused(inject: &[&str], what: &str) {
    let mut gateway = Gateway::builder().plain_http().under_strace(inject).prepare();
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1), "{}", gateway.log());
    let log = gateway.log();
    let store = gateway.data().join("store");
    assert!(log.contains(what) && log.contains(store.to_str().unwrap()), "{log}");
    assert!(log.contains("its file system cannot"), "{log}");
    assert!(!log.contains("S3") && !log.contains("tried again"), "{log}");
    assert_eq!(gateway.stored(""), Vec::<String>::new(), "nothing is left");
}

#[test]
fn a_folder_without_hard_links_is_refused_at_once_by_name() {
    for error in ["EPERM", "EOPNOTSUPP", "ENOSYS"] {
        let calls = format!("inject=link,linkat:error={error}");
        is_refused(&["-e", "trace=link,linkat", "-e", &calls], "make a hard link");
    }
}

/// The first sync of a start is of a file, the second of its folder.
#[test]
fn a_folder_that_cannot_be_synced_is_refused_at_once_by_name() {
    let inject = ["-e", "trace=fsync", "-e", "inject=fsync:error=EINVAL:when=2+"];
    is_refused(&inject, "sync a folder to disk");
}
