//! Waiting for something to become true: tests poll, and never sleep for a fixed time.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks again and again until there is something, and panics with `what` when
/// [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look)
}

/// The same with another patience, for what waits for several things in turn.
pub fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting: {what}");
        pause();
    }
}

/// Looks again and again until `look` says yes; panics like [`eventually`].
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    eventually(what, || look().then_some(()));
}

#[allow(clippy::disallowed_methods, reason = "the one pause: between two looks, off any runtime")]
fn pause() {
    std::thread::sleep(BETWEEN_LOOKS);
}
