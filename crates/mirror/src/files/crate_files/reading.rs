//! Reading a crate file from the store: into memory where it fits, else only finding it, so that
//! it can be streamed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::CrateFiles;
use crate::files::crate_file::{Content, STREAM_BYTES, Stored};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::memory_budget::{MemoryPermit, bytes_holding};
use cratehouse_storage::blobs::{Blob, Origin};

/// What is read, and what may be expected of it.
pub(crate) struct Reading<'a> {
    pub(crate) files: &'a CrateFiles,
    pub(crate) origin: Origin,
    pub(crate) cksum: &'a Checksum,
    /// How many bytes it probably has.
    pub(crate) likely: u64,
    /// How many it may have.
    pub(crate) largest: u64,
    /// How long the store may take; waiting for room comes on top.
    pub(crate) wait: Duration,
}

/// What the store has.
pub(crate) enum Found {
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
pub(crate) enum Unread {
    NoRoom(Error),
    Store(Error),
}

impl Reading<'_> {
    /// Reads the file if it is one for memory and there is room, with room for what it really has.
    pub(crate) async fn find(&self) -> Result<Found, Unread> {
        let (crates, mut wanted) = (&self.files.cache, self.likely.min(self.largest));
        if !crates.takes_whole(wanted) || crates.large.contains_key(self.cksum) {
            return self.look().await;
        }
        loop {
            let Some(mut permit) = self.reserve(wanted).await? else { return self.look().await };
            match self.read(&mut permit).await? {
                Blob::Whole(bytes) => {
                    let shared = crates.share(*self.cksum, bytes, permit);
                    return Ok(Found::File(Content::Whole(shared)));
                }
                Blob::Absent => return Ok(Found::Nothing),
                Blob::Damaged => return Ok(Found::Damaged),
                Blob::Larger { bytes } if bytes <= self.largest && crates.takes_whole(bytes) => {
                    drop(permit); // not held while waiting for more
                    wanted = bytes;
                }
                Blob::Larger { bytes } => return Ok(self.there(bytes).await),
            }
        }
    }

    async fn read(&self, permit: &mut MemoryPermit) -> Result<Blob, Unread> {
        let crates = &self.files.cache;
        let fit = |size| match size <= self.largest && crates.takes_whole(size) {
            true => permit.fit(size),
            false => 0,
        };
        self.in_time(self.files.blobs.get(self.origin, self.cksum, fit)).await
    }

    /// Finds the file without reading it.
    async fn look(&self) -> Result<Found, Unread> {
        match self.in_time(self.files.blobs.size(self.origin, self.cksum)).await? {
            None => Ok(Found::Nothing),
            Some(bytes) => Ok(self.there(bytes).await),
        }
    }

    async fn there(&self, size: u64) -> Found {
        if size > self.largest {
            return Found::TooLarge { bytes: size };
        }
        if !self.files.cache.takes_whole(size) {
            self.files.cache.large.insert(*self.cksum, ());
        }
        Found::File(Content::InStore { size, at_hand: None })
    }

    /// Room for the whole. `None`: a stream needs less, and there is no more now.
    async fn reserve(&self, bytes: u64) -> Result<Option<MemoryPermit>, Unread> {
        let crates = &self.files.cache;
        match crates.try_reserve(bytes) {
            None if bytes <= STREAM_BYTES => {
                crates.reserve(bytes).await.map(Some).map_err(Unread::NoRoom)
            }
            permit => Ok(permit),
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
pub(crate) async fn whole(files: &CrateFiles, file: &Stored) -> Result<Bytes> {
    let Stored { origin, cksum, size } = file;
    let mut permit = files.cache.reserve(*size).await?;
    let getting = files.blobs.get(*origin, cksum, |size| permit.fit(size));
    match timeout(files.limits.fill, getting).await {
        Ok(Ok(Blob::Whole(bytes))) => Ok(bytes_holding(bytes, permit)),
        Ok(Ok(_)) => {
            files.cache.damaged.insert(*cksum, ());
            Err(Error::unavailable("the store's copy of the crate file is damaged; try again"))
        }
        Ok(Err(error)) => Err(Error::store(error)),
        Err(_) => Err(silent()),
    }
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
