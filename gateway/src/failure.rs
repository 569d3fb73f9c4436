//! How a command ends that does not succeed.

use crate::config::Tls;
use crate::http::transport::tls::TlsError;
use cratehouse_core::error::{Error, Kind};

/// Why a command does not succeed.
pub(crate) enum Failure {
    /// What was configured or asked for is wrong, and stays so: [`crate::config::EXIT_CONFIG`].
    Usage(Error),
    /// Something failed: 1.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    /// Files that the configuration names are part of it; a local CA that cannot be made or
    /// used is not.
    pub(crate) fn tls(configured: &Tls, error: &TlsError) -> Self {
        match configured {
            Tls::Files { .. } => {
                Self::Usage(Error::invalid(format!("`tls.cert`, `tls.key`: {error}")))
            }
            _ => Self::Failed(Error::new(Kind::Internal, error.to_string())),
        }
    }

    /// While everything is being opened, what is invalid is the configuration.
    pub(crate) fn opening(error: Error) -> Self {
        match error.kind {
            Kind::Invalid => Self::Usage(error),
            _ => Self::Failed(error),
        }
    }
}
