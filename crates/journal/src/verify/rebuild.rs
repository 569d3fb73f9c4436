//! The state, rebuilt from the journal's entries alone, beside what claims to be it: checkpoints, and a
//! replica's catalog.

use std::collections::BTreeMap;
use std::path::Path;

use crate::catalog::{Catalog, SCHEMA, Stranger};
use crate::checkpoint_format::{Name, Reader, Unsound};
use crate::checkpoint_store::{Checkpoints, FOLDER};
use crate::entry::{Actor, Entry};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::threads::aside;

/// Checkpoints that are compared, the newest first: each takes as long as writing one.
const MOST_CHECKPOINTS: usize = 16;
/// Entries by strangers that are named; beyond, they are counted.
const MOST_STRANGERS: usize = 20;

/// A claim about the state behind some entry.
#[derive(Debug)]
struct Claim {
    /// Who makes it.
    what: String,
    /// SHA-256 of the lines that the state would be as a checkpoint.
    hash: Checksum,
}

/// The state so far, and what it is to be compared with.
#[derive(Debug)]
pub struct Rebuild {
    catalog: Catalog,
    /// By the entry that they are of.
    claims: BTreeMap<u64, Vec<Claim>>,
    strangers: usize,
    wrong: Vec<String>,
}

impl Rebuild {
    /// Before the first entry.
    ///
    /// # Errors
    /// When redb fails.
    pub fn new(registry: &str) -> Result<Self> {
        let catalog = Catalog::in_memory(registry)?;
        Ok(Self { catalog, claims: BTreeMap::new(), strangers: 0, wrong: Vec::new() })
    }

    /// Compares the newest checkpoints of a store. One of another release says the state in other
    /// words, and is left out.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn expect_checkpoints(
        &mut self,
        checkpoints: &Checkpoints,
        registry: &str,
    ) -> Result<()> {
        let names = checkpoints.newest(0..=u64::MAX, MOST_CHECKPOINTS).await;
        for name in names.map_err(Error::store)? {
            let what = format!("{FOLDER}/{name}");
            let bytes = match checkpoints.get(&name).await {
                Ok(bytes) => bytes,
                Err(e) if Checkpoints::is_of_the_object(&e) => {
                    self.wrong.push(format!("{what} cannot be read: {e}"));
                    continue;
                }
                Err(e) => return Err(Error::store(e)),
            };
            let read = move || {
                let reader = Reader::open(name, bytes)?;
                let header = reader.header().clone();
                match header.schema == SCHEMA {
                    true => reader.verify().map(Some),
                    false => Ok(None),
                }
            };
            let read: Result<_, Unsound> = aside(read).await?;
            match read {
                Ok(Some(header)) if header.registry == registry => self.claim(what, name),
                Ok(Some(header)) => {
                    self.wrong.push(format!("{what} is of another registry, {}", header.registry));
                }
                Ok(None) => (),
                Err(e) => self.wrong.push(format!("{what} cannot be believed: {e}")),
            }
        }
        Ok(())
    }

    /// Compares a replica's catalog, where there is one that nobody uses; says whether.
    ///
    /// # Errors
    /// When redb fails.
    pub async fn expect_catalog(&mut self, path: &Path, registry: &str) -> Result<bool> {
        let (at, registry) = (path.to_owned(), registry.to_owned());
        let look = move || match Catalog::look_at(&at, &registry)? {
            Some(catalog) => Ok::<_, Error>(Some(catalog.dump()?.0)),
            None => Ok(None),
        };
        let name = aside(look).await??;
        let compared = name.is_some();
        if let Some(name) = name.filter(|name| name.seq > 0) {
            self.claim(format!("the catalog {}", path.display()), name);
        }
        Ok(compared)
    }

    fn claim(&mut self, what: String, Name { seq, hash }: Name) {
        self.claims.entry(seq).or_default().push(Claim { what, hash });
    }

    /// Applies the next entries, and compares what is claimed of the states between them.
    ///
    /// # Errors
    /// When redb fails.
    pub(super) async fn apply(&mut self, mut entries: Vec<(Entry, Checksum)>) -> Result<()> {
        while let Some((first, _)) = entries.first() {
            let first = first.seq;
            let until = self.claims.range(first..).next().map(|(seq, _)| *seq);
            let count = until.map_or(usize::MAX, |seq| {
                usize::try_from(seq - first).unwrap_or(usize::MAX).saturating_add(1)
            });
            let rest = entries.split_off(count.min(entries.len()));
            let last = entries.last().map(|(entry, _)| entry.seq);
            let applied = self.catalog.work(move |catalog| catalog.apply(&entries)).await?;
            applied.strangers.iter().for_each(|stranger| self.mind(stranger));
            if let Some(claims) = last.and_then(|seq| self.claims.remove(&seq)) {
                self.compare(claims).await?;
            }
            entries = rest;
        }
        Ok(())
    }

    async fn compare(&mut self, claims: Vec<Claim>) -> Result<()> {
        let name = self.catalog.work(|catalog| Ok(catalog.dump()?.0)).await?;
        for claim in claims.iter().filter(|claim| claim.hash != name.hash) {
            self.wrong.push(format!(
                "{} is not what the entries up to {} make (SHA-256 {}, and the entries make {}): it was forged, or a replica with a fault wrote it. Delete it",
                claim.what, name.seq, claim.hash, name.hash
            ));
        }
        Ok(())
    }

    fn mind(&mut self, Stranger { seq, by }: &Stranger) {
        self.strangers += 1;
        if let Actor::User { user, token } = by
            && self.strangers <= MOST_STRANGERS
        {
            self.wrong.push(format!(
                "journal entry {seq} has an event by user {user} with token {token}, which no entry before it made, or which one ended: whoever wrote it did not come through a replica"
            ));
        }
    }

    /// What is wrong, once the journal was walked up to `head`.
    pub(super) fn finish(mut self, head: u64) -> Vec<String> {
        if self.strangers > MOST_STRANGERS {
            self.wrong.push(format!("{} events are by such actors in all", self.strangers));
        }
        for (seq, claims) in self.claims {
            let missing = |claim: Claim| {
                format!("{} is of entry {seq}, and the chain holds up to {head} only", claim.what)
            };
            self.wrong.extend(claims.into_iter().map(missing));
        }
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir};
    use std::sync::Arc;

    use object_store::local::LocalFileSystem;

    use super::*;
    use cratehouse_storage::test_util::{Call, Fault, FaultyStore};

    #[tokio::test]
    async fn a_checkpoint_that_cannot_be_read_is_named_and_keeps_nothing_else_from_being_verified()
    {
        let folder = tempfile::tempdir().unwrap();
        create_dir(folder.path().join(FOLDER)).unwrap();
        let file = |seq: u64| {
            let name = Name { seq, hash: Checksum::of(b"x") };
            File::create(folder.path().join(FOLDER).join(name.to_string())).unwrap()
        };
        file(3).set_len(2 * 1024 * 1024 * 1024).unwrap(); // takes no room
        file(2);
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let plan = |call, path: &object_store::path::Path| match call {
            Call::Get if path.as_ref().contains("/00000000000000000002-") => Fault::Forbidden,
            _ => Fault::None,
        };
        let checkpoints =
            Checkpoints::new(Arc::new(FaultyStore::new(Arc::new(store), Box::new(plan))));
        let mut rebuild = Rebuild::new("registry").unwrap();
        rebuild.expect_checkpoints(&checkpoints, "registry").await.unwrap();
        let wrong = rebuild.finish(0);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("cannot be read") && wrong[0].contains("bytes"), "{wrong:?}");
        assert!(wrong[1].contains("00002-"), "{wrong:?}");
        let absent = object_store::Error::NotFound { path: "x".to_owned(), source: "gone".into() };
        assert!(Checkpoints::is_of_the_object(&absent));
        let away = object_store::Error::Generic { store: "S3", source: "timed out".into() };
        assert!(!Checkpoints::is_of_the_object(&away));
    }
}
