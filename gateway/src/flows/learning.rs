//! Reading the licences of mirrored versions on purpose: from crate files that the mirror has, and where
//! that is wanted from those that it has to fetch. What is read is in the store before this is over.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::flows::index_cache::CachedLookup;
use crate::flows::pin_cache::Wanted;
use crate::flows::{download, fill, judging, licenses, lookup};
use crate::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_package::index::Listed;
use cratehouse_package::name::CrateName;
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

/// The search for the licences that decide about one package.
pub(super) struct Search<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) client: ClientKey,
    pub(super) known: &'a CachedLookup,
    pub(super) allowance: &'a Allowance,
    tried: HashSet<Checksum>,
    /// Why the package's own licence is not known.
    pub(super) unread: Option<String>,
    learned: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        gateway: &'a Arc<Gateway>,
        client: ClientKey,
        known: &'a CachedLookup,
        allowance: &'a Allowance,
    ) -> Self {
        let (tried, unread, learned) = (HashSet::new(), None, false);
        Self { gateway, client, known, allowance, tried, unread, learned }
    }

    /// Reads one more licence that the judgements wait for; whether there was one, so that they are to be
    /// made again.
    pub(super) async fn goes_on(
        &mut self,
        version: &str,
        judged: &[Vec<(Listed, Judgement)>],
    ) -> bool {
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

    /// Brings to the store what was learned.
    pub(super) async fn end(self) -> Option<String> {
        if self.learned {
            licenses::keep(self.gateway, self.known).await;
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
        let outcome = learn(self.gateway, self.client, self.known, listed, fetch).await;
        self.learned |= matches!(outcome, Ok(Outcome::Read));
        outcome
    }
}

/// Sees to it that the licence of a version whose crate file is in the mirror is in the store, where the
/// policy in force asks for it.
pub(super) async fn settle(gateway: &Arc<Gateway>, lower: &CrateName, version: &CrateVersion) {
    if !gateway.policy_store.in_force().policy.wants_licenses() {
        return;
    }
    let client = ClientKey::OWN;
    let Ok(answered) = lookup::look(gateway, client, lower).await else { return };
    let known = answered.known;
    let Ok(Some(file)) = known.answer.clone() else { return };
    let Some(listed) = file.version(version) else { return };
    if !known.judging.facts().licenses.contains_key(&listed.cksum)
        && let Err(error) = learn(gateway, client, &known, listed, false).await
    {
        tracing::warn!(krate = %listed.name, version = %listed.version, error = error.chain(),
            "a licence could not be read");
    }
    licenses::keep(gateway, &known).await;
}

async fn learn(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    known: &CachedLookup,
    listed: &Listed,
    fetch: bool,
) -> Result<Outcome> {
    let Some(at) = judging::upstream_at(gateway, known) else { return Ok(Outcome::NotInMirror) };
    let wanted = Wanted { at, listed: listed.clone() };
    let got = match fetch {
        true => Some(download::verified(gateway, client, wanted).await?),
        false => fill::held(gateway, &wanted).await?,
    };
    let Some(got) = got else { return Ok(Outcome::NotInMirror) };
    let bytes = download::all_of(gateway, client, &got).await?;
    licenses::note(gateway, known, listed, &bytes).await?;
    Ok(Outcome::Read)
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
