//! What is measured with: made from a seed, so that it is the same everywhere and every time.

use std::fmt::Write as _;

use bytes::Bytes;
use cratehouse_package::index::IndexLine;
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::CrateName;

/// The crate that every file is about.
pub(crate) const NAME: &str = "tokio-stream_ext";
/// Where its index file is.
pub(crate) const INDEX_PATH: &str = "/index/to/ki/tokio-stream_ext";
/// The versions of a crate that has been around for some years.
pub(crate) const USUAL: usize = 300;

const SEED: u64 = 0x5eed_c0de_0bad_cafe;

/// Index files that differ in what is large about them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum File {
    /// Three versions, 5 kB: half of all crates are smaller.
    Few,
    /// 300 versions of 1.5 kB.
    Usual,
    /// 4.9 MB, the largest of a lock file of many crates: 1,075 versions of 4.6 kB.
    Large,
    /// One version of 130 kB, nearly all of it features, as generated bindings have.
    LongLine,
}

impl File {
    /// Its lines.
    pub(crate) fn body(self) -> Bytes {
        let (versions, dependencies, features) = match self {
            Self::Few => (3, 8, 8),
            Self::Usual => (USUAL, 8, 8),
            Self::Large => (1_075, 24, 32),
            Self::LongLine => (1, 24, 3_300),
        };
        let mut seed = Seed(SEED);
        let lines = (0..versions).map(|nth| seed.line(nth, dependencies, features));
        Bytes::from(lines.collect::<String>())
    }

    /// The same, read.
    pub(crate) fn read(self) -> mirrored::Mirrored {
        mirrored::read(&self.body(), &name(), &OwnRegistries::default()).unwrap()
    }
}

/// The name of the crate.
pub(crate) fn name() -> CrateName {
    CrateName::parse(NAME).unwrap()
}

/// The number of a version; they rise.
pub(crate) fn version(nth: usize) -> String {
    format!("1.{}.{}", nth / 20, nth % 20)
}

/// A version as a publish makes it.
pub(crate) fn index_line(nth: usize) -> IndexLine {
    serde_json::from_str(&Seed(SEED ^ nth as u64).line(nth, 8, 8)).unwrap()
}

/// SplitMix64, by Sebastiano Vigna: a number follows from the one before.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn line(&mut self, nth: usize, dependencies: usize, features: usize) -> String {
        let mut line = format!(r#"{{"name":"{NAME}","vers":"{}","deps":["#, version(nth));
        for at in 0..dependencies {
            let comma = if at == 0 { "" } else { "," };
            let minor = self.next() % 40;
            let _ = write!(
                line,
                r#"{comma}{{"name":"dependency-{at}","req":"^0.{minor}","features":["derive"],"optional":false,"default_features":true,"target":null,"kind":"normal"}}"#
            );
        }
        line.push_str(r#"],"cksum":""#);
        for _ in 0..4 {
            let _ = write!(line, "{:016x}", self.next());
        }
        line.push_str(r#"","features":{"#);
        for at in 0..features {
            let comma = if at == 0 { "" } else { "," };
            let other = self.next() % features.max(1) as u64;
            let _ = write!(line, r#"{comma}"feature-{at:04}":["std","feature-{other:04}"]"#);
        }
        let (month, day) = (1 + nth / 28 % 12, 1 + nth % 28);
        let _ =
            writeln!(line, r#"}},"yanked":false,"pubtime":"2020-{month:02}-{day:02}T01:02:03Z"}}"#);
        line
    }
}
