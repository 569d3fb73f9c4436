//! The beginning and the end of the process: what probes hear, and what signals do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cratehouse_tests::authority::Authority;
use cratehouse_tests::balancer::Balancer;
use cratehouse_tests::client::Client;
use cratehouse_tests::fault_proxy::{Fault, FaultProxy};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::http::{Action, Server};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// A gateway with a download under way that the upstream holds back.
fn held() -> (Upstream, Gateway, std::thread::JoinHandle<u16>) {
    let upstream = Upstream::with(&[foo()]);
    upstream.set(|s| s.krate = Answer::Hold);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    let asker = std::thread::spawn(move || {
        let path = "/api/v1/crates/foo/1.0.0/download";
        client.try_send(Method::GET, path, &[], None).map_or(0, |reply| reply.status)
    });
    until("the upstream is asked", || upstream.download_count() == 1);
    (upstream, gateway, asker)
}

#[test]
fn sigterm_stops_accepting_finishes_what_is_under_way_and_exits_0() {
    let (upstream, mut gateway, asker) = held();
    gateway.terminate();
    until("nothing new is accepted", || TcpStream::connect(gateway.addr()).is_err());
    upstream.set(|s| s.krate = Answer::Normal);
    assert_eq!(asker.join().unwrap(), 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn while_it_stops_it_is_alive_and_not_ready() {
    let (upstream, mut gateway, asker) = held();
    gateway.terminate();
    let ready = || gateway.admin().get("/readyz");
    until("it is no longer ready", || ready().status == 503);
    assert!(ready().text().contains("stopping"));
    gateway.admin().get("/livez").assert_status(200);
    gateway.admin().get("/metrics").assert_status(200);
    upstream.set(|s| s.krate = Answer::Normal);
    assert_eq!(asker.join().unwrap(), 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

/// A store that takes requests and never answers.
fn silent_store() -> (Server, Gateway) {
    let store = Server::start(|_, _| Action::Wait);
    let gateway = Gateway::builder()
        .plain_http()
        .set("store", "url = \"s3://bucket/prefix\"")
        .set("store", &format!("endpoint = \"{}\"", store.origin()))
        .set("store", "region = \"here\"")
        .set("store", "access_key_id = \"key\"")
        .set("store", "allow_http = true")
        .env("CRATEHOUSE_STORE__SECRET_ACCESS_KEY", SECRET)
        .set("log", "filter = \"trace\"")
        .prepare();
    (store, gateway)
}

const SECRET: &str = "neither-said-nor-written";

#[test]
fn while_it_starts_it_is_alive_and_not_ready_and_a_signal_ends_it() {
    let (store, mut gateway) = silent_store();
    gateway.spawn();
    until("the store is asked", || !store.requests().is_empty());
    gateway.admin().get("/livez").assert_status(200);
    let ready = gateway.admin().get("/readyz").assert_status(503);
    assert!(ready.text().contains("starting"), "{ready}");
    assert!(ready.header("retry-after").is_some(), "{ready}");
    assert_eq!(gateway.metric("cratehouse_ready", &[]), 0.0, "an alert needs to see it");
    assert!(gateway.metric("process_start_time_seconds", &[]) > 0.0);
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(!gateway.log_contains(SECRET));
}

#[test]
fn idle_connections_do_not_delay_a_stop() {
    let mut gateway = Gateway::start();
    let (newer, older) = (gateway.client(), gateway.client_with(|http| http.http1_only()));
    for client in [&newer, &older] {
        client.get("/index/config.json").assert_status(200);
    }
    let silent = TcpStream::connect(gateway.addr()).unwrap();
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(!gateway.log_contains("cut off"), "{}", gateway.log());
    drop((newer, older, silent));
}

#[test]
fn a_publish_under_way_is_finished_before_the_stop() {
    let mut gateway = Gateway::builder().plain_http().start();
    let token = gateway.token("alice");
    let body = foo().publish_body();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    let head = format!(
        "PUT /api/v1/crates/new HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut word = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut word).unwrap();
    stream.write_all(first).unwrap();
    gateway.terminate();
    until("nothing new is accepted", || TcpStream::connect(gateway.addr()).is_err());
    stream.write_all(rest).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(gateway.wait().code(), Some(0));
    gateway.start_again();
    gateway.client().download("foo", "1.0.0").assert_status(200);
}

#[test]
fn a_second_signal_ends_at_once() {
    let (_upstream, mut gateway, asker) = held();
    gateway.terminate();
    until("it is stopping", || gateway.log_contains("stopping"));
    gateway.terminate();
    gateway.wait();
    assert!(gateway.log_contains("by a second signal"), "{}", gateway.log());
    assert_ne!(asker.join().unwrap(), 200);
}

#[test]
fn a_stop_is_bounded() {
    let upstream = Upstream::with(&[foo()]);
    upstream.set(|s| s.krate = Answer::Hold);
    let mut gateway =
        Gateway::builder().upstream(&upstream).set("server", "drain_seconds = 1").start();
    let client = gateway.client();
    let asker = std::thread::spawn(move || {
        _ = client.try_send(Method::GET, "/api/v1/crates/foo/1.0.0/download", &[], None);
    });
    until("the upstream is asked", || upstream.download_count() == 1);
    assert_eq!(gateway.stop().code(), Some(0));
    asker.join().unwrap();
}

/// One that goes on serving for longer than any test waits.
fn leaving() -> Gateway {
    Gateway::builder()
        .set("server", "drain_seconds = 3600")
        .set("server", "unready_seconds = 3000")
        .start()
}

#[test]
fn balancers_hear_that_it_stops_before_new_connections_are_refused() {
    let mut gateway = leaving();
    gateway.terminate();
    until("it is no longer ready", || gateway.admin().get("/readyz").status == 503);
    until("it says for how long", || gateway.log_contains("the first 3000 of them"));
    for _ in 0..3 {
        gateway.client().get("/index/config.json").assert_status(200);
    }
    gateway.terminate();
    gateway.wait();
    assert!(gateway.log_contains("by a second signal"), "{}", gateway.log());
}

#[test]
fn after_unready_seconds_it_stops() {
    let mut gateway = Gateway::builder().set("server", "unready_seconds = 1").start();
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(gateway.log_contains("stopped"), "{}", gateway.log());
}

#[test]
fn whoever_presses_ctrl_c_does_not_wait_for_balancers() {
    let mut gateway = leaving();
    gateway.interrupt();
    assert_eq!(gateway.wait().code(), Some(0));
}

/// Two gateways that look the same from outside, behind one balancer.
fn two_behind_a_balancer() -> ([Gateway; 2], Balancer, Client) {
    let authority = Authority::new();
    let gateways = [(); 2].map(|()| {
        let gateway = Gateway::builder().certificate(&authority).start();
        let token = gateway.token("alice");
        gateway.client().publish(&foo(), &token).assert_status(200);
        gateway
    });
    let balancer = Balancer::start();
    gateways.iter().for_each(|gateway| balancer.add(gateway.addr()));
    let url = format!("https://localhost:{}", balancer.addr().port());
    let client = Client::new(&url, Some(authority.ca.as_bytes()));
    (gateways, balancer, client)
}

fn downloads(gateway: &Gateway) -> f64 {
    gateway.metric("cratehouse_http_request_seconds_count", &[("route", "download")])
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_client_that_asks_all_the_time_sees_no_failure_when_its_replica_stops() {
    let (mut gateways, _balancer, client) = two_behind_a_balancer();
    let (asked, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ask = || {
        while !over.load(Ordering::SeqCst) {
            client.index("foo").assert_status(200);
            client.download("foo", "1.0.0").assert_status(200);
            asked.fetch_add(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let end = Over(&over); // whatever fails here
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for _ in 0..4 {
            let before = gateways.each_ref().map(downloads);
            let enough = asked.load(Ordering::SeqCst) + 50;
            until("requests were answered", || asked.load(Ordering::SeqCst) >= enough);
            let after = gateways.each_ref().map(downloads);
            // Whichever serves them: they have one connection, as cargo has.
            let first = after[0] - before[0] >= after[1] - before[1];
            let serving = &mut gateways[usize::from(!first)];
            assert_eq!(serving.stop().code(), Some(0));
            serving.start_again();
        }
        drop(end);
        askers.into_iter().for_each(|asker| asker.join().unwrap());
    });
}

#[test]
fn a_publish_that_waits_for_a_slow_store_is_answered_before_the_stop() {
    let (server, slow) = (MemoryS3::start(), Duration::from_secs(2));
    let bucket = server.bucket();
    let proxy = FaultProxy::before(bucket.endpoint.split_once("//").unwrap().1.parse().unwrap());
    let s3 = bucket.through(&proxy.origin());
    let mut gateway = Gateway::builder().certificate(&Authority::new()).s3(&s3).start();
    let (token, client) = (gateway.token("alice"), gateway.client());
    let entries = gateway.stored("journal").len();
    proxy.plan(move |request| {
        let slow_put = request.method == "PUT" && request.path.contains("/journal/");
        slow_put.then_some(Fault::Delay(slow))
    });
    let publish = std::thread::spawn(move || client.publish(&foo(), &token).status);
    until("the entry is being put", || proxy.faults() > 0);
    gateway.terminate();
    until("nothing new is accepted", || TcpStream::connect(gateway.addr()).is_err());
    assert_eq!(gateway.stored("journal").len(), entries, "it was not there yet");
    assert_eq!(publish.join().unwrap(), 200);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.stored("journal").len(), entries + 1);
}
