//! Behind a balancer: whose address is told, and who is believed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use cratehouse_tests::balancer::Balancer;
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::test_gateway::TestGateway;
use reqwest::Method;
use serde_json::Value;

/// Where the clients of these tests are, by the word of their balancer.
const CLIENT: &str = "203.0.113.7";
const OTHER: &str = "198.51.100.9";

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// "The PROXY protocol", section 2.2: a TCP connection over IPv4 from this address, with an
/// extension of three bytes behind the addresses.
fn introduction(client: &str) -> Vec<u8> {
    let source: Ipv4Addr = client.parse().unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f".to_vec();
    header.extend(source.octets());
    header.extend([10, 0, 0, 1, 0xab, 0xcd, 0x01, 0xbb]);
    header.extend([4, 0, 0]);
    header
}

/// The header of a health check: the balancer speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// A registry whose `foo` is published, by whoever the balancer may be, and the addresses of who
/// pulled it, which are told at the end.
fn behind(builder: Builder, trusted: &str, header: &str) -> Gateway {
    let builder = builder
        .set("server", &format!("trusted_proxies = [\"{trusted}\"]"))
        .set("server", &format!("proxy_header = \"{header}\""))
        .set("pulls", "flush_seconds = 3600")
        .set("log", "filter = \"debug\"");
    builder.start()
}

fn pullers(gateway: &mut Gateway) -> Vec<String> {
    assert!(gateway.stop().success());
    let text = gateway.cli_ok(&["pulls", "--json", "foo"]);
    let pulls = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let addresses = pulls.map(|pull| {
        let downloads = pull["count"].as_u64().unwrap_or(1);
        vec![pull["address"].as_str().unwrap().to_owned(); usize::try_from(downloads).unwrap()]
    });
    addresses.flatten().collect()
}

/// A client of the gateway through a balancer, by a connection of its own.
fn through(balancer: &Balancer, gateway: &Gateway) -> Client {
    let scheme = gateway.url().split(':').next().unwrap().to_owned();
    let ca = (scheme == "https").then(|| std::fs::read(gateway.ca_path()).unwrap());
    Client::new(&format!("{scheme}://127.0.0.1:{}", balancer.addr().port()), ca.as_deref())
}

fn is_served(client: &Client) -> bool {
    let reply = client.try_send(Method::GET, "/index/config.json", &[], None);
    reply.is_ok_and(|reply| reply.status == 200)
}

fn proxy_v2_tells_the_client(builder: Builder) {
    let mut gateway = behind(builder, "127.0.0.1", "proxy-v2");
    let balancer = Balancer::start();
    balancer.add(gateway.addr());
    balancer.greet(introduction(CLIENT));
    let (token, client) = (gateway.token("alice"), through(&balancer, &gateway));
    client.publish(&foo(), &token).assert_status(200);
    client.download("foo", "1.0.0").assert_status(200);
    // What a client says of itself counts for nothing here.
    let claims = [("x-forwarded-for", OTHER), ("forwarded", "for=198.51.100.9")];
    client.get_with("/api/v1/crates/foo/1.0.0/download", &claims).assert_status(200);
    balancer.greet(introduction(OTHER));
    through(&balancer, &gateway).download("foo", "1.0.0").assert_status(200);
    balancer.greet(LOCAL.to_vec());
    through(&balancer, &gateway).download("foo", "1.0.0").assert_status(200);
    assert!(gateway.log_contains(&format!("peer={CLIENT}:43981")), "{}", gateway.log());
    assert_eq!(pullers(&mut gateway), [CLIENT, CLIENT, OTHER, "127.0.0.1"]);
}

#[test]
fn a_proxy_v2_header_before_tls_tells_the_client() {
    proxy_v2_tells_the_client(Gateway::builder());
}

#[test]
fn a_proxy_v2_header_before_plain_http_tells_the_client() {
    proxy_v2_tells_the_client(Gateway::builder().plain_http());
}

#[test]
fn a_trusted_proxy_that_does_not_introduce_its_client_is_refused() {
    let gateway = behind(Gateway::builder(), "127.0.0.0/8", "proxy-v2");
    let refused = || gateway.metric("cratehouse_proxy_headers_refused_total", &[]);
    assert!(!is_served(&gateway.client()));
    assert_eq!(refused(), 1.0);
    let (balancer, client) = (Balancer::start(), "203.0.113.7");
    balancer.add(gateway.addr());
    let mut older = b"PROXY TCP4 203.0.113.7 10.0.0.1 43981 443\r\n".to_vec();
    older.extend(introduction(client));
    balancer.greet(older);
    assert!(!is_served(&through(&balancer, &gateway)));
    assert_eq!(refused(), 2.0);
    drop(TcpStream::connect(gateway.addr()).unwrap()); // a health check, by its opening alone
    balancer.greet(introduction(client));
    assert!(is_served(&through(&balancer, &gateway)));
    assert_eq!(refused(), 2.0);
    assert!(gateway.log_contains("does not begin with a PROXY header"), "{}", gateway.log());
}

#[test]
fn a_trusted_proxy_has_only_so_long_to_say_it() {
    let builder = Gateway::builder().set("limits", "head_seconds = 1");
    let gateway = behind(builder, "127.0.0.1", "proxy-v2");
    let mut slow = TcpStream::connect(gateway.addr()).unwrap();
    slow.write_all(&introduction(CLIENT)[..20]).unwrap();
    assert_eq!(slow.read(&mut [0; 1]).unwrap(), 0, "it was closed");
    until("it is counted", || gateway.metric("cratehouse_proxy_headers_refused_total", &[]) == 1.0);
}

#[test]
fn a_header_of_anybody_else_is_not_one() {
    let mut gateway = behind(Gateway::builder(), "10.0.0.0/8", "proxy-v2");
    let token = gateway.token("alice");
    gateway.client().publish(&foo(), &token).assert_status(200);
    gateway.client().download("foo", "1.0.0").assert_status(200);
    let balancer = Balancer::start();
    balancer.add(gateway.addr());
    balancer.greet(introduction(CLIENT));
    assert!(!is_served(&through(&balancer, &gateway)));
    assert_eq!(gateway.metric("cratehouse_proxy_headers_refused_total", &[]), 0.0);
    assert_eq!(gateway.metric("cratehouse_tls_handshake_failures_total", &[]), 1.0);
    assert_eq!(pullers(&mut gateway), ["127.0.0.1"]);
}

/// Downloads with these headers, by the word of a proxy on this machine; who pulled.
fn downloads(trusted: &str, header: &str, said: &[&str]) -> Vec<String> {
    let gateway = behind(Gateway::builder().plain_http(), trusted, header);
    let mut server = TestGateway::of(gateway);
    server.publish(&foo()).assert_status(200);
    for words in said {
        let path = "/api/v1/crates/foo/1.0.0/download";
        server.client.get_with(path, &[(header, words)]).assert_status(200);
    }
    // A refusal is logged with the same address.
    let path = "/api/v1/crates/foo/9.9.9/download";
    server.client.get_with(path, &[(header, said[0])]).assert_status(404);
    let pullers = pullers(&mut server.gateway);
    let first = format!("peer={}", pullers[0]);
    let log = server.gateway.log();
    assert!(log.lines().any(|line| line.contains("9.9.9") && line.contains(&first)), "{log}");
    pullers
}

#[test]
fn x_forwarded_for_of_a_trusted_proxy_tells_the_client() {
    let said = [CLIENT, "1.1.1.1, 198.51.100.9", "198.51.100.9, 127.0.0.1", "nonsense"];
    let told = downloads("127.0.0.1", "x-forwarded-for", &said);
    assert_eq!(told, [CLIENT, OTHER, OTHER, "127.0.0.1"]);
}

#[test]
fn forwarded_of_a_trusted_proxy_tells_the_client() {
    let said = ["for=203.0.113.7;proto=https", "for=1.1.1.1, for=\"[2001:db8::7]:4711\""];
    assert_eq!(downloads("127.0.0.1", "forwarded", &said), [CLIENT, "2001:db8::7"]);
}

#[test]
fn forwarded_headers_of_anybody_else_count_for_nothing() {
    assert_eq!(downloads("10.0.0.0/8", "x-forwarded-for", &[CLIENT]), ["127.0.0.1"]);
    assert_eq!(downloads("10.0.0.0/8", "forwarded", &["for=203.0.113.7"]), ["127.0.0.1"]);
}

#[test]
fn an_ipv4_proxy_on_an_ipv6_socket_is_the_same_proxy() {
    let mut gateway = behind(Gateway::builder().plain_http(), "127.0.0.0/8", "x-forwarded-for");
    let listen = |at: SocketAddr| format!("listen = \"{at}\"");
    let (v4, port) = (listen(gateway.addr()), gateway.addr().port());
    gateway.stop();
    gateway.reconfigure(|text| text.replacen(&v4, &format!("listen = \"[::]:{port}\""), 1));
    gateway.start_again();
    let mut server = TestGateway::of(gateway);
    server.publish(&foo()).assert_status(200);
    let path = "/api/v1/crates/foo/1.0.0/download";
    server.client.get_with(path, &[("x-forwarded-for", CLIENT)]).assert_status(200);
    assert_eq!(pullers(&mut server.gateway), [CLIENT]);
}
