//! A corpus of made files, for whoever is offline: as many as a large lock file names, of the
//! sizes of real ones, that compress about as well.

use std::fmt::Write as _;
use std::path::Path;

use cratehouse_tests::krate::{Krate, sha256};

use super::{Corpus, CrateFile, IndexFile, Shelf};
use crate::Result;

/// Index files, as in the lock file with which issue 5 was measured.
const INDEX_FILES: usize = 789;
/// Their sizes in bytes: this part of them has less. Seen on real ones.
const SIZES: [(f64, f64); 8] = [
    (0.0, 300.0),
    (0.1, 2.2e3),
    (0.5, 25e3),
    (0.9, 212e3),
    (0.95, 330e3),
    (0.98, 750e3),
    (0.99, 1.06e6),
    (1.0, 4.9e6),
];
/// Sizes of the crate files, of which each belongs to another crate.
const CRATE_FILES: [usize; 8] =
    [5_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
/// The version of those with a crate file; all others begin with another number.
const WITH_A_FILE: &str = "9.0.0";

/// Makes it in a folder. The same seed makes the same bytes.
pub(super) fn make(seed: u64, folder: &Path) -> Result<Corpus> {
    let (mut random, shelf) = (Random(seed), Shelf(folder));
    let (mut index, mut crates) = (Vec::new(), Vec::new());
    for (nth, bytes) in sizes(INDEX_FILES).into_iter().enumerate() {
        let name = format!("m{:03x}-made-{nth}", random.below(0x1000));
        let file = CRATE_FILES.get(nth).map(|size| crate_file(shelf, &name, *size)).transpose()?;
        let (file, cksum) = file.unzip();
        index.push(index_file(shelf, &mut random, &name, bytes, cksum)?);
        crates.extend(file);
    }
    index.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Corpus { folder: folder.to_owned(), origin: format!("made of seed {seed}"), index, crates })
}

/// The sizes of so many files, in order: between two of [`SIZES`] on a logarithmic scale.
fn sizes(count: usize) -> Vec<usize> {
    let size = |nth: usize| {
        let part = nth as f64 / (count.max(2) - 1) as f64;
        let between = SIZES.iter().zip(SIZES.iter().skip(1)).find(|(_, (to, _))| part <= *to);
        between.map_or(0.0, |((from, least), (to, most))| {
            least * (most / least).powf((part - from) / (to - from))
        }) as usize
    };
    (0..count).map(size).collect()
}

/// A crate file of about that many bytes, and its checksum.
fn crate_file(shelf: Shelf<'_>, name: &str, bytes: usize) -> Result<(CrateFile, String)> {
    let content = Krate::new(name, WITH_A_FILE).ballast(bytes).crate_bytes();
    Ok((shelf.put_crate(name, WITH_A_FILE, &content)?, sha256(&content)))
}

/// An index file of at least that many bytes, less than a line more. `cksum` is that of the last
/// version's crate file, where it has one.
fn index_file(
    shelf: Shelf<'_>,
    random: &mut Random,
    name: &str,
    bytes: usize,
    cksum: Option<String>,
) -> Result<IndexFile> {
    let (mut text, mut line) = (String::new(), Line::first(random, bytes));
    let last = cksum.map(|cksum| line.print(name, WITH_A_FILE, &cksum)).unwrap_or_default();
    for nth in 0.. {
        if text.len() + last.len() >= bytes && !(text.is_empty() && last.is_empty()) {
            break;
        }
        let version = format!("0.{}.{}", nth / 5, nth % 5);
        let cksum = sha256(format!("{} {name}", random.next()).as_bytes());
        text += &line.print(name, &version, &cksum);
        line.change(random);
    }
    shelf.put_index(name, (text + &last).as_bytes())
}

/// What a version has in common with the one before, most of the time.
#[derive(Debug)]
struct Line {
    /// Names of dependencies, and the numbers of their versions.
    deps: Vec<(String, u64, u64)>,
    features: Vec<String>,
    /// Seconds since 2015 began, about; never those of a day to come.
    published: u64,
}

/// Syllables of which names are made.
const SYLLABLES: [&str; 16] = [
    "ser", "tok", "hyp", "log", "ran", "syn", "quo", "tra", "fut", "byt", "rus", "net", "win",
    "col", "map", "str",
];

impl Line {
    /// Of a file of that many bytes: long files have long lines too.
    fn first(random: &mut Random, bytes: usize) -> Self {
        let most = 3 + (bytes as u64 / 6_000).min(30);
        let deps = (0..1 + random.below(most)).map(|_| (random.name(), random.below(3), 0));
        let deps = deps.collect();
        let features = (0..random.below(2 * most)).map(|_| random.name()).collect();
        Self { deps, features, published: random.below(200_000_000) }
    }

    /// Some dependency has another version every other time, and now and then one is new.
    fn change(&mut self, random: &mut Random) {
        self.published += random.below(40_000);
        let which = random.below(self.deps.len() as u64 * 2) as usize;
        if let Some((_, _, minor)) = self.deps.get_mut(which) {
            *minor += 1 + random.below(3);
        }
        if random.below(20) == 0 {
            let place = random.below(self.deps.len() as u64) as usize;
            if let Some(dep) = self.deps.get_mut(place) {
                *dep = (random.name(), random.below(3), 0);
            }
        }
    }

    /// In crates.io's order of fields.
    fn print(&self, name: &str, version: &str, cksum: &str) -> String {
        let mut text = format!(r#"{{"name":"{name}","vers":"{version}","deps":["#);
        for (nth, (name, major, minor)) in self.deps.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let kind = if nth % 4 == 3 { "dev" } else { "normal" };
            let _ = write!(
                text,
                r#"{comma}{{"name":"{name}","req":"^{major}.{minor}","features":[],"optional":false,"default_features":true,"target":null,"kind":"{kind}"}}"#
            );
        }
        let features = self.features.iter().map(|feature| format!("\"{feature}\":[]"));
        let features = features.collect::<Vec<_>>().join(",");
        let (days, seconds) = (self.published / 86_400, self.published % 86_400);
        let (year, month, day) = (2015 + days / 336, 1 + days % 336 / 28, 1 + days % 28);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = writeln!(
            text,
            r#"],"cksum":"{cksum}","features":{{{features}}},"yanked":false,"pubtime":"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"}}"#
        );
        text
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): numbers
/// that are the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `limit` - 1; 0 when there is none.
    fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or_default()
    }

    fn name(&mut self) -> String {
        let syllables = 2 + self.below(3);
        let mut syllable =
            || SYLLABLES.get(self.below(SYLLABLES.len() as u64) as usize).copied().unwrap_or("x");
        (0..syllables).map(|_| syllable()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_real_index_files() {
        let sizes = sizes(INDEX_FILES);
        let at = |part: f64| sizes[(part * (sizes.len() - 1) as f64).round() as usize];
        assert!(at(0.5).abs_diff(25_000) < 250 && at(0.9).abs_diff(212_000) < 3_000);
        assert_eq!(*sizes.last().unwrap(), 4_900_000);
        assert!(sizes.is_sorted());
    }

    #[test]
    fn a_made_index_file_is_of_its_size_in_lines_of_json_and_the_same_for_a_seed() {
        let folder = tempfile::tempdir().unwrap();
        let make = |seed| {
            let cksum = Some("ff".repeat(32));
            index_file(Shelf(folder.path()), &mut Random(seed), "made", 20_000, cksum).unwrap();
            std::fs::read_to_string(folder.path().join("index/ma/de/made")).unwrap()
        };
        let text = make(7);
        assert!((20_000..24_000).contains(&text.len()), "{}", text.len());
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() > 5 && lines.iter().all(|line| line["name"] == "made"));
        assert_eq!(lines.last().unwrap()["vers"], WITH_A_FILE);
        assert_eq!(make(7), text);
        assert_ne!(make(8), text);
    }

    #[test]
    fn the_smallest_file_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = index_file(Shelf(folder.path()), &mut Random(1), "made", 1, None).unwrap();
        assert!(file.bytes > 100);
    }
}
