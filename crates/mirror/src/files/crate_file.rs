//! A crate file that was found: in memory, or to be streamed from the store.

use bytes::Bytes;

use cratehouse_core::checksum::Checksum;
use cratehouse_storage::blobs::Origin;

/// The memory that a crate file of unknown size is given at first. Nine in ten are smaller. What
/// is announced to be larger gets more on the spot; it is asked for a second time only when
/// there is no memory just then, or when nothing was announced.
pub(crate) const FIRST_PERMIT_BYTES: u64 = 1 << 20;

/// What is asked of the store at one time: each piece is a request of its own, because no store
/// keeps one open for as long as a slow client takes. Every piece but the first has this size.
pub(crate) const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that a stream has in memory: one that its client takes, and the next.
pub(crate) const PIECES: usize = 2;
/// The memory that a stream takes, in bytes.
pub const STREAM_BYTES: u64 = PIECE_BYTES * PIECES as u64;
/// A crate file that is there, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// Its bytes, or where they are to be had.
    pub content: Content,
    /// Their SHA-256.
    pub cksum: Checksum,
    /// Where it was found.
    pub source: Source,
}

/// What there is of a crate file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All of it, in memory; its checksum was compared.
    Whole(Bytes),
    /// It is in the store, and too large for memory or there is no room for it now. It is
    /// compared while it is sent.
    InStore {
        /// How many bytes it has.
        size: u64,
        /// It was just fetched, and compared: not to be sent, or it would take its memory for as
        /// long as the slowest client needs.
        at_hand: Option<Bytes>,
    },
}

impl Content {
    /// The bytes, if they are in memory.
    pub fn at_hand(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::InStore { at_hand, .. } => at_hand.as_ref(),
        }
    }
}

/// Where a crate file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In memory.
    Memory,
    /// In the object store.
    Store,
    /// At an upstream.
    Upstream,
}

/// Which file is streamed.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) origin: Origin,
    pub(crate) cksum: Checksum,
    pub(crate) size: u64,
}
