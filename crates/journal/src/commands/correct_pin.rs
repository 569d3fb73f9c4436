//! Correct a pin. A pin is an object of the store that never changes; what an
//! administrator finds out later stands over it, in the journal, with the reason.

use super::checks::stated;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use cratehouse_core::checksum::Checksum;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// A pin as it stands in the store.
pub(super) struct Pin<'a> {
    pub(super) upstream: &'a str,
    pub(super) krate: &'a CrateName,
    pub(super) version: &'a CrateVersion,
    pub(super) pinned: Checksum,
}

/// Lets `checksum` stand over a pin, unless it does already.
pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    pin: &Pin<'_>,
    checksum: Checksum,
    reason: &str,
) -> Judged {
    by.authorize(Action::Administer)?;
    let reason = stated(reason)?;
    let Pin { upstream, krate, version, pinned } = *pin;
    let corrected = view.corrected_pin(upstream, krate, version)?;
    let former = corrected.map_or(pinned, |row| row.cksum);
    let (upstream, krate, version) = (upstream.to_owned(), krate.clone(), version.clone());
    Ok(match former == checksum {
        true => Vec::new(),
        false => {
            vec![EventKind::PinCorrected { upstream, krate, version, former, checksum, reason }]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::entry::{Actor, Event};
    use cratehouse_core::error::Kind;
    use cratehouse_storage::format_level::Level;

    #[test]
    fn a_correction_has_a_reason_and_belongs_to_the_second_level() {
        let catalog = Catalog::in_memory("registry").unwrap();
        let draft = catalog.draft().unwrap();
        let (krate, version) = ("Foo".parse().unwrap(), "1.0.0+b".parse().unwrap());
        let (a, b) = (Checksum::of(b"a"), Checksum::of(b"b"));
        let pin = Pin { upstream: "up", krate: &krate, version: &version, pinned: a };
        let unsaid = judge(&draft, &CommandActor::Operator, &pin, b, " ").unwrap_err();
        assert_eq!(unsaid.error.kind, Kind::Invalid);
        assert_eq!(judge(&draft, &CommandActor::Operator, &pin, a, "why").unwrap(), []);

        let events = judge(&draft, &CommandActor::Operator, &pin, b, "why").unwrap();
        let [what] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(what.level(), Level::SECOND);
        let event = Event { by: Actor::Operator, what: what.clone() };
        draft.imagine(1, jiff::Timestamp::UNIX_EPOCH, &event).unwrap();
        let row = draft.corrected_pin("up", &"foo".parse().unwrap(), &version).unwrap();
        assert_eq!(row.map(|row| row.cksum), Some(b));
        let other = draft.corrected_pin("up", &krate, &"1.0.0".parse().unwrap()).unwrap();
        assert_eq!(other, None, "a version is meant exactly");

        let back = judge(&draft, &CommandActor::Operator, &pin, a, "after all").unwrap();
        let was = |what: &EventKind| matches!(what, EventKind::PinCorrected { former, .. } if *former == b);
        assert!(back.iter().all(was) && back.len() == 1, "{back:?}");
    }
}
