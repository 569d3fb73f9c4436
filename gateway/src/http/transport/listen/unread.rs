//! Answers that their client does not read. An answer holds memory until it was sent, and one cheap
//! request after the other must not excuse those that nobody reads. What a slow line makes wait for its
//! turn is another thing: HTTP/2 sends a frame of each answer in turn, and cargo asks for a hundred.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::traffic::{TICKS, Traffic};

/// What a connection takes in a second, in bytes, that is slow and not stalled: then an answer may have
/// to wait for its turn among the others.
const STEADY: u64 = 1 << 10;
/// When it has taken so much for each answer that is to be sent, each of them has had its turn: HTTP/2
/// sends a frame (of 16 KiB, where nothing else was said) of each in turn.
const ROUND_BYTES: u64 = 32 << 10;
/// Whole ticks in which nothing was taken of an answer that has stalled.
const QUIET_TICKS: usize = 2;
/// After so many, no line is slow enough to excuse it.
const LONGEST_TICKS: usize = TICKS - 2;

/// The ticks of a connection.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Those that have ended, and what the socket had taken then; the last one first.
    ended: VecDeque<(u32, u64)>,
}

impl Unread {
    /// Ends a tick of this length, and says whether the client has stalled.
    pub(super) fn is_stalled(&mut self, traffic: &Traffic, length: Duration) -> bool {
        let written = traffic.written.load(Ordering::Relaxed);
        self.ended.push_front((traffic.tick(), written));
        self.ended.truncate(LONGEST_TICKS + 1);
        self.ended.iter().enumerate().skip(QUIET_TICKS).any(|(ticks, (tick, before))| {
            if traffic.unsent_since(*tick) == 0 {
                return false;
            }
            let taken = written.saturating_sub(*before);
            let waited = length * u32::try_from(ticks).unwrap_or(u32::MAX);
            ticks >= LONGEST_TICKS || !is_slow(taken, waited, traffic.unsent())
        })
    }
}

/// Whether a client that has taken nothing of an answer for so long may just have a slow line, by what
/// its connection has taken meanwhile.
fn is_slow(taken: u64, waited: Duration, answers: u64) -> bool {
    let steady = STEADY as f64 * waited.as_secs_f64();
    taken as f64 >= steady && taken < ROUND_BYTES.saturating_mul(answers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::transport::listen::traffic::AtWork;

    const TICK: Duration = Duration::from_secs(15);

    struct Line {
        traffic: Arc<Traffic>,
        unread: Unread,
    }

    impl Line {
        fn new() -> Self {
            Self { traffic: Arc::default(), unread: Unread::default() }
        }

        fn answer(&self) -> AtWork {
            let mut work = AtWork::begin(&self.traffic);
            work.answered();
            work
        }

        /// After how many of so many ticks the client has stalled, which takes so much in each.
        fn stalls(&mut self, ticks: usize, bytes: u64, mut each: impl FnMut()) -> Option<usize> {
            (0..ticks).find(|_| {
                self.traffic.written.fetch_add(bytes, Ordering::Relaxed);
                each();
                self.unread.is_stalled(&self.traffic, TICK)
            })
        }
    }

    #[test]
    fn an_answer_that_nobody_reads_stalls_whatever_else_is_asked() {
        let mut line = Line::new();
        assert_eq!(line.stalls(100, 0, || ()), None, "it has no answer");
        let unread = line.answer();
        let traffic = Arc::clone(&line.traffic);
        let asks = || drop(AtWork::begin(&traffic));
        assert_eq!(line.stalls(100, 300, asks), Some(QUIET_TICKS));
        drop(unread);
        assert_eq!(line.stalls(100, 300, asks), None);
    }

    #[test]
    fn a_client_that_reads_slowly_and_steadily_goes_on() {
        let mut line = Line::new();
        let slow = line.answer();
        assert_eq!(line.stalls(1000, 200, || slow.takes(200)), None);
        let stalls = line.stalls(1000, 1, || slow.takes(1));
        assert_eq!(stalls, Some(QUIET_TICKS - 1), "next to nothing");
    }

    #[test]
    fn an_answer_that_waits_for_its_turn_on_a_slow_line_is_no_stall() {
        let mut line = Line::new();
        let answers: Vec<_> = (0..100).map(|_| line.answer()).collect();
        let mut next = (0..100).cycle();
        // 8 kB a second, seven frames a tick.
        let turn = || {
            for _ in 0..7 {
                answers[next.next().unwrap()].takes(16 << 10);
            }
        };
        assert_eq!(line.stalls(14, 7 * (16 << 10), turn), None);
        drop(answers);
        let (unread, read) = (line.answer(), line.answer());
        let stalls = line.stalls(100, 30 << 10, || read.takes(30 << 10));
        assert_eq!(stalls, Some(QUIET_TICKS + 1), "all others had their turn");
        drop((unread, read));
        let (unread, others) = (line.answer(), (0..200).map(|_| line.answer()));
        let others: Vec<_> = others.collect();
        let stalls = line.stalls(100, 16 << 10, || others.iter().for_each(|it| it.goes_on()));
        assert_eq!(stalls, Some(LONGEST_TICKS), "no line is that slow");
        drop(unread);
    }
}
