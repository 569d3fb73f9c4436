//! `deploy/systemd/`: the unit and its drop-ins, as systemd and the gateway see them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::binary;
use cratehouse_tests::tools::run;
use tempfile::TempDir;

const UNIT: &str = "cratehouse.service";
/// Where the unit expects the binary.
const INSTALLED: &str = "/usr/local/bin/cratehouse";
/// Tenths of the points that `systemd-analyze security` gives: 0 is nothing left open, 100 all. What
/// is left are IP, Unix sockets, and raising the limit of open files.
const EXPOSURE: &str = "20";
/// Between the end of the drain and the kill.
const MARGIN_SECONDS: u64 = 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

fn unit() -> String {
    fs::read_to_string(folder().join(UNIT)).unwrap()
}

fn drop_ins() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .map(|path| (name(&path), fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The values of a setting, in order.
fn values<'a>(text: &'a str, setting: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('=')).collect()
}

/// The unit installed in a folder, with the binary under test; with its drop-ins or without.
fn installed(with_drop_ins: bool) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let text = unit().replace(INSTALLED, binary().canonicalize().unwrap().to_str().unwrap());
    fs::write(place.path().join(UNIT), text).unwrap();
    if with_drop_ins {
        let below = place.path().join(format!("{UNIT}.d"));
        fs::create_dir(&below).unwrap();
        for (name, text) in drop_ins() {
            fs::write(below.join(name), text).unwrap();
        }
    }
    place
}

fn analyze(arguments: &[&str], place: &TempDir) -> Output {
    run(Command::new("systemd-analyze").args(arguments).arg(place.path().join(UNIT)))
}

#[test]
fn systemd_takes_the_unit_and_its_drop_ins() {
    for with_drop_ins in [false, true] {
        let output = analyze(&["verify", "--man=no"], &installed(with_drop_ins));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        // An unknown setting is told, and no failure.
        assert!(output.status.success() && told.is_empty(), "{told}");
    }
}

#[test]
fn little_is_left_open() {
    for with_drop_ins in [false, true] {
        let threshold = format!("--threshold={EXPOSURE}");
        let arguments = ["security", "--offline=true", "--no-pager", &threshold];
        let output = analyze(&arguments, &installed(with_drop_ins));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("Overall exposure level"), "{told}");
        assert!(output.status.success(), "{told}");
    }
}

#[test]
fn a_stop_may_take_longer_than_the_drain() {
    let reference = fs::read_to_string(folder().join("../cratehouse.toml")).unwrap();
    let drain: u64 = values(&reference.replace(" = ", "="), "#drain_seconds")[0].parse().unwrap();
    let stop: u64 = values(&unit(), "TimeoutStopSec")[0].parse().unwrap();
    assert!(stop >= drain + MARGIN_SECONDS, "{drain} s, then {stop} s");
}

#[test]
fn a_configuration_that_is_refused_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wrong.toml"), "[server]\nlisten = 1\n").unwrap();
    let refused = run(Command::new(binary())
        .args(["--config", "wrong.toml", "serve"])
        .current_dir(folder.path()));
    let status = refused.status.code().unwrap().to_string();
    assert_eq!(values(&unit(), "RestartPreventExitStatus"), [status]);
}

/// The command line and the variables, with the folders that systemd would make.
#[test]
fn the_gateway_takes_its_command_line_and_what_the_drop_ins_set() {
    let (state, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = state.path().join("cratehouse.toml");
    fs::write(&config, "[store]\nurl = \"s3://acme/x\"\naccess_key_id = \"acme\"\n").unwrap();
    let authority = Authority::new();
    let secret = |name: &str| match name {
        "tls.crt" => authority.cert.clone(),
        "tls.key" => authority.key.clone(),
        "s3-secret-key" => "a secret".to_owned(),
        other => panic!("{other}: which secret is it?"),
    };
    let here = |text: &str| {
        text.replace("%S", state.path().to_str().unwrap())
            .replace("%d", credentials.path().to_str().unwrap())
            .replace("/etc/cratehouse/cratehouse.toml", config.to_str().unwrap())
    };
    let drop_ins: String = drop_ins().into_iter().map(|(_, text)| text).collect();
    for credential in values(&drop_ins, "LoadCredential") {
        let (name, _) = credential.split_once(':').unwrap();
        fs::write(credentials.path().join(name), secret(name)).unwrap();
    }
    let unit = unit();
    let [start] = values(&unit, "ExecStart")[..] else { panic!("one command") };
    let mut words: Vec<_> = here(start).split(' ').map(str::to_owned).collect();
    assert_eq!(words.remove(0), INSTALLED);
    assert_eq!(words.pop().as_deref(), Some("serve"));
    let variables = values(&drop_ins, "Environment").into_iter().map(here);
    let variables: Vec<_> = variables
        .map(|v| v.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
        .collect();
    assert_eq!(variables.len(), 3, "{variables:?}");
    let output = run(Command::new(binary())
        .args(words)
        .args(["config", "check"])
        .env_clear()
        .envs(variables)
        .current_dir(state.path()));
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{told}");
}
