//! What those who use a registry may wish for, and how a replica is asked for it.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::changes::{command_of, draw_change, draw_subject, login};
use crate::history::Answer;
use crate::process::Process;
use crate::registry::{Fulfilled, Operation, REASON, User};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_journal::change;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_journal::subject::SubjectName;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_package::test_util::{line, name, version};

pub(crate) const USERS: u32 = 3;
/// The last one may do everything, until somebody decides otherwise.
pub(crate) const ADMIN: u32 = USERS;
pub(crate) const CRATES: [&str; 3] = ["alpha", "Alpha", "beta"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
/// What crate files hold; many publishes are refused, so that much of it is garbage.
const BYTES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// What that of the last publish holds.
pub(crate) const LAST: &str = "last";

pub(crate) fn text_of(cksum: &Checksum) -> &'static str {
    let mut all = BYTES.into_iter().chain([LAST]);
    all.find(|text| Checksum::of(text.as_bytes()) == *cksum).unwrap()
}

/// Whose a token is: half of them are the administrator's.
pub(crate) fn user_of(token: u32) -> u32 {
    match token % 4 {
        0 => 1,
        2 => 2,
        _ => ADMIN,
    }
}

/// SHA-256 of a token.
pub(crate) fn hash_of(token: u32) -> Checksum {
    Checksum::of(&token.to_be_bytes())
}

/// What may be wished for at any format level.
fn draw_plain_wish(rng: &mut StdRng) -> Operation {
    let krate = CRATES.choose(rng).unwrap().to_string();
    let version = VERSIONS.choose(rng).unwrap().to_string();
    let owner = draw_user(rng);
    match rng.random_range(0..10) {
        0..5 => {
            let cksum = Checksum::of(BYTES.choose(rng).unwrap().as_bytes());
            Operation::Publish { krate, version, cksum }
        }
        5..7 => Operation::Yank { krate, version, yanked: rng.random() },
        7 => Operation::Remove { krate, version },
        8 => Operation::AddOwner { krate, owner },
        _ => Operation::RemoveOwner { krate, owner },
    }
}

fn draw_user(rng: &mut StdRng) -> SubjectName {
    SubjectName::User(login(rng.random_range(1..=USERS)))
}

/// What is of level 2: teams among the owners, and whatever administrators change.
fn draw_wish_of_access(rng: &mut StdRng) -> Operation {
    let krate = CRATES.choose(rng).unwrap().to_string();
    let owner = draw_subject(rng, USERS);
    match rng.random_range(0..10) {
        0 => Operation::AddOwner { krate, owner },
        1 => Operation::RemoveOwner { krate, owner },
        2 => Operation::SetOwners { krate, owners: vec![owner, draw_user(rng)] },
        _ => Operation::Change(draw_change(rng, USERS)),
    }
}

/// What a user wishes for; `access`: also what is about who may do what, administrators more often.
pub(crate) fn draw_wish(rng: &mut StdRng, user: u32, access: bool) -> Operation {
    let share = if user == ADMIN { 70 } else { 20 };
    match access && rng.random_range(0..100) < share {
        true => draw_wish_of_access(rng),
        false => draw_plain_wish(rng),
    }
}

/// As the web API does it; the operator as the command line does.
pub(crate) async fn fulfil(
    process: &Process,
    token: u32,
    who: User,
    wish: &Operation,
    forgets_puts: bool,
) -> Result<bool> {
    let by = match who.is_operator() {
        true => CommandActor::Operator,
        false => {
            let holder = process.authenticate(&hash_of(token)).await?;
            let unknown = || Error::new(Kind::Unauthenticated, "this token does not count");
            CommandActor::Principal(holder.ok_or_else(unknown)?)
        }
    };
    let command = match wish {
        Operation::Publish { krate, version, cksum } => {
            let text = text_of(cksum);
            let line = line(krate, version, text.as_bytes());
            let published = Published { line, size: 1, metadata: Metadata::default() };
            let bytes = Bytes::from_static(text.as_bytes());
            let mut command = process.versions.put(by, Box::new(published), bytes.clone()).await?;
            if let (Command::Publish { put_at, .. }, true) = (&mut command.command, forgets_puts) {
                *put_at = u64::MAX;
            }
            return process.versions.append(command, bytes).await.map(|()| true);
        }
        Operation::Yank { krate, version: v, yanked } => {
            Command::Yank { krate: name(krate), version: version(v), yanked: *yanked }
        }
        Operation::Remove { krate, version: v } => {
            let reason = REASON.to_owned();
            Command::Remove { krate: name(krate), version: version(v), reason }
        }
        Operation::AddOwner { krate, owner } => {
            Command::AddOwners { krate: name(krate), logins: vec![owner.to_string()] }
        }
        Operation::RemoveOwner { krate, owner } => {
            Command::RemoveOwners { krate: name(krate), logins: vec![owner.to_string()] }
        }
        Operation::SetOwners { krate, owners } => {
            Command::SetOwners { krate: name(krate), owners: owners.clone() }
        }
        Operation::Change(change) => command_of(change),
    };
    let command = ActorCommand { by, command };
    // As requests do, and as the command line does.
    let events = match (token / 4).is_multiple_of(2) {
        true => change::change(&process.journal, command).await?,
        false => process.journal.append(command).await?,
    };
    Ok(!events.is_empty())
}

pub(crate) fn answer_of(outcome: &Result<bool>) -> Answer {
    match outcome {
        Ok(true) => Answer::Certain(Fulfilled::Done),
        Ok(false) => Answer::Certain(Fulfilled::Already),
        Err(e) if e.message.contains("not known yet") => Answer::Unknown,
        Err(e) if e.kind == Kind::Unavailable => Answer::NotDone,
        Err(e) if e.kind == Kind::Internal => panic!("{}", e.chain()),
        Err(_) => Answer::Certain(Fulfilled::Refused),
    }
}
