//! What may be in a published crate file, and what may not.

use cratehouse_tests::cargo::{Cargo, Project, REGISTRY};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::tarball::TarballBuilder;
use cratehouse_tests::test_gateway::TestGateway;
use tar::EntryType;

fn foo() -> Krate {
    Krate::new("foo", "1.0.0")
}

/// A crate file that is well made up to what is added to it.
fn tarball(more: impl FnOnce(TarballBuilder) -> TarballBuilder) -> Vec<u8> {
    more(TarballBuilder::new().file("foo-1.0.0/Cargo.toml", foo().manifest().as_bytes())).gzip()
}

#[test]
fn badly_made_tarballs_are_refused() {
    covers!(58);
    let server = TestGateway::of(Gateway::builder().set("limits", "unpacked_mib = 1").start());
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
        let before = server.truth();
        let reply = server.client.publish_raw(foo().publish_body_with(&bytes), &server.token);
        assert!([400, 413].contains(&reply.status), "{what}: {reply}");
        assert!(!reply.details().is_empty(), "{what}");
        assert_eq!(server.truth(), before, "{what}");
    }
    server.accept(&foo());
}

/// Each of these holds something else for one reader than for another.
#[test]
fn archives_that_two_readers_see_differently_are_refused() {
    let server = TestGateway::new();
    let with = |paths: &[&str]| {
        tarball(|t| paths.iter().fold(t, |t, path| t.file(&format!("foo-1.0.0/{path}"), b"")))
    };
    for paths in [
        &["src/lib.rs", "src/lib.rs"][..],
        &["a", "a/b"],
        &["a/b/c", "a-", "a"],
        &["Cargo.toml::$DATA"],
        &["C:/x"],
        &["a:b"],
        &["a\u{202e}sr.bil"],
        &["\u{2067}x"],
        &["Cargo.toml."],
        &["Cargo.toml "],
        &["Cargo.toml. ."],
        &["Cargo.toml/x"],
        &["CARGO~1.TOM"],
        &["cargo~2.tom"],
        &["CARGO~1.TOM/x"],
        &["Car\u{200c}go.toml"],
        &["Cargo.toml\u{feff}"],
        &["a\nb"],
        &["a\u{1b}[2J"],
        &["a\\b"],
    ] {
        server.refuse_body(foo().publish_body_with(&with(paths)), 400, "the crate file has");
    }
    let folder = tarball(|t| t.folder("foo-1.0.0/a/").folder("foo-1.0.0/a/"));
    server.refuse_body(foo().publish_body_with(&folder), 400, "twice");
    let long = with(&[&"deep/".repeat(900)]);
    server.refuse_body(foo().publish_body_with(&long), 400, "");
    server.accept(&foo());
}

/// File names, and whether cargo packages them.
const NAMES: [(&str, bool); 17] = [
    ("src/aux.rs", true),
    ("nul", true),
    ("A.txt", true),
    ("a.txt", true),
    ("trailing.", true),
    ("trailing ", true),
    ("a\ttab", true),
    ("fold?er/x", true),
    ("fam\u{200d}ily", true),
    ("größe", true),
    ("Cargo.toml.bak", true),
    ("a:b", false),
    ("a?b", false),
    ("a<b", false),
    ("a*b", false),
    ("a\"b", false),
    ("a\\b", false),
];

/// Whatever cargo packages is taken, and who published it hears where it cannot be unpacked.
#[cfg(target_os = "linux")]
#[test]
fn what_the_real_cargo_packages_is_taken_with_a_warning() {
    let server = TestGateway::of(Gateway::builder().reserved(&["odd*"]).start());
    let cargo = Cargo::new(&server.gateway).token(&server.token);
    let args = ["publish", "--registry", REGISTRY, "--no-verify"];
    let plain = cargo.run(&Project::new("odd").write(), &args).assert_ok();
    assert!(!plain.stderr.contains("Windows"), "{plain}");
    let all = NAMES.iter().filter(|(_, packaged)| *packaged);
    let odd = all.fold(Project::new("odd").version("0.2.0"), |odd, (name, _)| odd.file(name, ""));
    let ran = cargo.run(&odd.write(), &args).assert_ok();
    ran.assert_says("on Windows nobody can unpack the crate")
        .assert_says("A.txt` beside `odd-0.2.0/a.txt`")
        .assert_says("Published odd v0.2.0");
    let app = Project::new("app").ours("odd", "=0.2.0").write();
    cargo.run(&app, &["check"]).assert_ok();
    for (name, _) in NAMES.iter().filter(|(_, packaged)| !*packaged) {
        let project = Project::new("odd").version("0.3.0").file(name, "").write();
        let ran = cargo.run(&project, &["package", "--no-verify", "--list"]);
        let packaged = cargo.run(&project, &["package", "--no-verify"]);
        assert!(!packaged.ok, "cargo packages {name:?} by now: {ran}");
    }
}

#[test]
fn more_entries_than_allowed_are_refused() {
    covers!(58);
    let server = TestGateway::of(Gateway::builder().set("limits", "tar_entries = 5").start());
    let bytes = tarball(|t| (0..9).fold(t, |t, n| t.file(&format!("foo-1.0.0/{n}"), b"")));
    server.refuse_body(foo().publish_body_with(&bytes), 400, "");
}

#[test]
fn what_is_odd_but_allowed_is_accepted() {
    let server = TestGateway::new();
    let deep = format!("foo-1.0.0/{}", "deep/".repeat(40));
    let bytes = tarball(|t| {
        t.folder("foo-1.0.0/src/")
            .file_with_pax_size("foo-1.0.0/x", b"12345", 5)
            .file(&format!("{deep}y"), b"a name of 200 bytes")
            .file("foo-1.0.0/examples/a/Cargo.toml", b"another package's")
    });
    let reply = server.client.publish_raw(foo().publish_body_with(&bytes), &server.token);
    reply.assert_status(200);
    let lower = Krate::new("bar", "1.0.0");
    let bytes =
        TarballBuilder::new().file("bar-1.0.0/cargo.toml", lower.manifest().as_bytes()).gzip();
    server.client.publish_raw(lower.publish_body_with(&bytes), &server.token).assert_status(200);
}

#[test]
fn manifests_that_cargo_would_not_package_are_refused() {
    covers!(59);
    let server = TestGateway::new();
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
        let before = server.truth();
        let reply = server.publish(&foo().manifest_text(&text));
        assert_eq!(reply.status, 400, "{what}: {reply}");
        assert!(!reply.details().is_empty());
        assert_eq!(server.truth(), before, "{what}");
    }
}
