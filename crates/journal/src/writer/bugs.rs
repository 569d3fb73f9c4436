//! For the simulation: mistakes that an append could make, to be switched on. A checker that
//! finds none of them would prove nothing.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::JournalWriter;
use super::group::Judge;
use crate::catalog::{Tables, View};
use crate::commands::{self, ActorCommand, Command, Refusal};
use crate::entry::{Entry, EventKind};
use cratehouse_core::checksum::Checksum;
use jiff::Timestamp;

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
    /// The last administrator is taken for one of several.
    LeavesNoAdmin,
    /// A team that was removed loses its name, and keeps its members.
    KeepsMembers,
    /// That a user was disabled is passed over.
    MissesDisabled,
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
        for event in entries.iter_mut().flat_map(|(entry, _)| &mut entry.events) {
            match event.what {
                EventKind::TeamRemoved { team } if self.has(Bug::KeepsMembers) => {
                    let name = format!("removed-{}", team.0);
                    event.what = EventKind::TeamRenamed { team, name };
                }
                EventKind::UserDisabled { user } if self.has(Bug::MissesDisabled) => {
                    event.what = EventKind::UserEnabled { user };
                }
                _ => (),
            }
        }
        entries
    }

    /// The judge that makes the mistake.
    pub(super) fn mistaken_judge(&self) -> Option<Judge> {
        match self.bug {
            Some(Bug::JudgesAsShown) => Some(commands::judge_as_shown),
            Some(Bug::LeavesNoAdmin) => Some(leave_no_admin),
            _ => None,
        }
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

fn leave_no_admin<T: Tables>(
    view: &View<T>,
    command: &ActorCommand,
    now: Timestamp,
) -> Result<Vec<EventKind>, Refusal> {
    let judged = commands::judge(view, command, now);
    let is_last = |refusal: &Refusal| refusal.error.message.contains("last administrator");
    let user = |login: &str| view.login(login).map(|row| row.map(|row| row.id));
    match &command.command {
        Command::RevokeRole { login } if judged.as_ref().is_err_and(is_last) => {
            let events = user(login)?.map(|user| EventKind::RoleRevoked { user });
            Ok(events.into_iter().collect())
        }
        Command::DisableUser { login } if judged.as_ref().is_err_and(is_last) => {
            let events = user(login)?.map(|user| EventKind::UserDisabled { user });
            Ok(events.into_iter().collect())
        }
        _ => judged,
    }
}
