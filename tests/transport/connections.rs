//! How many connections there may be: when all are taken the idlest goes, and one address has no more
//! than its share.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use cratehouse_tests::balancer::Balancer;
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::h2::Connection;
use cratehouse_tests::patience::until;

fn closed(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("cratehouse_http_connections_closed_total", &[("reason", reason)])
}

fn open(gateway: &Gateway) -> f64 {
    gateway.metric("cratehouse_http_connections", &[])
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    matches!(stream.read(&mut [0; 1]), Ok(0))
}

#[test]
fn one_who_takes_all_connections_and_says_nothing_stops_nobody() {
    let limits = "connections = 8";
    let builder = Gateway::builder().set("limits", limits).set("limits", "head_seconds = 300");
    let gateway = builder.set("limits", "per_address_percent = 100").start();
    let mut taken: Vec<_> = (0..8).map(|_| TcpStream::connect(gateway.addr()).unwrap()).collect();
    until("all are taken", || open(&gateway) == 8.0);
    for nth in 1..=3 {
        gateway.client().get("/index/config.json").assert_status(200);
        assert!(closed(&gateway, "full") <= f64::from(nth), "one goes for one that comes");
    }
    assert!(closed(&gateway, "full") >= 1.0);
    until("the first is closed", || is_closed(&mut taken[0]));
    assert!(!is_closed(&mut taken[7]), "the last is not");
}

#[test]
fn one_address_takes_no_more_than_its_share_and_gives_way_to_itself() {
    let builder = Gateway::builder().set("limits", "connections = 40");
    let gateway = builder.set("limits", "head_seconds = 300").start();
    let mut taken: Vec<_> = (0..10).map(|_| TcpStream::connect(gateway.addr()).unwrap()).collect();
    until("its quarter is taken", || open(&gateway) == 10.0);
    // Busy or idle: nobody has more than ten. Once they are idle, the first of them goes.
    until("another is served", || {
        let reply =
            gateway.client().try_send(reqwest::Method::GET, "/index/config.json", &[], None);
        assert!(open(&gateway) <= 11.0);
        reply.is_ok_and(|reply| reply.status == 200)
    });
    assert!(closed(&gateway, "share") >= 1.0);
    assert_eq!(closed(&gateway, "full"), 0.0);
    until("the first is closed", || is_closed(&mut taken[0]));
}

/// "The PROXY protocol", section 2.2: a TCP connection over IPv4 from this address.
fn introduction(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend(client);
    header.extend([10, 0, 0, 1, 0xab, 0xcd, 0x01, 0xbb]);
    header
}

#[test]
fn behind_a_balancer_a_share_belongs_to_the_client_that_it_names() {
    let gateway = Gateway::builder()
        .set("limits", "connections = 8")
        .set("limits", "head_seconds = 300")
        .set("server", "trusted_proxies = [\"127.0.0.1\"]")
        .set("server", "proxy_header = \"proxy-v2\"")
        .start();
    let balancer = Balancer::start();
    balancer.add(gateway.addr());
    balancer.greet(introduction([203, 0, 113, 7]));
    let connect = || TcpStream::connect(balancer.addr()).unwrap();
    let mut theirs: Vec<_> = (0..2).map(|_| connect()).collect();
    until("its quarter is taken", || open(&gateway) == 2.0);
    balancer.greet(introduction([198, 51, 100, 9]));
    let ca = std::fs::read(gateway.ca_path()).unwrap();
    let url = format!("https://127.0.0.1:{}", balancer.addr().port());
    Client::new(&url, Some(&ca)).get("/index/config.json").assert_status(200);
    assert!(theirs.iter_mut().all(|stream| !is_closed(stream)));
    for reason in ["full", "share", "refused"] {
        assert_eq!(closed(&gateway, reason), 0.0, "{reason}");
    }
}

#[test]
fn hundreds_of_clients_behind_one_address_are_served() {
    let gateway = Gateway::start();
    let clients: Vec<_> = (0..300).map(|_| Connection::open(&gateway)).collect();
    let asked: Vec<_> =
        clients.iter().map(|client| client.begin("GET", "/index/config.json", &[])).collect();
    until("all are answered", || {
        asked.iter().all(|stream| stream.answer().is_some_and(|(status, _)| status == 200))
    });
    for reason in ["full", "share", "refused"] {
        assert_eq!(closed(&gateway, reason), 0.0, "{reason}");
    }
}
