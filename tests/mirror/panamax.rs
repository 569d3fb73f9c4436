//! A Panamax mirror as an upstream.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::panamax::Panamax;
use cratehouse_tests::upstream::Upstream;

fn serde() -> Krate {
    Krate::new("serde", "1.0.0").dep("serde_derive", "=1.0.0")
}

#[test]
fn a_panamax_mirror_is_an_upstream() {
    let crates = [
        Krate::new("q", "1.0.0"),
        Krate::new("qz", "1.0.0"),
        Krate::new("qzx", "1.0.0+b"),
        Krate::new("Qzxv-Demo", "1.0.0"),
    ];
    let panamax = Panamax::with(&crates);
    let gateway = Gateway::mirroring(&panamax);
    let client = gateway.client();
    for krate in &crates {
        let index = client.index(&krate.name).assert_status(200);
        assert_eq!(index.body, panamax.index_file(&krate.name));
        let reply = client.download(&krate.name, &krate.version).assert_status(200);
        assert_eq!(reply.body, krate.crate_bytes());
    }
    client.index("qz").assert_status(200);
    let mut asked = panamax.requests().into_iter().filter(|r| r.path == "/index/2/qz");
    assert!(asked.next_back().unwrap().header("if-modified-since").is_some());
    client.index("none").assert_status(404);
}

#[test]
fn cargo_builds_with_the_crates_of_a_panamax_mirror() {
    let panamax = Panamax::with(&[
        Krate::new("Qzxv-Demo", "1.0.0+b.1").dep("qz", "1").lib("pub use qz::Qz;"),
        Krate::new("qz", "1.0.0").lib("pub struct Qz;"),
    ]);
    let gateway = Gateway::mirroring(&panamax);
    let app = Project::new("app")
        .dep("Qzxv-Demo", "1")
        .main("fn main() { let _ = Qzxv_Demo::Qz; }")
        .write();
    Cargo::new(&gateway).run(&app, &["build"]).assert_ok();
    assert_eq!(panamax.count("/crates/Qz/xv/Qzxv-Demo/1.0.0+b.1/Qzxv-Demo-1.0.0+b.1.crate"), 1);
}

#[test]
fn what_a_filtered_sync_left_out_is_asked_of_the_next_upstream() {
    let panamax = Panamax::with(&[]);
    panamax.sync_line(&serde());
    let alone = Gateway::mirroring(&panamax);
    let reply = alone.client().download("serde", "1.0.0");
    assert!(reply.status >= 400, "{reply}");
    assert!(reply.text().contains("serde"), "it says what is missing: {reply}");

    let upstream = Upstream::with(&[serde()]);
    let chain = Gateway::builder().upstream(&panamax).upstream(&upstream).start();
    let reply = chain.client().download("serde", "1.0.0").assert_status(200);
    assert_eq!(reply.body, serde().crate_bytes());
}

#[test]
fn a_pinned_dl_bridges_the_moment_when_a_panamax_shows_the_config_of_crates_io() {
    let panamax = Panamax::with(&[serde()]);
    panamax.set_config(r#"{"dl":"http://127.0.0.1:1/crates","api":"http://127.0.0.1:1"}"#);
    let config = UpstreamConfig::from(&panamax).text("dl", &panamax.dl());
    let gateway = Gateway::mirroring(config);
    gateway.client().download("serde", "1.0.0").assert_status(200);
    assert_eq!(panamax.count("/crates/se/rd/serde/1.0.0/serde-1.0.0.crate"), 1);
}
