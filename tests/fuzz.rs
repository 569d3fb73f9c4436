//! The entry points of `fuzz/`, on a stable compiler: texts that are changed at random, from a seed that a failure
//! tells. `FUZZ_SECONDS` says for how long each; without it, a second.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

#[path = "../fuzz/entry_points.rs"]
mod entry_points;

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use entry_points::ENTRY_POINTS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The longest text that is made, in bytes.
const LONGEST: usize = 64 << 10;
/// What parsers look at.
const WORDS: [&[u8]; 16] = [
    b"[[",
    b"]]",
    b"{",
    b"}",
    b"\"",
    b"\n",
    b"=",
    b"\0",
    b"\xff\xff\xff\xff",
    b"dep:",
    b"?/",
    b"..",
    b"9999999999999999999",
    b"\xe2\x80\xae",
    b"\x1b[31m",
    b"null",
];

#[test]
fn no_bytes_make_a_parser_panic() {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let each = Duration::from_secs(seconds.map_or(1, |text| text.parse().unwrap()));
    for (name, parse, begin) in ENTRY_POINTS {
        let (until, mut tries) = (Instant::now() + each, 0_u32);
        let mut corpus = vec![begin.to_vec()];
        while tries == 0 || Instant::now() < until {
            let seed = rand::random();
            let text = changed(&corpus, &mut StdRng::seed_from_u64(seed));
            let outcome = catch_unwind(|| parse(&text));
            assert!(
                outcome.is_ok(),
                "{name} panics, after seed {seed}, over {:?}",
                text.escape_ascii().to_string()
            );
            // Some descendants breed too, so that texts move away from where they began.
            if corpus.len() < 256 && tries % 16 == 0 {
                corpus.push(text);
            }
            tries += 1;
        }
    }
}

fn changed(corpus: &[Vec<u8>], dice: &mut StdRng) -> Vec<u8> {
    let mut text = corpus[dice.random_range(0..corpus.len())].clone();
    for _ in 0..dice.random_range(1..8) {
        let at = dice.random_range(0..=text.len());
        let end = (at + dice.random_range(0..16)).min(text.len());
        match dice.random_range(0..5) {
            0 => drop(text.drain(at..end)),
            1 => text
                .splice(at..at, WORDS[dice.random_range(0..WORDS.len())].iter().copied())
                .for_each(drop),
            2 => {
                let piece = text[at..end].repeat(dice.random_range(1..200));
                text.splice(at..at, piece).for_each(drop);
            }
            3 => text[at..end].iter_mut().for_each(|byte| *byte = dice.random()),
            _ => {
                let other = &corpus[dice.random_range(0..corpus.len())];
                let from = dice.random_range(0..=other.len());
                text.truncate(at);
                text.extend_from_slice(&other[from..]);
            }
        }
        text.truncate(LONGEST);
    }
    text
}
