//! Bytes that are counted for as long as anybody has a part of them. Unlike a budget it refuses
//! nothing by itself: code that is about to make more asks whether it is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::memory_budget::bytes_holding;

/// What is counted, and how much should be.
#[derive(Debug)]
pub struct MemoryInUse {
    taken: AtomicU64,
    total: u64,
}

/// What some bytes count, until it is dropped.
struct Counted {
    tally: Arc<MemoryInUse>,
    bytes: u64,
}

impl MemoryInUse {
    /// Nothing counted yet, of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { taken: AtomicU64::new(0), total }
    }

    /// The same bytes, counted.
    pub fn count(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let counted = Counted { tally: Arc::clone(self), bytes: bytes.len() as u64 };
        self.add(counted.bytes);
        bytes_holding(bytes, counted)
    }

    /// How many bytes should be counted at the most.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts bytes until [`MemoryInUse::sub`] is told of as many.
    pub fn add(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They are no longer there.
    pub fn sub(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes are counted.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// By how many bytes it is too full for more; 0: it is not.
    pub fn excess(&self) -> u64 {
        (self.taken() + 1).saturating_sub(self.total)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_the_last_part_of_them_is_gone() {
        let tally = Arc::new(MemoryInUse::new(4));
        let bytes = tally.count(Bytes::from_static(b"abc"));
        assert_eq!((&bytes[..], tally.taken(), tally.excess()), (&b"abc"[..], 3, 0));
        let more = tally.count(Bytes::from_static(b"de"));
        assert_eq!((tally.taken(), tally.excess()), (5, 2));
        let part = bytes.slice(2..);
        drop((bytes, more));
        assert_eq!((&part[..], tally.taken()), (&b"c"[..], 3));
        drop(part);
        assert_eq!(tally.taken(), 0);
    }
}
