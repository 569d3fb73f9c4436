//! The list of waivers: what is let through whatever any rule says, by whom, and until when.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::schema::Waiver;
use super::words::Day;
use cratehouse_core::table::Table;

/// All waivers of a policy; those that are in force first, then by their end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waivers {
    /// Each with its state.
    pub waivers: Vec<ListedWaiver>,
}

/// A waiver, and whether it counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListedWaiver {
    /// Whether it counts; in JSON the waiver's own fields stand beside.
    pub state: WaiverState,
    /// The waiver.
    #[serde(flatten)]
    pub waiver: Waiver,
}

/// Whether a waiver counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaiverState {
    /// It counts.
    InForce,
    /// It has not begun.
    Ahead,
    /// It counts no more.
    Ended,
}

impl Waiver {
    /// Whether it counts at this time.
    pub fn state(&self, now: Timestamp) -> WaiverState {
        match self.from.map(Day::begin) {
            _ if self.until.end() <= now => WaiverState::Ended,
            Some(begin) if begin > now => WaiverState::Ahead,
            _ => WaiverState::InForce,
        }
    }
}

impl Waivers {
    /// The list at this time.
    pub fn of(waivers: &[Waiver], now: Timestamp) -> Self {
        let listed = waivers.iter().cloned();
        let listed = listed.map(|waiver| ListedWaiver { state: waiver.state(now), waiver });
        let mut waivers: Vec<_> = listed.collect();
        waivers.sort_by_key(|listed| (listed.state, listed.waiver.until)); // stable
        Self { waivers }
    }
}

impl WaiverState {
    fn label(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Ahead => "ahead",
            Self::Ended => "ended",
        }
    }
}

/// The table.
impl fmt::Display for Waivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["name", "version", "state", "from", "until", "who", "reason"]);
        for ListedWaiver { state, waiver } in &self.waivers {
            let Waiver { name, version, from, until, reason, who } = waiver;
            let from = from.map(|day| day.to_string()).unwrap_or_default();
            let (name, version, until) = (name.as_str(), version.as_str(), until.to_string());
            table.row([name, version, state.label(), &from, &until, who, reason]);
        }
        let in_force = self.waivers.iter().filter(|w| w.state == WaiverState::InForce).count();
        write!(f, "{table}{} waivers, {in_force} in force", self.waivers.len())
    }
}
