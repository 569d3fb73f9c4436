//! What a start tells: one readable line a step; of whatever takes long, how far it is and how
//! fast. Lines for people go to standard error, so that standard output stays with a command's
//! answer; with JSON logs they are log lines.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::console::{self, LogFormat};

/// A step that takes longer than this tells its count, total and rate, and again each time
/// after as long.
pub const QUIET: Duration = Duration::from_secs(2);
/// At a terminal there is a bar instead, and it moves this often.
const REDRAWN: Duration = Duration::from_millis(100);
/// How wide the bar is, in characters.
const BAR: u64 = 16;

/// One step under way. Shared by reference with the work.
#[derive(Debug)]
pub struct Progress {
    what: String,
    voice: LogFormat,
    /// Whether somebody sees it at a terminal.
    is_seen: bool,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    told: Instant,
    done: u64,
    total: Option<u64>,
}

impl Progress {
    /// Begins a step such as `replaying the journal`.
    pub fn begin(what: impl Into<String>, voice: LogFormat) -> Self {
        let started = Instant::now();
        let state = Mutex::new(State { told: started, done: 0, total: None });
        let is_seen = voice == LogFormat::Human && is_a_screen();
        Self { what: what.into(), voice, is_seen, started, state }
    }

    /// Notes that `done` things of `total`, where that is known, are done. Cheap enough for
    /// every one of them.
    pub fn tick(&self, done: u64, total: Option<u64>) {
        let now = Instant::now();
        let due = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.done, state.total) = (done, total);
            let pause = if self.is_seen { REDRAWN } else { QUIET };
            let due = now.duration_since(state.told) >= pause;
            if due {
                state.told = now;
            }
            due
        };
        let text = |bar| under_way(&self.what, bar, (done, total), now - self.started);
        match (due, self.is_seen) {
            (true, true) => console::draw(&text(true)),
            (true, false) => say(self.voice, &text(false)),
            (false, _) => {}
        }
    }

    /// Ends the step with what came of it, such as `journal at 41, nothing new`.
    pub fn end(self, outcome: &str) {
        self.wipe();
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        say(self.voice, &ended(outcome, state.done, self.started.elapsed()));
    }

    fn wipe(&self) {
        if self.is_seen {
            console::wipe();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Whether standard error is a terminal that can redraw a line.
fn is_a_screen() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// One line of a start that needs no measuring.
pub fn say(voice: LogFormat, line: &str) {
    match voice {
        LogFormat::Human => console::tell(line),
        LogFormat::Json => tracing::info!("{line}"),
    }
}

/// `replaying the journal: 12,000 of 40,000 (30 %), 5,900/s, 5 s to go`, or with a bar
/// `replaying the journal [####------------] 12,000 of …`.
fn under_way(
    what: &str,
    with_bar: bool,
    (done, total): (u64, Option<u64>),
    elapsed: Duration,
) -> String {
    let pace = rate(done, elapsed);
    let shown_pace = grouped(pace);
    let Some(total) = total else { return format!("{what}: {}, {shown_pace}/s", grouped(done)) };
    let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
    let to_go = match total.saturating_sub(done).checked_div(pace) {
        Some(seconds) => format!(", {} s to go", grouped(seconds)),
        None => String::new(),
    };
    let sign = match with_bar {
        false => ":".to_owned(),
        true => format!(" [{}]", bar(percent)),
    };
    let (done, total) = (grouped(done), grouped(total));
    format!("{what}{sign} {done} of {total} ({percent} %), {shown_pace}/s{to_go}")
}

/// `####------------`
fn bar(percent: u64) -> String {
    let full = percent.min(100) * BAR / 100;
    (0..BAR).map(|at| if at < full { '#' } else { '-' }).collect()
}

/// `journal at 40,000 (40,000 in 6.8 s, 5,882/s)`; what was quick is only named.
fn ended(outcome: &str, done: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    match (elapsed < QUIET, done) {
        (true, _) => outcome.to_owned(),
        (false, 0) => format!("{outcome} ({seconds:.1} s)"),
        (false, _) => {
            let (pace, done) = (grouped(rate(done, elapsed)), grouped(done));
            format!("{outcome} ({done} in {seconds:.1} s, {pace}/s)")
        }
    }
}

/// Things per second.
fn rate(done: u64, elapsed: Duration) -> u64 {
    let per_second = u128::from(done) * 1000 / elapsed.as_millis().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

/// `1234567` → `1,234,567`
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Duration = Duration::from_secs(4);

    #[test]
    fn a_step_under_way_tells_count_total_and_rate() {
        let line = under_way("replaying", false, (12_000, Some(40_000)), FOUR);
        assert_eq!(line, "replaying: 12,000 of 40,000 (30 %), 3,000/s, 9 s to go");
        assert_eq!(under_way("listing", false, (1_234, None), FOUR), "listing: 1,234, 308/s");
        assert_eq!(under_way("x", false, (0, Some(7)), FOUR), "x: 0 of 7 (0 %), 0/s");
        assert_eq!(under_way("x", false, (0, Some(0)), FOUR), "x: 0 of 0 (100 %), 0/s");
        assert_eq!(
            under_way("x", false, (9, Some(7)), Duration::ZERO),
            "x: 9 of 7 (100 %), 9,000/s, 0 s to go"
        );
    }

    #[test]
    fn at_a_terminal_there_is_a_bar() {
        let drawn = |done, total| under_way("x", true, (done, total), FOUR);
        assert_eq!(drawn(3, Some(12)), "x [####------------] 3 of 12 (25 %), 0/s");
        assert_eq!(drawn(7, Some(7)), "x [################] 7 of 7 (100 %), 1/s, 0 s to go");
        assert_eq!(drawn(7, None), "x: 7, 1/s");
    }

    #[test]
    fn a_quick_step_tells_its_outcome_alone() {
        assert_eq!(ended("store open", 5, Duration::from_millis(1999)), "store open");
        assert_eq!(ended("store open", 0, FOUR), "store open (4.0 s)");
        assert_eq!(
            ended("journal at 8,000", 8_000, FOUR),
            "journal at 8,000 (8,000 in 4.0 s, 2,000/s)"
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 12, 123, 1_234, 1_234_567].map(grouped),
            ["0", "12", "123", "1,234", "1,234,567"]
        );
    }
}
