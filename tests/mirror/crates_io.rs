//! The gated test: it goes to the real crates.io. `tests/run --crates-io` runs it.

use std::path::Path;

use cratehouse_tests::cargo::{Cargo, Folder};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};

/// This workspace, as far as resolving and fetching it goes: its manifests and its lock file.
fn this_workspace() -> Folder {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let folder = Folder::empty();
    folder.write("Cargo.lock", &read("Cargo.lock"));
    for member in ["", "gateway/", "credential/", "tests/", "bench/"] {
        folder.write(&format!("{member}Cargo.toml"), &read(&format!("{member}Cargo.toml")));
    }
    for entry in std::fs::read_dir(root.join("crates")).unwrap() {
        let member = format!("crates/{}", entry.unwrap().file_name().to_str().unwrap());
        folder.write(&format!("{member}/Cargo.toml"), &read(&format!("{member}/Cargo.toml")));
        folder.write(&format!("{member}/src/lib.rs"), "");
    }
    for path in ["gateway/src/lib.rs", "gateway/src/main.rs", "tests/src/lib.rs"] {
        folder.write(path, "");
    }
    folder.write("bench/src/main.rs", "");
    folder.write("credential/src/main.rs", "");
    folder.write("tests/cratehouse.rs", "");
    folder
}

#[test]
#[ignore = "it asks the real crates.io: run by tests/run --crates-io"]
fn a_real_lock_file_is_fetched_and_fetched_again_without_crates_io() {
    covers!(81, 83);
    let project = this_workspace();
    let lock = project.lock();
    let packages = lock.matches("\nsource = ").count();
    assert!(packages >= 200, "{packages} packages");

    let mut gateway = Gateway::builder().upstream(UpstreamConfig::preset("crates.io")).start();
    let cargo = Cargo::new(&gateway);
    cargo.run(&project, &["fetch", "--locked"]).assert_ok();
    assert_eq!(project.lock(), lock);
    assert!(gateway.metric("cratehouse_crate_lookups_total", &[("outcome", "miss")]) >= 200.0);
    // What the starter policy makes of it: every package is judged, and none of them is denied.
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/starter");
    let lock_path = project.path().join("Cargo.lock");
    let [starter, lock_path] = [&starter, &lock_path].map(|path| path.to_str().unwrap());
    let verdicts = gateway.cli_ok(&["policy", "check", "--lock", lock_path, "--policy", starter]);
    assert!(verdicts.contains(" 0 denied, 0 unknown"), "{verdicts}");
    // Resolving anew asks for every index file once more, and finds them fresh.
    cargo.run(&project, &["update", "--dry-run"]).assert_ok();

    // The same upstream by name, at a port where nobody listens; an empty home, an empty disk.
    gateway.stop();
    gateway.wipe();
    gateway.reconfigure(|config| {
        config.replace(
            "name = \"crates.io\"\n",
            "name = \"crates.io\"\nindex = \"https://127.0.0.1:1/\"\n",
        )
    });
    gateway.start_again();
    let cargo = Cargo::new(&gateway);
    cargo.run(&project, &["fetch", "--locked"]).assert_ok();
    assert_eq!(project.lock(), lock);
    assert_eq!(gateway.metric("cratehouse_crate_lookups_total", &[("outcome", "miss")]), 0.0);
}
