//! `deploy/compose/`: its files fit the Compose Specification, and run what the gateway and its image are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Gateway, binary};
use cratehouse_tests::tools::{run, said, tool};
use serde_json::Value;

/// Alone, and with what is put over it.
const FILES: [&str; 2] = ["compose.yaml", "compose.s3.yaml"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap()
}

fn compose(file: &str) -> Value {
    let to_json = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let mut python = tool("python/bin/python");
    serde_json::from_str(&said(python.args(["-c", to_json]).arg(folder().join(file)))).unwrap()
}

fn service(file: &str) -> Value {
    compose(file)["services"]["cratehouse"].clone()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// `40s`, `5m`.
fn seconds(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<u64>().unwrap() * if unit == "m" { 60 } else { 1 }
}

#[test]
fn every_file_fits_the_schema_of_the_specification() {
    let mut check = tool("python/bin/check-jsonschema");
    check.args(["--builtin-schema", "vendor.compose-spec"]);
    said(check.args(FILES.map(|file| folder().join(file))));
    // And the schema would say so.
    let wrong = tempfile::tempdir().unwrap();
    let file = wrong.path().join("compose.yaml");
    fs::write(&file, read(FILES[0]).replace("healthcheck:", "healthcheque:")).unwrap();
    let mut check = tool("python/bin/check-jsonschema");
    let Output { status, .. } =
        run(check.args(["--builtin-schema", "vendor.compose-spec"]).arg(file));
    assert_eq!(status.code(), Some(1));
}

/// With the variables of the files, and what they mount in another place.
#[test]
fn every_configuration_is_one_that_the_gateway_takes() {
    let root = tempfile::tempdir().unwrap();
    let here = |path: &str| root.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(here("run/secrets")).unwrap();
    let authority = Authority::new();
    let secrets = compose(FILES[1])["secrets"].clone();
    for (name, text) in
        [("s3-secret-key", "secret\n"), ("tls.crt", &authority.cert), ("tls.key", &authority.key)]
    {
        assert!(secrets[name].is_object(), "{name}");
        fs::write(here("run/secrets").join(name), text).unwrap();
    }
    let variables: BTreeMap<String, String> =
        serde_json::from_value(service(FILES[1])["environment"].clone()).unwrap();
    for with_bucket in [false, true] {
        let mut check = Command::new(binary());
        check.arg("--config").arg(folder().join("cratehouse.toml")).args(["config", "check"]);
        check.env_clear().env("CRATEHOUSE_DATA", here("var/lib/cratehouse"));
        for (name, value) in variables.iter().filter(|_| with_bucket) {
            let is_file = value.starts_with("/run/secrets/");
            check.env(name, if is_file { here(value).into_os_string() } else { value.into() });
        }
        let output = run(check.current_dir(root.path()));
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && told.contains("the configuration is good"), "{told}");
    }
}

#[test]
fn the_files_are_about_the_image_as_it_is_made() {
    let service = service(FILES[0]);
    let image = format!("images.acme.example/cratehouse:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(service["image"], image);
    let made = read("../Containerfile");
    for (what, line) in [
        (
            "the volume",
            format!("VOLUME {}", list(&service["volumes"])[0].split_once(':').unwrap().1),
        ),
        ("the port", format!("EXPOSE {} ", list(&service["ports"])[0].split_once(':').unwrap().1)),
        ("the program", format!("ENTRYPOINT [\"{}\"]", list(&service["healthcheck"]["test"])[1])),
        (
            "the configuration",
            format!("CRATEHOUSE_CONFIG={}", service["configs"][0]["target"].as_str().unwrap()),
        ),
    ] {
        assert!(made.contains(&line), "{what}: {line}");
    }
    let defaults = read("../cratehouse.toml");
    let drain = defaults.lines().find_map(|line| line.strip_prefix("#drain_seconds = ")).unwrap();
    assert!(seconds(&service["stop_grace_period"]) > drain.parse::<u64>().unwrap() + 10);
}

#[test]
fn its_health_check_follows_readiness() {
    let check = service(FILES[0])["healthcheck"]["test"].clone();
    let [kind, program, arguments @ ..] = &list(&check)[..] else { panic!("{check}") };
    assert_eq!((*kind, *program), ("CMD", "/cratehouse"));
    let mut gateway = Gateway::start();
    let told = gateway.cli_ok(arguments);
    assert!(told.starts_with("ready\n"), "{told}");
    let live = gateway.admin().get("/livez").text();
    assert_eq!(gateway.cli_ok(&["health", "--live"]).trim_end(), live.trim_end());
    gateway.kill();
    let Output { status, stdout, stderr } = gateway.cli(arguments);
    let told = String::from_utf8_lossy(&stderr);
    assert_eq!((status.code(), stdout.as_slice()), (Some(1), &b""[..]), "{told}");
    assert!(told.contains("server.admin_listen"), "{told}");
}

/// One that answers and is not ready.
#[test]
fn a_replica_that_is_not_ready_is_not_healthy() {
    let mut gateway = Gateway::builder().set("server", "unready_seconds = 20").start();
    gateway.terminate();
    cratehouse_tests::patience::until("it says so", || {
        let output = gateway.cli(&["health"]);
        output.status.code() == Some(1) && !output.stdout.is_empty()
    });
    assert_eq!(gateway.cli(&["health", "--live"]).status.code(), Some(0));
    gateway.kill();
}
