//! The audit trail in pages, for who asks a server. A page reads a bounded number of entries, whatever it selects,
//! and says where the next one begins. Names are those of the catalog, so that nobody walks the whole journal.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::show::{Selection, Shown, Since};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_journal::audit_log::Trail;
use cratehouse_journal::chain::Chain;
use cratehouse_journal::entry::Entry;
use cratehouse_journal::entry_store::Journal;
use cratehouse_journal::writer::JournalHandle;

/// Events of a page, where nothing else is asked for, and the most.
pub const MOST_EVENTS: usize = 1000;
/// Entries that are read for one page.
const MOST_ENTRIES: u64 = 1024;
/// A page ends with the entry with which it has so many bytes.
const MOST_BYTES: usize = 4 << 20;

/// In which direction a trail is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The earliest first.
    #[default]
    Asc,
    /// The latest first.
    Desc,
}

/// A page that is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Which events.
    pub selection: Selection,
    /// In which direction.
    pub order: Order,
    /// The page ends with the entry with which it has so many events.
    pub limit: usize,
    /// The entry at which the page before has ended; the page begins behind it, in the direction that is asked for.
    pub after: Option<u64>,
}

/// A page.
#[derive(Debug, Default, Serialize)]
pub struct Page {
    /// Each as [`Shown::told`] has it.
    pub events: Vec<Box<RawValue>>,
    /// What to ask the next page with; none: this is the last one.
    pub next: Option<u64>,
}

impl FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "asc" => Ok(Self::Asc),
            "desc" => Ok(Self::Desc),
            _ => Err("write `asc` or `desc`"),
        }
    }
}

/// The entries of one page, by number, both ends included; the page's direction says from which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    first: u64,
    last: u64,
}

impl Asked {
    /// What a page may read of a journal that ends with `head`; `None`: nothing is left.
    fn window(&self, head: u64) -> Option<Window> {
        let earliest = match self.selection.since {
            Some(Since::Seq(seq)) => seq.max(1),
            // Times put entries in no order: any of them may be recent enough.
            Some(Since::Time(_)) | None => 1,
        };
        let (first, last) = match self.order {
            Order::Asc => {
                let first = earliest.max(self.after.map_or(1, |after| after.saturating_add(1)));
                (first, head.min(first.saturating_add(MOST_ENTRIES - 1)))
            }
            Order::Desc => {
                let last = self.after.map_or(head, |after| head.min(after.saturating_sub(1)));
                (earliest.max(last.saturating_sub(MOST_ENTRIES - 1)), last)
            }
        };
        (first <= last).then_some(Window { first, last })
    }

    /// What to go on with, once entry `seq` was read.
    fn next(&self, seq: u64, head: u64) -> Option<u64> {
        let rest = Self { after: Some(seq), ..self.clone() };
        rest.window(head).map(|_| seq)
    }
}

/// Entries that are read at once for a page that begins with the newest.
const STEP: u64 = 64;

/// Reads a page.
///
/// # Errors
/// When the store does not answer, or the chain does not hold where it is read.
pub async fn page(
    journal: &Journal,
    registry: &str,
    handle: &JournalHandle,
    asked: &Asked,
) -> Result<Page> {
    if asked.after.is_none() {
        handle.catch_up().await?; // pages behind it need nothing that is newer
    }
    let read =
        |view: &cratehouse_journal::catalog::View<_>| Ok((Trail::of(view)?, view.head()?.seq));
    let (mut trail, head) = handle.catalog().scan(read).await?;
    let Some(window) = asked.window(head) else { return Ok(Page::default()) };
    let mut found = Page::default();
    let mut bytes = 0;
    match asked.order {
        Order::Asc => {
            let mut chain = begin(journal, registry, window.first - 1).await?;
            loop {
                let entries = chain.next(window.last).await?;
                for (entry, _) in &entries {
                    for event in &entry.events {
                        trail.learn(&event.what); // from a renaming on a team is called as it says; before it, as it is called now
                    }
                    bytes += found.take(entry, &trail, asked)?;
                    if found.is_full(asked, bytes) || entry.seq == window.last {
                        found.next = asked.next(entry.seq, head);
                        return Ok(found);
                    }
                }
                if entries.is_empty() {
                    return Err(gap(chain.head() + 1));
                }
            }
        }
        Order::Desc => {
            // In steps, from the end: entries may be large, and a page holds few of them.
            let mut last = window.last;
            loop {
                let first = window.first.max(last.saturating_sub(STEP - 1));
                let mut chain = begin(journal, registry, first - 1).await?;
                let mut step = Vec::new();
                while chain.head() < last {
                    let entries = chain.next(last).await?;
                    if entries.is_empty() {
                        return Err(gap(chain.head() + 1));
                    }
                    step.extend(entries.into_iter().map(|(entry, _)| entry));
                }
                for entry in step.iter().rev() {
                    bytes += found.take(entry, &trail, asked)?;
                    if found.is_full(asked, bytes) || entry.seq == window.first {
                        found.next = asked.next(entry.seq, head);
                        return Ok(found);
                    }
                }
                last = first - 1;
            }
        }
    }
}

/// The journal behind an entry, which is read for its hash.
async fn begin<'a>(journal: &'a Journal, registry: &str, seq: u64) -> Result<Chain<'a>> {
    if seq == 0 {
        return Ok(Chain::new(journal, registry));
    }
    let bytes = journal.read(seq).await.map_err(Error::store)?.ok_or_else(|| gap(seq))?;
    Ok(Chain::behind(journal, seq, Checksum::of(&bytes)))
}

fn gap(seq: u64) -> Error {
    let text = format!(
        "the journal has a gap: entry {seq} is missing; `cratehouse journal verify` says more"
    );
    Error::new(Kind::Internal, text)
}

impl Page {
    /// Adds what is selected of an entry, in the direction of the page; says how many bytes that has.
    fn take(&mut self, entry: &Entry, trail: &Trail, asked: &Asked) -> Result<usize> {
        let shown = entry.events.iter().map(|event| Shown { entry, event, trail });
        let selected = shown.filter(|shown| asked.selection.has(*shown));
        let texts = selected.map(|shown| shown.told()).collect::<Result<Vec<_>>>()?;
        let bytes = texts.iter().map(String::len).sum();
        let raw =
            texts.into_iter().map(|text| RawValue::from_string(text).map_err(Error::internal));
        let raw = raw.collect::<Result<Vec<_>>>()?;
        match asked.order {
            Order::Asc => self.events.extend(raw),
            Order::Desc => self.events.extend(raw.into_iter().rev()),
        }
        Ok(bytes)
    }

    fn is_full(&self, asked: &Asked, bytes: usize) -> bool {
        self.events.len() >= asked.limit || bytes >= MOST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::flows::fixture::{TestGateway, limits, memory};
    use cratehouse_journal::commands::Command;
    use cratehouse_journal::entry_store::journal_in;
    use cratehouse_storage::objects::Objects;

    fn asked(order: Order, after: Option<u64>) -> Asked {
        Asked { order, after, limit: 3, ..Asked::default() }
    }

    #[test]
    fn a_window_is_bounded_and_ends_where_the_journal_does() {
        let asc = |after, head| asked(Order::Asc, after).window(head).map(|w| (w.first, w.last));
        assert_eq!(asc(None, 0), None);
        assert_eq!(asc(None, 5), Some((1, 5)));
        assert_eq!(asc(None, 5000), Some((1, MOST_ENTRIES)));
        assert_eq!(asc(Some(4), 5), Some((5, 5)));
        assert_eq!(asc(Some(5), 5), None);
        assert_eq!(asc(Some(u64::MAX), 5), None);
        let desc = |after, head| asked(Order::Desc, after).window(head).map(|w| (w.first, w.last));
        assert_eq!(desc(None, 0), None);
        assert_eq!(desc(None, 5000), Some((5001 - MOST_ENTRIES, 5000)));
        assert_eq!(desc(Some(3), 5), Some((1, 2)));
        assert_eq!(desc(Some(1), 5), None);
        assert_eq!(desc(Some(0), 5), None);
        assert_eq!(desc(Some(99), 5), Some((1, 5)));
        let since = Selection { since: Some(Since::Seq(4)), ..Selection::default() };
        let since = |order, after| Asked { selection: since.clone(), ..asked(order, after) };
        assert_eq!(since(Order::Asc, None).window(9), Some(Window { first: 4, last: 9 }));
        assert_eq!(since(Order::Desc, Some(6)).window(9), Some(Window { first: 4, last: 5 }));
        assert_eq!(since(Order::Desc, Some(4)).window(9), None);
        assert_eq!(since(Order::Desc, None).next(4, 9), None);
        assert_eq!(since(Order::Desc, None).next(5, 9), Some(5));
    }

    #[tokio::test]
    async fn pages_in_either_direction_have_all_events_once() {
        let store = memory();
        let server = TestGateway::open(&store, &[], limits()).await;
        for n in 0..7 {
            server.command(Command::create_user(format!("user{n}"))).await;
        }
        let journal = journal_in(&Objects::same(store));
        let all = async |order, limit| {
            let (mut after, mut deeds) = (None, Vec::new());
            loop {
                let asked = Asked { limit, ..asked(order, after) };
                let page = page(&journal, "registry", &server.gateway.journal, &asked).await;
                let page = page.unwrap();
                for event in page.events {
                    let event: Value = serde_json::from_str(event.get()).unwrap();
                    deeds.push(event["deed"].as_str().unwrap().to_owned());
                    assert_eq!(event["who"], "operator");
                }
                match page.next {
                    None => return deeds,
                    next => after = next,
                }
            }
        };
        let whole = all(Order::Asc, MOST_EVENTS).await;
        assert_eq!(whole.len(), 8, "{whole:?}");
        assert_eq!(whole[7], "created user user6 (7)");
        assert_eq!(all(Order::Asc, 3).await, whole);
        let mut back = all(Order::Desc, 3).await;
        back.reverse();
        assert_eq!(back, whole);
    }
}
