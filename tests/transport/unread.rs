//! Answers that their client does not read: they take its share of the memory, and nobody else's.

use std::net::{IpAddr, Ipv4Addr};

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::h2::Connection;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

const MIB: usize = 1 << 20;
/// Of the memory for crate files; one address has a quarter.
const MEMORY_MIB: f64 = 17.0;

fn names() -> impl Iterator<Item = String> {
    (0..12).map(|nth| format!("large{nth}"))
}

fn path(name: &str) -> String {
    format!("/api/v1/crates/{name}/1.0.0/download")
}

fn memory(gateway: &Gateway) -> f64 {
    gateway.metric("cratehouse_crate_memory_bytes", &[]) / MIB as f64
}

/// With little memory for crate files, of which some take [`MEMORY_MIB`] each.
fn narrow(upstream: &Upstream, crates_mib: u64) -> Gateway {
    let builder = Gateway::builder().upstream(upstream);
    let builder = builder.set("cache", &format!("crates_mib = {crates_mib}"));
    let lines = ["mirrored_crate_mib = 8", "fill_memory_mib = 16", "fill_wait_seconds = 3"];
    lines.iter().fold(builder, |builder, line| builder.set("limits", line)).start()
}

/// A client at another address than the one that reads nothing.
fn other(gateway: &Gateway) -> cratehouse_tests::client::Client {
    gateway.client_with(|http| http.local_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))))
}

#[test]
fn downloads_that_nobody_reads_leave_the_memory_to_others() {
    let crates: Vec<_> = names().map(|name| Krate::new(&name, "1.0.0").ballast(3 * MIB)).collect();
    let upstream = Upstream::with(&crates);
    // Streamed, at 2 MiB each.
    let gateway = narrow(&upstream, 1);
    let unread = Connection::that_reads_nothing(&gateway);
    let mut streams = Vec::new();
    for name in names().chain(names()) {
        streams.push(unread.begin("GET", &path(&name), &[]));
    }
    streams.iter_mut().for_each(|stream| stream.end());
    until("it has its share", || memory(&gateway) >= 4.0);
    let refused = || gateway.metric("cratehouse_http_requests_refused_total", &[]);
    until("what is more is refused", || refused() > 0.0);
    until("it has no more", || memory(&gateway) <= MEMORY_MIB / 2.0);
    let other = other(&gateway);
    for (name, krate) in names().zip(&crates) {
        assert!(other.get(&path(&name)).assert_status(200).body == krate.crate_bytes());
    }
    drop((streams, unread));
    until("all of its memory is free", || memory(&gateway) == 0.0);
}
