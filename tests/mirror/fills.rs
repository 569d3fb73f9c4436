//! Crate files through the mirror: where they come from, and what is refused.

use cratehouse_tests::client::Client;
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Krate, index_path, sha256};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};

fn serde() -> Krate {
    Krate::new("serde", "1.0.0").dep("serde_derive", "=1.0.0")
}

fn path(name: &str) -> String {
    format!("/index/{}", index_path(name))
}

fn main(upstream: &Upstream) -> UpstreamConfig {
    upstream.into()
}

#[test]
fn bytes_are_those_of_the_checksum_and_of_the_upstream() {
    covers!(28);
    let upstream = Upstream::with(&[serde().ballast(100_000)]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    for _ in 0..3 {
        let reply = client.download("serde", "1.0.0").assert_status(200);
        assert_eq!(reply.body, serde().ballast(100_000).crate_bytes());
        let line = client.index("serde").line("1.0.0");
        assert_eq!(line["cksum"], sha256(&reply.body));
    }
    assert_eq!(upstream.download_count(), 1);
    let stored = gateway.stored_soon("blobs/mirror", 1);
    assert!(stored[0].ends_with(&serde().ballast(100_000).cksum()), "{stored:?}");
}

#[test]
fn bytes_that_do_not_match_are_neither_served_nor_stored() {
    covers!(30);
    let upstream = Upstream::with(&[serde()]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    for failure in [
        Answer::Bytes(Krate::new("evil", "1.0.0").crate_bytes()),
        Answer::Empty,
        Answer::CutShort,
        Answer::Status(500),
        Answer::HangUp,
    ] {
        upstream.set(|s| s.krate = failure.clone());
        let reply = client.download("serde", "1.0.0");
        assert!([502, 503, 504].contains(&reply.status), "{failure:?}: {reply}");
        assert_eq!(gateway.stored("blobs/mirror"), [""; 0], "{failure:?}");
    }
    assert!(gateway.metric("cratehouse_alarms_total", &[]) >= 1.0);
    upstream.set(|s| s.krate = Answer::Normal);
    let reply = client.download("serde", "1.0.0").assert_status(200);
    assert_eq!(reply.body, serde().crate_bytes());
}

#[test]
fn tampered_bytes_are_502() {
    covers!(30);
    let upstream = Upstream::with(&[serde()]);
    upstream.set(|s| s.krate = Answer::Bytes(b"not what the index says".to_vec()));
    let gateway = Gateway::mirroring(&upstream);
    gateway.client().download("serde", "1.0.0").assert_status(502);
}

#[test]
fn a_checksum_that_changes_is_refused_with_an_alarm() {
    let upstream = Upstream::with(&[serde(), Krate::new("serde", "1.1.0")]);
    let mut gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.index("serde").assert_status(200);
    client.download("serde", "1.0.0").assert_status(200);
    assert_eq!(gateway.metric("cratehouse_alarms_total", &[]), 0.0);
    let changed = serde().lib("pub fn backdoor() {}");
    upstream.publish(&changed);
    for round in ["in memory", "on an empty disk"] {
        let client = gateway.client();
        client.index("serde").assert_status(200);
        let reply = client.download("serde", "1.0.0");
        assert_eq!(reply.status, 403, "{round}: {reply}");
        assert!(reply.text().contains("checksum"), "cargo prints why: {reply}");
        client.download("serde", "1.0.0").assert_status(403);
        client.index("serde").assert_status(200);
        assert_eq!(gateway.metric("cratehouse_alarms_total", &[]), 1.0, "{round}: one change");
        client.download("serde", "1.1.0").assert_status(200);
        gateway.restart_on_an_empty_disk();
    }
}

#[test]
fn a_version_that_comes_back_as_another_is_refused_though_nobody_ever_fetched_it() {
    let upstream = Upstream::with(&[serde(), Krate::new("serde", "1.1.0")]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.index("serde").assert_status(200);
    upstream.remove_version("serde", "1.0.0");
    client.index("serde").assert_status(200);
    upstream.remove_crate("serde");
    client.index("serde").assert_status(404);
    for (krate, status) in [
        (serde().lib("pub fn backdoor() {}"), 403),
        (Krate::new("serde", "1.1.0").lib("pub fn backdoor() {}"), 403),
        (Krate::new("serde", "1.2.0"), 200),
        (serde(), 200),
    ] {
        upstream.publish(&krate);
        client.index("serde").assert_status(200);
        client.download("serde", &krate.version).assert_status(status);
    }
    assert_eq!(gateway.metric("cratehouse_alarms_total", &[]), 2.0);
}

#[test]
fn a_large_crate_file_costs_one_request() {
    let large = Krate::new("large", "1.0.0").ballast(3 << 20);
    assert!(large.crate_bytes().len() > 3 << 20);
    let upstream = Upstream::with(std::slice::from_ref(&large));
    let gateway = Gateway::mirroring(&upstream);
    let reply = gateway.client().download("large", "1.0.0").assert_status(200);
    assert_eq!(reply.body, large.crate_bytes());
    assert_eq!(upstream.download_count(), 1);
    let requests = "cratehouse_upstream_request_seconds_count";
    assert_eq!(gateway.metric(requests, &[("kind", "crate")]), 1.0);
    assert_eq!(gateway.metric(requests, &[("kind", "crate"), ("outcome", "200")]), 1.0);
}

#[test]
fn concurrent_first_requests_share_one_fetch() {
    covers!(34);
    const ASKERS: usize = 8;
    let upstream = Upstream::with(&[serde()]);
    let gateway = Gateway::mirroring(main(&upstream).fresh_seconds(3600));
    let ask_all = |ask: &(dyn Fn(&Client) -> u16 + Sync), held: &str| {
        let before = gateway.metric("cratehouse_http_connections", &[]);
        std::thread::scope(|scope| {
            let asks: Vec<_> = (0..ASKERS)
                .map(|_| scope.spawn(|| ask(&gateway.client_with(|http| http.http1_only()))))
                .collect();
            until("all have asked", || {
                let open = gateway.metric("cratehouse_http_connections", &[]) - before;
                open >= ASKERS as f64 && upstream.count(held) == 1
            });
            upstream.set(|s| s.paths.clear());
            asks.into_iter().for_each(|ask| assert_eq!(ask.join().unwrap(), 200));
        });
        assert_eq!(upstream.count(held), 1);
    };
    let hold = |path: &str| upstream.set(|s| _ = s.paths.insert(path.to_owned(), Answer::Hold));
    hold(&path("serde"));
    ask_all(&|client| client.index("serde").status, &path("serde"));
    let file = "/crates/serde/1.0.0/download";
    hold(file);
    ask_all(&|client| client.download("serde", "1.0.0").status, file);
}

#[test]
fn every_form_of_dl_is_honoured() {
    let krate = Krate::new("My-Crate", "1.0.0+b.1");
    for dl in [
        "{origin}/plain",
        "{origin}/{crate}/{version}/x.crate",
        "{origin}/{prefix}/{crate}-{version}.crate",
        "{origin}/{lowerprefix}/{crate}/{version}",
        "{origin}/by-sum/{sha256-checksum}",
        "{origin}/q/{crate}-{version}?sum={sha256-checksum}",
    ] {
        let upstream = Upstream::with(std::slice::from_ref(&krate));
        upstream.set(|s| s.dl = dl.to_owned());
        let gateway = Gateway::mirroring(&upstream);
        let reply = gateway.client().download("My-Crate", "1.0.0+b.1");
        assert_eq!(reply.status, 200, "{dl}: {reply}\n{:?}", upstream.requests());
        assert_eq!(reply.body, krate.crate_bytes());
    }
}

#[test]
fn dl_can_be_set_by_hand() {
    let upstream = Upstream::with(&[serde()]);
    upstream.set(|s| s.dl = "{origin}/right/{crate}/{version}".to_owned());
    upstream.set(|s| s.config = Answer::Bytes(br#"{"dl":"http://127.0.0.1:1/wrong"}"#.to_vec()));
    let dl = upstream.origin() + "/right/{crate}/{version}";
    let gateway = Gateway::mirroring(main(&upstream).text("dl", &dl));
    gateway.client().download("serde", "1.0.0").assert_status(200);
}

#[test]
fn redirects_are_followed_within_bounds() {
    let (near, far) = (Upstream::with(&[serde()]), Upstream::with(&[serde()]));
    near.set(|s| {
        s.index = Answer::Redirect("/moved".to_owned());
        s.krate = Answer::Redirect("/moved".to_owned());
    });
    let gateway = Gateway::mirroring(&near);
    let client = gateway.client();
    assert_eq!(client.index("serde").assert_status(200).body, far.index_file("serde"));
    client.download("serde", "1.0.0").assert_status(200);

    let elsewhere = Answer::Redirect(far.origin() + "/moved");
    near.set(|s| (s.index, s.krate) = (elsewhere.clone(), elsewhere.clone()));
    let strict = Gateway::mirroring(&near);
    strict.client().index("serde").assert_trouble();
    assert_eq!(far.requests(), [], "a private address of another origin is not asked");
    let open = Gateway::mirroring(main(&near).flag("private_dl", true));
    open.client().index("serde").assert_status(200);
    open.client().download("serde", "1.0.0").assert_status(200);

    near.set(|s| (s.index, s.krate) = (Answer::Normal, Answer::RedirectForEver));
    let lost = Gateway::mirroring(&near);
    let reply = lost.client().download("serde", "1.0.0");
    assert!([502, 503, 504].contains(&reply.status), "{reply}");
}

#[test]
fn a_dl_at_a_private_address_of_another_origin_needs_leave() {
    let (index, files) = (Upstream::with(&[serde()]), Upstream::with(&[serde()]));
    files.set(|s| s.dl = "{origin}/f/{crate}/{version}".to_owned());
    index.set(|s| s.dl = files.origin() + "/f/{crate}/{version}");
    let strict = Gateway::mirroring(&index);
    let reply = strict.client().download("serde", "1.0.0");
    assert!([502, 503, 504].contains(&reply.status), "{reply}");
    assert_eq!(files.requests(), []);
    let open = Gateway::mirroring(main(&index).flag("private_dl", true));
    open.client().download("serde", "1.0.0").assert_status(200);
}

#[test]
fn the_token_for_an_upstream_goes_to_its_own_origin_and_nowhere_else() {
    let (near, far) = (Upstream::with(&[serde()]), Upstream::with(&[serde()]));
    near.set(|s| s.token = Some("sesame".to_owned()));
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("token");
    std::fs::write(&file, "sesame\n").unwrap();
    let config = main(&near).text("token_file", file.to_str().unwrap()).flag("private_dl", true);
    let gateway = Gateway::mirroring(config);
    let client = gateway.client();
    client.index("serde").assert_status(200);
    near.set(|s| s.krate = Answer::Redirect(far.origin() + "/moved"));
    client.download("serde", "1.0.0").assert_status(200);
    assert!(near.requests().iter().all(|r| r.header("authorization").is_some()));
    assert!(!far.requests().is_empty());
    assert!(far.requests().iter().all(|r| r.header("authorization").is_none()));
    assert!(!gateway.log_contains("sesame"));

    let without = Gateway::mirroring(&near);
    without.client().index("serde").assert_trouble();
}

#[test]
fn a_version_that_the_upstream_removed_is_no_longer_served() {
    let upstream = Upstream::with(&[serde(), Krate::new("serde", "1.1.0")]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.download("serde", "1.0.0").assert_status(200);
    let kept = gateway.stored_soon("blobs/mirror", 1);
    upstream.remove_version("serde", "1.0.0");
    assert_eq!(client.index("serde").assert_status(200).lines().len(), 1);
    client.download("serde", "1.0.0").assert_status(404);
    assert_eq!(gateway.stored("blobs/mirror"), kept, "its bytes are kept");
    upstream.remove_crate("serde");
    client.index("serde").assert_status(404);
}
