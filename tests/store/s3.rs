//! The registry in a bucket: a real S3 server, with and without faults on the way to it.

use cratehouse_tests::authority::Authority;
use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::fault_proxy::{Fault, FaultProxy};
use cratehouse_tests::gateway::{Builder, Gateway, UpstreamConfig};
use cratehouse_tests::http::Request;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::patience::until;
use cratehouse_tests::rgw::Rgw;
use cratehouse_tests::s3::S3;
use cratehouse_tests::upstream::Upstream;

fn over(s3: &S3) -> Builder {
    Gateway::builder().certificate(&Authority::new()).s3(s3)
}

fn foo(version: &str) -> Krate {
    Krate::new("foo", version)
}

#[test]
fn cargo_publishes_and_builds_over_s3_and_an_empty_disk_loses_nothing() {
    let bucket = Rgw::shared().bucket();
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0").lib("pub fn one() -> u8 { 1 }")]);
    let mut gateway = over(&bucket).upstream(&upstream).start();
    let cargo = Cargo::new(&gateway).token(&gateway.token("alice"));
    let library = Project::new("in-house").version("1.2.3").dep("public", "1");
    let library = library
        .package("description = \"d\"")
        .package("license = \"MIT\"")
        .lib("pub fn two() -> u8 { public::one() + 1 }");
    cargo.run(&library.write(), &["publish"]).assert_ok();

    let app = Project::new("app").ours("in-house", "1");
    let app = app.main("fn main() { assert_eq!(in_house::two(), 2); }").write();
    cargo.run(&app, &["run"]).assert_ok();
    assert_eq!(bucket.list("blobs/hosted").len(), 1);
    until("the copy is there", || bucket.list("blobs/mirror").len() == 1);
    assert!(gateway.folder().join("cratehouse-data/store").metadata().is_err(), "no second store");

    gateway.restart_on_an_empty_disk();
    cargo.forget_caches();
    cargo.run(&app, &["run", "--locked"]).assert_ok();
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn a_store_that_overwrites_is_refused_at_the_start() {
    let server = MemoryS3::overwriting();
    let mut gateway = over(&server.bucket()).prepare();
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1));
    let said = gateway.log().to_lowercase();
    for word in ["create", "if-none-match", "ceph", "s3"] {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert_eq!(server.keys(), [""; 0], "nothing is left behind");
}

/// A gateway over a bucket with a proxy before it, and a token.
fn behind_a_proxy(rgw: &Rgw) -> (FaultProxy, S3, Gateway, String) {
    let proxy = FaultProxy::before(rgw.addr());
    let bucket = rgw.bucket();
    let gateway = over(&bucket.through(&proxy.origin())).start();
    let token = gateway.token("alice");
    (proxy, bucket, gateway, token)
}

fn is_an_entry(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/journal/")
}

#[test]
fn whatever_becomes_of_an_entrys_put_it_is_written_once_and_its_publish_answered() {
    let (proxy, bucket, gateway, token) = behind_a_proxy(Rgw::shared());
    let client = gateway.client();
    let faults = [
        Fault::LoseReply,
        Fault::ApplyAndAnswer(500),
        Fault::ApplyAndAnswer(503),
        Fault::ApplyAndAnswer(409),
        Fault::ApplyAndAnswer(412),
        Fault::Cut,
        Fault::Refuse(409),
        Fault::Refuse(412),
        Fault::Refuse(500),
        Fault::Refuse(503),
        Fault::Refuse(403),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let entries = bucket.list("journal").len();
        let suffered = proxy.faults();
        proxy.once(fault, is_an_entry);
        let reply = client.publish(&foo(&format!("1.{n}.0")), &token);
        assert_eq!(reply.status, 200, "{fault:?}: {reply}");
        assert_eq!(proxy.faults(), suffered + 1, "{fault:?}");
        assert_eq!(bucket.list("journal").len(), entries + 1, "{fault:?}");
        assert_eq!(client.index("foo").lines().len(), n + 1, "{fault:?}");
    }
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn a_lost_reply_anywhere_else_does_no_harm_either() {
    let (proxy, _, gateway, token) = behind_a_proxy(Rgw::shared());
    let client = gateway.client();
    proxy.once(Fault::LoseReply, |r| r.method == "PUT" && r.path.contains("/blobs/"));
    client.publish(&foo("1.0.0"), &token).assert_status(200);
    proxy.once(Fault::LoseReply, |r| r.method == "GET" && r.path.contains("/journal/"));
    gateway.cli_ok(&["user", "add", "bob"]);
    assert_eq!(proxy.faults(), 2);
    client.publish(&foo("1.1.0"), &token).assert_status(200);
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn while_the_store_is_away_reads_go_on_and_publishes_are_503_and_then_all_is_well_again() {
    let rgw = Rgw::start();
    let bucket = rgw.bucket();
    let gateway = over(&bucket).set("limits", "append_seconds = 2").start();
    let token = gateway.token("alice");
    let client = gateway.client();
    client.publish(&foo("1.0.0"), &token).assert_status(200);
    let file = client.index("foo").assert_status(200).body;
    let bytes = client.download("foo", "1.0.0").assert_status(200).body;

    rgw.kill();
    let refused = client.publish(&foo("1.1.0"), &token);
    refused.assert_trouble();
    assert_eq!(client.index("foo").assert_status(200).body, file);
    assert_eq!(client.download("foo", "1.0.0").assert_status(200).body, bytes, "from memory");
    gateway.admin().get("/readyz").assert_status(200); // no other replica would do better

    rgw.restart();
    let again = || {
        let reply = client.publish(&foo("1.2.0"), &token);
        // The answer of an earlier try may have come too late.
        reply.status == 200 || reply.text().contains("already")
    };
    until("publishing works again", again);
    let lines = client.index("foo").lines();
    assert_eq!(lines[0]["vers"], "1.0.0");
    assert!(lines.iter().any(|line| line["vers"] == "1.2.0"));
    until("it is ready", || gateway.admin().get("/readyz").status == 200);
    gateway.cli_ok(&["journal", "verify"]);
}

const PACKAGES: usize = 200;

/// `p0` to `p199`, each a dependency of the one before it.
fn chain() -> Vec<Krate> {
    let krate = |n: usize| Krate::new(&format!("p{n}"), "1.0.0");
    let linked = (0..PACKAGES - 1).map(|n| krate(n).dep(&format!("p{}", n + 1), "1"));
    linked.chain([krate(PACKAGES - 1)]).collect()
}

#[test]
fn what_one_replica_fetched_serves_a_new_one_without_asking_the_upstream() {
    let bucket = Rgw::shared().bucket();
    let upstream = Upstream::with(&chain());
    let config = UpstreamConfig::from(&upstream).fresh_seconds(3600);
    let replica = || over(&bucket).upstream(config.clone()).start();
    let app = Project::new("app").dep("p0", "1").main("fn main() {}").write();

    let first = replica();
    Cargo::new(&first).run(&app, &["fetch"]).assert_ok();
    assert_eq!(upstream.download_count(), PACKAGES);
    let fetched = app.lock();

    upstream.forget_requests();
    let second = replica();
    Cargo::new(&second).run(&app, &["fetch", "--locked"]).assert_ok();
    assert_eq!(upstream.requests(), [], "all of it is in the store");
    assert_eq!(app.lock(), fetched);

    upstream.set(|s| s.down = true);
    drop(first);
    let third = replica();
    Cargo::new(&third).run(&app, &["fetch", "--locked"]).assert_ok();
    let client = third.client();
    assert_eq!(client.index("p7").assert_status(200).body, upstream.index_file("p7"));
}

#[test]
fn a_stale_copy_of_another_replica_serves_while_the_upstream_is_down() {
    let bucket = Rgw::shared().bucket();
    let upstream = Upstream::with(&[foo("1.0.0")]);
    let first = over(&bucket).upstream(&upstream).start();
    first.client().download("foo", "1.0.0").assert_status(200);
    let file = first.client().index("foo").assert_status(200).body;

    upstream.set(|s| s.down = true);
    let second = over(&bucket).upstream(&upstream).start();
    let client = second.client();
    assert_eq!(client.index("foo").assert_status(200).body, file);
    assert_eq!(client.download("foo", "1.0.0").assert_status(200).body, foo("1.0.0").crate_bytes());
    let stale = second.metric("cratehouse_index_lookups_total", &[("outcome", "stale")]);
    assert!(stale >= 1.0);
}
