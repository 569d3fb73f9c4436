//! The one error of everything above: what kind of failure, what the client is told, and what
//! caused it. The gateway's `http/response/respond.rs` alone turns a kind into a status.

mod refusal;
pub mod store_answer;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::refusal::{LinkFollowed, Refusal};
use crate::excerpt;

/// What went wrong, in a form that can be shared by all who waited for the same thing.
#[derive(Debug, Clone)]
pub struct Error {
    /// What kind of failure.
    pub kind: Kind,
    /// What the client reads: one or two sentences that say what to do. No secret, no path.
    pub message: String,
    /// When to try again, where that helps.
    pub retry_after: Option<Duration>,
    /// What the log tells beside it.
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is, by what the client can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong, and stays so.
    Invalid,
    /// The request is too large.
    TooLarge,
    /// The request came too slowly.
    TooSlow,
    /// Nobody, or a token that does not count.
    Unauthenticated,
    /// Somebody who may not.
    Forbidden,
    /// There is no such thing.
    Absent,
    /// The method does not fit the URL.
    MethodNotAllowed,
    /// Asked too much; later.
    Throttled,
    /// Not now; later.
    Unavailable,
    /// An upstream answered nonsense, or bytes that are not what its index says.
    BadUpstream,
    /// An upstream did not answer in time.
    UpstreamTimeout,
    /// Our own fault.
    Internal,
}

/// The usual shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with the sentence for the client. Here alone foreign words in it become safe
    /// to show, and bounded ([`excerpt::message`]).
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = excerpt::message(message.into());
        Self { kind, message, retry_after: None, source: None }
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds what the log should tell.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The request is wrong: [`Kind::Invalid`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message.to_string())
    }

    /// [`Kind::Absent`].
    pub fn absent(message: impl fmt::Display) -> Self {
        Self::new(Kind::Absent, message.to_string())
    }

    /// [`Kind::Forbidden`].
    pub fn forbidden(message: impl fmt::Display) -> Self {
        Self::new(Kind::Forbidden, message.to_string())
    }

    /// [`Kind::Unavailable`], to be tried again in a few seconds.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, message.to_string()).retry_after(Duration::from_secs(5))
    }

    /// [`Kind::Internal`]; the client learns nothing more.
    pub fn internal(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(
            Kind::Internal,
            "something went wrong inside the registry; its log knows more under this request id",
        )
        .because(source)
    }

    /// The object store failed: [`Kind::Unavailable`].
    pub fn store(source: impl StdError + Send + Sync + 'static) -> Self {
        if let Some(link) = LinkFollowed::in_causes(&source) {
            return Self::new(Kind::Internal, link.to_string());
        }
        match Refusal::of(&source) {
            Some(refusal) => Self::refused_by_store(refusal).because(source),
            None => {
                Self::unavailable("the registry's object store does not answer; try again shortly")
                    .because(source)
            }
        }
    }

    /// The object store takes nothing, for certain, until an operator has looked:
    /// [`Kind::Unavailable`], since the client can do no more than ask later.
    pub fn refused_by_store(refusal: Refusal) -> Self {
        let retry_after = Duration::from_secs(60);
        Self::new(Kind::Unavailable, refusal.words()).retry_after(retry_after)
    }

    /// The error and its causes in one line, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source.as_ref().map(|s| s.as_ref() as &dyn StdError);
        while let Some(error) = next {
            let said = error.to_string();
            let said = store_answer::brief(&said);
            // Some tell their own source too.
            if !text.contains(said.as_ref()) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = error.source();
        }
        excerpt::message(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}
