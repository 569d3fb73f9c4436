//! Log lines of one kind, limited in rate. What a client can cause again and again must not fill the
//! disk under the log, nor hide the other lines; what is left out is counted.
//!
//! ```ignore
//! if let Some(suppressed) = limit.admit() {
//!     tracing::warn!(suppressed, "…");
//! }
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Lines of one kind within [`WINDOW`] that are written, where no other number is named.
pub const LINES: u32 = 20;
/// The time in which lines are counted.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The limit of one kind of lines. Shared by all that write such lines.
#[derive(Debug)]
pub struct LineLimit {
    lines: u32,
    suppressed: IntCounter,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    /// Written since it began.
    written: u32,
    /// Left out since the last line that was written.
    suppressed: u64,
}

impl LineLimit {
    /// [`LINES`] lines of a kind within [`WINDOW`]. The kind is a value of the metric's label: a short
    /// word in snake case, never a client's text.
    pub fn new(kind: &'static str, metrics: &Metrics) -> Self {
        Self::of(kind, LINES, metrics)
    }

    /// So many lines of a kind within [`WINDOW`].
    pub fn of(kind: &'static str, lines: u32, metrics: &Metrics) -> Self {
        let suppressed = metrics.log_lines_suppressed.with_label_values(&[kind]);
        Self { lines, suppressed, window: Mutex::default() }
    }

    /// Whether a line may be written now: then the number of those that were left out since the last
    /// one, for a field `suppressed`. `None`: leave it out; it is counted here.
    pub fn admit(&self) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            (window.began, window.written) = (Some(now), 0);
        }
        if window.written < self.lines {
            window.written += 1;
            return Some(std::mem::take(&mut window.suppressed));
        }
        window.suppressed += 1;
        self.suppressed.inc();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_limit_are_left_out_counted_and_named_by_the_next_one() {
        let metrics = Metrics::new().unwrap();
        let limit = LineLimit::of("example", 3, &metrics);
        let counted = || metrics.log_lines_suppressed.with_label_values(&["example"]).get();
        let written = (0..10).filter(|_| limit.admit() == Some(0)).count();
        assert_eq!((written, counted()), (3, 7));
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert_eq!((limit.admit(), counted()), (None, 8));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((limit.admit(), limit.admit(), counted()), (Some(8), Some(0), 8));
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_do_not_share_a_limit() {
        let metrics = Metrics::new().unwrap();
        let [one, other] = ["one", "other"].map(|kind| LineLimit::of(kind, 1, &metrics));
        assert_eq!([one.admit(), one.admit(), other.admit()], [Some(0), None, Some(0)]);
    }
}
