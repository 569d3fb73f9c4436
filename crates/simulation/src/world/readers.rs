//! Those who read, and the rules that there are for them before anything goes wrong.

use super::*;
use crate::changes::{Change, TEAMS, draw_change, pattern};
use crate::operations::CRATES;
use crate::reads::{Knowing, Read};
use cratehouse_journal::subject::SubjectName;
use rand::seq::IndexedRandom;

/// Changes that the operator makes at random before anybody else asks for any.
const CHANGES: usize = 4;

impl World {
    /// A user with one of their tokens; where there are roles, it is those that tell who administers.
    pub(super) fn user(&self, id: u32) -> User {
        User { id, admin: id == ADMIN || (self.strict && id % 3 != 2) }
    }

    /// Where there are roles, one user administers; most crates are restricted, and a team reads them.
    pub(super) async fn begin_with_rules(&self) {
        if !self.strict {
            return;
        }
        let team = TEAMS[0].to_owned();
        let readers = vec![SubjectName::Team(team.clone())];
        let begin = (1..USERS).map(|user| Change::RevokeRole { user }).chain([
            Change::AddMember { team, user: 1 },
            Change::Restrict { pattern: pattern("al*"), readers },
        ]);
        let drawn = self.draw(|rng| (0..CHANGES).map(|_| draw_change(rng, USERS)).collect());
        for change in begin.chain::<Vec<_>>(drawn) {
            self.operate(0, Operation::Change(change)).await;
        }
    }

    /// Somebody who reads one crate after the other.
    pub(super) async fn read_it(
        self: Arc<Self>,
        client: Client,
        over: CancellationToken,
    ) -> Result<(), String> {
        while !over.is_cancelled() {
            self.nap(1500).await;
            let at = self.anyone();
            let (user, krate, knowing) = self.draw(|rng| {
                let knowing = match rng.random_range(0..3) {
                    0 => Knowing::AllThereIs,
                    _ => Knowing::WhatItHas,
                };
                (rng.random_range(1..=USERS), *CRATES.choose(rng).unwrap(), knowing)
            });
            self.read(client, at, user, (krate, knowing)).await?;
        }
        Ok(())
    }

    /// Asks a replica for a crate, and writes down whether it was there.
    pub(super) async fn read(
        &self,
        client: Client,
        at: usize,
        user: u32,
        (krate, knowing): (&str, Knowing),
    ) -> Result<(), String> {
        let Some(process) = self.process(at) else { return Ok(()) };
        let asked = self.sea.head();
        let known = self.knows(at, process.applied())?;
        // Any token of theirs: those who read leave nothing in the journal.
        let token = hash_of((1..).find(|token| user_of(*token) == user).unwrap());
        let work = {
            let krate = krate.to_owned();
            move |process: Arc<Process>| async move {
                let seen = process.read(&token, &krate, knowing).await;
                (seen, process.applied())
            }
        };
        let answer = self.ask(at, work).await;
        let until = self.sea.head();
        client.take_turn().await;
        let Some((Ok(seen), applied)) = answer else { return Ok(()) };
        let since = match (knowing, seen) {
            (Knowing::Entry(seq), _) => seq,
            (Knowing::WhatItHas, true) => known,
            (Knowing::WhatItHas, false) | (Knowing::AllThereIs, _) => asked,
        };
        self.tell(format!("user{user} asks {at} for {krate}, which is there: {seen}"));
        let krate = krate.to_owned();
        let read = Read { user, krate, replica: at, since, until, seen };
        self.reads.lock().unwrap().push(read);
        self.knows(at, applied).map(drop)
    }

    /// What a replica knows, it never knows less of, whatever becomes of its disk: it answers nobody before it has
    /// read all that there is.
    fn knows(&self, at: usize, applied: u64) -> Result<u64, String> {
        let known = &mut self.replicas[at].lock().unwrap().known;
        if applied < *known {
            return Err(format!("{at} knew entry {known}, and now it is at {applied}"));
        }
        *known = applied;
        Ok(applied)
    }
}
