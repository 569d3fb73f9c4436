//! Reading the licences of mirrored versions on purpose: from crate files that the mirror has, and where
//! that is wanted from those that it has to fetch. What is read is in the store before this is over.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::files::crate_files::CrateFiles;
use crate::files::fill::Filler;
use crate::index::cache::CachedLookup;
use crate::judge::Judge;
use crate::licenses::reader::LicenseReader;
use crate::pins::cache::Wanted;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_package::index::Listed;
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::{Judgement, unread_candidates};

/// Versions of one crate whose licence is looked for in the mirror, because one of them may be had instead
/// of one that may not.
const CANDIDATES: usize = 8;
/// The same where they would be fetched.
const CANDIDATES_FETCHED: usize = 3;
/// What a check of a client may read: so many crate files, until then. Another check goes on from there,
/// since what was read is kept.
const FILES_FOR_A_CLIENT: usize = 500;
const TIME_FOR_A_CLIENT: Duration = Duration::from_secs(30);

/// What may be read, of all packages of a lock file together.
#[derive(Debug)]
pub struct Allowance {
    fetch: bool,
    files: AtomicUsize,
    until: Option<Instant>,
}

/// What came of looking for a licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Read,
    NotInMirror,
    /// The allowance is used up.
    Later,
}

impl Allowance {
    /// For a command: whatever the mirror has; with `fetch`, whatever upstreams have.
    pub fn of_command(fetch: bool) -> Self {
        Self { fetch, files: AtomicUsize::new(usize::MAX), until: None }
    }

    /// For a client of the server: some of what the mirror has.
    pub fn of_client() -> Self {
        let until = Instant::now() + TIME_FOR_A_CLIENT;
        Self { fetch: false, files: AtomicUsize::new(FILES_FOR_A_CLIENT), until: Some(until) }
    }

    fn take(&self) -> bool {
        let in_time = self.until.is_none_or(|until| Instant::now() < until);
        let one_less = |left: usize| left.checked_sub(1);
        in_time && self.files.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok()
    }
}

/// What looks for licences on purpose.
#[derive(Debug)]
pub struct LicenseSearch {
    pub(crate) judge: Arc<Judge>,
    pub(crate) reader: Arc<LicenseReader>,
    pub(crate) filler: Arc<Filler>,
    pub(crate) files: Arc<CrateFiles>,
}

/// The search for the licences that decide about one package.
#[derive(Debug)]
pub struct Search<'a> {
    parts: &'a LicenseSearch,
    client: ClientKey,
    known: &'a CachedLookup,
    allowance: &'a Allowance,
    tried: HashSet<Checksum>,
    /// Why the package's own licence is not known.
    unread: Option<String>,
    learned: bool,
}

impl LicenseSearch {
    /// Begins to search for one package, on behalf of a client. `known` is its crate's index file.
    pub fn begin<'a>(
        &'a self,
        client: ClientKey,
        known: &'a CachedLookup,
        allowance: &'a Allowance,
    ) -> Search<'a> {
        let (tried, unread, learned) = (HashSet::new(), None, false);
        Search { parts: self, client, known, allowance, tried, unread, learned }
    }

    /// Sees to it that the licence of a version whose crate file is in the mirror is in the store, where
    /// the policy in force asks for it. `known` is its crate's index file.
    pub async fn settle(&self, known: &CachedLookup, version: &CrateVersion) {
        if !self.wants_licenses() {
            return;
        }
        let Ok(Some(file)) = known.answer.clone() else { return };
        let Some(listed) = file.version(version) else { return };
        if !known.judging.facts().licenses.contains_key(&listed.cksum)
            && let Err(error) = self.learn(ClientKey::OWN, known, listed, false).await
        {
            tracing::warn!(krate = %listed.name, version = %listed.version, error = error.chain(),
                "a licence could not be read");
        }
        self.reader.keep(known).await;
    }

    /// Whether the policy in force asks for licences.
    pub fn wants_licenses(&self) -> bool {
        self.judge.policy.generation().policy.wants_licenses()
    }

    async fn learn(
        &self,
        client: ClientKey,
        known: &CachedLookup,
        listed: &Listed,
        fetch: bool,
    ) -> Result<Outcome> {
        let Some(at) = self.judge.upstream_at(known) else { return Ok(Outcome::NotInMirror) };
        let wanted = Wanted { at, listed: listed.clone() };
        let got = match fetch {
            true => Some(self.filler.verified(client, wanted).await?),
            false => self.filler.held(&wanted).await?,
        };
        let Some(got) = got else { return Ok(Outcome::NotInMirror) };
        let bytes = self.files.all_of(client, &got).await?;
        self.reader.note(known, listed, &bytes).await?;
        Ok(Outcome::Read)
    }
}

impl Search<'_> {
    /// Reads one more licence that the judgements wait for; whether there was one, so that they are to be
    /// made again.
    pub async fn goes_on(&mut self, version: &str, judged: &[Vec<(Listed, Judgement)>]) -> bool {
        let mut own = judged.iter().filter_map(|all| of_version(all, version));
        if let Some((listed, _)) =
            own.find(|(listed, judged)| judged.is_open && self.is_new(listed))
        {
            let outcome = self.learn(listed, self.allowance.fetch).await;
            self.unread = why(&outcome);
            if matches!(outcome, Ok(Outcome::Read)) {
                return true;
            }
        }
        let (most, fetch) = match self.allowance.fetch {
            true => (CANDIDATES_FETCHED, true),
            false => (CANDIDATES, false),
        };
        for all in judged {
            let hidden = of_version(all, version).is_some_and(|(_, own)| own.verdict.hides());
            for listed in unread_candidates(all).into_iter().take(if hidden { most } else { 0 }) {
                if self.is_new(listed)
                    && matches!(self.learn(listed, fetch).await, Ok(Outcome::Read))
                {
                    return true;
                }
            }
        }
        false
    }

    /// Brings to the store what was learned. Says why the package's own licence is not known, if it is
    /// not.
    pub async fn end(self) -> Option<String> {
        if self.learned {
            self.parts.reader.keep(self.known).await;
        }
        self.unread
    }

    fn is_new(&self, listed: &Listed) -> bool {
        self.tried.len() <= 2 * CANDIDATES && !self.tried.contains(&listed.cksum)
    }

    async fn learn(&mut self, listed: &Listed, fetch: bool) -> Result<Outcome> {
        self.tried.insert(listed.cksum);
        if !self.allowance.take() {
            return Ok(Outcome::Later);
        }
        let outcome = self.parts.learn(self.client, self.known, listed, fetch).await;
        self.learned |= matches!(outcome, Ok(Outcome::Read));
        outcome
    }
}

fn why(outcome: &Result<Outcome>) -> Option<String> {
    match outcome {
        Ok(Outcome::Read | Outcome::NotInMirror) => None,
        Ok(Outcome::Later) => {
            let text = "this check has read as many crate files as it may; another one goes on";
            Some(text.to_owned())
        }
        Err(error) => Some(format!("its crate file could not be read: {}", error.message)),
    }
}

fn of_version<'j>(
    judged: &'j [(Listed, Judgement)],
    version: &str,
) -> Option<&'j (Listed, Judgement)> {
    judged.iter().find(|(listed, _)| listed.version.to_string() == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_may_have_read_is_bounded_and_what_a_command_may_is_not() {
        let client = Allowance { files: AtomicUsize::new(2), ..Allowance::of_client() };
        assert_eq!([client.take(), client.take(), client.take()], [true, true, false]);
        let late = Allowance { until: Some(Instant::now()), ..Allowance::of_client() };
        assert!(!late.take() && !late.fetch);
        let told = why(&Ok(Outcome::Later)).unwrap();
        assert!(told.contains("another one goes on"), "{told}");
        let command = Allowance::of_command(true);
        assert!((0..10_000).all(|_| command.take()) && command.fetch);
    }
}
