//! The commands that wait together, and the entry that they become.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::flows::command::{self, Order, Refusal};
use crate::model::checksum::Checksum;
use crate::model::entry::{Entry, EntryId, Event, Happened};
use crate::stores::catalog::Catalog;

/// Bytes of events in one entry, after which further commands wait for the next one.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A command and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) order: Order,
    pub(super) deadline: Instant,
    pub(super) stage: Arc<Stage>,
    pub(super) answer: oneshot::Sender<Result<Vec<Happened>>>,
}

/// Whether a command's entry has been put, so that its asker can say what is certain.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

const WAITING: u8 = 0;
const PUT: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stage {
    /// Claims the command for an entry; `false` when its asker has withdrawn it.
    pub(super) fn claim(&self) -> bool {
        let was = self.0.compare_exchange(WAITING, PUT, Ordering::AcqRel, Ordering::Acquire);
        was != Err(WITHDRAWN)
    }

    /// Withdraws the command; `false` when it may have been put already.
    pub(super) fn withdraw(&self) -> bool {
        self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

/// A group of commands, judged.
pub(super) struct Drafted {
    judged: Vec<(Waiting, Result<Vec<Happened>, Refusal>)>,
    /// Those that did not fit.
    rest: Vec<Waiting>,
    sealed: Option<(Entry, Bytes, Checksum)>,
}

/// An entry, ready to be put, and the commands that it answers.
pub(super) struct Sealed {
    pub(super) entry: Entry,
    pub(super) bytes: Bytes,
    pub(super) hash: Checksum,
    pub(super) commands: Vec<(Waiting, Vec<Happened>)>,
}

impl Drafted {
    pub(super) fn judge(catalog: &Catalog, replica: String, group: Vec<Waiting>) -> Result<Self> {
        let view = catalog.draft()?;
        let head = view.head()?;
        let (seq, time) = (head.seq + 1, Timestamp::now());
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut judged = Vec::new();
        let mut group = group.into_iter();
        for waiting in group.by_ref() {
            let outcome = command::judge(&view, &waiting.order, time);
            for what in outcome.iter().flatten() {
                let event = Event { by: waiting.order.by.actor(), what: what.clone() };
                view.imagine(seq, time, &event)?;
                bytes += serde_json::to_vec(&event).map_err(Error::internal)?.len();
                events.push(event);
            }
            judged.push((waiting, outcome));
            if bytes > MAX_GROUP_BYTES {
                break;
            }
        }
        let sealed = match events.is_empty() {
            true => None,
            false => {
                let id = EntryId::random();
                let entry = Entry { seq, id, prev: head.hash, time, replica, events };
                let (bytes, hash) = entry.seal().map_err(Error::internal)?;
                Some((entry, bytes, hash))
            }
        };
        Ok(Self { judged, rest: group.collect(), sealed })
    }

    /// Whether a refusal might fall once the journal has been read.
    pub(super) fn doubtful(&self) -> bool {
        self.judged.iter().any(|(_, outcome)| matches!(outcome, Err(r) if r.lag_could_explain))
    }

    pub(super) fn into_group(self) -> Vec<Waiting> {
        self.judged.into_iter().map(|(waiting, _)| waiting).chain(self.rest).collect()
    }

    /// The journal cannot be read: who is refused for what may be mere lag learns that instead.
    pub(super) fn refuse_doubtful(self, why: &Error) -> Vec<Waiting> {
        let mut group = Vec::new();
        for (waiting, outcome) in self.judged {
            match outcome {
                Err(refusal) if refusal.lag_could_explain => answer(waiting, Err(why.clone())),
                _ => group.push(waiting),
            }
        }
        group.into_iter().chain(self.rest).collect()
    }

    /// Answers the refused and those for whom there is nothing to do; what is left is an entry.
    /// A command that its asker has withdrawn spoils the entry: then all are judged again.
    pub(super) fn settle(self, backlog: &mut VecDeque<Waiting>) -> Option<Sealed> {
        let mut commands = Vec::new();
        for (waiting, outcome) in self.judged {
            match outcome {
                Err(refusal) => answer(waiting, Err(refusal.error)),
                Ok(events) if events.is_empty() => answer(waiting, Ok(events)),
                Ok(events) => commands.push((waiting, events)),
            }
        }
        self.rest.into_iter().rev().for_each(|waiting| backlog.push_front(waiting));
        let (entry, bytes, hash) = self.sealed?;
        if !commands.iter().all(|(waiting, _)| waiting.stage.claim()) {
            commands.into_iter().rev().for_each(|(waiting, _)| backlog.push_front(waiting));
            return None;
        }
        Some(Sealed { entry, bytes, hash, commands })
    }
}

/// A command whose deadline has passed before its first put is refused for certain.
pub(super) fn refuse_late(group: Vec<Waiting>) -> Vec<Waiting> {
    let now = Instant::now();
    let (late, kept): (Vec<_>, Vec<_>) = group.into_iter().partition(|waiting| {
        waiting.deadline < now && (waiting.stage.withdraw() || waiting.stage.is_withdrawn())
    });
    late.into_iter().for_each(|waiting| answer(waiting, Err(super::not_done())));
    kept
}

pub(super) fn answer(waiting: Waiting, outcome: Result<Vec<Happened>>) {
    let _ = waiting.answer.send(outcome); // an asker may have left; what is done stays done
}
