//! The log lines of requests. Changes have a line each, since they need a token; what a client can cause
//! without one is limited.

use cratehouse_core::log_limit::LineLimit;
use cratehouse_core::metrics::Metrics;

/// Lines of one kind within [`cratehouse_core::log_limit::WINDOW`]. Enough to see who does what; some 60 kB.
const LINES: u32 = 200;

/// The limits of the lines that requests leave behind.
#[derive(Debug)]
pub struct RequestLines {
    refused: LineLimit,
    failed: LineLimit,
    open: LineLimit,
}

impl RequestLines {
    /// Those of one process.
    pub fn new(metrics: &Metrics) -> Self {
        let of = |kind| LineLimit::of(kind, LINES, metrics);
        Self {
            refused: of("request_refused"),
            failed: of("request_failed"),
            open: of("request_answered"),
        }
    }

    /// Whether the line of a request that ended with `status` may be written, and how many were left
    /// out since the last; `open`: of a route that needs no token.
    pub fn admit(&self, status: u16, open: bool) -> Option<u64> {
        match status {
            500.. => self.failed.admit(),
            400.. => self.refused.admit(),
            _ if open => self.open.admit(),
            _ => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_are_limited_and_changes_are_not() {
        let metrics = Metrics::new().unwrap();
        let lines = RequestLines::new(&metrics);
        let written =
            |status, open| (0..1000).filter(|_| lines.admit(status, open).is_some()).count();
        let limit = LINES as usize;
        assert_eq!([written(401, false), written(503, false), written(200, true)], [limit; 3]);
        assert_eq!(written(200, false), 1000);
        let left_out = metrics.log_lines_suppressed.with_label_values(&["request_refused"]).get();
        assert_eq!(left_out, 800);
    }
}
