//! How fast a request body has to come.

use std::time::Duration;

use tokio::time::Instant;

/// A body is looked at this often.
const WINDOW: Duration = Duration::from_secs(10);

/// How fast, and within which time.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The whole of it.
    pub within: Duration,
    /// At the least, in bytes a second, over every ten seconds.
    pub rate: usize,
}

/// Watches a body that arrives. Time in which we did not read it does not count.
#[derive(Debug)]
pub(super) struct Pace {
    arrival: Arrival,
    until: Instant,
    window_ends: Instant,
    /// Bytes of this window.
    seen: usize,
}

/// Why a body is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// It took too long in all.
    Whole,
    /// It comes too slowly.
    Slow,
}

impl Pace {
    pub(super) fn begin(arrival: Arrival) -> Self {
        let now = Instant::now();
        Self { arrival, until: now + arrival.within, window_ends: now + WINDOW, seen: 0 }
    }

    /// When to look, if nothing comes before.
    pub(super) fn look_at(&self) -> Instant {
        self.until.min(self.window_ends)
    }

    /// Notes bytes, or that nothing came.
    ///
    /// # Errors
    /// When that is too little for the time.
    pub(super) fn note(&mut self, bytes: usize) -> Result<(), Late> {
        let now = Instant::now();
        self.seen = self.seen.saturating_add(bytes);
        if now >= self.until {
            return Err(Late::Whole);
        }
        if now >= self.window_ends {
            if self.seen < self.arrival.rate.saturating_mul(WINDOW.as_secs() as usize) {
                return Err(Late::Slow);
            }
            (self.seen, self.window_ends) = (0, now + WINDOW);
        }
        Ok(())
    }

    pub(super) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Adds a time in which the client could not send.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.until += time;
        self.window_ends += time;
    }
}
