//! A RustSec advisory database: a folder laid out as its git repository (`crates/<name>/RUSTSEC-….md`), or a
//! `.tar.gz` of one; on disk, where the operator refreshes it, or as it was fetched and is kept in the store.
//!
//! **What is damaged.** An advisory that cannot be read is reported and left out, so that one odd
//! file does not take the thousand others away. But a database of a newer format must not silently
//! become empty: when not one can be read, or more than one in twenty cannot, the whole is refused,
//! and whoever has an older one keeps it.
//!
//! **What changed.** The fingerprint is made of names, sizes and times of modification, not of
//! bytes: a folder of a thousand files is asked again and again. Of a git checkout, an advisory that
//! changed has another time.
//!
//! **An archive is read whole**, to the checksum at its end, and nothing is unpacked: names in it are only
//! looked at, and one that leads out of it, or stands there twice, makes it odd.

mod kept;
mod remote;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::read::MultiGzDecoder;
use jiff::{SignedDuration, Timestamp};
use tar::Archive;

pub use self::kept::{AdvisoryStore, Current};
pub use self::remote::{Remote, ask};

use cratehouse_core::checksum::Checksum;
use cratehouse_core::excerpt::excerpt;
use cratehouse_policy::{Advisories, Advisory};

/// The most advisories in a database; RustSec's had 714 in February 2025.
const MAX_ADVISORIES: usize = 20_000;
/// The longest name of a file, `<crate>/<file>`, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// A time of modification that is so far in the future says nothing.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);
/// Advisories of one archive over which their reader may crash: each is a log line with a backtrace.
const MAX_CRASHED: usize = 5;
/// Of files that are left out, so many are told.
const TOLD: usize = 10;
/// The largest advisory, in bytes.
const MAX_ADVISORY_BYTES: u64 = 256 * 1024;
/// The most that a `.tar.gz` may hold unpacked, in bytes.
const MAX_UNPACKED_BYTES: u64 = 64 * 1024 * 1024;
/// The largest archive that is fetched or kept, in bytes; RustSec's has some 300 kB.
pub const MAX_ARCHIVE_BYTES: u64 = 64 * 1024 * 1024;
/// The most entries in a `.tar.gz`, or in one folder, that are looked at.
const MAX_ENTRIES: usize = 200_000;
/// One advisory in this many may be damaged.
const DAMAGED_SHARE: usize = 20;

/// A database that was read.
#[derive(Debug, Clone)]
pub struct Database {
    /// The advisories.
    pub advisories: Advisories,
    /// Files that were left out.
    pub damaged: Damaged,
    /// The newest time of modification in it: how old the database is.
    pub newest: Option<Timestamp>,
    /// See [`fingerprint`].
    pub fingerprint: Checksum,
}

/// Files that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    /// How many.
    pub count: usize,
    /// The first of them, each with what is wrong with it; foreign text, made safe to show.
    first: Vec<String>,
}

impl Damaged {
    fn add(&mut self, name: &str, why: &str) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(format!("{}: {}", excerpt(name), excerpt(why)));
        }
    }

    /// A line for each, as far as they can be read.
    pub fn lines(&self) -> impl Iterator<Item = String> + use<'_> {
        let more = self.count.saturating_sub(self.first.len());
        let more = (more > 0).then(|| format!("and {more} more"));
        self.first.iter().cloned().chain(more)
    }
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The folder or a file could not be read.
    #[error("the advisory database {} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no `crates/` in it.
    #[error(
        "{} is no RustSec advisory database: it has no advisories under `crates/`",
        .0.display()
    )]
    Empty(PathBuf),
    /// Too much of it.
    #[error("the advisory database {} is too large: {what}", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// Which limit.
        what: String,
    },
    /// An archive that nobody makes by accident.
    #[error("the advisory database {} is refused: {what}", path.display())]
    Odd {
        /// Which one.
        path: PathBuf,
        /// What is odd.
        what: String,
    },
    /// Too many of its files cannot be read.
    #[error(
        "{damaged} of the {all} advisories in {} cannot be read, so it may be of a newer format, \
         and is refused; the first is {first}",
        path.display()
    )]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// How many cannot be read.
        damaged: usize,
        /// How many there are.
        all: usize,
        /// One of them, and what is wrong with it.
        first: String,
    },
}

/// Reads a database: a folder, or a `.tar.gz`. Blocks, for a second or so: run it off the async
/// threads.
///
/// # Errors
/// When it is not there, is no database, or is damaged; see the module.
pub fn read(path: &Path) -> Result<Database, DatabaseError> {
    let fingerprint = fingerprint(path)?;
    let (files, newest) = match is_folder(path)? {
        true => from_folder(path)?,
        false => {
            let packed = File::open(path).map_err(unreadable(path))?;
            from_archive(path, io::BufReader::new(packed))?
        }
    };
    database(path, fingerprint, files, newest)
}

/// Reads a `.tar.gz` in memory; `from` is what messages call it. Blocks as [`read`] does.
///
/// # Errors
/// When it is no database, or is damaged; see the module.
pub fn read_archive(from: &str, bytes: &[u8]) -> Result<Database, DatabaseError> {
    let path = Path::new(from);
    let (files, newest) = from_archive(path, bytes)?;
    database(path, Checksum::of(bytes), files, newest)
}

fn database(
    path: &Path,
    fingerprint: Checksum,
    files: Files,
    newest: Option<Timestamp>,
) -> Result<Database, DatabaseError> {
    let mut damaged = Damaged::default();
    let all = files.len();
    let read = files.into_iter().filter_map(|(name, read)| {
        read.unwrap_or_else(|why| {
            damaged.add(&name, &why);
            None
        })
    });
    let too_large = |what| DatabaseError::TooLarge { path: path.to_owned(), what };
    let advisories = Advisories::of(read).map_err(too_large)?;
    if let Some(first) = damaged.first.first().filter(|_| damaged.count * DAMAGED_SHARE > all) {
        let (path, first) = (path.to_owned(), first.clone());
        return Err(DatabaseError::Damaged { path, damaged: damaged.count, all, first });
    }
    match advisories.is_empty() {
        true => Err(DatabaseError::Empty(path.to_owned())),
        false => Ok(Database { advisories, damaged, newest, fingerprint }),
    }
}

/// What tells whether a database has changed since it was read, without reading it. Blocks.
///
/// # Errors
/// When it is not there, or too large.
pub fn fingerprint(path: &Path) -> Result<Checksum, DatabaseError> {
    let mut seen = String::new();
    let mut note = |name: &str, size: u64, modified: Option<Timestamp>| {
        seen.push_str(&format!("{name:?} {size} {modified:?}\n"));
    };
    if is_folder(path)? {
        for (name, file) in listed(path)? {
            let kind = fs::metadata(&file).map_err(unreadable(&file))?;
            note(&name, kind.len(), modified(&kind));
        }
    } else {
        let kind = fs::metadata(path).map_err(unreadable(path))?;
        note("", kind.len(), modified(&kind));
    }
    Ok(Checksum::of(seen.as_bytes()))
}

/// Advisories by the names of their files: `None` was withdrawn. Read one by one, for their texts together are
/// much larger.
type Files = BTreeMap<String, Result<Option<Advisory>, String>>;

fn from_folder(path: &Path) -> Result<(Files, Option<Timestamp>), DatabaseError> {
    let (mut files, mut newest) = (Files::new(), None);
    for (name, file) in listed(path)? {
        let opened = File::open(&file).map_err(unreadable(&file))?;
        let kind = opened.metadata().map_err(unreadable(&file))?;
        newest = newest.max(modified(&kind).filter(is_past));
        files.insert(name, advisory(opened).map_err(unreadable(&file))?);
    }
    Ok((files, newest))
}

fn from_archive(
    path: &Path,
    packed: impl Read,
) -> Result<(Files, Option<Timestamp>), DatabaseError> {
    let too_large = |what: String| DatabaseError::TooLarge { path: path.to_owned(), what };
    let odd = |what: String| DatabaseError::Odd { path: path.to_owned(), what };
    let (mut files, mut newest, mut crashed) = (Files::new(), None, 0);
    let unpacked = MultiGzDecoder::new(packed).take(MAX_UNPACKED_BYTES);
    let mut archive = Archive::new(unpacked);
    for (nth, entry) in archive.entries().map_err(unreadable(path))?.enumerate() {
        let entry = entry.map_err(unreadable(path))?;
        if nth >= MAX_ENTRIES || files.len() > MAX_ADVISORIES {
            return Err(too_large(format!("{MAX_ADVISORIES} advisories at most")));
        }
        let place = entry.path().map_err(unreadable(path))?.into_owned();
        if leads_out(&place) {
            return Err(odd(format!("`{}` leads out of it", excerpt(&place.to_string_lossy()))));
        }
        let Some(name) = advisory_name(&place) else { continue };
        if entry.header().entry_type().is_file() {
            let at = entry.header().mtime().ok().and_then(|s| i64::try_from(s).ok());
            let at = at.and_then(|seconds| Timestamp::from_second(seconds).ok());
            newest = newest.max(at.filter(is_past));
            if name.len() > MAX_NAME_BYTES {
                return Err(odd(format!("a name in it has more than {MAX_NAME_BYTES} bytes")));
            }
            let read = advisory(entry).map_err(unreadable(path))?;
            crashed += usize::from(read.as_ref().is_err_and(|why| why == Advisory::CRASHED));
            if crashed > MAX_CRASHED {
                return Err(odd(format!("more than {MAX_CRASHED} of it crash what reads them")));
            }
            if files.insert(name.clone(), read).is_some() {
                return Err(odd(format!("`{}` stands in it twice", excerpt(&name))));
            }
        }
    }
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(unreadable(path))?; // its checksum is the last of it
    match rest.limit() {
        0 => Err(too_large(format!("{MAX_UNPACKED_BYTES} bytes unpacked at most"))),
        _ => Ok((files, newest)),
    }
}

/// The advisories of a folder by the names of their files, `<crate>/<file>`.
fn listed(database: &Path) -> Result<BTreeMap<String, PathBuf>, DatabaseError> {
    let mut found = BTreeMap::new();
    let crates = database.join("crates");
    if !crates.is_dir() {
        return Err(DatabaseError::Empty(database.to_owned()));
    }
    for krate in entries(&crates)? {
        if !krate.is_dir() {
            continue;
        }
        for file in entries(&krate)? {
            found.extend(advisory_name(&file).filter(|_| file.is_file()).map(|name| (name, file)));
        }
        if found.len() > MAX_ADVISORIES {
            let what = format!("{MAX_ADVISORIES} advisories at most");
            return Err(DatabaseError::TooLarge { path: database.to_owned(), what });
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DatabaseError> {
    let entries = fs::read_dir(folder).map_err(unreadable(folder))?.take(MAX_ENTRIES + 1);
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<_> = paths.collect::<io::Result<_>>().map_err(unreadable(folder))?;
    if paths.len() > MAX_ENTRIES {
        let what = format!("{MAX_ENTRIES} entries of a folder at most");
        return Err(DatabaseError::TooLarge { path: folder.to_owned(), what });
    }
    Ok(paths)
}

/// `<crate>/<file>` of what is an advisory: `…/crates/<crate>/RUSTSEC-….md`. One that is TOML alone
/// is of a format that nobody reads any more; it counts as damaged, not as absent.
fn advisory_name(path: &Path) -> Option<String> {
    let mut parts = path.components().rev().map(|part| part.as_os_str().to_str());
    let (file, krate, folder) = (parts.next()??, parts.next()??, parts.next()??);
    let advisory = file.starts_with("RUSTSEC-") && !file.starts_with("RUSTSEC-0000-0000.");
    (folder == "crates" && advisory).then(|| format!("{krate}/{file}"))
}

/// Nothing is ever written to such a path; whoever makes one means no good.
fn leads_out(path: &Path) -> bool {
    !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn is_past(at: &Timestamp) -> bool {
    at.duration_since(Timestamp::now()) <= CLOCKS_DIFFER
}

/// One advisory, or why it is none.
fn advisory(file: impl Read) -> io::Result<Result<Option<Advisory>, String>> {
    let mut bytes = Vec::new();
    file.take(MAX_ADVISORY_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ADVISORY_BYTES {
        return Ok(Err(format!("it is larger than {MAX_ADVISORY_BYTES} bytes")));
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Advisory::parse(&text),
        Err(_) => Err("it is not UTF-8 text".to_owned()),
    })
}

fn is_folder(path: &Path) -> Result<bool, DatabaseError> {
    Ok(fs::metadata(path).map_err(unreadable(path))?.is_dir())
}

fn modified(kind: &fs::Metadata) -> Option<Timestamp> {
    let since =
        kind.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).ok()?;
    Timestamp::from_nanosecond(i128::try_from(since.as_nanos()).ok()?).ok()
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> DatabaseError {
    let path = path.to_owned();
    move |error| DatabaseError::Unreadable { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use cratehouse_package::name::CrateName;

    fn advisory(id: &str, name: &str) -> String {
        format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{name}\"\ndate = \"2026-01-02\"\n\n\
             [versions]\npatched = [\">= 1.2.0\"]\n```\n\n# A title\n\nWords.\n"
        )
    }

    /// A checkout with so many good advisories, all about `foo`.
    fn checkout(good: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("crates/foo")).unwrap();
        fs::create_dir_all(root.path().join(".git")).unwrap();
        fs::write(root.path().join("README.md"), "words").unwrap();
        for n in 1..=good {
            let id = format!("RUSTSEC-2026-{n:04}");
            let file = root.path().join(format!("crates/foo/{id}.md"));
            fs::write(file, advisory(&id, "foo")).unwrap();
        }
        root
    }

    fn packed(root: &Path) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        tar.append_dir_all("advisory-db-main", root).unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn an_archive_with_tricks_is_refused() {
        let with = |names: &[&str]| {
            let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
            for name in names {
                let text = advisory("RUSTSEC-2026-0001", "foo");
                let mut header = tar::Header::new_gnu();
                // `set_path` itself refuses what leads out.
                header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                header.set_cksum();
                tar.append(&header, text.as_bytes()).unwrap();
            }
            tar.into_inner().unwrap().finish().unwrap()
        };
        const FILE: &str = "db/crates/foo/RUSTSEC-2026-0001.md";
        let refused = |names: &[&str]| read_archive("here", &with(names)).unwrap_err().to_string();
        assert!(read_archive("here", &with(&[FILE])).is_ok());
        for out in ["db/../crates/foo/RUSTSEC-2026-0001.md", "/crates/foo/RUSTSEC-2026-0001.md"] {
            assert!(refused(&[FILE, out]).ends_with("leads out of it"), "{out}");
        }
        let twice = refused(&[FILE, "other/crates/foo/RUSTSEC-2026-0001.md"]);
        assert_eq!(
            twice,
            "the advisory database here is refused: `foo/RUSTSEC-2026-0001.md` stands in it twice"
        );
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_or_changed_at_its_end_is_refused() {
        let archive = packed(checkout(3).path());
        assert!(read_archive("here", &archive).is_ok());
        for cut in [1, 4, 9, archive.len() / 2] {
            assert!(read_archive("here", &archive[..archive.len() - cut]).is_err(), "{cut}");
        }
        let mut changed = archive.clone();
        *changed.iter_mut().rev().nth(5).unwrap() ^= 1; // of the checksum
        assert!(read_archive("here", &changed).is_err());
    }

    fn affected(database: &Database, version: &str) -> usize {
        let name: CrateName = "foo".parse().unwrap();
        database.advisories.about(&name.key(), &version.parse().unwrap()).count()
    }

    #[test]
    fn a_checkout_and_its_archive_say_the_same() {
        let root = checkout(3);
        fs::write(root.path().join("crates/foo/RUSTSEC-0000-0000.md"), "draft").unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        fs::write(archive.path(), packed(root.path())).unwrap();
        for path in [root.path(), archive.path()] {
            let database = read(path).unwrap();
            assert_eq!((affected(&database, "1.1.0"), affected(&database, "1.2.0")), (3, 0));
            assert!(database.damaged.count == 0 && database.newest.is_some());
            assert_eq!(database.fingerprint, fingerprint(path).unwrap());
        }
    }

    #[test]
    fn the_fingerprint_tells_a_new_advisory() {
        let root = checkout(2);
        let before = fingerprint(root.path()).unwrap();
        fs::write(root.path().join("README.md"), "other words").unwrap();
        assert_eq!(fingerprint(root.path()).unwrap(), before);
        let new = advisory("RUSTSEC-2026-0009", "foo");
        fs::write(root.path().join("crates/foo/RUSTSEC-2026-0009.md"), new).unwrap();
        assert_ne!(fingerprint(root.path()).unwrap(), before);
    }

    #[test]
    fn one_damaged_advisory_is_left_out_and_told() {
        let root = checkout(19);
        fs::write(root.path().join("crates/foo/RUSTSEC-2026-9999.md"), b"\xff").unwrap();
        let database = read(root.path()).unwrap();
        assert_eq!(affected(&database, "1.0.0"), 19);
        assert!(database.damaged.lines().next().unwrap().starts_with("foo/RUSTSEC-2026-9999.md: "));
    }

    #[test]
    fn what_crashes_the_reader_of_one_advisory_leaves_it_out() {
        let root = checkout(19);
        let odd = advisory("RUSTSEC-2026-9999", "foo").replace(">= 1.2.0", "= 1.0.0\", \"> 1.0.0");
        fs::write(root.path().join("crates/foo/RUSTSEC-2026-9999.md"), odd).unwrap();
        let database = read(root.path()).unwrap();
        assert_eq!((affected(&database, "1.0.0"), database.damaged.count), (19, 1));
        let text = fs::read(root.path().join("crates/foo/RUSTSEC-2026-9999.md")).unwrap();
        for n in 0..MAX_CRASHED {
            fs::write(root.path().join(format!("crates/foo/RUSTSEC-2026-800{n}.md")), &text)
                .unwrap();
        }
        let refused = read_archive("db", &packed(root.path())).unwrap_err();
        assert!(refused.to_string().contains("crash what reads them"), "{refused}");
    }

    #[test]
    fn an_archive_of_small_files_that_would_be_large_in_memory_is_refused() {
        let text = advisory("RUSTSEC-2026-0001", "foo");
        let aliases = |n: usize| {
            let aliases: Vec<_> = (0..n).map(|n| format!("\"{n}\"")).collect();
            text.replace("[versions]", &format!("aliases = [{}]\n[versions]", aliases.join(",")))
        };
        let many = Advisory::parse(&aliases(199)).unwrap().unwrap();
        assert!(Advisory::parse(&aliases(201)).is_err());
        let about = |krate: usize| {
            let name = CrateName::parse(&format!("c{krate}")).unwrap();
            let mut advisory = many.clone();
            advisory.name = name;
            advisory
        };
        assert!(Advisories::of((0..1000).map(about)).is_ok());
        assert!(Advisories::of((0..50_000).map(about)).unwrap_err().contains("of memory"));
        let of_one = Advisories::of((0..1001).map(|_| many.clone()));
        assert!(of_one.unwrap_err().contains("about one crate"));
    }

    #[test]
    fn what_is_foreign_is_told_in_short_and_without_what_moves_a_cursor() {
        let mut damaged = Damaged::default();
        (0..15).for_each(|n| damaged.add(&format!("a\u{1b}[2J{n}"), &"x".repeat(10_000)));
        let lines: Vec<_> = damaged.lines().collect();
        assert_eq!((lines.len(), lines[10].as_str()), (11, "and 5 more"));
        assert!(
            lines.iter().all(|line| line.len() < 1000 && !line.contains('\u{1b}')),
            "{lines:?}"
        );
    }

    #[test]
    fn a_time_in_the_future_makes_no_database_new() {
        let root = checkout(2);
        let file = root.path().join("crates/foo/RUSTSEC-2026-0001.md");
        let far = UNIX_EPOCH + std::time::Duration::from_secs(1 << 32); // in 2106
        File::options().append(true).open(&file).unwrap().set_modified(far).unwrap();
        let newest = |database: Database| database.newest.unwrap();
        assert!(is_past(&newest(read(root.path()).unwrap())));
        let archive = read_archive("db", &packed(root.path())).unwrap();
        assert!(is_past(&newest(archive)));
    }

    #[test]
    fn a_database_of_another_format_is_refused() {
        let root = checkout(18);
        fs::write(root.path().join("crates/foo/RUSTSEC-2026-9999.md"), "---\nyaml: 1").unwrap();
        let refused = read(root.path()).unwrap_err();
        assert!(matches!(refused, DatabaseError::Damaged { damaged: 1, all: 19, .. }), "{refused}");
        let old = checkout(0);
        fs::write(old.path().join("crates/foo/RUSTSEC-2017-0001.toml"), "[advisory]").unwrap();
        assert!(matches!(read(old.path()), Err(DatabaseError::Damaged { .. })));
    }

    #[test]
    fn what_is_no_database_is_refused() {
        assert!(matches!(read(checkout(0).path()), Err(DatabaseError::Empty(_))));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(DatabaseError::Empty(_))));
        let missing = read(&folder.path().join("db.tar.gz"));
        assert!(matches!(missing, Err(DatabaseError::Unreadable { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        let archive = packed(checkout(3).path());
        for bytes in [&b""[..], b"words", &archive[..archive.len() / 2]] {
            fs::write(file.path(), bytes).unwrap();
            assert!(read(file.path()).is_err());
        }
    }
}
