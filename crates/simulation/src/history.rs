//! What was asked and answered, beside the journal that came of it: the checker.
//!
//! A history is right when there is an order of all that was done, known as the journal, in which
//! each wish takes effect at one point between its question and its answer (linearizability).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::registry::{Fulfilled, Operation, Registry, User};
use cratehouse_core::checksum::Checksum;
use cratehouse_journal::entry::{Actor, Entry, Event, EventKind};

/// One wish, and what its asker learned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Nobody else has this one: how the journal's events are told apart.
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

/// Checks the journal in itself and against what was asked and answered. Gives the last state.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(
    begin: Checksum,
    journal: &[Vec<u8>],
    records: &[Record],
) -> Result<Registry, String> {
    let wishes: BTreeMap<u32, &Record> = records.iter().map(|r| (r.token, r)).collect();
    let (states, deeds) = replay(begin, journal, &wishes)?;
    for record in records {
        let of_it: Vec<_> = deeds.iter().filter(|deed| deed.token == record.token).collect();
        answered_truly(record, &of_it, &states).map_err(|why| format!("{why}: {record:?}"))?;
    }
    Ok(states.into_iter().next_back().map(|state| state.registry).unwrap_or_default())
}

/// Goes through the journal: its chain is whole, and each entry holds what somebody wished and
/// might do at that point, and nothing else.
fn replay(
    mut prev: Checksum,
    journal: &[Vec<u8>],
    wishes: &BTreeMap<u32, &Record>,
) -> Result<(Vec<State>, Vec<Deed>), String> {
    let mut registry = Registry::default();
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
            match events.first().map(|event| &event.by) {
                Some(Actor::User { token, .. }) => {
                    let record = wishes.get(&token.0).ok_or(format!("{seq}: a stranger"))?;
                    let mut happened = events.iter().map(|event| &event.what);
                    if registry.fulfil(record.who, &record.wish) != Fulfilled::Done {
                        return Err(format!("entry {seq} holds what may not be: {record:?}"));
                    }
                    if !happened.all(|what| is_of(what, record)) {
                        return Err(format!("entry {seq} holds something else than {record:?}"));
                    }
                    deeds.push(Deed { token: token.0, seq });
                }
                Some(Actor::Replica) => {
                    let naming = |it: &Event| matches!(it.what, EventKind::Checkpointed { .. });
                    if !events.iter().all(naming) {
                        return Err(format!("entry {seq} is a replica's, and names no checkpoint"));
                    }
                }
                _ => {
                    let mut sweeps = events.iter().map(|event| &event.what);
                    let swept = sweeps.try_for_each(|what| registry.sweep(what));
                    swept.map_err(|why| format!("entry {seq}: {why}"))?;
                }
            }
            states.push(State { seq, registry: registry.clone() });
        }
    }
    Ok((states, deeds))
}

fn is_of(what: &EventKind, record: &Record) -> bool {
    match (what, &record.wish) {
        (EventKind::Published(published), Operation::Publish { krate, version, cksum }) => {
            let line = &published.line;
            line.name.as_str() == krate
                && line.vers.to_string() == *version
                && line.cksum == *cksum
                && line.pubtime.as_ref().is_some_and(|time| time.parse::<Timestamp>().is_ok())
        }
        (EventKind::OwnerAdded { krate: of, user }, Operation::Publish { krate, .. }) => {
            of.as_str() == krate && user.0 == record.who.id
        }
        (
            EventKind::Yanked { krate: of, version: v },
            Operation::Yank { krate, version, yanked },
        ) => *yanked && of.as_str() == krate && v.to_string() == *version,
        (
            EventKind::Unyanked { krate: of, version: v },
            Operation::Yank { krate, version, yanked },
        ) => !*yanked && of.as_str() == krate && v.to_string() == *version,
        (
            EventKind::Removed { krate: of, version: v, .. },
            Operation::Remove { krate, version },
        ) => of.as_str() == krate && v.to_string() == *version,
        (EventKind::OwnerAdded { krate: of, user: u }, Operation::AddOwner { krate, user })
        | (
            EventKind::OwnerRemoved { krate: of, user: u },
            Operation::RemoveOwner { krate, user },
        ) => of.as_str() == krate && u.0 == *user,
        _ => false,
    }
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
            let justified = meanwhile
                .any(|state| state.registry.clone().fulfil(record.who, &record.wish) == *other);
            justified.then_some(()).ok_or(format!("{other:?} was true at no time meanwhile"))
        }
    }
}
