//! Why the versions of a crate are judged as they are.

use std::cmp::Reverse;

use serde::Serialize;

use super::judgement::Judgement;
use super::refusal::Newest;
use super::report::{newest_of, notes};
use super::{Advisories, Policy};
use cratehouse_package::index::Listed;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// The judgements on a crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The policy's version.
    pub policy: String,
    /// What to know about the answer, each a sentence.
    pub notes: Vec<String>,
    /// The crate, as it was asked for.
    pub name: CrateName,
    /// The upstream that it is from; `None`: it is hosted.
    pub upstream: Option<String>,
    /// The newest version that may be had.
    #[serde(flatten)]
    pub newest_allowed: Newest,
    /// The versions, the newest first.
    pub versions: Vec<Explained>,
    /// The last of them, when there are more: the next page begins before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<CrateVersion>,
}

/// Which versions of a crate are explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One.
    One(CrateVersion),
    /// The newest ones.
    Page {
        /// Only those that precede this one.
        before: Option<CrateVersion>,
        /// How many at the most.
        most: usize,
    },
}

/// The judgement on a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The version.
    pub version: CrateVersion,
    /// Whether its own index line says that it is yanked.
    pub yanked: bool,
    /// What the policy says; in JSON its fields stand among these.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl Explanation {
    /// Of all versions of an index file, or of one; `None`: the file has no such version.
    pub fn of(
        (policy, advisories): (&Policy, Option<&Advisories>),
        name: CrateName,
        upstream: Option<String>,
        judged: Vec<(Listed, Judgement)>,
        only: Option<&CrateVersion>,
    ) -> Option<Self> {
        let newest_allowed = newest_of(&judged);
        let wanted = |listed: &Listed| only.is_none_or(|only| listed.version == *only);
        let judged = judged.into_iter().filter(|(listed, _)| wanted(listed));
        let mut versions: Vec<_> = judged
            .map(|(listed, judgement)| {
                let Listed { version, yanked, .. } = listed;
                Explained { version, yanked, judgement }
            })
            .collect();
        if versions.is_empty() && only.is_some() {
            return None;
        }
        versions.sort_by(|a, b| Reverse(&a.version).cmp(&Reverse(&b.version)));
        Some(Self {
            policy: policy.version().to_owned(),
            notes: notes(policy, advisories),
            name,
            upstream,
            newest_allowed,
            versions,
            next: None,
        })
    }

    /// One page of it.
    #[must_use]
    pub fn page(mut self, before: Option<&CrateVersion>, most: usize) -> Self {
        self.versions.retain(|one| before.is_none_or(|before| one.version < *before));
        let is_cut = self.versions.len() > most;
        self.versions.truncate(most);
        self.versions.shrink_to_fit();
        self.next = self.versions.last().filter(|_| is_cut).map(|last| last.version.clone());
        self
    }
}
