//! Publish a version.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::checks::lagging;
use super::{CommandActor, Judged, as_of_now, garbage};
use crate::authorize::Action;
use crate::catalog::{CrateRow, Tables, VersionRow, View};
use crate::entry::EventKind;
use cratehouse_core::error::{Error, Kind};
use cratehouse_package::index::IndexLine;
use cratehouse_package::index_bounds::{IndexBounds, OutOfBounds};
use cratehouse_package::name::CrateName;
use cratehouse_package::published::Published;
use cratehouse_package::version::CrateVersion;

/// Judges a publish by its name and version alone, before there is more of it.
///
/// # Errors
/// A [`super::Refusal`].
pub fn admit<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    name: &CrateName,
    version: &CrateVersion,
    now: Timestamp,
) -> Judged<()> {
    let by = as_of_now(view, by, now)?;
    may_publish(view, &by, name, version).map(drop)
}

/// Whether this version may be published; the crate, where there is one already.
fn may_publish<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    name: &CrateName,
    version: &CrateVersion,
) -> Judged<Option<CrateRow>> {
    let rights = view.rights(&name.key())?;
    match &rights.krate {
        None => {
            let creators = view.creators(&name.key())?;
            by.authorize(Action::PublishNew { krate: name, creators: creators.as_deref() })?;
            name.check_unreserved().map_err(Error::invalid)?;
        }
        // For who may not know that it is there it is a new name, which is not for them.
        Some(_) if !by.may_read(rights.of(name)) => {
            let creators = view.creators(&name.key())?;
            by.authorize(Action::PublishNew { krate: name, creators: creators.as_deref() })?;
            by.authorize(Action::PublishHidden { krate: name })?;
        }
        Some(row) => {
            same_spelling(row, name)?;
            by.authorize(Action::PublishUpdate(rights.of(name)))?;
        }
    }
    if let Some(row) = view.version(&name.key(), version)? {
        return Err(burned(&row).into());
    }
    Ok(rights.krate)
}

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    published: &Published,
    put_at: u64,
    bounds: &IndexBounds,
    now: Timestamp,
) -> Judged {
    let line = &published.line;
    let name = &line.name;
    let krate = may_publish(view, by, name, &line.vers)?;
    garbage::bytes_stay(view, &published.line.cksum, put_at)?;
    let mut dated = published.clone();
    dated.line.pubtime = Some(pubtime(view.head()?.published.max(now)));
    let mut events = vec![EventKind::Published(Box::new(dated))];
    if let (None, Some(user)) = (&krate, by.user()) {
        events.push(EventKind::OwnerAdded { krate: name.clone(), user });
    }
    fits(view, line, bounds)?;
    Ok(events)
}

/// What others published meanwhile counts too.
fn fits<T: Tables>(view: &View<T>, line: &IndexLine, bounds: &IndexBounds) -> Judged<()> {
    let too_large = |why: OutOfBounds| Error::new(Kind::TooLarge, why.to_string());
    let bytes = bounds.line(line).map_err(too_large)?;
    let versions = view.krate(&line.name.key())?.map_or(0, |row| u64::from(row.versions));
    if versions.saturating_mul(bounds.line_bytes as u64) <= bounds.beside(bytes) {
        return Ok(()); // even if every line were as long as any may be
    }
    let others = view.index_bytes(&line.name.key(), bounds.beside(bytes))?;
    bounds.file(line, others, bytes).map_err(|why| lagging(too_large(why)))
}

fn burned(row: &VersionRow) -> Error {
    let (name, version) = (&row.line.name, &row.line.vers);
    match row.removed {
        false => Error::invalid(format!(
            "crate version `{name}@{version}` is already uploaded; versions are never overwritten: publish a new one"
        )),
        true => Error::invalid(format!(
            "crate version `{name}@{version}` was removed by an administrator and its number stays burned: publish a new one"
        )),
    }
}

/// Exactly the form that cargo reads: seconds, and `Z`.
fn pubtime(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn same_spelling(row: &CrateRow, name: &CrateName) -> Judged<()> {
    match row.name == *name {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "the crate `{}` exists already: names that differ only in case, `-` and `_` are one name",
            row.name
        ))
        .into()),
    }
}
