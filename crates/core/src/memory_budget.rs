//! Room in memory: a budget of bytes, and shares of it that are held for as long as the bytes are.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a budget counts in. Small, because most crate files are.
const STEP_BYTES: u64 = 1 << 10;

/// A budget of bytes. First come, first served.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    steps: Arc<Semaphore>,
    total: u32,
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    held: Option<OwnedSemaphorePermit>,
    budget: MemoryBudget,
    /// What there is room for.
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let total = steps(bytes);
        Self { steps: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// What `bytes` take of a budget.
    pub fn weight(bytes: u64) -> u64 {
        u64::from(steps(bytes)) * STEP_BYTES
    }

    /// Waits for room for `bytes`; for the whole budget when they are more than that.
    pub async fn reserve(&self, bytes: u64) -> MemoryPermit {
        let permits = Arc::clone(&self.steps).acquire_many_owned(self.steps_for(bytes));
        // The semaphore is never closed.
        MemoryPermit { held: permits.await.ok(), budget: self.clone(), bytes }
    }

    /// The same, if it is to be had at once.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryPermit> {
        let permits = Arc::clone(&self.steps).try_acquire_many_owned(self.steps_for(bytes));
        Some(MemoryPermit { held: Some(permits.ok()?), budget: self.clone(), bytes })
    }

    /// How many bytes nobody holds.
    pub fn free(&self) -> u64 {
        self.steps.available_permits() as u64 * STEP_BYTES
    }

    /// How many bytes it is in all.
    pub fn total(&self) -> u64 {
        u64::from(self.total) * STEP_BYTES
    }

    /// How many bytes are held.
    pub fn taken(&self) -> u64 {
        self.total().saturating_sub(self.free())
    }

    fn steps_for(&self, bytes: u64) -> u32 {
        self.total.min(steps(bytes))
    }
}

impl MemoryPermit {
    /// What there is room for, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes this room for `bytes`: gives back what is more, and takes what is missing if that
    /// is to be had at once. Says what there is room for now.
    pub fn fit(&mut self, bytes: u64) -> u64 {
        let Some(held) = &mut self.held else { return self.bytes };
        let (has, needs) = (held.num_permits(), self.budget.steps_for(bytes) as usize);
        match needs.checked_sub(has).and_then(|missing| u32::try_from(missing).ok()) {
            None => drop(held.split(has - needs)),
            Some(missing) => match Arc::clone(&self.budget.steps).try_acquire_many_owned(missing) {
                Ok(more) => held.merge(more),
                Err(_) => return self.bytes,
            },
        }
        self.bytes = bytes;
        bytes
    }
}

/// Bytes that hold something for as long as anybody has a part of them.
pub fn bytes_holding<H: Send + 'static>(bytes: Bytes, held: H) -> Bytes {
    struct Holding<H> {
        bytes: Bytes,
        _held: H,
    }
    impl<H> AsRef<[u8]> for Holding<H> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Holding { bytes, _held: held })
}

fn steps(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MIB: u64 = 1 << 20;

    #[tokio::test]
    async fn two_hundred_small_fills_fit_where_a_few_large_ones_do() {
        let budget = MemoryBudget::new(256 * MIB);
        let mut small: Vec<_> = (0..200).map(|_| budget.try_reserve(MIB).unwrap()).collect();
        assert!(budget.reserve(100 * MIB).now_or_never().is_none());
        small.truncate(100);
        assert!(budget.reserve(100 * MIB).now_or_never().is_some());
    }

    #[tokio::test]
    async fn more_than_the_budget_takes_the_whole_of_it() {
        let budget = MemoryBudget::new(10 * MIB);
        let all = budget.reserve(50 * MIB).now_or_never().unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(all);
        assert!(budget.try_reserve(u64::MAX).is_some());
    }

    #[tokio::test]
    async fn room_is_given_back_or_taken_when_the_size_is_known() {
        let budget = MemoryBudget::new(10 * MIB);
        let mut permit = budget.reserve(10 * MIB).await;
        assert_eq!(permit.fit(100), 100);
        let other = budget.try_reserve(5 * MIB).unwrap();
        assert!(budget.try_reserve(10 * MIB).is_none());
        assert_eq!(permit.fit(4 * MIB), 4 * MIB);
        assert_eq!(permit.fit(6 * MIB), 4 * MIB, "there is no more");
        drop(other);
        assert_eq!(permit.fit(20 * MIB), 20 * MIB, "as far as the whole goes");
        assert!(budget.try_reserve(1).is_none());
        drop(permit);
        assert_eq!((budget.taken(), budget.free()), (0, 10 * MIB));
    }

    #[test]
    fn room_is_held_until_the_last_part_of_the_bytes_is_gone() {
        let budget = MemoryBudget::new(10 * MIB);
        let permit = budget.try_reserve(3).unwrap();
        let bytes = bytes_holding(Bytes::from_static(b"abc"), permit);
        let part = bytes.slice(1..2);
        assert_eq!((&bytes[..], budget.taken()), (&b"abc"[..], MemoryBudget::weight(3)));
        drop(bytes);
        assert_eq!((&part[..], budget.taken()), (&b"b"[..], MemoryBudget::weight(3)));
        drop(part);
        assert_eq!(budget.taken(), 0);
    }
}
