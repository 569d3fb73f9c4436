//! What an answer of an upstream means: found, not found, or a failure.

use std::error::Error as StdError;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use cratehouse_core::error::{Error, Kind};
use cratehouse_core::excerpt;

/// The longest `Retry-After` that we pass on, whatever an upstream asks for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The `Retry-After` where the upstream names none.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// An upstream did not answer, or not in a way that can be used. Never a not-found.
#[derive(Debug, Clone, thiserror::Error)]
#[error("upstream `{upstream}`: {detail}")]
pub struct UpstreamError {
    /// The upstream's name.
    pub upstream: String,
    /// What kind of failure.
    pub kind: UpstreamErrorKind,
    /// What happened, for the log. It may name hosts.
    pub detail: String,
    /// When the upstream wants to be asked again, if it said so; bounded.
    pub retry_after: Option<Duration>,
    /// The status of its answer, if there was one.
    pub status: Option<u16>,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// No answer in time.
    Timeout,
    /// It is overloaded, or we ask too much.
    Busy,
    /// No connection, or one that broke.
    Unreachable,
    /// An answer that cannot be used.
    Nonsense,
    /// An answer that is larger than the room that there is for it.
    TooLarge {
        /// How many bytes it has, where it said so.
        announced: Option<u64>,
    },
    /// Too many requests of ours wait for it.
    Crowded,
    /// We have no memory for an answer now.
    NoMemory,
    /// An answer is larger than the room that was there for it just then, though not too large.
    NoRoom {
        /// How many bytes it has, where it said so.
        announced: Option<u64>,
    },
}

impl UpstreamError {
    /// Trouble with an upstream.
    pub fn new(upstream: &str, kind: UpstreamErrorKind, detail: impl Into<String>) -> Self {
        // It may have words of the upstream: a header, a URL, a line.
        let (upstream, detail) = (upstream.to_owned(), excerpt::message(detail.into()));
        Self { upstream, kind, detail, retry_after: None, status: None }
    }

    /// Whether the upstream as a whole is failing, not just this answer.
    pub fn is_general(&self) -> bool {
        use UpstreamErrorKind::{Nonsense, TooLarge};
        !(self.is_ours() || matches!(self.kind, Nonsense | TooLarge { .. }))
    }

    /// Whether the reason is ours: it says nothing about the upstream.
    pub fn is_ours(&self) -> bool {
        use UpstreamErrorKind::{Crowded, NoMemory, NoRoom};
        matches!(self.kind, Crowded | NoMemory | NoRoom { .. })
    }

    /// The metric's label of a reason that is ours.
    pub(super) fn reason(&self) -> &'static str {
        match self.kind {
            UpstreamErrorKind::Crowded => "crowded",
            _ => "no_memory",
        }
    }

    /// The metric's label: the status, else the kind.
    pub(super) fn outcome(&self) -> String {
        match (self.status, self.kind) {
            (Some(status), _) => status.to_string(),
            (None, UpstreamErrorKind::Timeout) => "timeout".to_owned(),
            (None, UpstreamErrorKind::TooLarge { .. }) => "too_large".to_owned(),
            (None, _) => "error".to_owned(),
        }
    }
}

/// Whether an upstream was not asked because all places were taken that the client who began the request may
/// have: another client may have some left.
pub(crate) fn is_crowded(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let cause = source.and_then(|source| source.downcast_ref::<UpstreamError>());
    cause.is_some_and(|cause| cause.kind == UpstreamErrorKind::Crowded)
}

impl From<UpstreamError> for Error {
    fn from(failure: UpstreamError) -> Self {
        let (kind, what) = match failure.kind {
            UpstreamErrorKind::Timeout => (Kind::UpstreamTimeout, "did not answer in time"),
            UpstreamErrorKind::Busy => (Kind::Unavailable, "is busy"),
            UpstreamErrorKind::Unreachable => (Kind::BadUpstream, "cannot be reached"),
            UpstreamErrorKind::Nonsense => {
                (Kind::BadUpstream, "gave an answer that cannot be used")
            }
            UpstreamErrorKind::TooLarge { .. } => {
                (Kind::BadUpstream, "gave an answer that is larger than this registry takes")
            }
            UpstreamErrorKind::Crowded => {
                (Kind::Unavailable, "was not asked: too many requests of this registry wait for it")
            }
            UpstreamErrorKind::NoMemory | UpstreamErrorKind::NoRoom { .. } => {
                (Kind::Unavailable, "gave an answer for which this registry has no memory now")
            }
        };
        // Cargo heeds a `Retry-After` with 429 and 503 alone (cargo `util/network/retry.rs`).
        let kind = if failure.retry_after.is_some() { Kind::Unavailable } else { kind };
        let upstream = &failure.upstream;
        let message = format!(
            "the upstream registry `{upstream}` {what}; try again shortly, and ask this \
             registry's operators if it lasts"
        );
        let wait = failure.retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
        Error::new(kind, message).retry_after(wait).because(failure)
    }
}

/// What a status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Found,
    NotModified,
    /// The upstream's own "there is no such thing".
    NotFound,
    Redirect,
    Trouble(UpstreamErrorKind),
}

/// What a status means for a GET that was conditional or not. 304 to an unconditional one, any
/// other 2xx, and 401 or 403 are answers that cannot be used.
pub(super) fn meaning(status: u16, conditional: bool) -> Meaning {
    match status {
        200 => Meaning::Found,
        304 if conditional => Meaning::NotModified,
        404 | 410 | 451 => Meaning::NotFound,
        301 | 302 | 303 | 307 | 308 => Meaning::Redirect,
        408 | 504 => Meaning::Trouble(UpstreamErrorKind::Timeout),
        429 | 503 => Meaning::Trouble(UpstreamErrorKind::Busy),
        _ => Meaning::Trouble(UpstreamErrorKind::Nonsense),
    }
}

/// The wait that a `Retry-After` header asks for (seconds or an HTTP date), bounded.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = rfc2822::parse(text.trim()).ok()?.timestamp();
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// An error with its causes, in one line.
pub(super) fn explain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_not_found_is_a_not_found() {
        for status in 100..600 {
            let absent = meaning(status, true) == Meaning::NotFound;
            assert_eq!(absent, matches!(status, 404 | 410 | 451), "{status}");
        }
        assert_eq!(meaning(304, false), Meaning::Trouble(UpstreamErrorKind::Nonsense));
        assert_eq!(meaning(304, true), Meaning::NotModified);
        assert_eq!(meaning(206, false), Meaning::Trouble(UpstreamErrorKind::Nonsense));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("86400", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("Sun, 06 Nov 1988 08:49:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn trouble_names_the_upstream_and_nothing_else_to_the_client() {
        let failure =
            UpstreamError::new("up", UpstreamErrorKind::Timeout, "https://inner.example: slow");
        let error = Error::from(failure);
        assert_eq!(error.kind, Kind::UpstreamTimeout);
        assert!(error.message.contains("`up`") && !error.message.contains("inner"));
        assert_eq!(error.retry_after, Some(RETRY_AFTER_DEFAULT));
        assert!(error.chain().contains("inner"));
    }

    #[test]
    fn a_wait_that_the_upstream_asks_for_is_passed_on_so_that_cargo_heeds_it() {
        for (kind, status) in
            [(UpstreamErrorKind::Nonsense, 500), (UpstreamErrorKind::Timeout, 504)]
        {
            let wait = Some(Duration::from_secs(7));
            let failure = UpstreamError { retry_after: wait, ..UpstreamError::new("up", kind, "") };
            let error = Error::from(UpstreamError { status: Some(status), ..failure });
            assert_eq!((error.kind, error.retry_after), (Kind::Unavailable, wait), "{status}");
        }
    }
}
