//! The journal as the audit trail that people and programs read.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;

use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_journal::audit_log::{Trail, is_about_token, krate_of};
use cratehouse_journal::chain::Chain;
use cratehouse_journal::entry::{Actor, Entry, Event};
use cratehouse_journal::entry_store::Journal;
use cratehouse_journal::principal::TokenId;
use cratehouse_journal::token_expiry::instant;
use cratehouse_package::name::NameKey;

/// Which events are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only those about this crate, in any spelling.
    pub krate: Option<NameKey>,
    /// Only those from here on.
    pub since: Option<Since>,
    /// Only what this user did, and what was done to them or their tokens.
    pub user: Option<String>,
    /// Only what was done with this token, and to it.
    pub token: Option<TokenId>,
    /// Only these kinds, by their names; all, where none is named.
    pub kinds: Vec<String>,
}

/// Where the shown part begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the entry of this number.
    Seq(u64),
    /// With entries that say they were written at this time or later.
    Time(Timestamp),
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seq = text.parse().map(Self::Seq).ok();
        seq.or_else(|| instant(text).map(Self::Time).ok()).ok_or(
            "write an entry's number, a date such as 2027-01-31, or a time such as 2027-01-31T12:00Z",
        )
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq(seq) => seq.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// One event of the trail.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub(super) entry: &'a Entry,
    pub(super) event: &'a Event,
    pub(super) trail: &'a Trail,
}

/// Walks the journal, and shows what is selected to `heard`, in order, until that breaks off.
/// Memory grows with the number of users and tokens, not with that of entries.
///
/// # Errors
/// When the chain is broken, or the store does not answer.
pub async fn show(
    journal: &Journal,
    registry: &str,
    selection: &Selection,
    mut heard: impl FnMut(Shown<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let (mut chain, mut trail) = (Chain::new(journal, registry), Trail::default());
    loop {
        // From the beginning in any case: names of users are told once.
        let entries = chain.next(u64::MAX).await?;
        if entries.is_empty() {
            return nothing_behind(journal, chain.head()).await;
        }
        for (entry, _) in &entries {
            for event in &entry.events {
                trail.learn(&event.what);
                let shown = Shown { entry, event, trail: &trail };
                if selection.has(shown) && heard(shown).is_break() {
                    return Ok(());
                }
            }
        }
    }
}

/// What is shown must not seem to be all where entries are missing.
async fn nothing_behind(journal: &Journal, head: u64) -> Result<()> {
    let newest = journal.newest_hint(head).await.map_err(Error::store)?;
    // A listing is a hint, and others may just have appended.
    let is_missing =
        async |seq| Ok::<_, Error>(journal.read(seq).await.map_err(Error::store)?.is_none());
    if newest <= head || is_missing(newest).await? || !is_missing(head + 1).await? {
        return Ok(());
    }
    Err(Error::new(
        Kind::Internal,
        format!(
            "the journal has a gap: entry {} is missing, but entry {newest} is there; what is shown ends before it",
            head + 1
        ),
    ))
}

impl Selection {
    pub(super) fn has(&self, shown: Shown<'_>) -> bool {
        let recent = match self.since {
            None => true,
            Some(Since::Seq(seq)) => shown.entry.seq >= seq,
            Some(Since::Time(time)) => shown.entry.time >= time,
        };
        let about = |key: &NameKey| krate_of(&shown.event.what).is_some_and(|n| n.key() == *key);
        let trail = shown.trail;
        let concerns = |login: &String| {
            trail.user_named(login).is_some_and(|user| trail.concerns(shown.event, user))
        };
        let is_kind =
            self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == shown.event.what.name());
        recent
            && is_kind
            && self.krate.as_ref().is_none_or(about)
            && self.token.is_none_or(|token| is_about_token(shown.event, token))
            && self.user.as_ref().is_none_or(concerns)
    }
}

/// One event as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: Timestamp,
    replica: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
}

/// The same, and its words.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    who: String,
    deed: String,
}

/// The heads of the columns of [`Shown::line`].
pub const COLUMNS: &str = "entry\ttime\twho\tdeed";

impl Shown<'_> {
    /// For people: number, time, actor, deed.
    pub fn line(&self) -> String {
        let (Entry { seq, time, .. }, trail) = (self.entry, self.trail);
        let (who, deed) = (trail.who(&self.event.by), trail.tell(&self.event.what));
        line(*seq, *time, &who, &deed)
    }

    /// For programs: the event as it stands in the journal, with its entry's number, time and
    /// replica and its actor's login, as one line of JSON.
    ///
    /// # Errors
    /// When a value has no form in JSON, which no event's has.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string(&self.fields()).map_err(Error::internal)
    }

    /// The same with two more keys: who did it and what, in words.
    ///
    /// # Errors
    /// As [`Shown::json`].
    pub fn told(&self) -> Result<String> {
        let (who, deed) = (self.trail.who(&self.event.by), self.trail.tell(&self.event.what));
        serde_json::to_string(&Told { line: self.fields(), who, deed }).map_err(Error::internal)
    }

    fn fields(&self) -> Line<'_> {
        let login = match self.event.by {
            Actor::Operator | Actor::CommandLine(_) | Actor::Replica => None,
            Actor::User { user, .. } => self.trail.login(user),
        };
        let Entry { seq, time, replica, .. } = self.entry;
        Line { seq: *seq, time: *time, replica, login, event: self.event }
    }
}

/// An event for people, in the order of [`COLUMNS`].
pub fn line(seq: u64, time: Timestamp, who: &str, deed: &str) -> String {
    format!("{seq}\t{time:.0}\t{who}\t{deed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::fixture::{TestGateway, limits, memory, name, version};
    use cratehouse_journal::commands::Command;
    use cratehouse_journal::entry_store::journal_in;
    use cratehouse_storage::objects::Objects;

    async fn lines(journal: &Journal, selection: Selection) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let heard = |shown: Shown<'_>| {
            lines.push((shown.line(), shown.json().unwrap()));
            ControlFlow::Continue(())
        };
        show(journal, "registry", &selection, heard).await.unwrap();
        lines
    }

    #[test]
    fn a_trail_begins_at_a_number_a_date_or_a_time() {
        let noon = "2027-01-31T12:00:00Z".parse().unwrap();
        let midnight = "2027-01-31T00:00:00Z".parse().unwrap();
        assert_eq!("7".parse(), Ok(Since::Seq(7)));
        assert_eq!("2027-01-31T12:00Z".parse(), Ok(Since::Time(noon)));
        assert_eq!("2027-01-31".parse(), Ok(Since::Time(midnight)));
        for text in ["7", "2027-01-31T12:00Z"] {
            let since: Since = text.parse().unwrap();
            assert_eq!(since.to_string().parse(), Ok(since));
        }
    }

    #[tokio::test]
    async fn the_trail_is_shown_whole_or_by_crate_or_from_a_place_on() {
        let store = memory();
        let server = TestGateway::open(&store, &[], limits()).await;
        server.command(Command::create_user("alice".to_owned())).await;
        server.publish("foo", "1.0.0", b"foo").await;
        server.publish("bar", "1.0.0", b"bar").await;
        let (krate, version) = (name("foo"), version("1.0.0"));
        server.command(Command::Yank { krate, version, yanked: true }).await;
        let journal = journal_in(&Objects::same(store));

        let all = lines(&journal, Selection::default()).await;
        let deeds: Vec<_> = all.iter().map(|(l, _)| l.split('\t').nth(3).unwrap()).collect();
        assert_eq!(deeds.len(), 5);
        assert_eq!(deeds[..2], ["enabled format level 2", "created user alice (1)"]);
        assert_eq!(deeds[4], "yanked foo 1.0.0");
        let json: serde_json::Value = serde_json::from_str(&all[4].1).unwrap();
        assert_eq!(
            (&json["seq"], &json["event"], &json["by"]),
            (&4.into(), &"yanked".into(), &"operator".into())
        );

        let foo = Selection { krate: Some(name("Foo").key()), ..Selection::default() };
        assert_eq!(lines(&journal, foo.clone()).await, [all[2].clone(), all[4].clone()]);
        let late = Selection { since: Some(Since::Seq(3)), ..foo };
        assert_eq!(lines(&journal, late).await, [all[4].clone()]);
        let at = |time| Selection { since: Some(Since::Time(time)), ..Selection::default() };
        assert_eq!(lines(&journal, at(Timestamp::UNIX_EPOCH)).await, all);
        assert!(lines(&journal, at(Timestamp::MAX)).await.is_empty());
    }
}
