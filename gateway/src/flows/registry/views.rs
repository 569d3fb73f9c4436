//! What each view of the index shows. A crate has one identity: ours, if it is hosted here or from an
//! upstream whose crates become ours, else crates.io's.

use crate::config::Upstream;
use cratehouse_mirror::index::cache::{Answered, CachedLookup, Place};
use cratehouse_mirror::settings::Identity;
use cratehouse_package::view::View;

/// The views of one gateway.
#[derive(Debug, Clone)]
pub struct Views {
    unified: bool,
    upstreams: Vec<Identity>,
}

impl Views {
    /// `unified` says that our own index lists crates of crates.io's identity too.
    pub fn new(unified: bool, upstreams: &[Upstream]) -> Self {
        Self { unified, upstreams: upstreams.iter().map(|upstream| upstream.identity).collect() }
    }

    /// Whether our own index lists crates of crates.io's identity too.
    pub fn unified(&self) -> bool {
        self.unified
    }

    /// Whether a crate that is from there is shown.
    pub(crate) fn shows(&self, view: View, from: Place) -> bool {
        match (view, self.identity(from)) {
            (View::Own, identity) => self.unified || identity == Identity::Ours,
            (View::CratesIo, identity) => identity == Identity::CratesIo,
        }
    }

    /// Whether hosted crates are; `None`: all crates are.
    pub(crate) fn hosts(&self, view: Option<View>) -> bool {
        view.is_none_or(|view| self.shows(view, Place::Hosted))
    }

    /// An answer as a view gives it; `None`: as it is. An upstream that did not answer may have had a
    /// crate that is shown.
    pub(crate) fn shown(&self, view: Option<View>, answered: Answered) -> Answered {
        let is_file = matches!(answered.known.answer, Ok(Some(_)));
        match is_file && view.is_some_and(|view| !self.shows(view, answered.from)) {
            true => Answered::nowhere(CachedLookup::absent(None)),
            false => answered,
        }
    }

    /// How many upstreams of the chain may have what a view shows: those behind them are not asked.
    pub(crate) fn chain(&self, view: View) -> usize {
        let shown = |at: &usize| self.shows(view, Place::Upstream(*at));
        (0..self.upstreams.len()).rev().find(shown).map_or(0, |last| last + 1)
    }

    /// Whether a crate is shown only because the index is unified.
    pub(crate) fn only_unified(&self, view: View, from: Place) -> bool {
        view == View::Own && self.identity(from) == Identity::CratesIo
    }

    /// Whose identity a crate has that is from there.
    pub(crate) fn identity(&self, of: Place) -> Identity {
        match of {
            Place::Hosted => Identity::Ours,
            Place::Upstream(at) => self.upstreams.get(at).copied().unwrap_or(Identity::Ours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: [Identity; 3] = [Identity::CratesIo, Identity::Ours, Identity::CratesIo];

    fn views(unified: bool, upstreams: &[Identity]) -> Views {
        Views { unified, upstreams: upstreams.to_vec() }
    }

    #[test]
    fn a_crate_stands_in_one_view_unless_the_index_is_unified() {
        let places = [Place::Hosted, Place::Upstream(0), Place::Upstream(1), Place::Upstream(2)];
        for place in places {
            let shown = |unified, view| views(unified, &CHAIN).shows(view, place);
            assert_ne!(shown(false, View::Own), shown(false, View::CratesIo), "{place:?}");
            assert!(shown(true, View::Own), "{place:?}");
            assert_eq!(shown(true, View::CratesIo), shown(false, View::CratesIo), "{place:?}");
            let only = views(true, &CHAIN).only_unified(View::Own, place);
            assert_eq!(only, !shown(false, View::Own), "{place:?}");
        }
    }

    #[test]
    fn upstreams_that_cannot_matter_are_not_asked() {
        let asked = |unified, upstreams: &[Identity], view| views(unified, upstreams).chain(view);
        assert_eq!(
            asked(false, &CHAIN, View::Own),
            2,
            "the first may have it, and then it is theirs"
        );
        assert_eq!(asked(true, &CHAIN, View::Own), 3);
        assert_eq!(asked(false, &CHAIN, View::CratesIo), 3);
        assert_eq!(asked(false, &CHAIN[..1], View::Own), 0);
        assert_eq!(asked(true, &CHAIN[..2], View::CratesIo), 1);
    }
}
