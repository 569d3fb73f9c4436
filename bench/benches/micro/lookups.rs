//! What a gateway does about a request whose answer is in memory.

use cratehouse::flows::registry::download::Part;
use cratehouse::http::request::authenticate;
use cratehouse_core::client_key::ClientKey;
use divan::{Bencher, black_box};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::input::{self, File};
use crate::policies::STARTER;
use crate::test_gateway::{TestGateway, at_once};

/// The index file; with a policy, what that has made of it before.
#[divan::bench(args = ["hosted", "mirrored", "mirrored, with a policy", "absent"])]
fn index_file(bencher: Bencher, what: &str) {
    let policy = tempfile::tempdir().unwrap();
    std::fs::write(policy.path().join("policy.toml"), STARTER).unwrap();
    let (server, name) = match what {
        "hosted" => (TestGateway::hosting(), input::name()),
        "mirrored" => (TestGateway::mirroring(File::Usual, None), input::name()),
        "absent" => (TestGateway::mirroring(File::Usual, None), "absent-crate".parse().unwrap()),
        _ => (TestGateway::mirroring(File::Usual, Some(policy.path())), input::name()),
    };
    let found = server.wait(server.gateway.lookup.find(&name)).unwrap();
    assert_eq!(found.is_some(), what != "absent");
    bencher.bench(|| at_once(server.gateway.lookup.find(black_box(&name))));
}

/// The bytes of one of 300 versions.
#[divan::bench(args = ["hosted", "mirrored"])]
fn crate_file(bencher: Bencher, what: &str) {
    let server = match what {
        "hosted" => TestGateway::hosting(),
        _ => TestGateway::mirroring_crates(),
    };
    let (name, version) = (input::name(), input::version(input::USUAL / 3).parse().unwrap());
    server.wait(server.gateway.lookup.find(&name)).unwrap();
    server.wait(server.gateway.downloads.get(&name, &version, Part::Head)).unwrap();
    let _inside = server.inside();
    bencher.bench(|| {
        at_once(server.gateway.downloads.get(black_box(&name), black_box(&version), Part::Bytes))
    });
}

/// From the header to whom its token stands for.
#[divan::bench]
fn token_in_header(bencher: Bencher) {
    let server = TestGateway::hosting();
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, server.token.parse().unwrap());
    bencher.bench(|| {
        at_once(authenticate::reader(&server.gateway, black_box(&headers), ClientKey::OWN)).unwrap()
    });
}

/// Without the header.
#[divan::bench]
fn token(bencher: Bencher) {
    let server = TestGateway::hosting();
    bencher.bench(|| {
        at_once(server.gateway.tokens.authenticate(ClientKey::OWN, black_box(&server.token)))
            .unwrap()
    });
}
