//! An index file from the upstream's bytes, or the catalog's rows, to what is sent.

use std::io::Write as _;

use cratehouse_core::checksum::Checksum;
use cratehouse_package::index::IndexFile;
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::version::CrateVersion;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::input::{self, File, USUAL};

const FILES: [File; 4] = [File::Few, File::Usual, File::Large, File::LongLine];
const LEVELS: [(File, u32); 6] = [
    (File::Usual, 4),
    (File::Usual, 6),
    (File::Usual, 7),
    (File::Large, 4),
    (File::Large, 6),
    (File::Large, 7),
];

/// Every line is checked, and its version listed.
#[divan::bench(args = FILES)]
fn parsing(bencher: Bencher, file: File) {
    let (body, name, own) = (file.body(), input::name(), OwnRegistries::default());
    bencher.counter(BytesCount::new(body.len())).bench(|| mirrored::read(&body, &name, &own));
}

/// Compressed, hashed twice, its versions sorted.
#[divan::bench(args = FILES)]
fn rendering(bencher: Bencher, file: File) {
    let read = file.read();
    bencher
        .counter(BytesCount::new(read.lines.len()))
        .with_inputs(|| (read.lines.clone(), read.versions.clone()))
        .bench_values(|(lines, versions)| IndexFile::new(lines, versions));
}

/// The lines of a hosted crate from its rows.
#[divan::bench]
fn hosted_lines(bencher: Bencher) {
    let lines: Vec<_> = (0..USUAL).map(input::index_line).collect();
    bencher.bench(|| {
        let mut out = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut out, line).unwrap();
            out.push(b'\n');
        }
        out
    });
}

/// What a download asks of an index file.
#[divan::bench]
fn version_of_300(bencher: Bencher) {
    let read = File::Usual.read();
    let file = IndexFile::new(read.lines, read.versions);
    let wanted: CrateVersion = input::version(USUAL / 3).parse().unwrap();
    bencher.bench(|| file.version(black_box(&wanted)).map(|listed| listed.cksum));
}

/// By level; 6 is what is used.
#[divan::bench(args = LEVELS)]
fn gzip(bencher: Bencher, (file, level): (File, u32)) {
    let body = file.body();
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let room = Vec::with_capacity(body.len() / 6);
        let mut encoder = GzEncoder::new(room, Compression::new(level));
        encoder.write_all(&body).unwrap();
        encoder.finish().unwrap().len()
    });
}

#[divan::bench(args = [64, 30_000, 4_900_000])]
fn sha256(bencher: Bencher, bytes: usize) {
    let body = vec![7; bytes];
    bencher.counter(BytesCount::new(bytes)).bench(|| Checksum::of(black_box(&body)));
}
