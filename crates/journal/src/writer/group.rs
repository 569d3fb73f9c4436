//! The commands that wait together, and the entry that they become.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use redb::WriteTransaction;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::catalog::{Catalog, View};
use crate::commands::{ActorCommand, Refusal};
use crate::entry::{Account, Actor, Entry, EntryId, Event, EventKind};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_storage::format_level::Level;

/// Bytes of events in one entry, after which further commands wait for the next one. Whoever
/// catches up holds many entries at one time.
const MAX_GROUP_BYTES: usize = 1024 * 1024;
/// Bytes of events of one command: an entry that nobody would read must never be put.
const MAX_COMMAND_BYTES: usize = 16 * 1024 * 1024;

/// A command and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) command: ActorCommand,
    pub(super) deadline: Instant,
    pub(super) stage: Arc<Stage>,
    pub(super) answer: oneshot::Sender<Result<Vec<EventKind>>>,
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

    /// The entry is not in the journal, nor can it come there: the command waits again.
    fn release(&self) {
        let _ = self.0.compare_exchange(PUT, WAITING, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

/// What judges commands: [`crate::commands::judge`], but for the simulation's mistakes.
pub(super) type Judge =
    fn(&View<WriteTransaction>, &ActorCommand, Timestamp) -> Result<Vec<EventKind>, Refusal>;

/// A command and what came of it.
type Judged = (Waiting, Result<Vec<EventKind>, Refusal>);

/// A group of commands, judged.
pub(super) struct Drafted {
    judged: Vec<Judged>,
    /// Those that did not fit.
    rest: Vec<Waiting>,
    sealed: Option<(Entry, Bytes, Checksum)>,
}

/// An entry, ready to be put, and the commands that it answers: those that it holds, and those
/// that were judged as if it stood there already.
pub(super) struct Sealed {
    pub(super) entry: Entry,
    pub(super) bytes: Bytes,
    pub(super) hash: Checksum,
    commands: Vec<Judged>,
}

/// Whose hand writes an entry.
pub(super) struct Hand {
    /// The replica.
    pub(super) replica: String,
    /// Who gives the commands of an operator, if that is known.
    pub(super) operator: Option<Account>,
    /// The format level of a registry that begins.
    pub(super) founding: Level,
}

impl Drafted {
    /// Judges a group. The first entry of a registry enables the format level `founding` as well.
    pub(super) fn judge(
        catalog: &Catalog,
        Hand { replica, operator, founding }: Hand,
        judge: Judge,
        group: Vec<Waiting>,
    ) -> Result<Self> {
        let view = catalog.draft()?;
        let head = view.head()?;
        let (seq, time) = (head.seq + 1, Timestamp::now());
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut judged = Vec::new();
        let mut group = group.into_iter();
        for waiting in group.by_ref() {
            let mut outcome = judge(&view, &waiting.command, time);
            let by = match (waiting.command.by.actor(), &operator) {
                (Actor::Operator, Some(account)) if head.level >= Level::SECOND => {
                    Actor::CommandLine(account.clone())
                }
                (by, _) => by,
            };
            let happened = outcome.iter().flatten().cloned();
            let new: Vec<_> = happened.map(|what| Event { by: by.clone(), what }).collect();
            let size = serde_json::to_vec(&new).map_err(Error::internal)?.len();
            if size > MAX_COMMAND_BYTES {
                outcome = Err(too_large().into());
            } else {
                new.iter().try_for_each(|event| view.imagine(seq, time, event))?;
                bytes += size;
                events.extend(new);
            }
            judged.push((waiting, outcome));
            if bytes > MAX_GROUP_BYTES {
                break;
            }
        }
        let sealed = match events.is_empty() {
            true => None,
            false => {
                if head.seq == 0 && founding > head.level {
                    let what = EventKind::LevelEnabled { level: founding };
                    events.insert(0, Event { by: Actor::Operator, what });
                }
                let id = EntryId::random();
                let (prev, level) = (head.hash, head.level);
                let entry = Entry { seq, id, prev, time, replica, level, events };
                let (bytes, hash) = entry.seal().map_err(Error::internal)?;
                Some((entry, bytes, hash))
            }
        };
        Ok(Self { judged, rest: group.collect(), sealed })
    }

    /// Whether a refusal, or that it is so already, might fall once the journal has been read.
    pub(super) fn doubtful(&self) -> bool {
        self.judged.iter().any(|(_, outcome)| is_doubtful(outcome))
    }

    pub(super) fn into_group(self) -> Vec<Waiting> {
        self.judged.into_iter().map(|(waiting, _)| waiting).chain(self.rest).collect()
    }

    /// The journal cannot be read: whose answer may be mere lag learns that instead.
    pub(super) fn refuse_doubtful(self, why: &Error) -> Vec<Waiting> {
        let mut group = Vec::new();
        for (waiting, outcome) in self.judged {
            match is_doubtful(&outcome) {
                true => answer(waiting, Err(why.clone())),
                false => group.push(waiting),
            }
        }
        group.into_iter().chain(self.rest).collect()
    }

    /// Answers those for whom no entry is needed; what is left is an entry. Whoever was judged
    /// behind one of its events is answered when that has happened: before, neither "it is so
    /// already" nor a refusal is proven.
    ///
    /// A command that its asker has withdrawn spoils the entry: then all are judged again.
    pub(super) fn settle(self, backlog: &mut VecDeque<Waiting>) -> Option<Sealed> {
        let mut commands = Vec::new();
        for (waiting, outcome) in self.judged {
            match commands.is_empty() && !has_events(&outcome) {
                true => answer(waiting, outcome.map_err(|refusal| refusal.error)),
                false => commands.push((waiting, outcome)),
            }
        }
        self.rest.into_iter().rev().for_each(|waiting| backlog.push_front(waiting));
        let (entry, bytes, hash) = self.sealed?;
        let sealed = Sealed { entry, bytes, hash, commands };
        match sealed.claim() {
            true => Some(sealed),
            false => {
                let group = sealed.release();
                group.into_iter().rev().for_each(|waiting| backlog.push_front(waiting));
                None
            }
        }
    }
}

impl Sealed {
    fn claim(&self) -> bool {
        let mut putting = self.commands.iter().filter(|(_, outcome)| has_events(outcome));
        putting.all(|(waiting, _)| waiting.stage.claim())
    }

    /// The entry stands in the journal: so does what it makes true.
    pub(super) fn answer(self) {
        for (waiting, outcome) in self.commands {
            answer(waiting, outcome.map_err(|refusal| refusal.error));
        }
    }

    /// The commands, which may have been done.
    pub(super) fn into_group(self) -> Vec<Waiting> {
        self.commands.into_iter().map(|(waiting, _)| waiting).collect()
    }

    /// The commands, which for certain have not been done.
    pub(super) fn release(self) -> Vec<Waiting> {
        let group = self.into_group();
        group.iter().for_each(|waiting| waiting.stage.release());
        group
    }
}

/// Whether what others have done meanwhile may make another answer of it. What has events is
/// proven by its put.
fn is_doubtful(outcome: &Result<Vec<EventKind>, Refusal>) -> bool {
    match outcome {
        Ok(events) => events.is_empty(),
        Err(refusal) => refusal.lag_could_explain,
    }
}

fn has_events(outcome: &Result<Vec<EventKind>, Refusal>) -> bool {
    outcome.as_ref().is_ok_and(|events| !events.is_empty())
}

fn too_large() -> Error {
    let text = format!("this change takes more than {MAX_COMMAND_BYTES} bytes in the journal");
    Error::new(Kind::TooLarge, text)
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

pub(super) fn refuse(group: Vec<Waiting>, why: &Error) {
    group.into_iter().for_each(|waiting| answer(waiting, Err(why.clone())));
}

fn answer(waiting: Waiting, outcome: Result<Vec<EventKind>>) {
    let _ = waiting.answer.send(outcome); // an asker may have left; what is done stays done
}
