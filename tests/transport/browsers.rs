//! What a browser may be made to send by a page of somebody else, what a request may say of its host, and
//! what every answer says to browsers.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::h2::Connection;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::eventually;
use cratehouse_tests::test_gateway::TestGateway;
use reqwest::Method;

const CHECK: &str = "/api/v1/policy/check";
const LOCK: &[u8] = b"version = 4\n";

#[test]
fn what_a_page_of_another_site_sends_is_refused_and_changes_nothing() {
    let server = TestGateway::new();
    let url = server.gateway.url();
    let body = Krate::new("foo", "1.0.0").publish_body();
    let before = server.truth();
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ];
    for header in foreign {
        let headers = [header, ("authorization", server.token.as_str())];
        for (method, path, body) in [
            (Method::PUT, "/api/v1/crates/new", &body[..]),
            (Method::POST, CHECK, LOCK),
            (Method::DELETE, "/api/v1/crates/foo/1.0.0/yank", b""),
            (Method::PUT, "/api/v1/crates/foo/owners", b"{\"users\":[\"bob\"]}"),
            (Method::POST, "/api/v1/admin/users", b"{\"login\":\"eve\"}"),
        ] {
            let reply = server.client.send(method.clone(), path, &headers, Some(body.to_vec()));
            reply.assert_refused(403, "another site");
        }
        server.client.get_with("/index/config.json", &[header]).assert_status(200);
    }
    assert_eq!(server.truth(), before);
    assert_eq!(server.gateway.metric("cratehouse_foreign_requests_total", &[]), 20.0);
    for header in
        [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", url.as_str())]
    {
        let reply = server.client.send(Method::POST, CHECK, &[header], Some(LOCK.to_vec()));
        reply.assert_status(200);
    }
}

/// The answer to these lines, and nothing else on its connection.
fn answer(at: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_request_that_names_two_hosts_is_refused() {
    let gateway = Gateway::builder().plain_http().start();
    for (at, path) in [(gateway.addr(), "/index/config.json"), (gateway.admin_addr(), "/livez")] {
        let one = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n");
        assert!(answer(at, &one).starts_with("HTTP/1.1 200"), "{path}");
        for second in ["a.example", "b.example"] {
            let two = format!("{one}host: {second}\r\n");
            assert!(answer(at, &two).starts_with("HTTP/1.1 400"), "{path} {second}");
        }
        let absolute = format!("GET http://b.example{path} HTTP/1.1\r\nhost: a.example\r\n");
        assert!(answer(at, &absolute).starts_with("HTTP/1.1 400"), "{path}");
    }
}

#[test]
fn over_http_2_a_host_header_says_what_the_authority_says() {
    let gateway = Gateway::start();
    let connection = Connection::open(&gateway);
    let own = gateway.addr().to_string();
    for (host, status) in [(own.as_str(), 200), ("b.example", 400)] {
        let asked = connection.begin("GET", "/index/config.json", &[("host", host)]);
        let (got, text) = eventually("there is an answer", || asked.answer());
        assert_eq!(got, status, "{host}: {text}");
    }
}

#[test]
fn every_answer_tells_browsers_not_to_guess_what_it_is() {
    let server = TestGateway::new();
    server.accept(&Krate::new("foo", "1.0.0"));
    let index = server.client.index("foo");
    let etag = index.header("etag").unwrap().to_owned();
    let replies = [
        server.client.get("/"),
        server.client.get("/me"),
        server.client.get("/index/config.json"),
        server.client.get_with("/index/3/f/foo", &[("if-none-match", &etag)]).assert_status(304),
        index,
        server.client.index("absent").assert_status(404),
        server.client.download("foo", "1.0.0").assert_status(200),
        server.client.download("foo", "9.9.9").assert_status(404),
        server.client.get("/nothing").assert_status(404),
        server.client.send(Method::HEAD, "/index/3/f/foo", &[], None).assert_status(200),
        server.client.send(Method::PATCH, "/", &[], None).assert_status(405),
        server.publish(&Krate::new("foo", "1.0.0")).assert_status(400),
        server.gateway.admin().get("/livez").assert_status(200),
        server.gateway.admin().get("/metrics").assert_status(200),
        server.gateway.admin().get("/nothing").assert_status(404),
    ];
    for reply in replies {
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{reply}");
    }
}
