//! The beginning and the end of the process: what probes hear, and what signals do.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::http::{Action, Server};
use cratehouse_tests::krate::Krate;
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
