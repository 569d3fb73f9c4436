//! What was asked and answered, beside the journal that came of it: the checker.
//!
//! A history is right when there is an order of all that was done, known as the journal, in which
//! each wish takes effect at one point between its question and its answer (linearizability).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::allowed::allowed;
use crate::reads::{Read, read_rightly};
use crate::registry::{Fulfilled, Operation, Registry, User};
use cratehouse_core::checksum::Checksum;
use cratehouse_journal::entry::{Actor, Entry, Event, EventKind};

/// One wish, and what its asker learned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Nobody else has this one: how the journal's events are told apart. The operator has none, and asks for one
    /// thing after the other: theirs are numbered from the end.
    pub(crate) token: u32,
    pub(crate) who: User,
    pub(crate) wish: Operation,
    pub(crate) replica: usize,
    /// How many entries the journal had when it was asked, and when it was answered.
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// What the replica had applied when it answered.
    pub(crate) applied: u64,
    pub(crate) answer: Answer,
}

/// What an asker learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, or it was so already, or refused.
    Certain(Fulfilled),
    /// Certainly not done, for want of the store.
    NotDone,
    /// Nothing: the outcome is not known, or nobody answered.
    Unknown,
}

/// What one wish became in the journal.
struct Deed {
    token: u32,
    seq: u64,
}

/// A state, and the entry that it is in or behind.
struct State {
    seq: u64,
    registry: Registry,
}

/// Checks the journal in itself and against what was asked and answered, from the state behind its first entry.
/// Gives the last state.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(
    (begin, founded): (Checksum, Registry),
    journal: &[Vec<u8>],
    records: &[Record],
    reads: &[Read],
) -> Result<Registry, String> {
    let (states, deeds) = replay((begin, founded), journal, records)?;
    for record in records {
        let of_it: Vec<_> = deeds.iter().filter(|deed| deed.token == record.token).collect();
        answered_truly(record, &of_it, &states).map_err(|why| format!("{why}: {record:?}"))?;
    }
    // A replica applies an entry as a whole: nobody reads in the middle of one.
    let whole = states.chunk_by(|a, b| a.seq == b.seq).filter_map(|states| states.last());
    let whole: Vec<_> = whole.map(|state| &state.registry).collect();
    for read in reads {
        read_rightly(read, &whole).map_err(|why| format!("{why}: {read:?}"))?;
    }
    Ok(states.into_iter().next_back().map(|state| state.registry).unwrap_or_default())
}

/// Goes through the journal: its chain is whole, and each entry holds what somebody wished and
/// might do at that point, and nothing else.
fn replay(
    (mut prev, founded): (Checksum, Registry),
    journal: &[Vec<u8>],
    records: &[Record],
) -> Result<(Vec<State>, Vec<Deed>), String> {
    let wishes: BTreeMap<u32, &Record> = records.iter().map(|r| (r.token, r)).collect();
    let done = |record: &&Record| record.answer == Answer::Certain(Fulfilled::Done);
    let mut of_operator = records.iter().filter(|r| r.who.is_operator()).filter(done);
    let mut registry = founded;
    let mut states = vec![State { seq: 0, registry: registry.clone() }];
    let mut deeds = Vec::new();
    for (seq, bytes) in (1..).zip(journal) {
        let entry: Entry = serde_json::from_slice(bytes).map_err(|e| format!("{seq}: {e}"))?;
        if entry.seq != seq || entry.prev != prev {
            return Err(format!("entry {seq} does not continue the one before it"));
        }
        prev = Checksum::of(bytes);
        if seq == 1 {
            states.push(State { seq, registry: registry.clone() }); // the users and their tokens
            continue;
        }
        for events in entry.events.chunk_by(|a, b| a.by == b.by) {
            let is_sweep = |event: &Event| {
                matches!(event.what, EventKind::Condemned { .. } | EventKind::Collected { .. })
            };
            let record = match events.first().map(|event| &event.by) {
                Some(Actor::User { token, .. }) => {
                    Some(*wishes.get(&token.0).ok_or(format!("{seq}: a stranger"))?)
                }
                Some(Actor::Replica) => {
                    let naming = |it: &Event| matches!(it.what, EventKind::Checkpointed { .. });
                    if !events.iter().all(naming) {
                        return Err(format!("entry {seq} is a replica's, and names no checkpoint"));
                    }
                    None
                }
                _ if events.iter().all(is_sweep) => {
                    let mut sweeps = events.iter().map(|event| &event.what);
                    let swept = sweeps.try_for_each(|what| registry.sweep(what));
                    swept.map_err(|why| format!("entry {seq}: {why}"))?;
                    None
                }
                _ => Some(of_operator.next().ok_or(format!("{seq}: no operator wished for it"))?),
            };
            if let Some(record) = record {
                let happened = events.iter().map(|event| &event.what);
                follow(&mut registry, record, happened).map_err(|why| {
                    format!("entry {seq} {why}: {record:?}, of which it says {events:?}")
                })?;
                deeds.push(Deed { token: record.token, seq });
            }
            states.push(State { seq, registry: registry.clone() });
        }
    }
    Ok((states, deeds))
}

/// Does what an entry says that somebody did, if it is what they wished for and might do.
fn follow<'a>(
    registry: &mut Registry,
    record: &Record,
    happened: impl Iterator<Item = &'a EventKind>,
) -> Result<(), String> {
    let Record { who, wish, .. } = record;
    if registry.rights.disabled.contains(&who.id) {
        return Err("is by somebody who was disabled before it".to_owned());
    }
    allowed(registry, *who, wish).map_err(|why| format!("holds what is not allowed ({why})"))?;
    if let Operation::Change(change) = wish
        && registry.rights.is_left_alone_by(change)
    {
        return Err("leaves no administrator".to_owned());
    }
    let becomes = registry.fulfil(*who, wish).filter(|events| !events.is_empty());
    let becomes = becomes.ok_or("holds what may not be")?;
    let mut happened = happened.map(told).collect::<Result<Vec<_>, _>>()?;
    // Nobody has said in which order one wish's events stand.
    let mut becomes: Vec<_> = becomes.iter().map(|event| format!("{event:?}")).collect();
    happened.sort();
    becomes.sort();
    (happened == becomes).then_some(()).ok_or("holds something else than its wish".to_owned())
}

/// An event, but for the time at which a version was published.
fn told(event: &EventKind) -> Result<String, String> {
    let mut event = event.clone();
    if let EventKind::Published(published) = &mut event {
        let time = published.line.pubtime.take();
        let is_time = time.is_some_and(|time| time.parse::<Timestamp>().is_ok());
        is_time.then_some(()).ok_or("holds a version without a time")?;
    }
    Ok(format!("{event:?}"))
}

fn answered_truly(record: &Record, deeds: &[&Deed], states: &[State]) -> Result<(), String> {
    if deeds.len() > 1 {
        return Err(format!("it was done {} times", deeds.len()));
    }
    let deed = deeds.first();
    if deed.is_some_and(|deed| deed.seq <= record.asked) {
        return Err("it was done before anybody asked for it".to_owned());
    }
    match (&record.answer, deed) {
        (Answer::Unknown, _) => Ok(()),
        (Answer::NotDone, None) => Ok(()),
        (Answer::NotDone, Some(deed)) => {
            Err(format!("it was said to be not done, and entry {} did it", deed.seq))
        }
        (Answer::Certain(Fulfilled::Done), None) => Err("it was never done".to_owned()),
        (Answer::Certain(Fulfilled::Done), Some(deed)) if deed.seq > record.answered => {
            Err(format!("it was done by entry {}, after the answer", deed.seq))
        }
        (Answer::Certain(Fulfilled::Done), Some(deed)) if deed.seq > record.applied => {
            Err(format!("the replica that did it by entry {} did not know it yet", deed.seq))
        }
        (Answer::Certain(Fulfilled::Done), Some(_)) => Ok(()),
        (Answer::Certain(other), Some(deed)) => {
            Err(format!("the answer was {other:?}, and entry {} did it", deed.seq))
        }
        (Answer::Certain(other), None) => {
            let at = |seq: u64| states.partition_point(|state| state.seq <= seq);
            let meanwhile = states.get(at(record.asked).saturating_sub(1)..at(record.answered));
            let mut meanwhile = meanwhile.unwrap_or_default().iter();
            let justified = meanwhile.any(|state| {
                Fulfilled::of(&state.registry.clone().fulfil(record.who, &record.wish)) == *other
            });
            justified.then_some(()).ok_or(format!("{other:?} was true at no time meanwhile"))
        }
    }
}
