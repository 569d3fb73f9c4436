//! Publishing: what is accepted, what is refused and why, and that a refusal leaves nothing.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::client::Reply;
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Krate, frame};
use cratehouse_tests::test_gateway::TestGateway;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;
use serde_json::json;

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

#[test]
fn an_answered_publish_is_visible_and_downloadable_at_once() {
    covers!(48, 70);
    let server = TestGateway::new();
    let reply = server.accept(&foo());
    assert!(reply.json().get("errors").is_none());
    let line = server.client.index("foo").assert_status(200).line("1.0.0");
    assert_eq!(line["cksum"], foo().cksum());
    let bytes = server.client.download("foo", "1.0.0").assert_status(200).body;
    assert_eq!(bytes, foo().crate_bytes());
    let blobs = server.gateway.stored("blobs/hosted");
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    assert!(blobs[0].ends_with(&foo().cksum()));
    let published = [("outcome", "published")];
    assert_eq!(server.gateway.metric("cratehouse_publishes_total", &published), 1.0);
}

#[test]
fn a_content_type_is_not_needed_and_octet_stream_is_fine() {
    covers!(49);
    let server = TestGateway::new();
    let put = |version: &str, kind: &[(&str, &str)]| {
        let mut headers = vec![("authorization", server.token.as_str())];
        headers.extend_from_slice(kind);
        let body = Krate::new("foo", version).publish_body();
        server.client.send(Method::PUT, "/api/v1/crates/new", &headers, Some(body))
    };
    put("1.0.0", &[]).assert_status(200);
    put("1.1.0", &[("content-type", "application/octet-stream")]).assert_status(200);
}

#[test]
fn a_body_of_megabytes_may_be_announced_first() {
    covers!(50);
    let server = TestGateway::of(Gateway::builder().plain_http().start());
    let body = foo().ballast(3_000_000).publish_body();
    let mut stream = TcpStream::connect(server.gateway.addr()).unwrap();
    let head = format!(
        "PUT /api/v1/crates/new HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        server.gateway.addr(),
        server.token,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_frame_that_does_not_add_up_is_refused() {
    covers!(51, 68);
    let server = TestGateway::new();
    let whole = foo().publish_body();
    let json = foo().publish_json("").to_string();
    let mut long = whole.clone();
    long[..4].copy_from_slice(&(whole.len() as u32).to_le_bytes());
    let mut trailing = whole.clone();
    trailing.push(0);
    for (what, body) in [
        ("nothing", Vec::new()),
        ("half a length", vec![1, 0]),
        ("a JSON length beyond the end", long),
        ("a length of 4 GiB", vec![0xff; 12]),
        ("a tarball cut short", whole[..whole.len() - 1].to_vec()),
        ("bytes after the end", trailing),
        ("JSON alone", whole[..4 + json.len()].to_vec()),
        ("no JSON", frame(b"{", &foo().crate_bytes())),
        ("JSON without a name", frame(b"{\"vers\":\"1.0.0\"}", &foo().crate_bytes())),
        ("JSON that is a list", frame(b"[]", &foo().crate_bytes())),
        ("no tarball", frame(json.as_bytes(), b"")),
    ] {
        let details = server.refuse_body(body, 400, "");
        assert!(!details.is_empty(), "{what}");
    }
    server.accept(&foo());
}

#[test]
fn what_is_too_large_is_413() {
    covers!(52, 68);
    let limits = "publish_crate_kib = 100";
    let server = TestGateway::of(Gateway::builder().set("limits", limits).start());
    server.refuse(&foo().ballast(110 << 10), 413, "");
    let mut json = foo().publish_json("");
    json["readme"] = json!("x".repeat((1 << 20) + 1));
    server.refuse_body(frame(json.to_string().as_bytes(), &foo().crate_bytes()), 413, "");
    server.accept(&foo().ballast(90 << 10));
}

/// A crate file of 2 kB may ask for a megabyte of journal, index and catalog, for ever.
#[test]
fn names_lines_and_index_files_are_bounded() {
    let limits = "index_line_kib = 4\nhosted_index_file_mib = 1";
    let server = TestGateway::of(Gateway::builder().set("limits", limits).start());
    server.refuse(&foo().feature(&"f".repeat(3400), &[]), 400, "200 bytes at most");
    server.refuse(
        &foo().dep("bar", "1").feature("x", &[&format!("bar/{}", "f".repeat(201))]),
        400,
        "",
    );
    let wide = |version: &str, features: usize| {
        let features = (0..features).map(|n| format!("feature-{n:0>180}"));
        features.fold(Krate::new("wide", version), |krate, name| krate.feature(&name, &[]))
    };
    let told = server.refuse(&wide("1.0.0", 25), 413, "index_line_kib");
    assert!(told.contains("4096 at most"), "{told}");
    for n in 0..300 {
        let reply = server.publish(&wide(&format!("1.0.{n}"), 18));
        if reply.status == 413 {
            reply.assert_refused(413, "hosted_index_file_mib");
            assert!((250..290).contains(&n), "{n} lines of some 3.8 kB are in one MiB");
            server.accept(&foo());
            return;
        }
        reply.assert_status(200);
    }
    panic!("there was no end");
}

#[test]
fn duplicate_version_is_refused() {
    covers!(53);
    let server = TestGateway::new();
    server.accept(&foo());
    let bytes = server.client.download("foo", "1.0.0").body;
    server.refuse(&foo(), 400, "already");
    server.refuse(&foo().lib("other"), 400, "already");
    server.refuse(&Krate::new("foo", "1.0.0+x"), 400, "already");
    assert_eq!(server.client.download("foo", "1.0.0").body, bytes);
    server.accept(&Krate::new("foo", "1.0.1+x"));
    server.refuse(&Krate::new("foo", "1.0.1"), 400, "already");
    server.refuse(&Krate::new("foo", "1.0.1+y"), 400, "already");
}

#[test]
fn another_spelling_of_a_hosted_name_is_refused() {
    covers!(54);
    let server = TestGateway::new();
    server.accept(&Krate::new("Foo-Bar", "1.0.0"));
    for name in ["foo_bar", "foo-bar", "Foo_Bar"] {
        server.refuse(&Krate::new(name, "1.1.0"), 400, "Foo-Bar");
    }
    server.accept(&Krate::new("Foo-Bar", "1.1.0"));
}

#[test]
fn names_and_versions_follow_the_rules_of_crates_io() {
    covers!(55);
    let server = TestGateway::new();
    let long = "a".repeat(65);
    for name in ["nul", "std", "com7", "1abc", "_x", "-x", "é", "", "a b", "a/b", "..", &long] {
        server.refuse(&Krate::new(name, "1.0.0"), 400, "");
    }
    let long = format!("1.0.0-{}", "a".repeat(150));
    for version in ["", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0/..", &long] {
        server.refuse(&Krate::new("foo", version), 400, "");
    }
    server.accept(&Krate::new(&"a".repeat(64), "1.0.0-alpha.1+build.5"));
}

#[test]
fn the_request_and_the_manifest_must_name_the_same_version() {
    covers!(56);
    let server = TestGateway::new();
    for (name, version) in [("bar", "1.0.0"), ("foo", "1.0.1"), ("Foo", "1.0.0")] {
        let json = Krate::new(name, version).publish_json("").to_string();
        server.refuse_body(frame(json.as_bytes(), &foo().crate_bytes()), 400, "");
    }
    let inner = foo().manifest_text("[package]\nname = \"bar\"\nversion = \"1.0.0\"\n");
    server.refuse(&inner, 400, "");
}

#[test]
fn the_index_follows_the_tarball_and_not_the_request() {
    covers!(57);
    let upstream = Upstream::with(&[Krate::new("real", "1.0.0"), Krate::new("fake", "1.0.0")]);
    let server = TestGateway::of(Gateway::mirroring(&upstream));
    let krate = foo().dep("real", "^1").feature("x", &[]).package("links", "z");
    let mut json = krate.publish_json("");
    json["deps"][0]["name"] = json!("fake");
    json["features"] = json!({ "y": [] });
    json["links"] = json!("other");
    let body = frame(json.to_string().as_bytes(), &krate.crate_bytes());
    server.client.publish_raw(body, &server.token).assert_status(200);
    let line = server.client.index("foo").line("1.0.0");
    assert_eq!(line["deps"][0]["name"], "real");
    assert_eq!(line["features"], json!({ "x": [] }));
    assert_eq!(line["links"], "z");
}

#[test]
fn a_name_that_an_upstream_has_is_refused_unless_reserved() {
    covers!(65);
    let upstream = Upstream::with(&[Krate::new("taken", "1.0.0"), Krate::new("ta_ken", "1.0.0")]);
    let server = TestGateway::of(Gateway::mirroring(&upstream));
    for name in ["taken", "TAKEN", "ta-ken", "ta_ken", "Ta-Ken"] {
        let reply = server.publish(&Krate::new(name, "2.0.0"));
        assert!([400, 403].contains(&reply.status), "{name}: {reply}");
        assert!(!reply.details().is_empty());
    }
    assert!(server.gateway.stored("blobs/hosted").is_empty());
    let reserving = Gateway::builder().upstream(&upstream).reserved(&["taken"]).start();
    let reserving = TestGateway::of(reserving);
    upstream.forget_requests();
    reserving.accept(&Krate::new("taken", "2.0.0"));
    assert_eq!(upstream.requests(), []);
    assert_eq!(reserving.client.index("taken").lines().len(), 1);
}

#[test]
fn a_name_is_given_only_when_every_upstream_has_said_no() {
    covers!(65, 70);
    let upstream = Upstream::start();
    let config = UpstreamConfig::from(&upstream).number("timeout_seconds", 1);
    let server = TestGateway::of(Gateway::mirroring(config));
    for failure in [Answer::Status(500), Answer::Empty, Answer::HangUp, Answer::Hold] {
        upstream.set(|s| s.index = failure.clone());
        let before = server.truth();
        let reply = server.publish(&foo());
        assert_eq!(reply.status, 503, "{failure:?}: {reply}");
        assert!(!reply.details().is_empty());
        assert!(reply.header("retry-after").is_some());
        assert_eq!(server.truth(), before);
    }
    upstream.set(|s| s.index = Answer::Normal);
    server.accept(&foo());
}

#[test]
fn an_unreserved_first_publish_warns_and_a_reserved_one_does_not() {
    covers!(67);
    let upstream = Upstream::start();
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let server = TestGateway::of(gateway);
    let warnings = |krate: &Krate| server.accept(krate).json()["warnings"]["other"].clone();
    let said = warnings(&foo());
    assert!(said[0].as_str().is_some_and(|w| w.contains("reserve")), "{said}");
    assert_eq!(warnings(&Krate::new("foo", "1.1.0")), json!([]));
    assert_eq!(warnings(&Krate::new("acme-x", "1.0.0")), json!([]));
}

#[test]
fn every_error_of_the_api_has_cargos_form() {
    covers!(68);
    let server = TestGateway::new();
    let call =
        |method, path: &str, token: &str| server.client.call(method, path, Some(Vec::new()), token);
    let token = server.token.as_str();
    for (method, path, token, status) in [
        (Method::PUT, "/api/v1/crates/new", "", 401),
        (Method::PUT, "/api/v1/crates/new", "wrong", 401),
        (Method::PUT, "/api/v1/crates/new", token, 400),
        (Method::DELETE, "/api/v1/crates/none/1.0.0/yank", token, 404),
        (Method::PUT, "/api/v1/crates/none/1.0.0/unyank", token, 404),
        (Method::GET, "/api/v1/crates/none/owners", token, 404),
        (Method::GET, "/api/v1/nonsense", token, 404),
        (Method::POST, "/api/v1/crates/new", token, 405),
    ] {
        let reply = call(method.clone(), path, token);
        assert!(!reply.details().is_empty(), "{method} {path}");
        let unauthorised = status == 401 && reply.status == 403;
        assert!(reply.status == status || unauthorised, "{method} {path}: {reply}");
    }
}

#[test]
fn a_publish_is_never_redirected() {
    covers!(69);
    let server = TestGateway::new();
    for path in ["/api/v1/crates/new", "/api/v1/crates/new/", "/api/v1//crates/new"] {
        let body = Some(foo().publish_body());
        let reply = server.client.call(Method::PUT, path, body, &server.token);
        assert!(!(300..400).contains(&reply.status), "{path}: {reply}");
    }
}

#[test]
fn of_two_concurrent_publishes_of_one_version_exactly_one_succeeds() {
    covers!(72);
    let server = TestGateway::new();
    let tries = ["a", "b", "c", "d", "e", "f"].map(|text| foo().lib(text));
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = tries.iter().map(|krate| scope.spawn(|| server.publish(krate))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let won: Vec<usize> = (0..tries.len()).filter(|n| replies[*n].status == 200).collect();
    assert_eq!(won.len(), 1, "{replies:?}");
    replies.iter().filter(|r| r.status != 200).for_each(|r| _ = r.assert_refused(400, "already"));
    let line = server.client.index("foo").lines();
    assert_eq!(line.len(), 1);
    assert_eq!(line[0]["cksum"], tries[won[0]].cksum());
    let bytes = server.client.download("foo", "1.0.0").body;
    assert_eq!(bytes, tries[won[0]].crate_bytes());
}

#[test]
fn many_publishers_at_once_all_succeed() {
    let server = TestGateway::new();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let server = &server;
            scope.spawn(move || server.accept(&Krate::new(&format!("crate-{n}"), "1.0.0")));
        }
    });
    for n in 0..16 {
        server.client.index(&format!("crate-{n}")).assert_status(200);
    }
}

#[test]
fn a_blob_without_an_entry_is_no_obstacle() {
    covers!(73);
    let server = TestGateway::new();
    let sum = foo().cksum();
    let blob = format!("blobs/hosted/{}/{sum}", &sum[..2]);
    let path = server.gateway.data().join("store").join(&blob);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, foo().crate_bytes()).unwrap();
    server.client.index("foo").assert_status(404);
    server.accept(&foo());
    assert_eq!(server.client.download("foo", "1.0.0").body, foo().crate_bytes());
    assert_eq!(server.gateway.stored("blobs/hosted"), [blob]);
}

#[test]
fn of_two_spellings_published_at_once_one_takes_the_name() {
    covers!(54, 72);
    let server = TestGateway::new();
    for round in 0..4 {
        let names =
            [format!("foo-bar-{round}"), format!("foo_bar-{round}"), format!("Foo-Bar_{round}")];
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let publish = |name: &String| server.publish(&Krate::new(name, "1.0.0"));
            let all: Vec<_> = names.iter().map(|n| scope.spawn(move || publish(n))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let won: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
        assert_eq!(won.len(), 1, "{replies:?}");
        replies
            .iter()
            .filter(|r| r.status != 200)
            .for_each(|r| _ = r.assert_refused(400, "one name"));
        let seen = names.iter().filter(|n| server.client.index(&n.to_lowercase()).status == 200);
        assert_eq!(seen.count(), 1);
    }
}
