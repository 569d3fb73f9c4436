//! What is served while servers are compared: index files and crate files, in a folder below
//! `target/`, so that they are fetched, or made, once.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use clap::Args;
use cratehouse_tests::http::{Action, Response, Server};
use cratehouse_tests::krate::{index_path, sha256};
use serde::{Deserialize, Serialize};

use crate::Result;

mod fetch;
mod lock;
mod seeded;

/// The lock file whose packages are the corpus; its manifest is beside it.
pub(crate) const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/Cargo.lock");

/// The list of what there is, in the corpus's folder.
const CATALOG: &str = "catalog.json";
/// Raised when the content of the folder changes its shape, so that an older one is not used.
const SHAPE: u32 = 1;
/// The folders of cargo's profiles below `target/`.
const PROFILES: [&str; 3] = ["dist", "release", "debug"];

/// Which corpus.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Source {
    /// Make the corpus of this number, rather than fetch a real one once; so it is, with 1, when
    /// crates.io cannot be asked
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Index files and crate files, of one registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Corpus {
    #[serde(skip)]
    folder: PathBuf,
    /// Where they come from, for people.
    pub(crate) origin: String,
    /// Of as many crates, in the order of their names.
    pub(crate) index: Vec<IndexFile>,
    /// Versions of them: all that the lock file has.
    pub(crate) crates: Vec<CrateFile>,
}

/// An index file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IndexFile {
    pub(crate) name: String,
    /// Its size as it is, not compressed.
    pub(crate) bytes: u64,
}

/// A crate file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CrateFile {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) bytes: u64,
}

impl Corpus {
    /// The corpus that was asked for: that of an earlier run where there is one.
    pub(crate) fn open(source: &Source) -> Result<Self> {
        if let Some(seed) = source.seed {
            return Self::seeded(seed);
        }
        let lock = fs::read_to_string(LOCK)?;
        let id = sha256(lock.as_bytes());
        let key = format!("lock-{}", id.get(..16).unwrap_or(&id));
        Self::kept(&key, |folder| fetch::fetch(&lock::packages(&lock)?, folder)).or_else(|why| {
            eprintln!("corpus: the real one is not to be had ({why}), so one is made");
            Self::seeded(1)
        })
    }

    fn seeded(seed: u64) -> Result<Self> {
        Self::kept(&format!("seed-{seed}"), |folder| seeded::make(seed, folder))
    }

    /// One of an earlier run, or one that is made now, whole or not at all.
    fn kept(key: &str, make: impl FnOnce(&Path) -> Result<Self>) -> Result<Self> {
        let parent = target()?.join("bench-corpus");
        let folder = parent.join(format!("{key}-{SHAPE}"));
        if !folder.exists() {
            let unfinished = parent.join(format!("{key}-{SHAPE}.{}", std::process::id()));
            fs::create_dir_all(&unfinished)?;
            let made = make(&unfinished).and_then(|corpus| {
                fs::write(unfinished.join(CATALOG), serde_json::to_vec(&corpus)?)?;
                Ok(fs::rename(&unfinished, &folder)?)
            });
            if let Err(why) = made {
                fs::remove_dir_all(&unfinished)?;
                return Err(why);
            }
        }
        let mut corpus: Self = serde_json::from_slice(&fs::read(folder.join(CATALOG))?)?;
        corpus.folder = folder;
        Ok(corpus)
    }

    /// A registry that serves it, without TLS, from the folder: index files below `/index/`.
    pub(crate) fn upstream(&self) -> Server {
        let (index, crates) = (self.folder.join("index"), self.folder.join("crates"));
        Server::forgetful(move |request, _| {
            let found = match request.path.strip_prefix("/index/") {
                Some("config.json") => Some(config_json(request.header("host"))),
                Some(path) => fs::read(index.join(path)).ok(),
                None => crate_at(&request.path).and_then(|file| fs::read(crates.join(file)).ok()),
            };
            Action::Answer(found.map_or_else(|| Response::status(404), Response::ok))
        })
    }

    /// Where a crate file lies.
    pub(crate) fn crate_path(&self, file: &CrateFile) -> PathBuf {
        self.folder.join("crates").join(file.file_name())
    }

    /// The crate file whose size is nearest, as a ratio, to so many bytes.
    pub(crate) fn crate_of(&self, bytes: u64) -> Result<&CrateFile> {
        let distance = |file: &&CrateFile| (file.bytes as f64 / bytes as f64).ln().abs();
        let nearest = self.crates.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        Ok(nearest.ok_or("there are no crate files")?)
    }
}

impl IndexFile {
    /// Its path in the URL of a registry.
    pub(crate) fn url_path(&self) -> String {
        format!("/index/{}", index_path(&self.name))
    }
}

impl CrateFile {
    /// Its path in the URL of a gateway.
    pub(crate) fn url_path(&self) -> String {
        format!("/api/v1/crates/{}/{}/download", self.name, self.version)
    }

    fn file_name(&self) -> String {
        format!("{}-{}.crate", self.name, self.version)
    }
}

/// How many, and how large: `771 index files (median 25 kB, …)`.
impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sizes: Vec<u64> = self.index.iter().map(|file| file.bytes).collect();
        sizes.sort_unstable();
        let at = |part: f64| {
            let rank = (part * sizes.len() as f64).ceil() as usize;
            sizes.get(rank.saturating_sub(1)).copied().unwrap_or_default() as f64 / 1e3
        };
        let all = sizes.iter().sum::<u64>() as f64 / 1e6;
        let crates = self.crates.iter().map(|file| file.bytes).sum::<u64>() as f64 / 1e6;
        write!(
            f,
            "{}: {} index files ({all:.0} MB; median {:.0} kB, p90 {:.0} kB, largest {:.0} kB), \
             {} crate files ({crates:.0} MB)",
            self.origin,
            sizes.len(),
            at(0.5),
            at(0.9),
            at(1.0),
            self.crates.len(),
        )
    }
}

/// The two sorts of files in a folder that is being made.
#[derive(Debug, Clone, Copy)]
struct Shelf<'a>(&'a Path);

impl Shelf<'_> {
    fn put_index(self, name: &str, text: &[u8]) -> Result<IndexFile> {
        put(&self.0.join("index").join(index_path(name)), text)?;
        Ok(IndexFile { name: name.to_owned(), bytes: text.len() as u64 })
    }

    fn put_crate(self, name: &str, version: &str, content: &[u8]) -> Result<CrateFile> {
        let (name, version) = (name.to_owned(), version.to_owned());
        let file = CrateFile { name, version, bytes: content.len() as u64 };
        put(&self.0.join("crates").join(file.file_name()), content)?;
        Ok(file)
    }
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().ok_or("no folder")?)?;
    Ok(fs::write(path, content)?)
}

/// The folder into which this program was built, `target/`: it lies in that of a profile.
fn target() -> Result<PathBuf> {
    let profile = profile()?;
    Ok(profile.parent().ok_or("no target folder around this program")?.to_owned())
}

/// The folder of the profile that this program was built with.
pub(crate) fn profile() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let is_profile = |folder: &&Path| PROFILES.iter().any(|name| folder.ends_with(name));
    let profile = own.ancestors().find(is_profile);
    Ok(profile.ok_or("no folder of a profile around this program")?.to_owned())
}

fn config_json(host: Option<&str>) -> Vec<u8> {
    let dl = format!("http://{}/crates", host.unwrap_or_default());
    serde_json::json!({ "dl": dl }).to_string().into_bytes()
}

/// `/crates/NAME/VERSION/download`, by cargo's rule for a `dl` without markers.
fn crate_at(path: &str) -> Option<String> {
    let (name, rest) = path.strip_prefix("/crates/")?.split_once('/')?;
    let version = rest.strip_suffix("/download")?.replace("%2B", "+");
    Some(format!("{name}-{version}.crate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(bytes: u64) -> CrateFile {
        CrateFile { name: format!("k{bytes}"), version: "1.0.0".to_owned(), bytes }
    }

    #[test]
    fn the_nearest_size_is_the_nearest_ratio() {
        let crates = vec![krate(10), krate(100), krate(1000)];
        let corpus =
            Corpus { folder: PathBuf::new(), origin: String::new(), index: vec![], crates };
        assert_eq!(corpus.crate_of(40).unwrap().bytes, 100);
        assert_eq!(corpus.crate_of(20).unwrap().bytes, 10);
    }

    #[test]
    fn a_download_is_found_by_the_path_that_cargo_makes() {
        assert_eq!(crate_at("/crates/foo/1.0.0/download").as_deref(), Some("foo-1.0.0.crate"));
        let plus = crate_at("/crates/foo/1.0.0%2Bb/download");
        assert_eq!(plus.as_deref(), Some("foo-1.0.0+b.crate"));
        assert_eq!(crate_at("/crates/foo"), None);
    }

    #[test]
    fn the_corpus_is_described_by_its_sizes() {
        let index = [1_000, 25_000, 4_900_000];
        let index = index.map(|bytes| IndexFile { name: "a".to_owned(), bytes }).to_vec();
        let crates = vec![krate(30_000_000)];
        let corpus = Corpus { folder: PathBuf::new(), origin: "made".to_owned(), index, crates };
        let text = corpus.to_string();
        let wanted = "made: 3 index files (5 MB; median 25 kB, p90 4900 kB, largest 4900 kB), \
                      1 crate files (30 MB)";
        assert_eq!(text, wanted);
    }
}
