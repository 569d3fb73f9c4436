//! What a folder says when it takes nothing for certain: told apart from a store that does not answer,
//! because nobody but an operator can mend it, and waiting cannot.

use std::error::Error as StdError;
use std::io;

/// A symbolic link in a folder store: waiting does not mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LinkFollowed(pub String);

impl LinkFollowed {
    /// The one among an error and its causes, if there is one.
    pub fn in_causes<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = wrapped.map(|inner| inner as &(dyn StdError + 'static)).or(error.source());
        }
        None
    }
}

/// Why a folder refuses. The call that was refused has come to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its disk is full, or a quota is used up.
    Full,
    /// It is mounted read-only.
    ReadOnly,
    /// A file or folder belongs to somebody else.
    Forbidden,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::ReadOnly, Self::Forbidden];

    /// The refusal among an error and its causes, if there is one.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let of_system = error.downcast_ref::<io::Error>();
            if let Some(found) = of_system.and_then(Self::of_io) {
                return Some(found);
            }
            // The source of an `io::Error` that wraps another error is that one's, not itself.
            let wrapped = of_system.and_then(io::Error::get_ref);
            next = wrapped.map(|inner| inner as &(dyn StdError + 'static)).or(error.source());
        }
        None
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Full),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            io::ErrorKind::PermissionDenied => Some(Self::Forbidden),
            _ => None,
        }
    }

    /// Its label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Forbidden => "forbidden",
        }
    }

    /// What is wrong, and what to do.
    pub fn words(self) -> &'static str {
        match self {
            Self::Full => {
                "the disk of the registry's object store is full, or its quota is used up: its operator has to make room"
            }
            Self::ReadOnly => {
                "the disk of the registry's object store is mounted read-only: its operator has to look at it"
            }
            Self::Forbidden => {
                "the registry's user may not read or write a file of its object store: its operator has to look at the owner and mode of the store's folder"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a store wraps what the system said.
    #[derive(Debug, thiserror::Error)]
    #[error("folder")]
    struct Failed(#[source] io::Error);

    #[test]
    fn a_refusal_is_found_among_the_causes_of_an_error() {
        let of =
            |kind: io::ErrorKind| Refusal::of(&Failed(io::Error::other(io::Error::from(kind))));
        assert_eq!(of(io::ErrorKind::StorageFull), Some(Refusal::Full));
        assert_eq!(of(io::ErrorKind::QuotaExceeded), Some(Refusal::Full));
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), Some(Refusal::ReadOnly));
        assert_eq!(of(io::ErrorKind::PermissionDenied), Some(Refusal::Forbidden));
        assert_eq!(of(io::ErrorKind::TimedOut), None);
    }

    #[test]
    fn what_the_system_says_of_a_full_disk_is_known() {
        const NO_SPACE: i32 = 28; // ENOSPC
        let error = Failed(io::Error::from_raw_os_error(NO_SPACE));
        assert_eq!(Refusal::of(&error), Some(Refusal::Full));
    }
}
