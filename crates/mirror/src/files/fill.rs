//! Bringing a mirrored crate file into memory: from the store, else from an upstream. Runs in its own
//! task (a single flight), so that whoever asked may leave.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::files::crate_file::{Content, FIRST_PERMIT_BYTES, Got, Source};
use crate::files::crate_files::{CrateFiles, Found, Reading, Unread};
use crate::files::noted_uses::Uses;
use crate::index::chain::Chain;
use crate::pins::cache::Wanted;
use crate::pins::pinner::Pinner;
use crate::upstream::{CrateAnswer, CratePlace, Turn, Upstream, UpstreamError, UpstreamErrorKind};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::memory_budget::{MemoryPermit, bytes_holding};
use cratehouse_core::write_behind::WriteBehind;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_storage::blobs::{Origin, has_checksum};

/// How long a fill waits for the store, which it can do without.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// What fills crate files from the chain of upstreams.
#[derive(Debug)]
pub struct Filler {
    pub(crate) files: Arc<CrateFiles>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) pinner: Arc<Pinner>,
    pub(crate) write_behind: Arc<WriteBehind>,
    pub(crate) uses: Arc<Uses>,
}

impl Filler {
    /// A mirrored file, from wherever it can be had, by its pin.
    ///
    /// # Errors
    /// Those of the upstreams; that the bytes are wrong or that nobody has them (502); that the
    /// checksum differs from the pin (403); that there is no room in memory, or too much under way. A
    /// store that fails is none, but for the pin.
    pub async fn verified(self: &Arc<Self>, client: ClientKey, wanted: Wanted) -> Result<Got> {
        let key = (Origin::Mirrored, wanted.listed.cksum);
        let fill = || Arc::clone(self).fill(client, wanted.clone());
        let got = self.files.cache.obtain(client, key, self.files.limits.fill, fill).await?;
        self.pinner.pin(&wanted).await?;
        self.uses.note(&wanted.listed.cksum);
        Ok(got)
    }

    /// A mirrored crate file that is in memory or in the store; upstreams are not asked.
    ///
    /// # Errors
    /// That there is no room in memory.
    pub async fn held(&self, wanted: &Wanted) -> Result<Option<Got>> {
        let cksum = wanted.listed.cksum;
        if let Some(bytes) = self.files.cache.at_hand(&cksum) {
            return Ok(Some(Got { content: Content::Whole(bytes), cksum, source: Source::Memory }));
        }
        let content = self.stored(wanted).await?;
        Ok(content.map(|content| Got { content, cksum, source: Source::Store }))
    }

    /// Finds the file in the store or fills it from the chain, and pins it.
    async fn fill(self: Arc<Self>, client: ClientKey, wanted: Wanted) -> Result<Got> {
        let (cksum, cache) = (wanted.listed.cksum, &self.files.cache);
        if let Some(content) = self.stored(&wanted).await? {
            return Ok(Got { content, cksum, source: Source::Store });
        }
        self.pinner.refuse_if_pinned_otherwise(&wanted).await?;
        let (bytes, mut permit) = self.fetch(client, &wanted).await?;
        let size = bytes.len() as u64;
        permit.fit(size);
        self.pinner.pin(&wanted).await?;
        let content = if cache.takes_whole(size) {
            let shared = cache.share(cksum, bytes.clone(), permit);
            self.store_later(wanted, bytes, shared.clone()).await;
            Content::Whole(shared)
        } else if self.store(&wanted, bytes.clone()).await {
            Content::InStore { size, at_hand: Some(bytes_holding(bytes, permit)) }
        } else {
            Content::Whole(cache.share(cksum, bytes, permit))
        };
        Ok(Got { content, cksum, source: Source::Upstream })
    }

    /// Keeps verified bytes while the asker goes on. They take their room, which `shared` holds, until
    /// then and no longer: a store in memory keeps what it is given.
    async fn store_later(self: &Arc<Self>, wanted: Wanted, bytes: Bytes, shared: Bytes) {
        let turn = self.write_behind.turn(wanted.listed.cksum).await;
        let owned = Arc::clone(self);
        self.write_behind.follow(turn, async move {
            owned.store(&wanted, bytes).await;
            drop(shared);
        });
    }

    /// The store's copy of a mirrored crate file, if it has a good one and says so in time.
    async fn stored(&self, wanted: &Wanted) -> Result<Option<Content>> {
        let cksum = &wanted.listed.cksum;
        let files = &*self.files;
        if files.cache.damaged.contains_key(cksum) {
            return Ok(None);
        }
        let largest = self.files.limits.mirrored_bytes;
        let (origin, likely, wait) = (Origin::Mirrored, FIRST_PERMIT_BYTES, STORE_WAIT);
        match (Reading { files, origin, cksum, likely, largest, wait }).find().await {
            Ok(Found::File(content)) => return Ok(Some(content)),
            Ok(Found::Nothing) => {}
            Ok(Found::Damaged) => {
                self.files.metrics.alarms.with_label_values(&["damaged_blob"]).inc();
                if let Some(suppressed) = self.files.lines.damaged_copy.admit() {
                    tracing::error!(%wanted, %cksum, suppressed,
                    "the store's copy is damaged; it is filled again");
                }
            }
            Ok(Found::TooLarge { bytes }) => {
                tracing::warn!(%wanted, bytes, "the store's copy exceeds limits.mirrored_crate_bytes");
            }
            Err(Unread::NoRoom(error)) => return Err(error),
            Err(Unread::Store(error)) => {
                if let Some(suppressed) = self.files.lines.store.admit() {
                    tracing::warn!(%wanted, error = %error.chain(), suppressed,
                    "the store failed; asking upstream");
                }
            }
        }
        Ok(None)
    }

    /// Keeps verified bytes, and says whether it did. A store that fails costs the next replica a fill,
    /// and nobody a download.
    async fn store(&self, wanted: &Wanted, bytes: Bytes) -> bool {
        let cksum = &wanted.listed.cksum;
        match timeout(STORE_WAIT, self.files.blobs.put(Origin::Mirrored, cksum, bytes)).await {
            Ok(Ok(())) => {
                self.files.cache.damaged.invalidate(cksum);
                return true;
            }
            Ok(Err(error)) => {
                tracing::warn!(%wanted, %error, "a mirrored crate file was not stored")
            }
            Err(_) => tracing::warn!(%wanted, "a mirrored crate file was not stored in time"),
        }
        false
    }

    /// The bytes from the upstream that lists the version. One that lists a version without having
    /// its bytes (a filtered mirror) passes it on to the next that lists the same bytes.
    async fn fetch(&self, client: ClientKey, wanted: &Wanted) -> Result<(Bytes, MemoryPermit)> {
        for (at, upstream) in self.chain.upstreams.iter().enumerate().skip(wanted.at) {
            let Some(listed) = self.listed_by(client, at, wanted).await? else { continue };
            if let Some(filled) = self.fetch_from(client, upstream, &listed).await? {
                return Ok(filled);
            }
            if let Some(suppressed) = self.files.lines.not_at_dl.admit() {
                let upstream = upstream.name();
                tracing::info!(upstream, %wanted, suppressed, "in its index, but 404 at its `dl`");
            }
        }
        Err(Error::new(
            Kind::BadUpstream,
            format!(
                "{wanted} is in the index of the upstream `{}`, but its crate file is not there, and \
             no other upstream has it; use another version or complete that mirror",
                wanted.upstream(&self.chain.upstreams)
            ),
        ))
    }

    async fn listed_by(
        &self,
        client: ClientKey,
        at: usize,
        wanted: &Wanted,
    ) -> Result<Option<Listed>> {
        if at == wanted.at {
            return Ok(Some(wanted.listed.clone()));
        }
        let file = self.chain.mirrored_at(client, &wanted.listed.name, at).await?;
        Ok(file.and_then(|file| same_bytes(&file, &wanted.listed).cloned()))
    }

    /// Verified bytes, and the room that they take while they are stored; `None` when this upstream
    /// definitely does not have them.
    async fn fetch_from(
        &self,
        client: ClientKey,
        upstream: &Upstream,
        listed: &Listed,
    ) -> Result<Option<(Bytes, MemoryPermit)>> {
        let (answer, permit) = self.ask(client, upstream, listed).await?;
        let CrateAnswer::Found(bytes) = answer else { return Ok(None) };
        if has_checksum(&bytes, &listed.cksum).await {
            return Ok(Some((bytes, permit)));
        }
        self.files.metrics.alarms.with_label_values(&["wrong_bytes"]).inc();
        if let Some(suppressed) = self.files.lines.wrong_bytes.admit() {
            tracing::error!(upstream = upstream.name(), krate = %listed.name,
            version = %listed.version, cksum = %listed.cksum, bytes = bytes.len(), suppressed,
            "an upstream sent wrong bytes; refused");
        }
        Err(Error::new(
            Kind::BadUpstream,
            format!(
                "the upstream `{}` sent bytes for `{}` {} that do not match the checksum in its \
             index; they were refused. Try again, and tell the registry's administrators if it \
             stays so",
                upstream.name(),
                listed.name,
                listed.version
            ),
        ))
    }

    async fn ask(
        &self,
        client: ClientKey,
        upstream: &Upstream,
        listed: &Listed,
    ) -> Result<(CrateAnswer, MemoryPermit)> {
        let largest = self.files.limits.mirrored_bytes;
        let (cache, turn) = (&self.files.cache, Turn { client, held: false });
        // In this order: those that wait for their turn have no memory that others could use.
        let place = upstream.crate_place(turn).await?;
        let mut permit = cache.reserve(largest.min(FIRST_PERMIT_BYTES)).await?;
        let error = match ask_within(&mut permit, largest, upstream, &place, listed).await {
            Ok(answer) => return Ok((answer, permit)),
            Err(error) => error,
        };
        let needed = match error.kind {
            UpstreamErrorKind::TooLarge { announced } | UpstreamErrorKind::NoRoom { announced } => {
                announced.unwrap_or(largest)
            }
            _ => return Err(error.into()),
        };
        if needed > largest || needed <= permit.bytes() {
            return Err(error.into());
        }
        // Not held while waiting for more, or two fills could wait for each other.
        drop(permit);
        let mut permit = cache.reserve(needed).await?;
        Ok((ask_within(&mut permit, largest, upstream, &place, listed).await?, permit))
    }
}

/// How another upstream's file lists the very bytes that are wanted, if it does.
fn same_bytes<'a>(file: &'a IndexFile, wanted: &Listed) -> Option<&'a Listed> {
    file.version(&wanted.version).filter(|listed| listed.cksum == wanted.cksum)
}

/// Asks with the room that there is, and as much as is announced if that is to be had at once.
async fn ask_within(
    permit: &mut MemoryPermit,
    largest: u64,
    upstream: &Upstream,
    place: &CratePlace,
    listed: &Listed,
) -> Result<CrateAnswer, UpstreamError> {
    let mut fit = |announced: Option<u64>| match announced {
        Some(bytes) if bytes <= largest => permit.fit(bytes),
        _ => permit.bytes(),
    };
    upstream.crate_file(place, listed, &mut fit).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::checksum::Checksum;
    use cratehouse_package::name::CrateName;

    #[test]
    fn another_upstream_may_help_out_with_the_same_bytes_only() {
        let listed = |version: &str, bytes: &[u8]| Listed {
            name: CrateName::parse("foo").unwrap(),
            version: version.parse().unwrap(),
            cksum: Checksum::of(bytes),
            yanked: false,
            pubtime: None,
        };
        let file = IndexFile::new(Bytes::new(), vec![listed("1.0.0", b"x")]);
        let yanked_there = Listed { yanked: true, ..listed("1.0.0", b"x") };
        assert!(same_bytes(&file, &yanked_there).is_some());
        assert!(same_bytes(&file, &listed("1.0.0", b"y")).is_none());
        assert!(same_bytes(&file, &listed("1.0.1", b"x")).is_none());
    }
}
