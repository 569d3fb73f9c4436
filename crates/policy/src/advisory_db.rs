//! A RustSec advisory database: what is known against which versions.
//!
//! Advisories are about crates of crates.io, so no hosted crate is judged by them. Withdrawn ones
//! do not count, nor drafts without a number.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::panic::catch_unwind;

use rustsec::Advisory as RustSec;
use rustsec::advisory::{Category, Informational, Metadata, Severity as RustSecSeverity};
use rustsec::osv::{OsvRange, ranges_for_advisory};
use semver::Version;
use serde::Serialize;

use cratehouse_core::excerpt::excerpt;
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::toml_walk::{Node, Place, Stopped, Visitor, WalkLimits, walk};
use cratehouse_package::version::CrateVersion;

/// The advisories of a database, by the name of the crate that they are about.
#[derive(Debug, Clone, Default)]
pub struct Advisories {
    by_name: BTreeMap<NameKey, Vec<Advisory>>,
}

/// One advisory.
#[derive(Debug, Clone)]
pub struct Advisory {
    /// `RUSTSEC-2024-0001`.
    pub id: String,
    /// Its ids elsewhere (`CVE-…`, `GHSA-…`, `MAL-…`).
    pub aliases: Vec<String>,
    /// The crate.
    pub name: CrateName,
    /// What is wrong, in a line.
    pub title: String,
    /// What kind of problem.
    pub kind: Kind,
    /// How bad, where a CVSS vector tells.
    pub severity: Option<Severity>,
    /// The day of the report.
    pub date: String,
    /// Where to read more.
    pub url: Option<String>,
    affected: Vec<OsvRange>,
}

/// What kind of problem an advisory is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was published to do harm.
    Malicious,
    /// A vulnerability.
    Vulnerability,
    /// Safe code may have undefined behaviour.
    Unsound,
    /// Nobody maintains it.
    Unmaintained,
    /// Another notice.
    Notice,
}

/// How bad a vulnerability is (CVSS 3.1 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Below 4.0.
    Low,
    /// From 4.0 on.
    Medium,
    /// From 7.0 on.
    High,
    /// From 9.0 on.
    Critical,
}

impl Advisories {
    /// The most about one crate; RustSec has 28 about one in 2026.
    pub const MAX_OF_ONE_CRATE: usize = 1000;
    /// The memory that all may take, in bytes, about; RustSec's take less than one MiB.
    pub const MAX_MEMORY: usize = 64 << 20;

    /// Of these, in any order.
    ///
    /// # Errors
    /// Which limit they do not keep to.
    pub fn of(all: impl IntoIterator<Item = Advisory>) -> Result<Self, String> {
        let (mut by_name, mut memory) = (BTreeMap::<NameKey, Vec<Advisory>>::new(), 0_usize);
        for advisory in all {
            memory = memory.saturating_add(advisory.memory());
            if memory > Self::MAX_MEMORY {
                return Err(format!(
                    "they would take more than {} bytes of memory",
                    Self::MAX_MEMORY
                ));
            }
            let same_name = by_name.entry(advisory.name.key()).or_default();
            same_name.push(advisory);
            if same_name.len() > Self::MAX_OF_ONE_CRATE {
                return Err(format!(
                    "{} advisories about one crate at most",
                    Self::MAX_OF_ONE_CRATE
                ));
            }
        }
        by_name.values_mut().for_each(|same_name| same_name.sort_by(|a, b| a.id.cmp(&b.id)));
        Ok(Self { by_name })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Those that affect a version, by id.
    pub fn about<'a>(
        &'a self,
        key: &NameKey,
        version: &'a CrateVersion,
    ) -> impl Iterator<Item = &'a Advisory> + use<'a> {
        let all = self.by_name.get(key).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|advisory| advisory.affects(version))
    }
}

impl Advisory {
    /// What is said of one over which its reader crashed: that has been logged, with a backtrace.
    pub const CRASHED: &'static str = "the library that reads advisories crashed over it";

    /// Reads one file of a database: TOML in a fence, then Markdown. `None`: it was withdrawn.
    ///
    /// # Errors
    /// What is damaged, or of a newer format.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = &text.replace("\r\n", "\n");
        // rustsec cuts the beginning of anything else at its 20th byte, inside a character or not.
        if !text.starts_with("```toml") {
            return Err("it does not begin with ```toml".to_owned());
        }
        check_front(text)?;
        // rustsec panics over requirements such as `= 1.0.0` beside `> 1.0.0`.
        catch_unwind(|| Self::read(text)).unwrap_or_else(|_| Err(Self::CRASHED.to_owned()))
    }

    fn read(text: &str) -> Result<Option<Self>, String> {
        let read: RustSec = text.parse().map_err(|error| one_line(&error))?;
        if read.withdrawn() || read.id().is_placeholder() {
            return Ok(None);
        }
        let name = CrateName::parse(read.metadata.package.as_str()).map_err(|e| e.to_string())?;
        let meta = &read.metadata;
        let url = read.id().url().or_else(|| meta.url.as_ref().map(ToString::to_string));
        Ok(Some(Self {
            id: read.id().to_string(),
            aliases: meta.aliases.iter().map(ToString::to_string).collect(),
            name,
            title: one_line(&read.title()),
            kind: Kind::of(meta),
            severity: read.severity().map(Severity::of),
            date: meta.date.as_str().to_owned(),
            url,
            affected: ranges_for_advisory(&read.versions),
        }))
    }

    /// The memory that it takes, in bytes, about.
    fn memory(&self) -> usize {
        let texts = [&self.id, &self.title, &self.date].map(String::len).iter().sum::<usize>();
        let url = self.url.as_ref().map_or(0, String::len);
        let aliases: usize =
            self.aliases.iter().map(|alias| size_of::<String>() + alias.len().max(8)).sum();
        let long = |version: &Version| version.pre.len() + version.build.len();
        let edges = |range: &OsvRange| {
            [&range.introduced, &range.fixed].into_iter().flatten().map(long).sum::<usize>()
        };
        let ranges: usize =
            self.affected.iter().map(|range| size_of::<OsvRange>() + edges(range)).sum::<usize>();
        size_of::<Self>() + 64 + texts + url + aliases + ranges
    }

    /// Whether a version is affected: neither patched nor never affected. Pre-releases count as
    /// SemVer orders them, so 1.2.3-rc.1 is before the patch in 1.2.3.
    pub fn affects(&self, version: &CrateVersion) -> bool {
        let order = |edge: &Version| version.semver().cmp_precedence(edge);
        self.affected.iter().any(|range| {
            range.introduced.as_ref().is_none_or(|first| order(first) != Ordering::Less)
                && range.fixed.as_ref().is_none_or(|fixed| order(fixed) == Ordering::Less)
        })
    }

    pub(crate) fn is(&self, id: &str) -> bool {
        self.id == id || self.aliases.iter().any(|alias| alias == id)
    }

    pub(crate) fn reason(&self) -> String {
        let kind = match (self.kind, self.severity) {
            (Kind::Vulnerability, Some(severity)) => format!("{} vulnerability", severity.label()),
            (kind, _) => kind.label().to_owned(),
        };
        let url = self.url.as_ref().map(|url| format!(", {url}")).unwrap_or_default();
        format!("{} ({kind}{url}): {}", self.id, self.title)
    }
}

impl Kind {
    /// Malware has no kind of its own in RustSec: it is told by its category, by its id in the
    /// database of malicious packages, or because crates.io deletes it.
    fn of(meta: &Metadata) -> Self {
        let malicious = meta.expect_deleted
            || meta.categories.contains(&Category::Malicious)
            || meta.aliases.iter().any(|id| id.as_str().starts_with("MAL-"));
        match &meta.informational {
            _ if malicious => Self::Malicious,
            None => Self::Vulnerability,
            Some(Informational::Unsound) => Self::Unsound,
            Some(Informational::Unmaintained) => Self::Unmaintained,
            Some(_) => Self::Notice,
        }
    }

    /// The word, as files and metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malicious => "malicious",
            Self::Vulnerability => "vulnerability",
            Self::Unsound => "unsound",
            Self::Unmaintained => "unmaintained",
            Self::Notice => "notice",
        }
    }
}

impl Severity {
    fn of(severity: RustSecSeverity) -> Self {
        match severity {
            RustSecSeverity::None | RustSecSeverity::Low => Self::Low,
            RustSecSeverity::Medium => Self::Medium,
            RustSecSeverity::High => Self::High,
            RustSecSeverity::Critical => Self::Critical,
        }
    }

    /// The word, as files and metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The largest TOML of an advisory, in bytes; real ones have a twentieth of it.
const MAX_FRONT_BYTES: usize = 16 * 1024;
/// Its limits; real ones have less than a hundred keys.
const FRONT: WalkLimits = WalkLimits { keys: 1000, depth: 8 };
/// The most items of all its arrays.
const MAX_ITEMS: usize = 200;

/// rustsec builds a tree of what stands in the fence: so it must not hold much.
fn check_front(text: &str) -> Result<(), String> {
    let front = text.strip_prefix("```toml").unwrap_or(text);
    let front = front.find("\n```").and_then(|end| front.get(..end)).unwrap_or(front);
    if front.len() > MAX_FRONT_BYTES {
        return Err(format!("its TOML has more than {MAX_FRONT_BYTES} bytes"));
    }
    match walk(front, FRONT, &mut Items(0)) {
        Ok(()) => Ok(()),
        Err(Stopped::Toml(error)) => Err(error.to_string()),
        Err(Stopped::Visitor(error)) => Err(error),
    }
}

/// Counts the items of arrays.
struct Items(usize);

impl Visitor for Items {
    type Error = String;

    fn value(&mut self, _at: Place<'_>, _node: Node<'_>) -> Result<(), String> {
        Ok(())
    }

    fn item(&mut self, _at: Place<'_>, _node: Node<'_>) -> Result<(), String> {
        self.0 += 1;
        match self.0 <= MAX_ITEMS {
            true => Ok(()),
            false => Err(format!("its arrays have more than {MAX_ITEMS} items")),
        }
    }
}

fn one_line(text: &impl ToString) -> String {
    excerpt(&text.to_string())
}
