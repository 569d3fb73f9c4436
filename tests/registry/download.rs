//! Crate files, as cargo gets them.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;

const BUILD: &str = "1.2.3+b.1";

/// A gateway with one hosted and one mirrored crate of this version.
fn both(version: &str) -> (Upstream, Gateway, Vec<Krate>) {
    let (hosted, mirrored) = (Krate::new("Hosted", version), Krate::new("Mirr-ored", version));
    let upstream = Upstream::with(std::slice::from_ref(&mirrored));
    let gateway = Gateway::mirroring(&upstream);
    let token = gateway.token("alice");
    gateway.client().publish(&hosted, &token).assert_status(200);
    (upstream, gateway, vec![hosted, mirrored])
}

#[test]
fn a_download_is_200_with_its_length_and_never_encoded() {
    covers!(27, 28);
    let (_upstream, gateway, crates) = both("1.0.0");
    let client = gateway.client();
    for krate in crates {
        let path = format!("/api/v1/crates/{}/1.0.0/download", krate.name);
        for accepted in ["identity", "deflate, gzip", "br"] {
            let reply = client.get_with(&path, &[("accept-encoding", accepted)]).assert_status(200);
            assert_eq!(reply.header("content-encoding"), None);
            let length = reply.header("content-length").unwrap();
            assert_eq!(length, reply.body.len().to_string());
            assert_eq!(reply.body, krate.crate_bytes());
            assert_eq!(client.index(&krate.name).line("1.0.0")["cksum"], sha256(&reply.body));
        }
        let ranged = client.get_with(&path, &[("range", "bytes=0-9")]).assert_status(200);
        assert_eq!(ranged.body, krate.crate_bytes(), "cargo takes nothing but 200");
        let head = client.send(Method::HEAD, &path, &[], None).assert_status(200);
        assert!(head.body.is_empty());
    }
}

#[test]
fn a_plus_may_be_written_either_way() {
    covers!(29);
    let (_upstream, gateway, crates) = both(BUILD);
    for krate in crates {
        for version in [BUILD, "1.2.3%2Bb.1", "1.2.3%2bb.1"] {
            let reply = gateway.client().download(&krate.name, version).assert_status(200);
            assert_eq!(reply.body, krate.crate_bytes(), "{version}");
        }
    }
}

#[test]
fn the_index_and_dl_lead_to_the_same_bytes() {
    let (_upstream, gateway, crates) = both("1.0.0");
    let config = gateway.client().get("/index/config.json").json();
    let dl = config["dl"].as_str().unwrap().strip_prefix(&gateway.url()).unwrap().to_owned();
    for krate in crates {
        let url = cratehouse_tests::upstream::dl_url(&dl, &krate.name, "1.0.0", &krate.cksum());
        assert_eq!(gateway.client().get(&url).assert_status(200).body, krate.crate_bytes());
    }
}

#[test]
fn a_yanked_version_in_a_lock_file_downloads() {
    covers!(31);
    let (upstream, gateway, _) = both("1.0.0");
    let token = gateway.token("alice");
    let project = Project::new("app").ours("Hosted", "1").dep("Mirr-ored", "1").write();
    let cargo = Cargo::new(&gateway);
    cargo.run(&project, &["generate-lockfile"]).assert_ok();
    let lock = project.lock();
    gateway.client().yank("Hosted", "1.0.0", &token).assert_status(200);
    upstream.yank("Mirr-ored", "1.0.0", true);
    cargo.forget_caches();
    cargo.run(&project, &["fetch", "--locked"]).assert_ok();
    assert_eq!(project.lock(), lock);
}

#[test]
fn a_redirect_to_another_host_is_followed_without_authorization() {
    covers!(33);
    let krate = Krate::new("signed", "1.0.0");
    let (index, files) = (
        Upstream::with(std::slice::from_ref(&krate)),
        Upstream::with(std::slice::from_ref(&krate)),
    );
    index.set(|s| s.krate = Answer::Redirect(files.origin() + "/moved"));
    let config = UpstreamConfig::from(&index).flag("private_dl", true);
    let gateway = Gateway::builder().upstream(config).auth_required().start();
    let token = gateway.token("alice");
    let path = "/api/v1/crates/signed/1.0.0/download";
    let reply = gateway.client().get_as(path, &token).assert_status(200);
    assert_eq!(reply.body, krate.crate_bytes());
    assert_eq!(files.requests().len(), 1);
    assert_eq!(files.requests()[0].header("authorization"), None);
}

#[test]
fn names_and_versions_are_exact() {
    covers!(35);
    let (upstream, gateway, _) = both("1.0.0");
    let client = gateway.client();
    client.index("Mirr-ored").assert_status(200);
    for (name, version) in [
        ("hosted", "1.0.0"),
        ("HOSTED", "1.0.0"),
        ("mirr-ored", "1.0.0"),
        ("Mirr_ored", "1.0.0"),
        ("Hosted", "1.0.1"),
        ("Hosted", "1.0.0+x"),
        ("Hosted", "1.0"),
        ("Hosted", "..%2f..%2fx"),
        ("none", "1.0.0"),
    ] {
        let reply = client.download(name, version);
        assert_eq!(reply.status, 404, "{name} {version}: {reply}");
        let kind = reply.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "cargo prints it: {reply}");
    }
    client.download("%ff", "1.0.0").assert_status(400);
    assert_eq!(upstream.download_count(), 0);
}
