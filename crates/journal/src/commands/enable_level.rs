//! Enable a format level: nothing is written that a replica of an earlier release could not
//! read, before an operator has said that there is none left.

use super::checks::lagging;
use super::{CommandActor, Judged, Refusal};
use crate::authorize::Action;
use crate::entry::EventKind;
use cratehouse_core::error::Error;
use cratehouse_storage::format_level::Level;

/// Lets events pass whose level, by the table `level_of`, is enabled.
pub(super) fn admitted(
    events: Vec<EventKind>,
    enabled: Level,
    level_of: impl Fn(&EventKind) -> Level,
) -> Judged {
    let admit = |event| enabled.admit(level_of(event));
    events.iter().try_for_each(admit).map_err(|why| lagging(Error::invalid(why)))?;
    Ok(events)
}

/// Enables a level that this release knows, `known` at the most, unless it is so already.
pub(super) fn judge(enabled: Level, by: &CommandActor, asked: Level, known: Level) -> Judged {
    by.authorize(Action::Administer)?;
    match enabled.raises(asked, known) {
        Ok(true) => Ok(vec![EventKind::LevelEnabled { level: asked }]),
        Ok(false) => Ok(Vec::new()),
        Err(why) => Err(Refusal::from(Error::invalid(why))),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::catalog::Catalog;
    use crate::entry::{Actor, Event};
    use cratehouse_core::error::Kind;

    /// A later release's table, in which yanks are of a level of their own.
    fn level_of(event: &EventKind) -> Level {
        match event {
            EventKind::Yanked { .. } => Level::KNOWN.next(),
            other => other.level(),
        }
    }

    fn yank_and_more() -> Vec<EventKind> {
        let (krate, version) = ("foo".parse().unwrap(), "1.0.0".parse().unwrap());
        let level = Level::FIRST;
        vec![EventKind::LevelEnabled { level }, EventKind::Yanked { krate, version }]
    }

    #[test]
    fn a_command_waits_for_the_highest_level_that_its_events_need() {
        let refusal = admitted(yank_and_more(), Level::KNOWN, level_of).unwrap_err();
        let wanted = format!("`cratehouse format enable {}`", Level::KNOWN.next());
        assert!(refusal.error.message.contains(&wanted), "{refusal:?}");
        assert_eq!(refusal.error.kind, Kind::Invalid);
        assert!(refusal.lag_could_explain, "it may just have been enabled");
        let events = admitted(yank_and_more(), Level::KNOWN.next(), level_of).unwrap();
        assert_eq!(events, yank_and_more());
        assert!(admitted(yank_and_more(), Level::FIRST, EventKind::level).is_ok(), "today's table");
    }

    #[test]
    fn a_level_is_enabled_once_and_only_if_it_is_known() {
        let next = Level::KNOWN.next();
        let enable = |enabled, asked, known| judge(enabled, &CommandActor::Operator, asked, known);
        let events = enable(Level::FIRST, next, next).unwrap();
        assert_eq!(events, [EventKind::LevelEnabled { level: next }]);
        assert_eq!(enable(next, next, next).unwrap(), []);
        for (enabled, asked, known) in
            [(Level::FIRST, next, Level::KNOWN), (next, Level::FIRST, next)]
        {
            assert_eq!(enable(enabled, asked, known).unwrap_err().error.kind, Kind::Invalid);
        }
    }

    /// Else a replica that does not know the level could not even read why it must stop.
    #[test]
    fn a_level_is_not_in_force_in_the_entry_that_enables_it() {
        let catalog = Catalog::in_memory("registry").unwrap();
        let draft = catalog.draft().unwrap();
        let what = EventKind::LevelEnabled { level: Level::KNOWN.next() };
        let event = Event { by: Actor::Operator, what };
        draft.imagine(1, Timestamp::UNIX_EPOCH, &event).unwrap();
        assert_eq!(draft.head().unwrap().level, Level::FIRST);
    }
}
