//! Who was let read what, and whether that was right.

use crate::registry::Registry;

/// One question of a reader, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) user: u32,
    pub(crate) krate: String,
    pub(crate) replica: usize,
    /// The entry that the replica knew when it was asked, or had to know by then.
    pub(crate) since: u64,
    /// How many entries the journal had when it was answered.
    pub(crate) until: u64,
    /// Whether the crate was there for them.
    pub(crate) seen: bool,
}

/// What a replica must know when it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowing {
    /// What it has applied. That a crate is not there for somebody it says after another look at the journal alone.
    WhatItHas,
    /// What it has applied, of which it is expected that this entry is in it: it had the time to follow.
    Entry(u64),
    /// What there is when it is asked: it reads the journal first.
    AllThereIs,
}

/// Checks an answer: it was right in one of the states from what the replica had to know up to all that there was.
/// `states` by the number of their last entry.
///
/// # Errors
/// That it was right in none.
pub(crate) fn read_rightly(read: &Read, states: &[&Registry]) -> Result<(), String> {
    let [since, until] = [read.since, read.until].map(|seq| usize::try_from(seq).unwrap());
    let meanwhile = states.get(since..=until).ok_or("it knew what is not in the journal")?;
    let reads = |state: &&Registry| state.reads(read.user, &read.krate);
    match meanwhile.iter().any(|state| reads(state) == read.seen) {
        true => Ok(()),
        false if read.seen => Err("it was read by who might at no time meanwhile".to_owned()),
        false => Err("it was there for them all the time meanwhile".to_owned()),
    }
}
