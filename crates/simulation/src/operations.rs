//! What those who use a registry may wish for, and how a replica is asked for it.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::history::Answer;
use crate::process::Process;
use crate::registry::{Fulfilled, Operation};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Kind, Result};
use cratehouse_journal::change;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_journal::principal::{
    Grant, Principal, PrincipalKind, Role, Scope, TokenId, UserId,
};
use cratehouse_package::published::{Metadata, Published};
use cratehouse_package::test_util::{line, name, version};

pub(crate) const USERS: u32 = 3;
/// The last one may do everything.
pub(crate) const ADMIN: u32 = USERS;
const CRATES: [&str; 3] = ["alpha", "Alpha", "beta"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
/// What crate files hold; many publishes are refused, so that much of it is garbage.
const BYTES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// What that of the last publish holds.
pub(crate) const LAST: &str = "last";

pub(crate) fn text_of(cksum: &Checksum) -> &'static str {
    let mut all = BYTES.into_iter().chain([LAST]);
    all.find(|text| Checksum::of(text.as_bytes()) == *cksum).unwrap()
}

pub(crate) fn user_of(token: u32) -> u32 {
    token % USERS + 1
}

pub(crate) fn grant_of(user: u32) -> Grant {
    let mut grant = Grant::usual();
    if user == ADMIN {
        grant.scopes.insert(Scope::Admin);
    }
    grant
}

pub(crate) fn draw_wish(rng: &mut StdRng) -> Operation {
    let krate = CRATES.choose(rng).unwrap().to_string();
    let version = VERSIONS.choose(rng).unwrap().to_string();
    let user = rng.random_range(1..=USERS);
    match rng.random_range(0..10) {
        0..5 => {
            let cksum = Checksum::of(BYTES.choose(rng).unwrap().as_bytes());
            Operation::Publish { krate, version, cksum }
        }
        5..7 => Operation::Yank { krate, version, yanked: rng.random() },
        7 => Operation::Remove { krate, version },
        8 => Operation::AddOwner { krate, user },
        _ => Operation::RemoveOwner { krate, user },
    }
}

/// As the web API does it.
pub(crate) async fn fulfil(
    process: &Process,
    token: u32,
    wish: &Operation,
    forgets_puts: bool,
) -> Result<bool> {
    let user = user_of(token);
    let by = CommandActor::Principal(Principal {
        user: UserId(user),
        login: format!("user{user}"),
        token: TokenId(token),
        grant: grant_of(user),
        kind: PrincipalKind::Person,
        // As it was when the request came in: the judge looks again.
        role: (user == ADMIN).then_some(Role::Admin),
        teams: [].into(),
    });
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
            let reason = "a reason".to_owned();
            Command::Remove { krate: name(krate), version: version(v), reason }
        }
        Operation::AddOwner { krate, user } => {
            Command::AddOwners { krate: name(krate), logins: vec![format!("user{user}")] }
        }
        Operation::RemoveOwner { krate, user } => {
            Command::RemoveOwners { krate: name(krate), logins: vec![format!("user{user}")] }
        }
    };
    let command = ActorCommand { by, command };
    // As requests do, and as the command line does.
    let events = match token.is_multiple_of(2) {
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
