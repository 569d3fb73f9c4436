//! For the simulation: mistakes that an append could make, to be switched on. A checker that
//! finds none of them would prove nothing.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::JournalWriter;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A put of unknown outcome whose number reads as absent counts as never to happen: its
    /// commands go into another entry.
    MovesOn,
    /// A put that was answered with an error counts as not done.
    BelievesAnError,
    /// Success is answered before it is proven.
    AnswersUnproven,
    /// A refusal is given without looking whether lag explains it.
    RefusesOutOfLag,
}

impl JournalWriter {
    /// The same with jitter that can be repeated, and perhaps a mistake.
    pub fn simulated(mut self, seed: u64, bug: Option<Bug>) -> Self {
        self.rng = StdRng::seed_from_u64(seed);
        self.bug = bug;
        self
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}
