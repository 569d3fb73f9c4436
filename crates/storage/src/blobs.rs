//! Crate files in the store, each under its SHA-256: `blobs/hosted/ab/abcd…`, `blobs/mirror/ab/abcd…`.

use crate::objects::Objects;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};

use cratehouse_core::checksum::{Checksum, Checksumming};
use cratehouse_core::threads;

/// Up to this many bytes are hashed where they are (a few tenths of a millisecond); more of them
/// are hashed off the async threads.
const HASHED_IN_PLACE_BYTES: usize = 128 << 10;

/// Whose bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Published here: the only copy.
    Hosted,
    /// Read through from an upstream: a cache.
    Mirrored,
}

/// What the store has under a checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// The bytes; their checksum was compared.
    Whole(Bytes),
    /// Nothing.
    Absent,
    /// Bytes of another checksum.
    Damaged,
    /// More bytes than the caller has room for; they were not read.
    Larger {
        /// How many there are.
        bytes: u64,
    },
}

/// A crate file in the store, by its listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// What its name says.
    pub cksum: Checksum,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
}

/// Crate files in the store.
#[derive(Debug, Clone)]
pub struct Blobs {
    hosted: Arc<dyn ObjectStore>,
    mirrored: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Crate files by two handles on a store: writes of hosted ones must be durable, mirrored ones
    /// are a cache.
    pub fn new(hosted: Arc<dyn ObjectStore>, mirrored: Arc<dyn ObjectStore>) -> Self {
        Self { hosted, mirrored }
    }

    fn store(&self, origin: Origin) -> &dyn ObjectStore {
        match origin {
            Origin::Hosted => &self.hosted,
            Origin::Mirrored => &self.mirrored,
        }
    }

    /// Stores bytes under their checksum, which the caller has compared. What stands there is
    /// overwritten: it is the same, or it is damaged.
    ///
    /// # Errors
    /// Those of the store; then the bytes are there or they are not.
    pub async fn put(
        &self,
        origin: Origin,
        cksum: &Checksum,
        bytes: Bytes,
    ) -> Result<(), object_store::Error> {
        self.store(origin).put(&path(origin, cksum), PutPayload::from_bytes(bytes)).await.map(drop)
    }

    /// Reads and compares the checksum. `room` is told how many bytes there are, and says how many
    /// of them may be.
    ///
    /// # Errors
    /// Those of the store, but not that there is nothing.
    pub async fn get(
        &self,
        origin: Origin,
        cksum: &Checksum,
        room: impl FnOnce(u64) -> u64,
    ) -> Result<Blob, object_store::Error> {
        let found = match self.store(origin).get(&path(origin, cksum)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Blob::Absent),
            found => found?,
        };
        let size = found.meta.size;
        if size > room(size) {
            return Ok(Blob::Larger { bytes: size });
        }
        let bytes = found.bytes().await?;
        match has_checksum(&bytes, cksum).await {
            true => Ok(Blob::Whole(bytes)),
            false => Ok(Blob::Damaged),
        }
    }

    /// How many bytes there are; `None`: nothing. They are not read.
    ///
    /// # Errors
    /// Those of the store, but not that there is nothing.
    pub async fn size(
        &self,
        origin: Origin,
        cksum: &Checksum,
    ) -> Result<Option<u64>, object_store::Error> {
        match self.store(origin).head(&path(origin, cksum)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(|object| Some(object.size)),
        }
    }

    /// A part of the bytes, or less of it when they end before. Nothing is compared.
    ///
    /// # Errors
    /// Those of the store, also that there is nothing.
    pub async fn piece(
        &self,
        origin: Origin,
        cksum: &Checksum,
        range: Range<u64>,
    ) -> Result<Bytes, object_store::Error> {
        self.store(origin).get_range(&path(origin, cksum), range).await
    }

    /// Lists all crate files of an origin, in no order; what stands among them and is none is given
    /// by its path.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(
        &self,
        origin: Origin,
    ) -> BoxStream<'static, object_store::Result<Result<Stored, Path>>> {
        let listed = self.store(origin).list(Some(&Path::from(format!("blobs/{origin}"))));
        listed.map_ok(move |object| stored(origin, &object).ok_or(object.location)).boxed()
    }

    /// Deletes; it is no error when there is nothing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(
        &self,
        origin: Origin,
        cksum: &Checksum,
    ) -> Result<(), object_store::Error> {
        match self.store(origin).delete(&path(origin, cksum)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }
}

/// Whether bytes have a checksum.
pub async fn has_checksum(bytes: &Bytes, cksum: &Checksum) -> bool {
    if bytes.len() <= HASHED_IN_PLACE_BYTES {
        return Checksum::of(bytes) == *cksum;
    }
    let shared = bytes.clone();
    let hashing = threads::aside(move || Checksum::of(&shared));
    // There may be no thread for it, as while the process stops; the answer is the same without.
    hashing.await.unwrap_or_else(|_| Checksum::of(bytes)) == *cksum
}

/// A checksum that goes on with more bytes.
pub async fn hashed_on(mut sum: Checksumming, bytes: &Bytes) -> Checksumming {
    if bytes.len() <= HASHED_IN_PLACE_BYTES {
        sum.update(bytes);
        return sum;
    }
    let (before, shared) = (sum.clone(), bytes.clone());
    let hashing = threads::aside(move || {
        sum.update(&shared);
        sum
    });
    hashing.await.unwrap_or_else(|_| {
        let mut sum = before;
        sum.update(bytes);
        sum
    })
}

fn stored(origin: Origin, object: &ObjectMeta) -> Option<Stored> {
    let cksum = object.location.filename()?.parse().ok()?;
    let modified = Timestamp::from_millisecond(object.last_modified.timestamp_millis()).ok()?;
    let found = Stored { cksum, size: object.size, modified };
    (path(origin, &cksum) == object.location).then_some(found)
}

fn path(origin: Origin, cksum: &Checksum) -> Path {
    let hex = cksum.to_string();
    let folder = hex.get(..2).unwrap_or_default();
    Path::from(format!("blobs/{origin}/{folder}/{hex}"))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Hosted => "hosted",
            Origin::Mirrored => "mirror",
        })
    }
}

/// The crate files in a store.
pub fn blobs_in(objects: &Objects) -> Blobs {
    Blobs::new(Arc::clone(&objects.durable), Arc::clone(&objects.cache))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn blobs() -> Blobs {
        let store = Arc::new(InMemory::new());
        Blobs::new(Arc::clone(&store) as _, store)
    }

    #[tokio::test]
    async fn what_was_put_is_read_again_from_its_place_and_only_from_there() {
        let (blobs, bytes) = (blobs(), Bytes::from_static(b"abc"));
        let cksum = Checksum::of(&bytes);
        blobs.put(Origin::Hosted, &cksum, bytes.clone()).await.unwrap();
        let place = Path::from(format!("blobs/hosted/ba/{ABC}"));
        assert_eq!(blobs.hosted.head(&place).await.unwrap().size, 3);
        assert_eq!(blobs.get(Origin::Hosted, &cksum, |_| 3).await.unwrap(), Blob::Whole(bytes));
        assert_eq!(blobs.get(Origin::Mirrored, &cksum, |_| 3).await.unwrap(), Blob::Absent);
    }

    #[tokio::test]
    async fn small_and_large_bytes_are_compared_with_their_checksum() {
        for size in [3, HASHED_IN_PLACE_BYTES, HASHED_IN_PLACE_BYTES + 1] {
            let (blobs, bytes) = (blobs(), Bytes::from(vec![7; size]));
            let cksum = Checksum::of(&bytes);
            blobs.put(Origin::Mirrored, &cksum, bytes.clone()).await.unwrap();
            let found = blobs.get(Origin::Mirrored, &cksum, |size| size).await.unwrap();
            assert_eq!(found, Blob::Whole(bytes));

            blobs.put(Origin::Mirrored, &cksum, vec![8; size].into()).await.unwrap();
            let found = blobs.get(Origin::Mirrored, &cksum, |size| size).await.unwrap();
            assert_eq!(found, Blob::Damaged);
        }
    }

    #[tokio::test]
    async fn more_bytes_than_there_is_room_for_are_not_read() {
        let (blobs, bytes) = (blobs(), Bytes::from_static(b"abc"));
        let cksum = Checksum::of(&bytes);
        blobs.put(Origin::Mirrored, &cksum, bytes).await.unwrap();
        let found = blobs.get(Origin::Mirrored, &cksum, |_| 2).await.unwrap();
        assert_eq!(found, Blob::Larger { bytes: 3 });
    }

    #[tokio::test]
    async fn a_piece_is_read_alone_and_the_size_without_any() {
        let (blobs, bytes) = (blobs(), Bytes::from_static(b"abc"));
        let cksum = Checksum::of(&bytes);
        assert_eq!(blobs.size(Origin::Mirrored, &cksum).await.unwrap(), None);
        assert!(blobs.piece(Origin::Mirrored, &cksum, 0..1).await.is_err());
        blobs.put(Origin::Mirrored, &cksum, bytes).await.unwrap();
        assert_eq!(blobs.size(Origin::Mirrored, &cksum).await.unwrap(), Some(3));
        assert_eq!(blobs.piece(Origin::Mirrored, &cksum, 1..3).await.unwrap(), "bc");
    }

    #[tokio::test]
    async fn pieces_small_and_large_are_hashed_as_the_whole_is() {
        let mut sum = Checksumming::default();
        for size in [3, HASHED_IN_PLACE_BYTES + 1] {
            sum = hashed_on(sum, &Bytes::from(vec![7; size])).await;
        }
        assert_eq!(sum.finish(), Checksum::of(&vec![7; HASHED_IN_PLACE_BYTES + 4]));
    }

    #[tokio::test]
    async fn deleting_twice_is_no_error() {
        let (blobs, bytes) = (blobs(), Bytes::from_static(b"abc"));
        let cksum = Checksum::of(&bytes);
        blobs.put(Origin::Hosted, &cksum, bytes).await.unwrap();
        for _ in 0..2 {
            blobs.delete(Origin::Hosted, &cksum).await.unwrap();
            assert_eq!(blobs.get(Origin::Hosted, &cksum, |_| 3).await.unwrap(), Blob::Absent);
        }
    }
}
