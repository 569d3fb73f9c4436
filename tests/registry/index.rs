//! The sparse index, as it stands on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::{Client, Reply};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, index_path};
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;

/// A gateway with these crates published.
fn hosting(crates: &[Krate]) -> (Gateway, Client, String) {
    let gateway = Gateway::start();
    let (client, token) = (gateway.client(), gateway.token("alice"));
    for krate in crates {
        client.publish(krate, &token).assert_status(200);
    }
    (gateway, client, token)
}

fn etag(reply: &Reply) -> String {
    let etag = reply.header("etag").unwrap_or_else(|| panic!("no ETag: {reply}"));
    assert!(etag.starts_with('"') && etag.ends_with('"'), "not strong: {etag}");
    etag.to_owned()
}

#[test]
fn files_stand_where_the_cargo_book_puts_them() {
    covers!(1, 2);
    let names = ["a", "ab", "abc", "AbCd"];
    let crates = names.map(|name| Krate::new(name, "1.0.0"));
    let (_gateway, client, _) = hosting(&crates);
    for (name, path) in names.iter().zip(["1/a", "2/ab", "3/a/abc", "ab/cd/abcd"]) {
        let reply = client.get(&format!("/index/{path}")).assert_status(200);
        assert_eq!(reply.line("1.0.0")["name"], *name, "the name keeps its case");
    }
}

#[test]
fn cargo_finds_names_of_every_length_and_case() {
    covers!(1, 2);
    let names = ["a", "ab", "abc", "MyCrate"];
    let upstream = Upstream::with(&names.map(|name| Krate::new(name, "1.0.0")));
    let gateway = Gateway::mirroring(&upstream);
    let project = names.iter().fold(Project::new("app"), |p, name| p.dep(name, "1")).write();
    Cargo::new(&gateway).run(&project, &["fetch"]).assert_ok();
    for name in names {
        assert!(upstream.index_count(name) > 0, "{name}");
        assert!(index_path(name).chars().all(|c| !c.is_uppercase()));
    }
    assert!(project.lock().contains("name = \"MyCrate\""));
}

#[test]
fn a_path_that_is_not_the_crates_own_is_not_found_and_not_asked_upstream() {
    let upstream = Upstream::with(&[Krate::new("serde", "1.0.0")]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    for path in ["xx/yy/serde", "1/serde", "serde", "se/rd/", "se/rd/../serde", "SE/RD/SERDE"] {
        let reply = client.get(&format!("/index/{path}"));
        assert_eq!(reply.status, 404, "{path}: {reply}");
    }
    assert_eq!(upstream.mentions("serde"), []);
}

#[test]
fn config_json_names_dl_and_api_and_says_whether_a_token_is_needed() {
    covers!(3, 4);
    let gateway = Gateway::start();
    let reply = gateway.client().get("/index/config.json").assert_status(200);
    let config = reply.json();
    assert!(config["dl"].as_str().unwrap().starts_with(&gateway.url()));
    assert_eq!(config["api"], gateway.url(), "no slash at its end");
    assert_eq!(config["auth-required"], false);
    let tag = reply.header("etag").unwrap_or("\"anything\"").to_owned();
    for tag in [tag.as_str(), "*"] {
        let again = gateway.client().get_with("/index/config.json", &[("if-none-match", tag)]);
        assert_eq!(again.assert_status(200).body, reply.body, "304 on config.json is fatal");
    }
}

#[test]
fn an_unchanged_file_is_304_by_its_etag() {
    covers!(5);
    let (_gateway, client, _) = hosting(&[Krate::new("foo", "1.0.0")]);
    for encoding in ["identity", "gzip"] {
        let get = |tag: &str| {
            let headers = [("accept-encoding", encoding), ("if-none-match", tag)];
            client.get_with("/index/3/f/foo", &headers)
        };
        let tag = etag(&get("\"none\"").assert_status(200));
        for asked in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let reply = get(&asked).assert_status(304);
            assert_eq!(etag(&reply), tag);
            assert!(reply.body.is_empty());
        }
    }
}

#[test]
fn a_publish_or_a_yank_makes_another_etag() {
    covers!(7);
    let (_gateway, client, token) = hosting(&[Krate::new("foo", "1.0.0")]);
    let mut seen = vec![etag(&client.index("foo"))];
    client.publish(&Krate::new("foo", "1.1.0"), &token).assert_status(200);
    for step in ["published", "yanked"] {
        let old = seen.last().unwrap().clone();
        let reply = client.get_with("/index/3/f/foo", &[("if-none-match", &old)]);
        let new = etag(&reply.assert_status(200));
        assert!(!seen.contains(&new), "{step}");
        seen.push(new);
        client.yank("foo", "1.0.0", &token).assert_status(200);
    }
}

#[test]
fn gzip_and_identity_are_the_same_file() {
    covers!(8, 9);
    let (_gateway, client, _) = hosting(&[Krate::new("foo", "1.0.0"), Krate::new("foo", "1.1.0")]);
    let get = |accepted: &str| {
        let headers = [("accept-encoding", accepted)];
        let reply = client.get_with("/index/3/f/foo", &headers).assert_status(200);
        let vary = reply.header("vary").unwrap_or_default().to_lowercase();
        assert!(vary.contains("accept-encoding"), "{accepted}: {reply}");
        let length = reply.header("content-length").unwrap();
        assert_eq!(length, reply.body.len().to_string());
        reply
    };
    let plain = client.index("foo").assert_status(200);
    assert_eq!(plain.header("content-encoding"), None);
    for accepted in ["gzip", "deflate, gzip", "gzip;q=0.5, br"] {
        let packed = get(accepted);
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{accepted}");
        assert_ne!(etag(&packed), etag(&plain), "one ETag for each encoding");
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, plain.body);
    }
    for accepted in ["br", "identity", "gzip;q=0", "zstd, deflate"] {
        let reply = get(accepted);
        assert_eq!(reply.header("content-encoding"), None, "{accepted}");
        assert_eq!(reply.body, plain.body);
    }
}

#[test]
fn an_unknown_crate_is_404_and_cargo_understands() {
    covers!(10);
    let upstream = Upstream::start();
    let gateway = Gateway::mirroring(&upstream);
    gateway.client().index("nonesuch").assert_status(404);
    let project = Project::new("app").dep("nonesuch", "1").write();
    let ran = Cargo::new(&gateway).run(&project, &["fetch"]);
    ran.assert_err("no matching package named `nonesuch`");
}

#[test]
fn every_line_is_json_and_ends_in_a_newline_one_for_each_version() {
    covers!(13);
    let versions = ["1.0.0", "1.1.0-rc.1", "1.1.0", "0.9.0+build.5"];
    let (_gateway, client, _) = hosting(&versions.map(|v| Krate::new("foo", v)));
    let reply = client.index("foo");
    let lines: Vec<_> =
        reply.lines().iter().map(|l| l["vers"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines, versions, "in the order of publication");
}

#[test]
fn a_hosted_line_has_the_fields_of_crates_io() {
    let krate = Krate::new("foo", "1.0.0").feature("default", &["x"]).feature("x", &[]);
    let (_gateway, client, _) = hosting(std::slice::from_ref(&krate));
    let line = client.index("foo").line("1.0.0");
    assert_eq!(line["cksum"], krate.cksum());
    assert_eq!(line["features"]["default"][0], "x");
    assert_eq!(line["yanked"], false);
    assert_eq!(line["deps"].as_array().map(Vec::len), Some(0));
    assert!(line.get("features2").is_none_or(serde_json::Value::is_null));
}

#[test]
fn pubtime_has_cargos_form_and_survives_a_yank() {
    covers!(15);
    let (_gateway, client, token) = hosting(&[Krate::new("foo", "1.0.0")]);
    let pubtime = || client.index("foo").line("1.0.0")["pubtime"].as_str().unwrap().to_owned();
    let first = pubtime();
    let shape: String = first.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z");
    client.yank("foo", "1.0.0", &token).assert_status(200);
    assert_eq!(pubtime(), first);
    client.unyank("foo", "1.0.0", &token).assert_status(200);
    assert_eq!(pubtime(), first);
}

#[test]
fn plain_http_ignores_an_offer_to_upgrade_or_takes_it_well() {
    covers!(24);
    let gateway = Gateway::builder().plain_http().start();
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    let request = format!(
        "GET /index/config.json HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade, HTTP2-Settings, \
         close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
        gateway.addr()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"dl\""), "{answer}");
}

#[test]
fn two_hundred_parallel_requests_share_one_http2_connection() {
    covers!(25);
    let (gateway, client, _) = hosting(&[Krate::new("foo", "1.0.0")]);
    drop(client);
    let client = gateway.client();
    assert_eq!(client.index("foo").version, reqwest::Version::HTTP_2);
    let before = gateway.metric("cratehouse_http_connections", &[]);
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..200).map(|_| scope.spawn(|| client.index("foo"))).collect();
        for ask in asks {
            let reply = ask.join().unwrap().assert_status(200);
            assert_eq!(reply.version, reqwest::Version::HTTP_2);
        }
    });
    assert_eq!(gateway.metric("cratehouse_http_connections", &[]), before);
}

#[test]
fn http_1_is_served_too() {
    let (gateway, _, _) = hosting(&[Krate::new("foo", "1.0.0")]);
    let reply = gateway.client_with(|http| http.http1_only()).index("foo").assert_status(200);
    assert_eq!(reply.version, reqwest::Version::HTTP_11);
}

#[test]
fn no_redirect_carries_an_etag() {
    covers!(26);
    let (_gateway, client, _) = hosting(&[Krate::new("foo", "1.0.0")]);
    for path in ["/index", "/index/", "/", "/me", "/index/3/F/Foo", "/index//3/f/foo", "/api/v1"] {
        let reply = client.get(path);
        if (300..400).contains(&reply.status) {
            assert_eq!(reply.header("etag"), None, "{path}");
        }
    }
}

#[test]
fn head_is_get_without_the_body_and_other_methods_are_refused() {
    let (_gateway, client, _) = hosting(&[Krate::new("foo", "1.0.0")]);
    let get = client.index("foo");
    let head = client.send(Method::HEAD, "/index/3/f/foo", &[], None).assert_status(200);
    assert_eq!(head.header("etag"), get.header("etag"));
    assert!(head.body.is_empty());
    let post = client.send(Method::POST, "/index/3/f/foo", &[], Some(Vec::new()));
    assert_eq!(post.status, 405, "{post}");
}
