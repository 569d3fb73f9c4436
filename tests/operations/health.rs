//! What probes hear: a replica that turns is alive, one that has caught up is ready, and neither
//! changes because somebody else is away for a while.

use std::net::{SocketAddr, TcpStream};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::fault_proxy::{Fault, FaultProxy};
use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

const READY: &str = "ready\nstore: ok\ncatalog: ok\njournal: ok\npolicy: ok\nprocess: ok\n";

/// A store, a proxy before it that can be away, and what a gateway over that is started with.
fn over_a_proxy() -> (MemoryS3, FaultProxy, Builder) {
    let server = MemoryS3::start();
    let bucket = server.bucket();
    let target: SocketAddr = bucket.endpoint.split_once("//").unwrap().1.parse().unwrap();
    let proxy = FaultProxy::before(target);
    let s3 = bucket.through(&proxy.origin());
    let builder = Gateway::builder().certificate(&Authority::new()).s3(&s3);
    (server, proxy, builder)
}

#[test]
fn a_start_waits_for_a_store_that_is_away_and_says_so() {
    let (_store, proxy, builder) = over_a_proxy();
    proxy.set_down(true);
    let mut gateway = builder.prepare();
    gateway.spawn();
    until("the start is tried again", || gateway.log_contains("tried again"));
    let ready = gateway.admin().get("/readyz").assert_status(503);
    let text = ready.text();
    assert!(text.contains("store: tried again, because: the object store does not"), "{text}");
    assert!(text.contains("journal: it waits") && text.contains("process: starting"), "{text}");
    gateway.admin().get("/livez").assert_status(200);
    assert!(TcpStream::connect(gateway.addr()).is_err(), "nobody is let in before it is ready");
    proxy.heal();
    gateway.await_ready();
    assert_eq!(gateway.admin().get("/readyz").text(), READY);
    gateway.client().get("/index/config.json").assert_status(200);
}

#[test]
fn a_signal_ends_a_start_that_waits() {
    let (_store, proxy, builder) = over_a_proxy();
    proxy.set_down(true);
    let mut gateway = builder.prepare();
    gateway.spawn();
    until("the start is tried again", || gateway.log_contains("tried again"));
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_start_does_not_wait_for_a_store_that_refuses_it() {
    let (_store, proxy, builder) = over_a_proxy();
    proxy.plan(|_| Some(Fault::Refuse(403)));
    let mut gateway = builder.prepare();
    gateway.spawn();
    assert_eq!(gateway.wait().code(), Some(1));
    assert!(gateway.log_contains("the credentials are wrong"), "{}", gateway.log());
    assert!(!gateway.log_contains("tried again"), "{}", gateway.log());
}

#[test]
fn a_replica_stays_ready_while_its_store_and_its_upstream_are_away() {
    let upstream = Upstream::with(&[Krate::new("outside", "1.0.0")]);
    let (_store, proxy, builder) = over_a_proxy();
    let gateway = builder.upstream(&upstream).start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    proxy.set_down(true);
    upstream.set(|s| s.down = true);
    until("the journal cannot be read", || {
        gateway.metric("cratehouse_journal_lag_seconds", &[]) > 0.0
    });
    gateway.client().index("outside").assert_trouble();
    assert_eq!(gateway.admin().get("/readyz").assert_status(200).text(), READY);
    gateway.admin().get("/livez").assert_status(200);
    gateway.client().download("foo", "1.0.0").assert_status(200);
}
