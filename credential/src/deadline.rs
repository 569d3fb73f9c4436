//! A bound for calls that have none of their own.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Dropped in time, it does nothing.
#[derive(Debug)]
pub(crate) struct Deadline {
    _in_time: Sender<()>,
}

impl Deadline {
    /// Calls `missed`, on a thread of its own, unless this is dropped within that time.
    pub(crate) fn start(time: Duration, missed: impl FnOnce() + Send + 'static) -> Self {
        let (in_time, dropped) = mpsc::channel::<()>();
        thread::spawn(move || {
            if dropped.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                missed();
            }
        });
        Self { _in_time: in_time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deadline_that_is_missed_is_acted_upon() {
        let (missed, told) = mpsc::channel();
        let kept = missed.clone();
        drop(Deadline::start(Duration::from_secs(600), move || kept.send("kept").unwrap()));
        let _held = Deadline::start(Duration::ZERO, move || missed.send("missed").unwrap());
        assert_eq!(told.recv(), Ok("missed"));
        assert!(told.recv().is_err(), "the other one ended without a word");
    }
}
