//! A request before it reaches a flow, and its answer after.

use bytes::Bytes;
use cratehouse::http::request::negotiate;
use cratehouse::http::request::route::route;
use cratehouse::http::response::respond;
use cratehouse_core::checksum::Checksum;
use cratehouse_package::index::IndexFile;
use divan::{Bencher, black_box};
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::input::{File, INDEX_PATH, NAME};

/// As cargo sends it, through curl.
const CARGO: &str = "deflate, gzip";

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

fn file() -> IndexFile {
    let read = File::Usual.read();
    IndexFile::new(read.lines, read.versions)
}

fn tag(file: &IndexFile) -> String {
    HeaderValue::from_str(&file.gzip.as_ref().unwrap().etag).unwrap().to_str().unwrap().to_owned()
}

#[divan::bench(args = ["index file", "download", "config.json", "nothing"])]
fn routing(bencher: Bencher, what: &str) {
    let path = match what {
        "index file" => INDEX_PATH.to_owned(),
        "download" => format!("/api/v1/crates/{NAME}/1.12.3/download"),
        "config.json" => "/index/config.json".to_owned(),
        _ => "/robots.txt".to_owned(),
    };
    bencher.bench(|| route(black_box(&Method::GET), black_box(&path), None));
}

#[divan::bench(args = ["deflate, gzip", "gzip", "", "br;q=1.0, gzip;q=0.8, *;q=0.1"])]
fn accepts_gzip(bencher: Bencher, sent: &str) {
    let asked = headers(&[(header::ACCEPT_ENCODING, sent)]);
    bencher.bench(|| negotiate::accepts_gzip(black_box(&asked)));
}

#[divan::bench(args = ["none", "same", "another", "weak, the last of three"])]
fn has_already(bencher: Bencher, sent: &str) {
    let etag = tag(&file());
    let other = "\"00112233445566778899aabbccddeeff\"";
    let asked = match sent {
        "none" => HeaderMap::new(),
        "same" => headers(&[(header::IF_NONE_MATCH, &etag)]),
        "another" => headers(&[(header::IF_NONE_MATCH, other)]),
        _ => headers(&[(header::IF_NONE_MATCH, &format!("{other}, {other}, W/{etag}"))]),
    };
    bencher.bench(|| negotiate::has_already(black_box(&asked), black_box(&etag)));
}

#[divan::bench(args = ["200 gzip", "200 identity", "304"])]
fn index_answer(bencher: Bencher, what: &str) {
    let file = file();
    let asked = match what {
        "200 gzip" => headers(&[(header::ACCEPT_ENCODING, CARGO)]),
        "200 identity" => HeaderMap::new(),
        _ => headers(&[(header::ACCEPT_ENCODING, CARGO), (header::IF_NONE_MATCH, &tag(&file))]),
    };
    bencher.bench(|| respond::index_file(black_box(&file), black_box(&asked), false));
}

#[divan::bench]
fn crate_answer(bencher: Bencher) {
    let bytes = Bytes::from(vec![7; 30_000]);
    let (cksum, asked) = (Checksum::of(&bytes), HeaderMap::new());
    bencher.bench(|| {
        let bytes = black_box(&bytes).clone();
        respond::crate_file(bytes.into(), black_box(&cksum), &asked, false)
    });
}
