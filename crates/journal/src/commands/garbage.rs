//! Judging what is garbage. A sweep says in the journal which bytes it is going to delete, and
//! when they are gone; so the order of the journal decides between it and a publish of the same
//! bytes: what an entry names is never condemned, and nothing is named whose bytes may be gone.

use std::collections::BTreeSet;

use super::checks::lagging;
use super::{CommandActor, Judged, Refusal};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};

/// Why a publish is refused whose bytes may have been deleted since they were put.
#[derive(Debug, thiserror::Error)]
#[error("its bytes were condemned by entry {0}")]
struct Condemned(u64);

/// Whether a publish was refused because its bytes must be put again first.
pub fn must_put_again(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Condemned>())
}

/// Bytes whose put began when entry `put_at` was the last one applied must not have been
/// condemned since, and not be condemned now.
pub(super) fn bytes_stay<T: Tables>(view: &View<T>, cksum: &Checksum, put_at: u64) -> Judged<()> {
    let Some(row) = view.condemned(cksum)? else { return Ok(()) };
    if row.collected.is_some_and(|collected| collected <= put_at) {
        return Ok(());
    }
    let text = "the same bytes, which nothing named, are being deleted from the store just now; try again shortly. If this lasts, an administrator ends the sweep with `cratehouse gc --finish`";
    let error = Error::unavailable(text).because(Condemned(row.condemned));
    Err(Refusal { error, lag_could_explain: row.collected.is_none() })
}

/// One sweep at a time; and only what no version names that counts.
pub(super) fn condemn<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    checksums: &[Checksum],
) -> Judged {
    by.authorize(Action::Administer)?;
    nothing_pending(&view.pending()?).map_err(lagging)?;
    let named = view.named()?;
    let unnamed: BTreeSet<_> = checksums.iter().filter(|sum| !named.contains(sum)).collect();
    let checksums: Vec<_> = unnamed.into_iter().copied().collect();
    Ok(if checksums.is_empty() { Vec::new() } else { vec![EventKind::Condemned { checksums }] })
}

/// The end of a sweep: it must still be the one that condemned these.
pub(super) fn collect<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    checksums: &[Checksum],
) -> Judged {
    by.authorize(Action::Administer)?;
    for sum in checksums {
        if view.condemned(sum)?.is_none_or(|row| row.collected.is_some()) {
            let text = format!("{sum} is not condemned: somebody else has ended this sweep");
            return Err(lagging(Error::invalid(text)));
        }
    }
    Ok(vec![EventKind::Collected { checksums: checksums.to_vec() }])
}

/// Refuses while a sweep has not ended.
pub fn nothing_pending(pending: &[Checksum]) -> Result<()> {
    match pending.len() {
        0 => Ok(()),
        count => Err(Error::invalid(format!(
            "a sweep has condemned {count} crate files and has not ended. If one is at work, wait for it; if it was interrupted, and none is at work anywhere, run `cratehouse gc --finish`"
        ))),
    }
}
