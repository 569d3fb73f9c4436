//! Reading a crate file from the store: into memory where it fits, else only finding it, so that
//! it can be streamed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::flows::crate_cache::broke_off;
use crate::flows::crate_file::{Content, STREAM_BYTES, Stored};
use crate::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::memory_budget::{MemoryPermit, bytes_holding};
use cratehouse_storage::blobs::{Blob, Origin};

/// What is read, and what may be expected of it.
pub(super) struct Reading<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) origin: Origin,
    pub(super) cksum: &'a Checksum,
    /// How many bytes it probably has.
    pub(super) likely: u64,
    /// How many it may have.
    pub(super) largest: u64,
    /// How long the store may take; waiting for room comes on top.
    pub(super) wait: Duration,
}

/// What the store has.
pub(super) enum Found {
    /// A file. In memory only with the right checksum.
    File(Content),
    Nothing,
    /// Bytes of another checksum.
    Damaged,
    /// More bytes than it may have.
    TooLarge {
        bytes: u64,
    },
}

/// Why that is not known.
pub(super) enum Unread {
    NoRoom(Error),
    Store(Error),
}

impl Reading<'_> {
    /// Reads the file if it is one for memory and there is room, with room for what it really has.
    pub(super) async fn find(&self) -> Result<Found, Unread> {
        let (crates, mut wanted) = (&self.gateway.crates, self.likely.min(self.largest));
        if !crates.takes_whole(wanted) || crates.large.contains_key(self.cksum) {
            return self.look().await;
        }
        loop {
            let Some(mut room) = self.room(wanted).await? else { return self.look().await };
            match self.read(&mut room).await? {
                Blob::Whole(bytes) => {
                    let shared = crates.share(*self.cksum, bytes, room);
                    return Ok(Found::File(Content::Whole(shared)));
                }
                Blob::Absent => return Ok(Found::Nothing),
                Blob::Damaged => return Ok(Found::Damaged),
                Blob::Larger { bytes } if bytes <= self.largest && crates.takes_whole(bytes) => {
                    drop(room); // not held while waiting for more
                    wanted = bytes;
                }
                Blob::Larger { bytes } => return Ok(self.there(bytes).await),
            }
        }
    }

    async fn read(&self, room: &mut MemoryPermit) -> Result<Blob, Unread> {
        let crates = &self.gateway.crates;
        let fit = |size| match size <= self.largest && crates.takes_whole(size) {
            true => room.fit(size),
            false => 0,
        };
        self.in_time(self.gateway.blobs.get(self.origin, self.cksum, fit)).await
    }

    /// Finds the file without reading it.
    async fn look(&self) -> Result<Found, Unread> {
        match self.in_time(self.gateway.blobs.size(self.origin, self.cksum)).await? {
            None => Ok(Found::Nothing),
            Some(bytes) => Ok(self.there(bytes).await),
        }
    }

    async fn there(&self, size: u64) -> Found {
        if size > self.largest {
            return Found::TooLarge { bytes: size };
        }
        if !self.gateway.crates.takes_whole(size) {
            self.gateway.crates.large.insert(*self.cksum, ());
        }
        Found::File(Content::InStore { size, at_hand: None })
    }

    /// Room for the whole. `None`: a stream needs less, and there is no more now.
    async fn room(&self, bytes: u64) -> Result<Option<MemoryPermit>, Unread> {
        let crates = &self.gateway.crates;
        match crates.room_now(bytes) {
            None if bytes <= STREAM_BYTES => {
                crates.room(bytes).await.map(Some).map_err(Unread::NoRoom)
            }
            room => Ok(room),
        }
    }

    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, Unread> {
        match timeout(self.wait, asking).await {
            Ok(answer) => answer.map_err(|e| Unread::Store(Error::store(e))),
            Err(_) => Err(Unread::Store(silent())),
        }
    }
}

/// The whole of a file that is streamed, for one who must read all of it now.
///
/// # Errors
/// When it is not what it should be; that the store does not answer; that there is no room.
pub(super) async fn whole(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    file: &Stored,
) -> Result<Bytes> {
    let (owned, Stored { origin, cksum, size }) = (Arc::clone(gateway), file.clone());
    let reading = || async move {
        let mut room = owned.crates.room(size).await?;
        let getting = owned.blobs.get(origin, &cksum, |size| room.fit(size));
        match timeout(owned.config.limits.fill, getting).await {
            Ok(Ok(Blob::Whole(bytes))) => Ok(bytes_holding(bytes, room)),
            Ok(Ok(_)) => {
                owned.crates.damaged.insert(cksum, ());
                Err(Error::unavailable("the store's copy of the crate file is damaged; try again"))
            }
            Ok(Err(error)) => Err(Error::store(error)),
            Err(_) => Err(silent()),
        }
    };
    let flight = gateway.crates.wholes.join_for(client, cksum, reading).await?;
    flight.unwrap_or_else(|| Err(broke_off()))
}

fn silent() -> Error {
    Error::unavailable("the registry's object store does not answer in time; try again shortly")
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::NoRoom(error) | Unread::Store(error) => error,
        }
    }
}
