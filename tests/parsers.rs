//! What strangers' bytes cost: each parser of foreign text, over a corpus of hostile and of ordinary
//! shapes, allocates at its peak 1 MiB and 32 times the text at the most, and never more than 64 MiB.
//! With `CRATEHOUSE_SHOW=1` and `--nocapture` it says how much each takes.

#![allow(clippy::disallowed_macros, reason = "it prints what it has measured")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of this is test code: a panic is a failed test"
)]

use std::io::Write as _;

use bytes::Bytes;
use cratehouse_core::parsers::MAX_PARSE_BYTES;
use cratehouse_package::lock_file::{self, MAX_LOCK_BYTES};
use cratehouse_package::manifest::{Draft, ManifestLimits};
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::CrateName;
use cratehouse_package::publish_frame::{self, UploadLimits};
use cratehouse_package::tarball::{self, TarballLimits};
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::{Advisory, LicenseFact};
use flate2::Compression;
use flate2::write::GzEncoder;

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

const MIB: usize = 1024 * 1024;
/// The sizes that each shape is tried with, in bytes: a manifest has 1 MiB at the most.
const SIZES: [usize; 2] = [2 * 1024, MIB];
/// The largest file of an advisory.
const MAX_ADVISORY_BYTES: usize = 256 * 1024;
const MANIFEST: ManifestLimits = ManifestLimits { dependencies: 500, features: 300 };
const TARBALL: TarballLimits = TarballLimits {
    unpacked_bytes: 512 * MIB as u64,
    entries: 100_000,
    manifest_bytes: MIB as u64,
};

/// One test alone: what it measures is the whole process.
#[test]
fn what_a_parser_allocates_is_bounded_by_its_text() {
    let mut over = Vec::new();
    for size in SIZES {
        for (shape, text) in toml_shapes(size) {
            for (parser, parse) in TEXT_PARSERS {
                check(&mut over, parser, shape, text.len(), || parse(&text));
            }
            if size <= MAX_ADVISORY_BYTES {
                let advisory = format!("```toml\n{text}\n```\n# Title\n");
                check(&mut over, "advisory", shape, advisory.len(), || {
                    let _ = Advisory::parse(&advisory);
                });
            }
        }
        for (shape, text) in json_shapes(size) {
            let frame = frame(&text);
            check(&mut over, "frame", shape, text.len(), || read_frame(&frame));
        }
        for (shape, text) in index_shapes(size) {
            let body = Bytes::from(text);
            for own in [OwnRegistries::default(), OwnRegistries::new(["https://x.example/"])] {
                check(&mut over, "index", shape, body.len(), || {
                    let _ = mirrored::read(&body, &name(), &own);
                });
            }
        }
        for (shape, archive, text) in archives(size) {
            check(&mut over, "archive", shape, text, || {
                let _ = tarball::read(&archive, &name(), &version(), &TARBALL);
            });
            check(&mut over, "licence", shape, text, || {
                let _ = LicenseFact::of_crate_file(&archive, &name(), &version());
            });
        }
    }
    let (archive, paths) = alike_paths(TARBALL.entries);
    check(&mut over, "archive", "paths that are alike", paths, || {
        let read = tarball::read(&archive, &name(), &version(), &TARBALL);
        assert!(read.is_ok(), "{:?}", read.err());
    });
    for (shape, text) in toml_shapes(MAX_LOCK_BYTES) {
        check(&mut over, "lock", shape, text.len(), || read_lock(&text));
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

type Parse = fn(&str);

const TEXT_PARSERS: [(&str, Parse); 2] = [("manifest", read_manifest), ("lock", read_lock)];

fn read_manifest(text: &str) {
    let _ = Draft::parse(text, &name(), &version(), &MANIFEST);
}

fn read_lock(text: &str) {
    let _ = lock_file::packages(text);
}

fn read_frame(frame: &Bytes) {
    let limits = UploadLimits { json_bytes: 16 * MIB, crate_bytes: MIB };
    let _ = publish_frame::parse(frame.clone(), &limits);
}

fn name() -> CrateName {
    "foo".parse().unwrap()
}

fn version() -> CrateVersion {
    "1.0.0".parse().unwrap()
}

/// Measures one parse, and notes it where it takes too much.
fn check(over: &mut Vec<String>, parser: &str, shape: &str, text: usize, parse: impl FnOnce()) {
    let profiler = dhat::Profiler::builder().testing().trim_backtraces(Some(1)).build();
    parse();
    let peak = dhat::HeapStats::get().max_bytes;
    drop(profiler);
    let bound = (MIB + 32 * text).min(MAX_PARSE_BYTES);
    if std::env::var_os("CRATEHOUSE_SHOW").is_some() {
        let each = peak as f64 / text.max(1) as f64;
        println!("{parser:9} {shape:28} {text:9} B: {peak:10} B, {each:6.1} a byte");
    }
    if peak > bound {
        over.push(format!("{parser}: {shape} of {text} B took {peak} B; {bound} B at the most"));
    }
}

/// Repeats a piece up to a size, after a head and before an end.
fn repeated(size: usize, head: &str, piece: impl Fn(usize) -> String, end: &str) -> String {
    let mut text = head.to_owned();
    for n in 0.. {
        let piece = piece(n);
        if text.len() + piece.len() + end.len() > size {
            break;
        }
        text.push_str(&piece);
    }
    text + end
}

const PACKAGE: &str = "[package]\nname = \"foo\"\nversion = \"1.0.0\"\n";

/// Shapes for the readers of Cargo.toml and Cargo.lock.
fn toml_shapes(size: usize) -> Vec<(&'static str, String)> {
    let same = |piece: &'static str| move |_: usize| piece.to_owned();
    let of =
        |head: &str, piece: &dyn Fn(usize) -> String, end: &str| repeated(size, head, piece, end);
    let package = |rest: &str| format!("{PACKAGE}{rest}");
    let lines = |head: &str, piece: &dyn Fn(usize) -> String| of(&package(head), piece, "");
    let locked = |n: usize| {
        format!("[[package]]\nname = \"a{n}\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n")
    };
    vec![
        ("dotted keys in tables", of(&package("x = ["), &same("{a.a.a.a=1},"), "]")),
        ("deeply dotted in lines", {
            let piece = |_: usize| format!("[[x]]\n{}a=1\n", "a.".repeat(24));
            lines("", &piece)
        }),
        ("dotted at the top", lines("", &|n| format!("a{n}.a.a.a.a.a=1\n"))),
        ("empty tables in an array", of(&package("x = ["), &same("{},"), "]")),
        ("empty arrays in an array", of(&package("x = ["), &same("[],"), "]")),
        ("numbers in an array", of(&package("x = ["), &same("1,"), "]")),
        ("commas", of(&package("x = ["), &same(","), "]")),
        ("open arrays", of(&package("x = "), &same("["), "")),
        ("open tables", of(&package("x = "), &same("{a="), "")),
        ("open brackets in lines", lines("", &same("[\n"))),
        ("closed brackets", lines("", &same("]"))),
        ("a large inline table", of(&package("x = {"), &|n| format!("k{n}=0,"), "z=0}")),
        ("tiny keys", lines("", &|n| format!("k{n}=0\n"))),
        ("tiny headers", lines("", &|n| format!("[k{n}]\n"))),
        ("tiny tables of an array", lines("", &same("[[k]]\n"))),
        ("dots", lines("", &same("."))),
        ("equals", lines("", &same("="))),
        ("newlines", lines("", &same("\n"))),
        ("comments", lines("", &same("#\n"))),
        ("one long string", of(&package("description = \""), &same("x"), "\"")),
        ("one long word", of(&package("x = "), &same("a"), "")),
        ("escapes", of(&package("description = \""), &same("\\u0041"), "\"")),
        ("a long key of escapes", of(&package("\""), &same("\\u0041"), "\" = 1")),
        ("keys of escapes", lines("", &|n| format!("\"\\u0041{n}\"=0\n"))),
        ("dependencies", lines("[dependencies]\n", &|n| format!("d{n}='1'\n"))),
        ("empty dependencies", lines("[dependencies]\n", &|n| format!("d{n}={{}}\n"))),
        ("features of a dependency", {
            of(&package("[dependencies]\na = {version='1',features=["), &same("'a',"), "]}")
        }),
        ("features of dependencies", {
            let piece = |n| format!("d{n}={{version='1',features=[{}]}}\n", "'a',".repeat(300));
            lines("[dependencies]\n", &piece)
        }),
        ("features", lines("[features]\n", &|n| format!("f{n}=[]\n"))),
        ("values of features", {
            let piece = |n| format!("f{n}=[{}]\n", "'f',".repeat(300));
            lines("[features]\nf = []\n", &piece)
        }),
        ("targets", lines("", &|n| format!("[target.a{n}]\n"))),
        ("targets with dependencies", {
            lines("", &|n| format!("[target.a{n}.dependencies]\na='1'\n"))
        }),
        ("long targets", {
            let any = "any(unix,".repeat(60) + "unix" + &")".repeat(60);
            lines("", &|n| format!("[target.'cfg(any(a{n},{any}))'.dependencies]\nd='1'\n"))
        }),
        ("a deep target", {
            let cfg = "any(all(not(".repeat(100_000.min(size / 32));
            package(&format!("[target.'cfg({cfg}'.dependencies]\nd='1'\n"))
        }),
        ("a requirement of many", { of(&package("[dependencies]\na = '"), &same(">1,"), ">1'") }),
        ("requirements of 32", {
            let req = [">1"; 32].join(",");
            lines("[dependencies]\n", &|n| format!("d{n}='{req}'\n"))
        }),
        ("a long version", of("[package]\nname='foo'\nversion='1.0.0-", &same("a."), "a'")),
        ("a long licence", of(&package("license = '"), &same("(MIT OR "), "MIT'")),
        ("keywords", of(&package("keywords = ["), &same("'',"), "]")),
        ("packages of a lock file", of("version = 4\n", &locked, "")),
        ("tiny packages", of("", &|n| format!("[[package]]\nname='{n}'\nversion=''\n"), "")),
        ("dependencies of a package", {
            of("[[package]]\nname='a'\nversion='1'\ndependencies = [", &same("'a',"), "]")
        }),
        ("checksums in the metadata", {
            let sum = "a".repeat(64);
            of("[metadata]\n", &|n| format!("'checksum a{n} 1 x'='{sum}'\n"), "")
        }),
    ]
}

/// Shapes for the metadata of a publish.
fn json_shapes(size: usize) -> Vec<(&'static str, String)> {
    let head = "{\"name\":\"foo\",\"vers\":\"1.0.0\",\"x\":";
    let of = |open: &str, piece: &dyn Fn(usize) -> String, end: &str| {
        repeated(size, &format!("{head}{open}"), piece, &format!("{end}}}"))
    };
    let same = |piece: &'static str| move |_: usize| piece.to_owned();
    vec![
        ("deep arrays", of("", &same("["), "")),
        ("deep objects", of("", &same("{\"a\":"), "")),
        ("numbers", of("[", &same("1,"), "1]")),
        ("empty objects", of("[", &same("{},"), "1]")),
        ("many keys", of("{", &|n| format!("\"k{n}\":0,"), "\"z\":0}")),
        ("a long string", of("\"", &same("x"), "\"")),
        ("escapes", of("\"", &same("\\u0041"), "\"")),
        ("a long number", of("", &same("1"), "")),
        (
            "a long name",
            repeated(size, "{\"name\":\"", |_| "x".to_owned(), "\",\"vers\":\"1.0.0\"}"),
        ),
        ("a long version", {
            repeated(size, "{\"name\":\"foo\",\"vers\":\"1.0.0-", |_| "a.".to_owned(), "a\"}")
        }),
    ]
}

/// Shapes of an upstream's index file.
fn index_shapes(size: usize) -> Vec<(&'static str, String)> {
    let sum = "a".repeat(64);
    let line = |n: usize, more: &str| {
        format!("{{\"name\":\"foo\",\"vers\":\"1.0.{n}\",\"cksum\":\"{sum}\"{more}}}\n")
    };
    let deps = |dep: &str| {
        let many = [dep; 1000].join(",");
        move |n: usize| line(n, &format!(",\"deps\":[{many}]"))
    };
    vec![
        ("short lines", repeated(size, "", |n| line(n, ""), "")),
        ("newlines", repeated(size, &line(0, ""), |_| "\n".to_owned(), "")),
        ("blank lines", repeated(size, &line(0, ""), |_| " \n".to_owned(), "")),
        ("empty objects", repeated(size, &line(0, ""), |_| "{}\n".to_owned(), "")),
        ("odd lines between", repeated(size, "", |n| line(n, "") + "x\n", "")),
        ("lines of no version", {
            let odd = format!("{{\"name\":\"foo\",\"vers\":\"\",\"cksum\":\"{sum}\"}}\n");
            repeated(size, "", |_| odd.clone(), "")
        }),
        ("dependencies of nothing", repeated(size, "", deps("{}"), "")),
        ("dependencies on us", {
            repeated(size, "", deps("{\"registry\":\"https://x.example/\"}"), "")
        }),
        ("deep lines", repeated(size, "", |n| line(n, &format!(",\"x\":{}", "[".repeat(200))), "")),
        ("one long line", repeated(size, "", |_| "x".to_owned(), "\n")),
        ("long versions", {
            let vers = "a.".repeat(2000);
            let odd = |n| line(n, "").replace("1.0.", &format!("1.0.0-{vers}"));
            repeated(size, "", odd, "")
        }),
    ]
}

/// Archives, gzipped, with the size of the text in them that is kept.
fn archives(size: usize) -> Vec<(&'static str, Vec<u8>, usize)> {
    let manifest = repeated(size, &format!("{PACKAGE}x = ["), |_| "{a.a.a.a=1},".to_owned(), "]");
    let dull = format!("{PACKAGE}license = \"MIT\"\n");
    let entries = |n: usize, kind: tar::EntryType, content: &[u8]| {
        let mut tar = Vec::new();
        for n in 0..n {
            entry(&mut tar, kind, &format!("foo-1.0.0/{n}"), content);
        }
        entry(&mut tar, tar::EntryType::Regular, "foo-1.0.0/Cargo.toml", dull.as_bytes());
        tar
    };
    let many = size / 512;
    let mut hostile = Vec::new();
    entry(&mut hostile, tar::EntryType::Regular, "foo-1.0.0/Cargo.toml", manifest.as_bytes());
    let pax = pax_of(16 * 1024);
    let bomb = vec![0; (size * 64).min(64 * MIB)];
    vec![
        ("a hostile manifest", packed(&hostile), manifest.len()),
        ("many entries", packed(&entries(many, tar::EntryType::Regular, b"")), dull.len()),
        (
            "long names",
            packed(&entries(many / 40 + 2, tar::EntryType::GNULongName, &pax)),
            dull.len(),
        ),
        ("pax headers", packed(&entries(many / 40 + 2, tar::EntryType::XHeader, &pax)), dull.len()),
        ("a bomb of zeros", gzip(&bomb), 0),
        ("a bomb in a file", packed(&entries(1, tar::EntryType::Regular, &bomb)), dull.len()),
        ("no archive", b"PK\x03\x04 and more".to_vec(), 0),
    ]
}

/// An archive of so many entries whose long paths differ in case alone, and no one of which Windows can
/// write; with the size of all paths.
fn alike_paths(entries: usize) -> (Vec<u8>, usize) {
    let (mut tar, mut bytes) = (Vec::new(), 0);
    let manifest = format!("{PACKAGE}license = \"MIT\"\n");
    entry(&mut tar, tar::EntryType::Regular, "foo-1.0.0/Cargo.toml", manifest.as_bytes());
    for n in 1..entries {
        let case = |bit: usize| if n >> bit & 1 == 1 { 'A' } else { 'a' };
        let path = format!("foo-1.0.0/\t{}", (0..88).map(|bit| case(bit % 17)).collect::<String>());
        entry(&mut tar, tar::EntryType::Regular, &path, b"");
        bytes += path.len();
    }
    (packed(&tar), bytes)
}

fn entry(tar: &mut Vec<u8>, kind: tar::EntryType, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    let room = &mut header.as_old_mut().name;
    room[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// The records of a pax header that has as many as fit.
fn pax_of(bytes: usize) -> Vec<u8> {
    let mut records = String::new();
    while records.len() + 12 < bytes {
        records.push_str("12 mtime=12\n");
    }
    records.into_bytes()
}

fn packed(tar: &[u8]) -> Vec<u8> {
    gzip(&[tar, &[0; 1024]].concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn frame(json: &str) -> Bytes {
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    Bytes::from([&length(json.len()), json.as_bytes(), &length(0)].concat())
}
