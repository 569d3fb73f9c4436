//! How a golden store is made: by the real binary of the release, once. `golden/README.md` has the
//! command.

use std::io::{Read, Write};

use cratehouse_tests::krate::Dep;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::json;

use super::*;

/// What a later release might say of itself. No release will ever know this one.
const FUTURE: u32 = 1000;

/// The mirrored crate.
pub(super) fn public() -> Krate {
    Krate::new("public-crate", "1.2.3").package("license", "MIT OR Apache-2.0")
}

fn everything() -> Krate {
    Krate::new("acme-log", "1.0.0")
        .package("description", "Logs, the way we like them")
        .package("license", "MIT OR Apache-2.0")
        .package("homepage", "https://log.acme.example/")
        .package("documentation", "https://docs.acme.example/log")
        .package("repository", "https://git.acme.example/log")
        .package("keywords", json!(["log", "acme"]))
        .package("categories", json!(["development-tools::debugging"]))
        .package("rust-version", "1.70")
        .dep("public-crate", "^1.2")
        .with(Dep::new("public-crate", "=1.2.3").build().renamed("public_build"))
        .with(Dep::new("public-crate", "1").dev())
        .with(Dep::new("public-crate", ">=1, <3").optional().renamed("maybe").features(&["std"]))
        .with(Dep::new("public-crate", "1").no_default_features().target("cfg(unix)"))
        .feature("default", &["short"])
        .feature("short", &[])
        .feature("more", &["dep:maybe", "maybe?/std"])
}

/// Makes `golden/$CRATEHOUSE_GOLDEN`, which must not exist.
#[test]
#[ignore = "makes a golden store: once for a release, never again"]
fn a_golden_store_of_this_release() {
    let name = std::env::var("CRATEHOUSE_GOLDEN").expect("CRATEHOUSE_GOLDEN=journal-<release>");
    let golden = Golden::named(&name);
    assert!(!golden.folder.exists(), "golden files never change");
    let tokens = live(&golden.folder.join("store"));
    fs::write(golden.folder.join("tokens.json"), pretty(&tokens)).unwrap();
    by_hand(&golden.folder);
    record(&golden);
    fs::write(golden.folder.join(SUMS), sums(&golden.folder)).unwrap();
    println!("{name} {}", sha256(&golden.read(SUMS)));
}

/// A registry's life, with every kind of event. Its store stands in `store` afterwards; gives tokens.
fn live(store: &Path) -> Value {
    let upstream = Upstream::with(&[public()]);
    let builder = Gateway::builder().upstream(&upstream).auth_required();
    let mut gateway = builder.set("server", "replica = \"crates-0\"").start();
    let alice = gateway.token("alice");
    let limits = ["--name", "ci", "--scope", "read,publish-update,yank", "--crate", "acme-*"];
    let ci = gateway.token_with("alice", &[&limits[..], &["--expires", "2126-01-31"]].concat());
    let root = gateway.token_with("root", &["--scope", "admin", "--name", "root"]);
    let client = gateway.client();
    let admin = |method, path: &str, body: Option<Value>| {
        let body = body.map(|body| body.to_string().into_bytes());
        client.call(method, &format!("/api/v1/admin/{path}"), body, &root).assert_status(200)
    };
    admin(Method::POST, "users", Some(json!({ "login": "bob" })));
    let of_bob = || gateway.cli_ok(&["token", "create", "--user", "bob"]);
    let (bob, carol, revoked) = (of_bob(), gateway.token("carol"), of_bob());

    publish_and_change(&gateway, &client, [&alice, &ci, &bob]);
    admin(Method::DELETE, "users/carol", None);
    gateway.cli_ok(&["token", "revoke", "6"]);
    gateway.cli_ok(&["remove", "acme-log@2.0.0-rc.1+build.5", "--reason", "leaked a key"]);
    gateway.cli_ok(&["gc", "--grace", "0s"]);
    gateway.cli_ok(&["checkpoint"]);
    // Behind the checkpoint, too.
    client.publish(&Krate::new("acme-log", "1.2.0"), &ci).assert_status(200);
    client.unyank("acme-log", "1.1.0", &alice).assert_status(200);
    client.yank("acme-log", "1.0.0", &bob).assert_status(200);
    for (name, version) in [("acme-log", "1.2.0"), ("public-crate", "1.2.3")] {
        client.get_as(&download(name, version), &bob).assert_status(200);
    }
    assert!(gateway.stop().success());
    copy_folder(&gateway.data().join("store"), store);
    json!({ "alice": alice, "ci": ci, "root": root, "bob": bob, "carol": carol, "revoked": revoked })
}

fn publish_and_change(gateway: &Gateway, client: &Client, [alice, ci, bob]: [&str; 3]) {
    let publish = |krate: &Krate, token: &str| client.publish(krate, token).assert_status(200);
    publish(&everything(), alice);
    publish(&Krate::new("acme-log", "1.1.0").dep("public-crate", "1"), ci);
    publish(&Krate::new("acme-log", "2.0.0-rc.1+build.5").lib("pub fn leaked() {}"), alice);
    let ours = Dep::new("acme-log", "1").registry_index(&gateway.index_url());
    publish(&Krate::new("acme-net", "0.1.0").with(ours), bob);
    publish(&Krate::new("acme-old", "0.0.1"), alice);
    client.yank("acme-log", "1.0.0", alice).assert_status(200);
    client.unyank("acme-log", "1.0.0", alice).assert_status(200);
    client.yank("acme-log", "1.1.0", ci).assert_status(200);
    client.owners(Method::PUT, "acme-log", &["bob"], alice).assert_status(200);
    client.owners(Method::PUT, "acme-old", &["bob"], alice).assert_status(200);
    client.owners(Method::DELETE, "acme-old", &["alice"], bob).assert_status(200);
}

/// What this release could not write itself: behind the journal's last entry each.
fn by_hand(folder: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.join("made").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let last = files_below(&folder.join("store/journal")).pop().unwrap();
    let bytes = fs::read(folder.join("store/journal").join(last)).unwrap();
    let (seq, hash) =
        (serde_json::from_slice::<Value>(&bytes).unwrap()["seq"].clone(), sha256(&bytes));
    let entry = |event: Value| {
        json!({
            "seq": seq.as_u64().unwrap() + 1, "id": "00".repeat(16), "prev": hash,
            "time": "2030-01-01T00:00:00Z", "replica": "later", "events": [event],
        })
    };
    let enables =
        |level: u32| json!({ "by": "operator", "event": "level_enabled", "level": level });
    let user = json!({ "by": "operator", "event": "user_created", "user": 9, "login": "dora" });
    let mut novelty = user.clone();
    novelty["shoe_size"] = json!(42);
    let mut praised = user;
    praised["event"] = json!("user_praised");
    for (name, event) in [
        ("enables-level-1.json", enables(1)),
        ("enables-level-1000.json", enables(FUTURE)),
        ("unknown-event.json", praised),
        ("unknown-field.json", novelty),
    ] {
        write(name, entry(event).to_string().as_bytes());
    }
    write(
        "format-1000.json",
        json!({ "format": FUTURE, "registries": ["a", "b"] }).to_string().as_bytes(),
    );
    for sort in ["schema", "level"] {
        let (name, bytes) = future_checkpoint(folder, sort, &seq, &hash);
        write(&format!("checkpoints/{sort}-1000/{name}"), &bytes);
    }
}

/// The release's own checkpoint with another header: of the last entry, and of a future `sort`.
fn future_checkpoint(folder: &Path, sort: &str, seq: &Value, hash: &str) -> (String, Vec<u8>) {
    let checkpoints = folder.join("store/checkpoints");
    let name = files_below(&checkpoints).pop().unwrap();
    let mut text = String::new();
    let bytes = fs::read(checkpoints.join(name)).unwrap();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let mut header: Value = serde_json::from_str(header).unwrap();
    for (key, value) in
        [("seq", seq.clone()), ("hash", json!(hash)), (sort, json!(FUTURE)), ("novelty", json!(1))]
    {
        header[key] = value;
    }
    let lines = format!("{header}\n{rows}");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let name = format!("{:020}-{}", seq.as_u64().unwrap(), sha256(lines.as_bytes()));
    (name, gzip.finish().unwrap())
}

/// What the store shows to the release that wrote it.
fn record(golden: &Golden) {
    let mut gateway = golden.alone();
    gateway.start_again();
    for (name, text) in shown(&gateway, golden) {
        let path = golden.folder.join("expected").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
