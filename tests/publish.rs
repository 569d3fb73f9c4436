//! Publishing: what is accepted, what is refused and why, and that a refusal leaves nothing.

use std::io::{Read, Write};
use std::net::TcpStream;

use cratehouse_tests::client::{Client, Reply};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{CRATES_IO, Dep, Krate, frame};
use cratehouse_tests::patience::until;
use cratehouse_tests::tarball::TarballBuilder;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;
use serde_json::{Value, json};
use tar::EntryType;

/// A gateway and somebody who may publish.
struct House {
    gateway: Gateway,
    client: Client,
    token: String,
}

impl House {
    fn of(gateway: Gateway) -> Self {
        let (client, token) = (gateway.client(), gateway.token("alice"));
        Self { gateway, client, token }
    }

    fn new() -> Self {
        Self::of(Gateway::start())
    }

    fn publish(&self, krate: &Krate) -> Reply {
        self.client.publish(krate, &self.token)
    }

    #[track_caller]
    fn accept(&self, krate: &Krate) -> Reply {
        self.publish(krate).assert_status(200)
    }

    /// What a publish adds to the store.
    fn truth(&self) -> Vec<String> {
        let mut files = self.gateway.stored("journal");
        files.extend(self.gateway.stored("blobs/hosted"));
        files
    }

    /// Sends a body that must be refused with this status, in the form of the web API, with
    /// nothing stored. Gives the details.
    #[track_caller]
    fn refuse_body(&self, body: Vec<u8>, status: u16, containing: &str) -> String {
        let before = self.truth();
        let reply = self.client.publish_raw(body, &self.token);
        let details = reply.assert_refused(status, containing);
        assert_eq!(self.truth(), before, "a refusal stores nothing: {details}");
        details
    }

    #[track_caller]
    fn refuse(&self, krate: &Krate, status: u16, containing: &str) -> String {
        self.refuse_body(krate.publish_body(), status, containing)
    }
}

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

#[test]
fn an_answered_publish_is_visible_and_downloadable_at_once() {
    covers!(48, 70);
    let house = House::new();
    let reply = house.accept(&foo());
    assert!(reply.json().get("errors").is_none());
    let line = house.client.index("foo").assert_status(200).line("1.0.0");
    assert_eq!(line["cksum"], foo().cksum());
    let bytes = house.client.download("foo", "1.0.0").assert_status(200).body;
    assert_eq!(bytes, foo().crate_bytes());
    let blobs = house.gateway.stored("blobs/hosted");
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    assert!(blobs[0].ends_with(&foo().cksum()));
    let published = [("outcome", "published")];
    assert_eq!(house.gateway.metric("cratehouse_publishes_total", &published), 1.0);
}

#[test]
fn a_content_type_is_not_needed_and_octet_stream_is_fine() {
    covers!(49);
    let house = House::new();
    let put = |version: &str, kind: &[(&str, &str)]| {
        let mut headers = vec![("authorization", house.token.as_str())];
        headers.extend_from_slice(kind);
        let body = Krate::new("foo", version).publish_body();
        house.client.send(Method::PUT, "/api/v1/crates/new", &headers, Some(body))
    };
    put("1.0.0", &[]).assert_status(200);
    put("1.1.0", &[("content-type", "application/octet-stream")]).assert_status(200);
}

#[test]
fn a_body_of_megabytes_may_be_announced_first() {
    covers!(50);
    let house = House::of(Gateway::builder().plain_http().start());
    let body = foo().ballast(3_000_000).publish_body();
    let mut stream = TcpStream::connect(house.gateway.addr()).unwrap();
    let head = format!(
        "PUT /api/v1/crates/new HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        house.gateway.addr(),
        house.token,
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
    let house = House::new();
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
        let details = house.refuse_body(body, 400, "");
        assert!(!details.is_empty(), "{what}");
    }
    house.accept(&foo());
}

#[test]
fn what_is_too_large_is_413() {
    covers!(52, 68);
    let limits = "publish_crate_kib = 100";
    let house = House::of(Gateway::builder().set("limits", limits).start());
    house.refuse(&foo().ballast(110 << 10), 413, "");
    let mut json = foo().publish_json("");
    json["readme"] = json!("x".repeat((1 << 20) + 1));
    house.refuse_body(frame(json.to_string().as_bytes(), &foo().crate_bytes()), 413, "");
    house.accept(&foo().ballast(90 << 10));
}

#[test]
fn duplicate_version_is_refused() {
    covers!(53);
    let house = House::new();
    house.accept(&foo());
    let bytes = house.client.download("foo", "1.0.0").body;
    house.refuse(&foo(), 400, "already");
    house.refuse(&foo().lib("other"), 400, "already");
    house.refuse(&Krate::new("foo", "1.0.0+x"), 400, "already");
    assert_eq!(house.client.download("foo", "1.0.0").body, bytes);
    house.accept(&Krate::new("foo", "1.0.1+x"));
    house.refuse(&Krate::new("foo", "1.0.1"), 400, "already");
    house.refuse(&Krate::new("foo", "1.0.1+y"), 400, "already");
}

#[test]
fn another_spelling_of_a_hosted_name_is_refused() {
    covers!(54);
    let house = House::new();
    house.accept(&Krate::new("Foo-Bar", "1.0.0"));
    for name in ["foo_bar", "foo-bar", "Foo_Bar"] {
        house.refuse(&Krate::new(name, "1.1.0"), 400, "Foo-Bar");
    }
    house.accept(&Krate::new("Foo-Bar", "1.1.0"));
}

#[test]
fn names_and_versions_follow_the_rules_of_crates_io() {
    covers!(55);
    let house = House::new();
    let long = "a".repeat(65);
    for name in ["nul", "std", "com7", "1abc", "_x", "-x", "é", "", "a b", "a/b", "..", &long] {
        house.refuse(&Krate::new(name, "1.0.0"), 400, "");
    }
    let long = format!("1.0.0-{}", "a".repeat(150));
    for version in ["", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0/..", &long] {
        house.refuse(&Krate::new("foo", version), 400, "");
    }
    house.accept(&Krate::new(&"a".repeat(64), "1.0.0-alpha.1+build.5"));
}

#[test]
fn the_request_and_the_manifest_must_name_the_same_version() {
    covers!(56);
    let house = House::new();
    for (name, version) in [("bar", "1.0.0"), ("foo", "1.0.1"), ("Foo", "1.0.0")] {
        let json = Krate::new(name, version).publish_json("").to_string();
        house.refuse_body(frame(json.as_bytes(), &foo().crate_bytes()), 400, "");
    }
    let inner = foo().manifest_text("[package]\nname = \"bar\"\nversion = \"1.0.0\"\n");
    house.refuse(&inner, 400, "");
}

#[test]
fn the_index_follows_the_tarball_and_not_the_request() {
    covers!(57);
    let upstream = Upstream::with(&[Krate::new("real", "1.0.0"), Krate::new("fake", "1.0.0")]);
    let house = House::of(Gateway::mirroring(&upstream));
    let krate = foo().dep("real", "^1").feature("x", &[]).package("links", "z");
    let mut json = krate.publish_json("");
    json["deps"][0]["name"] = json!("fake");
    json["features"] = json!({ "y": [] });
    json["links"] = json!("other");
    let body = frame(json.to_string().as_bytes(), &krate.crate_bytes());
    house.client.publish_raw(body, &house.token).assert_status(200);
    let line = house.client.index("foo").line("1.0.0");
    assert_eq!(line["deps"][0]["name"], "real");
    assert_eq!(line["features"], json!({ "x": [] }));
    assert_eq!(line["links"], "z");
}

/// A crate file that is well made up to what is added to it.
fn tarball(more: impl FnOnce(TarballBuilder) -> TarballBuilder) -> Vec<u8> {
    more(TarballBuilder::new().file("foo-1.0.0/Cargo.toml", foo().manifest().as_bytes())).gzip()
}

#[test]
fn badly_made_tarballs_are_refused() {
    covers!(58);
    let house = House::of(Gateway::builder().set("limits", "unpacked_mib = 1").start());
    let manifest = foo().manifest();
    let manifest = manifest.as_bytes();
    let alone = |path: &str| TarballBuilder::new().file(path, manifest).gzip();
    let device = |kind| tarball(|t| t.entry(kind, b"foo-1.0.0/dev", "", b""));
    let cut = {
        let whole = tarball(|t| t.file("foo-1.0.0/x", &[7; 5000]));
        whole[..whole.len() / 2].to_vec()
    };
    for (what, bytes) in [
        ("a symbolic link", tarball(|t| t.symlink("foo-1.0.0/x", "Cargo.toml"))),
        ("a symbolic link outward", tarball(|t| t.symlink("foo-1.0.0/x", "/etc/passwd"))),
        ("a hard link", tarball(|t| t.hardlink("foo-1.0.0/x", "foo-1.0.0/Cargo.toml"))),
        ("a character device", device(EntryType::Char)),
        ("a block device", device(EntryType::Block)),
        ("a pipe", device(EntryType::Fifo)),
        ("a sparse file", device(EntryType::GNUSparse)),
        ("..", tarball(|t| t.file("foo-1.0.0/../up", b""))),
        (".. at the end", tarball(|t| t.file("foo-1.0.0/x/..", b""))),
        ("an absolute path", tarball(|t| t.file("/foo-1.0.0/x", b""))),
        ("a foreign prefix", tarball(|t| t.file("bar-1.0.0/x", b""))),
        ("a prefix that only begins alike", tarball(|t| t.file("foo-1.0.01/x", b""))),
        ("no prefix", tarball(|t| t.file("x", b""))),
        ("a path that is not UTF-8", tarball(|t| t.file_at(b"foo-1.0.0/\xff", b""))),
        ("two manifests", tarball(|t| t.file("foo-1.0.0/cargo.toml", manifest))),
        ("the same manifest twice", tarball(|t| t.file("foo-1.0.0/Cargo.toml", manifest))),
        ("a manifest in capitals", alone("foo-1.0.0/CARGO.TOML")),
        ("no manifest", TarballBuilder::new().file("foo-1.0.0/src/lib.rs", b"").gzip()),
        ("a manifest further down alone", alone("foo-1.0.0/sub/Cargo.toml")),
        ("a zip bomb", tarball(|t| t.zeros("foo-1.0.0/zeros", 2 << 20))),
        ("a pax size that differs", tarball(|t| t.file_with_pax_size("foo-1.0.0/x", b"12345", 9))),
        ("no gzip", TarballBuilder::new().file("foo-1.0.0/Cargo.toml", manifest).plain()),
        ("gzip cut short", cut),
        ("nothing packed", TarballBuilder::new().gzip()),
        ("noise", vec![0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ] {
        let before = house.truth();
        let reply = house.client.publish_raw(foo().publish_body_with(&bytes), &house.token);
        assert!([400, 413].contains(&reply.status), "{what}: {reply}");
        assert!(!reply.details().is_empty(), "{what}");
        assert_eq!(house.truth(), before, "{what}");
    }
    house.accept(&foo());
}

#[test]
fn more_entries_than_allowed_are_refused() {
    covers!(58);
    let house = House::of(Gateway::builder().set("limits", "tar_entries = 5").start());
    let bytes = tarball(|t| (0..9).fold(t, |t, n| t.file(&format!("foo-1.0.0/{n}"), b"")));
    house.refuse_body(foo().publish_body_with(&bytes), 400, "");
}

#[test]
fn what_is_odd_but_allowed_is_accepted() {
    let house = House::new();
    let matching = |t: TarballBuilder| t.file_with_pax_size("foo-1.0.0/x", b"12345", 5);
    let folders = |t: TarballBuilder| t.folder("foo-1.0.0/src/").pax("path", "foo-1.0.0/long");
    let bytes = tarball(|t| {
        folders(matching(t)).file("foo-1.0.0/y", b"").file("foo-1.0.0/examples/a/Cargo.toml", b"")
    });
    let reply = house.client.publish_raw(foo().publish_body_with(&bytes), &house.token);
    reply.assert_status(200);
    let lower = Krate::new("bar", "1.0.0");
    let bytes =
        TarballBuilder::new().file("bar-1.0.0/cargo.toml", lower.manifest().as_bytes()).gzip();
    house.client.publish_raw(lower.publish_body_with(&bytes), &house.token).assert_status(200);
}

#[test]
fn manifests_that_cargo_would_not_package_are_refused() {
    covers!(59);
    let house = House::new();
    let package = "[package]\nname = \"foo\"\nversion = \"1.0.0\"\n";
    for (what, text) in [
        ("a patch", format!("{package}[patch.crates-io]\nbar = {{ path = \"../bar\" }}\n")),
        ("inheritance", format!("{package}description = {{ workspace = true }}\n")),
        ("an inherited version", "[package]\nname = \"foo\"\nversion.workspace = true\n".into()),
        ("an inherited dependency", format!("{package}[dependencies]\nx.workspace = true\n")),
        ("a path alone", format!("{package}[dependencies]\nx = {{ path = \"../x\" }}\n")),
        ("git alone", format!("{package}[dependencies]\nx = {{ git = \"https://x.example\" }}\n")),
        ("no package", "[lib]\n".to_owned()),
        ("a workspace alone", "[workspace]\nmembers = []\n".to_owned()),
        ("no TOML", "[package\n".to_owned()),
        ("nothing", String::new()),
        ("a feature that leads nowhere", format!("{package}[features]\na = [\"b\"]\n")),
    ] {
        let before = house.truth();
        let reply = house.publish(&foo().manifest_text(&text));
        assert_eq!(reply.status, 400, "{what}: {reply}");
        assert!(!reply.details().is_empty());
        assert_eq!(house.truth(), before, "{what}");
    }
}

#[test]
fn dependencies_must_exist_and_be_bounded() {
    covers!(60);
    let upstream = Upstream::with(&[Krate::new("Real-Dep", "1.0.0")]);
    let house = House::of(Gateway::mirroring(&upstream));
    house.refuse(&foo().dep("Real-Dep", "*"), 400, "*");
    house.refuse(&foo().dep("unheard-of", "1"), 400, "unheard-of");
    house.refuse(&foo().with(Dep::new("unheard-of", "1").dev()), 400, "unheard-of");
    house.refuse(&foo().dep("Real-Dep", "not a requirement"), 400, "");
    house.refuse(&foo().dep("real_dep", "1"), 400, "");
    let ours = house.gateway.index_url();
    let unknown = foo().with(Dep::new("private", "1").registry_index(&ours));
    house.refuse(&unknown, 400, "private");
    house.accept(&foo().dep("Real-Dep", "1.*"));
    upstream.set(|s| s.down = true);
    let reply = house.publish(&Krate::new("foo", "1.1.0").dep("never-asked", "1"));
    assert_eq!(reply.status, 503, "trouble is not an answer: {reply}");
}

#[test]
fn dependencies_come_from_registries_on_the_list_alone() {
    covers!(61);
    let theirs = "sparse+https://elsewhere.example/index/";
    let krate = foo().with(Dep::new("theirs", "1").registry_index(theirs));
    let house = House::new();
    house.refuse(&krate, 400, theirs);
    house.refuse(
        &foo().with(Dep::new("x", "1").registry_index(&format!("{theirs}.git"))),
        400,
        "elsewhere",
    );
    let allowed = format!("allowed_registries = [\"{theirs}\"]");
    let open = House::of(Gateway::builder().set("publish", &allowed).start());
    open.accept(&krate);
    assert_eq!(open.client.index("foo").line("1.0.0")["deps"][0]["registry"], theirs);
}

#[test]
fn the_index_says_where_each_dependency_comes_from() {
    covers!(62, 63);
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0")]);
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .set("server", "aliases = [\"https://old.acme.example\"]")
        .start();
    let house = House::of(gateway);
    let ours = house.gateway.index_url();
    house.accept(&Krate::new("private", "1.0.0"));
    for (n, url) in [ours.as_str(), "sparse+https://old.acme.example/index/"].iter().enumerate() {
        let version = format!("1.{n}.0");
        let krate = Krate::new("foo", &version)
            .with(Dep::new("private", "1").registry_index(url))
            .dep("public", "1");
        house.accept(&krate);
        let line = house.client.index("foo").line(&version);
        let registry = |name: &str| {
            let deps = line["deps"].as_array().unwrap();
            deps.iter().find(|d| d["name"] == name).unwrap()["registry"].clone()
        };
        assert_eq!(registry("private"), Value::Null, "{url}");
        assert_eq!(registry("public"), CRATES_IO, "{url}");
    }
}

#[test]
fn an_index_line_keeps_every_flag_of_a_dependency() {
    let upstream = Upstream::with(&["a", "b", "c", "d"].map(|name| Krate::new(name, "1.0.0")));
    let house = House::of(Gateway::mirroring(&upstream));
    let krate = foo()
        .with(Dep::new("a", "^1.0").renamed("alias").optional().features(&["x"]))
        .with(Dep::new("b", "1").build().no_default_features())
        .with(Dep::new("c", "1").dev().target("cfg(unix)"))
        .with(Dep::new("d", ">=1, <2").target("x86_64-unknown-linux-gnu"))
        .feature("nice", &["dep:alias"]);
    house.accept(&krate);
    let line = house.client.index("foo").line("1.0.0");
    let dep = |name: &str| {
        let deps = line["deps"].as_array().unwrap();
        deps.iter().find(|d| d["name"] == name).unwrap_or_else(|| panic!("{name}: {line}")).clone()
    };
    assert_eq!(dep("alias")["package"], "a");
    assert_eq!(dep("alias")["optional"], true);
    assert_eq!(dep("alias")["features"], json!(["x"]));
    assert_eq!(dep("alias")["req"], "^1.0");
    assert_eq!(
        (&dep("b")["kind"], &dep("b")["default_features"]),
        (&json!("build"), &json!(false))
    );
    assert_eq!((&dep("c")["kind"], &dep("c")["target"]), (&json!("dev"), &json!("cfg(unix)")));
    assert_eq!(dep("d")["req"], ">=1, <2");
    assert_eq!(line["features2"], json!({ "nice": ["dep:alias"] }));
    assert_eq!(line["v"], 2);
}

#[test]
fn a_name_that_an_upstream_has_is_refused_unless_reserved() {
    covers!(65);
    let upstream = Upstream::with(&[Krate::new("taken", "1.0.0"), Krate::new("ta_ken", "1.0.0")]);
    let house = House::of(Gateway::mirroring(&upstream));
    for name in ["taken", "TAKEN", "ta-ken", "ta_ken", "Ta-Ken"] {
        let reply = house.publish(&Krate::new(name, "2.0.0"));
        assert!([400, 403].contains(&reply.status), "{name}: {reply}");
        assert!(!reply.details().is_empty());
    }
    assert!(house.gateway.stored("blobs/hosted").is_empty());
    let reserving = Gateway::builder().upstream(&upstream).reserved(&["taken"]).start();
    let reserving = House::of(reserving);
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
    let house = House::of(Gateway::mirroring(config));
    for trouble in [Answer::Status(500), Answer::Empty, Answer::HangUp, Answer::Hold] {
        upstream.set(|s| s.index = trouble.clone());
        let before = house.truth();
        let reply = house.publish(&foo());
        assert_eq!(reply.status, 503, "{trouble:?}: {reply}");
        assert!(!reply.details().is_empty());
        assert!(reply.header("retry-after").is_some());
        assert_eq!(house.truth(), before);
    }
    upstream.set(|s| s.index = Answer::Normal);
    house.accept(&foo());
}

#[test]
fn an_unreserved_first_publish_warns_and_a_reserved_one_does_not() {
    covers!(67);
    let upstream = Upstream::start();
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let house = House::of(gateway);
    let warnings = |krate: &Krate| house.accept(krate).json()["warnings"]["other"].clone();
    let said = warnings(&foo());
    assert!(said[0].as_str().is_some_and(|w| w.contains("reserve")), "{said}");
    assert_eq!(warnings(&Krate::new("foo", "1.1.0")), json!([]));
    assert_eq!(warnings(&Krate::new("acme-x", "1.0.0")), json!([]));
}

#[test]
fn every_error_of_the_api_has_cargos_form() {
    covers!(68);
    let house = House::new();
    let call =
        |method, path: &str, token: &str| house.client.call(method, path, Some(Vec::new()), token);
    let token = house.token.as_str();
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
    let house = House::new();
    for path in ["/api/v1/crates/new", "/api/v1/crates/new/", "/api/v1//crates/new"] {
        let body = Some(foo().publish_body());
        let reply = house.client.call(Method::PUT, path, body, &house.token);
        assert!(!(300..400).contains(&reply.status), "{path}: {reply}");
    }
}

#[test]
fn of_two_concurrent_publishes_of_one_version_exactly_one_succeeds() {
    covers!(72);
    let house = House::new();
    let tries = ["a", "b", "c", "d", "e", "f"].map(|text| foo().lib(text));
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = tries.iter().map(|krate| scope.spawn(|| house.publish(krate))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let won: Vec<usize> = (0..tries.len()).filter(|n| replies[*n].status == 200).collect();
    assert_eq!(won.len(), 1, "{replies:?}");
    replies.iter().filter(|r| r.status != 200).for_each(|r| _ = r.assert_refused(400, "already"));
    let line = house.client.index("foo").lines();
    assert_eq!(line.len(), 1);
    assert_eq!(line[0]["cksum"], tries[won[0]].cksum());
    let bytes = house.client.download("foo", "1.0.0").body;
    assert_eq!(bytes, tries[won[0]].crate_bytes());
}

#[test]
fn many_publishers_at_once_all_succeed() {
    let house = House::new();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let house = &house;
            scope.spawn(move || house.accept(&Krate::new(&format!("crate-{n}"), "1.0.0")));
        }
    });
    for n in 0..16 {
        house.client.index(&format!("crate-{n}")).assert_status(200);
    }
}

#[test]
fn a_blob_without_an_entry_is_no_obstacle() {
    covers!(73);
    let house = House::new();
    let sum = foo().cksum();
    let blob = format!("blobs/hosted/{}/{sum}", &sum[..2]);
    let path = house.gateway.data().join("store").join(&blob);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, foo().crate_bytes()).unwrap();
    house.client.index("foo").assert_status(404);
    house.accept(&foo());
    assert_eq!(house.client.download("foo", "1.0.0").body, foo().crate_bytes());
    assert_eq!(house.gateway.stored("blobs/hosted"), [blob]);
}

#[test]
fn a_kill_loses_no_answered_publish_and_leaves_no_line_without_its_bytes() {
    covers!(73);
    const KILLS: u32 = 20;
    let mut house = House::new();
    let mut answered = Vec::new();
    for round in 0..KILLS {
        let krates: Vec<Krate> =
            (0..4).map(|n| Krate::new(&format!("k{n}"), &format!("1.{round}.0"))).collect();
        let ok = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for krate in &krates {
                let (house, ok) = (&house, &ok);
                scope.spawn(move || {
                    let headers = [("authorization", house.token.as_str())];
                    let body = Some(krate.publish_body());
                    let sent =
                        house.client.try_send(Method::PUT, "/api/v1/crates/new", &headers, body);
                    if sent.is_ok_and(|reply| reply.status == 200) {
                        ok.lock().unwrap().push(krate.clone());
                    }
                });
            }
            // Sooner after the first blob, or later after an answer: each round elsewhere.
            let blobs = answered.len() + (round % 5) as usize;
            let stored = || house.gateway.stored("blobs/hosted").len();
            until("some are under way", || {
                stored() > blobs || ok.lock().unwrap().len() as u32 > round % 4
            });
            house.gateway.kill_now();
        });
        answered.extend(ok.into_inner().unwrap());
        house.gateway.wait();
        house.gateway.start_again();
        house.client = house.gateway.client();
        check_bytes(&house, &answered);
    }
}

/// Every answered version is there, and every line's bytes are.
fn check_bytes(house: &House, answered: &[Krate]) {
    for krate in answered {
        let index = house.client.index(&krate.name).assert_status(200);
        assert_eq!(index.line(&krate.version)["cksum"], krate.cksum());
    }
    for name in ["k0", "k1", "k2", "k3"] {
        let index = house.client.index(name);
        if index.status == 200 {
            for line in index.lines() {
                let version = line["vers"].as_str().unwrap();
                house.client.download(name, version).assert_status(200);
            }
        }
    }
}
