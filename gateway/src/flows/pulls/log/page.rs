//! Who pulled a version, in pages, for who asks a server. A page reads a bounded number of batches, but for a day's
//! own, and says where the next one begins: at a time, behind so many records of just that time.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::ask::{Answer, ask_day};
use crate::model::pull::{Pull, Selection};
use crate::stores::download_log::DownloadLogStore;
use cratehouse_core::error::{Error, Result};
use cratehouse_mirror::files::uses::day_of;

/// Records of a page, where nothing else is asked for, and the most.
pub const MOST_RECORDS: usize = 1000;
/// A page ends with the day with which it has read so many batches.
const MOST_BATCHES: usize = 2000;

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    time: Timestamp,
    /// Records of this very time that were told before.
    told: usize,
}

/// A page that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which records.
    pub selection: Selection,
    /// So many at the most.
    pub limit: usize,
    /// Where the page before has ended.
    pub after: Option<Cursor>,
}

/// A page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In the order of time.
    pub pulls: Vec<Pull>,
    /// From when on pulls are meant, where that was asked for.
    pub since: Option<Timestamp>,
    /// The first day of which anything is recorded.
    pub first: Option<Date>,
    /// Lines that could not be read: without them the answer may not be whole.
    pub unreadable: u64,
    /// What to ask the next page with; none: this is the last one.
    pub next: Option<String>,
    /// How long a running server may keep records to itself, in seconds; none: it records nothing.
    pub flush_seconds: Option<u64>,
}

impl Page {
    /// The same of a crate that nobody ever pulled.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { pulls: Vec::new(), unreadable: 0, next: None, ..self }
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (time, told) = text.split_once('~')?;
            Some(Self { time: time.parse().ok()?, told: told.parse().ok()? })
        };
        read().ok_or("write what the page before has as its `next`")
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.time, self.told)
    }
}

impl Cursor {
    fn beginning_of(day: Date) -> Option<Self> {
        let midnight = day.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(Self { time: midnight, told: 0 })
    }

    /// Behind one more record.
    fn behind(self, pull: &Pull) -> Self {
        let told = if pull.time == self.time { self.told + 1 } else { 1 };
        Self { time: pull.time, told }
    }
}

/// Reads a page.
///
/// # Errors
/// When the store does not answer, or a batch cannot be one of ours.
pub async fn page(store: &DownloadLogStore, asked: &Asked) -> Result<Page> {
    let days = store.days().await.map_err(Error::store)?;
    let first = days.first().copied();
    let start = match asked.after {
        Some(after) => Some(after.time),
        None => asked.selection.since,
    };
    let start = start.map(day_of);
    let (mut answer, mut batches) = (Answer { first, unreadable: 0 }, 0);
    let mut page = Page { first, since: asked.selection.since, ..Page::default() };
    let mut at = asked.after;
    for day in days.into_iter().filter(|day| start.is_none_or(|start| *day >= start)) {
        let mut passed = 0;
        let heard = |pull: Pull| {
            if let Some(after) = asked.after {
                if pull.time < after.time {
                    return ControlFlow::Continue(());
                }
                if pull.time == after.time && passed < after.told {
                    passed += 1;
                    return ControlFlow::Continue(());
                }
            }
            if page.pulls.len() >= asked.limit {
                return ControlFlow::Break(());
            }
            let before = at.unwrap_or(Cursor { time: pull.time, told: 0 });
            at = Some(before.behind(&pull));
            page.pulls.push(pull);
            ControlFlow::Continue(())
        };
        let end = ask_day(store, &asked.selection, day, &mut answer, &mut batches, heard).await?;
        if end.is_break() {
            page.next = at.map(|at| at.to_string());
            break;
        }
        if batches >= MOST_BATCHES {
            let next = day.checked_add(1.day()).ok().and_then(Cursor::beginning_of);
            page.next = next.map(|next| next.to_string());
            break;
        }
    }
    page.unreadable = answer.unreadable;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_it_was_when_it_comes_back() {
        let text = "2027-01-31T12:00:00.123456789Z~3";
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        for odd in ["", "7", "2027-01-31~1", "2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z~x"] {
            assert!(odd.parse::<Cursor>().is_err(), "{odd}");
        }
    }
}
