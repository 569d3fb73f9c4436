//! For the simulation: mistakes that an append could make, to be switched on. A checker that
//! finds none of them would prove nothing.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::JournalWriter;
use crate::entry::{Entry, EventKind};
use cratehouse_core::checksum::Checksum;

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
    /// Who asks is judged as they were when the request came in.
    JudgesAsShown,
    /// A team that was removed loses its name, and keeps its members.
    KeepsMembers,
}

impl JournalWriter {
    /// The same with jitter that can be repeated, and perhaps a mistake.
    pub fn simulated(mut self, seed: u64, bug: Option<Bug>) -> Self {
        self.rng = StdRng::seed_from_u64(seed);
        self.bug = bug;
        self
    }

    /// Entries, as this replica understands them.
    pub(super) fn as_read(&self, mut entries: Vec<(Entry, Checksum)>) -> Vec<(Entry, Checksum)> {
        let events = entries.iter_mut().flat_map(|(entry, _)| &mut entry.events);
        for event in events.filter(|_| self.has(Bug::KeepsMembers)) {
            if let EventKind::TeamRemoved { team } = event.what {
                event.what = EventKind::TeamRenamed { team, name: format!("removed-{}", team.0) };
            }
        }
        entries
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}
