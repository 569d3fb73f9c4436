//! Crate files that are not held whole, and memory that stays bounded whatever its clients do.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::Reply;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::patience::{PATIENCE, eventually, until};
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;

const MIB: usize = 1 << 20;
const PATH: &str = "/api/v1/crates/large/1.0.0/download";

/// More than one eighth of what [`narrow`] keeps, and more than is brought into memory anyway.
fn large(bytes: usize) -> (Krate, Upstream) {
    let krate = Krate::new("large", "1.0.0").ballast(bytes);
    let upstream = Upstream::with(std::slice::from_ref(&krate));
    (krate, upstream)
}

/// 1 MiB for crate files that are kept.
fn narrow(upstream: &Upstream) -> cratehouse_tests::gateway::Builder {
    Gateway::builder().upstream(upstream).set("cache", "crates_mib = 1")
}

/// Overwrites a byte of the only crate file in the store.
fn damage(gateway: &Gateway) {
    let stored = gateway.stored_soon("blobs/mirror", 1);
    let path = gateway.data().join("store").join(&stored[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn try_get(gateway: &Gateway, http1: bool) -> reqwest::Result<Reply> {
    let client = gateway.client_with(|http| if http1 { http.http1_only() } else { http });
    client.try_send(Method::GET, PATH, &[], None)
}

#[test]
fn a_file_too_large_for_memory_comes_whole_from_the_store_in_both_protocols() {
    let (krate, upstream) = large(4 * MIB);
    let gateway = narrow(&upstream).start();
    let length = krate.crate_bytes().len().to_string();
    for http1 in [false, true, false] {
        let reply = try_get(&gateway, http1).unwrap().assert_status(200);
        assert_eq!(reply.header("content-length"), Some(length.as_str()));
        assert!(reply.body == krate.crate_bytes());
    }
    let head = gateway.client().send(Method::HEAD, PATH, &[], None).assert_status(200);
    assert_eq!((head.header("content-length"), head.body.len()), (Some(length.as_str()), 0));
    assert_eq!(upstream.download_count(), 1);
    let lookups =
        |outcome| gateway.metric("cratehouse_crate_lookups_total", &[("outcome", outcome)]);
    assert_eq!((lookups("miss"), lookups("store"), lookups("hit")), (1.0, 3.0, 0.0));
    until("all of its memory is free", || {
        gateway.metric("cratehouse_crate_memory_bytes", &[]) == 0.0
    });
}

#[test]
fn a_damaged_file_is_never_served_whole_and_cargo_gets_a_good_one_at_its_next_try() {
    let (krate, upstream) = large(4 * MIB);
    let gateway = narrow(&upstream).start();
    let broken = || gateway.metric("cratehouse_streams_broken_total", &[("reason", "damaged")]);
    let alarms = || gateway.metric("cratehouse_alarms_total", &[("alarm", "damaged_blob")]);
    try_get(&gateway, false).unwrap().assert_status(200);
    for (times, http1) in [(1, false), (2, true)] {
        damage(&gateway);
        assert!(try_get(&gateway, http1).is_err(), "its body ends early");
        assert_eq!((broken(), alarms()), (f64::from(times), f64::from(times)));
        let reply = try_get(&gateway, http1).unwrap().assert_status(200);
        assert_eq!(sha256(&reply.body), krate.cksum());
        assert_eq!(upstream.download_count(), 1 + times as usize);
    }
    damage(&gateway);
    let project = Project::new("app").dep("large", "1").write();
    Cargo::new(&gateway).run(&project, &["fetch"]).assert_ok();
    assert_eq!((broken(), upstream.download_count()), (3.0, 4));
}

/// A request whose client does not read on, and the status of its answer.
struct Slow {
    stream: TcpStream,
    head: String,
}

impl Slow {
    fn ask(gateway: &Gateway) -> TcpStream {
        let mut stream = TcpStream::connect(gateway.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = gateway.addr();
        write!(stream, "GET {PATH} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        stream
    }

    fn answered(mut stream: TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        Self { stream, head: String::from_utf8(head).unwrap() }
    }

    fn is(&self, status: u16) -> bool {
        self.head.starts_with(&format!("HTTP/1.1 {status} "))
    }

    fn body(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.stream.read_to_end(&mut body).unwrap();
        body
    }
}

#[test]
fn however_many_clients_read_slowly_memory_stays_bounded_and_everyone_is_served_in_the_end() {
    const BUDGET: f64 = 17.0 * (1 << 20) as f64;
    // More than the system takes from a sender whose client does not read.
    let (krate, upstream) = large(14 * MIB);
    let gateway = narrow(&upstream)
        .plain_http()
        .set("limits", "mirrored_crate_mib = 16")
        .set("limits", "fill_memory_mib = 16")
        .set("limits", "fill_wait_seconds = 2")
        .start();
    let taken = || gateway.metric("cratehouse_crate_memory_bytes", &[]);
    until("the file is in the store", || gateway.client().get(PATH).status == 200);
    until("all of its memory is free", || taken() == 0.0);

    let asked: Vec<_> = (0..14).map(|_| Slow::ask(&gateway)).collect();
    let answered: Vec<_> = asked.into_iter().map(Slow::answered).collect();
    assert!(taken() > BUDGET / 2.0 && taken() <= BUDGET, "{}", taken());
    let (served, refused): (Vec<_>, Vec<_>) = answered.into_iter().partition(|slow| slow.is(200));
    assert!(!served.is_empty() && !refused.is_empty(), "{} and {}", served.len(), refused.len());
    for slow in &refused {
        assert!(slow.is(503) && slow.head.contains("\r\nretry-after: "), "{}", slow.head);
    }
    for slow in served {
        assert!(slow.body() == krate.crate_bytes());
    }
    for _ in refused {
        let again = || Some(gateway.client().get(PATH)).filter(|reply| reply.status == 200);
        assert!(eventually("a retry is served", again).body == krate.crate_bytes());
    }
    until("all memory is free again", || taken() == 0.0);
    assert_eq!(upstream.download_count(), 1);
}
