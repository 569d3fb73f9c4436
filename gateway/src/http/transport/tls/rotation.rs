//! Certificates that are replaced while they are served. New handshakes see the new one; open
//! connections, and tickets of sessions, do not notice. What is on disk is compared by what it
//! says: Kubernetes swaps a link to a folder, and changes no file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::local_ca::{self, RENEW_DAYS, days};
use super::{Prepared, Source, Texts, TlsError, facts};
use crate::config::Tls;
use crate::flows::reread::Reread;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::aside_in_time;

/// How often a certificate of the local CA is looked at.
const LOCAL_CA_EVERY: Duration = Duration::from_secs(3600);

/// What handshakes show at the moment.
#[derive(Debug)]
pub(super) struct CertificateInUse(RwLock<Pair>);

/// A certificate that is shown, or would be.
#[derive(Debug, Clone)]
struct Pair {
    key: Arc<CertifiedKey>,
    ends: Timestamp,
    /// The files that it is from.
    texts: Checksum,
}

/// Looks for another certificate now and then.
#[derive(Debug)]
pub struct Rotation {
    in_force: Arc<CertificateInUse>,
    source: Source,
    every: Duration,
    /// The failure that was told last, if it is not over.
    told: Mutex<Option<String>>,
    metrics: Metrics,
}

impl CertificateInUse {
    pub(super) fn new(key: CertifiedKey, ends: Timestamp, texts: Checksum) -> Self {
        Self(RwLock::new(Pair { key: Arc::new(key), ends, texts }))
    }

    fn pair(&self) -> Pair {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, pair: Pair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }
}

impl ResolvesServerCert for CertificateInUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

impl Rotation {
    /// Of what was prepared as configured.
    pub fn of(prepared: &Prepared, configured: &Tls, metrics: Metrics) -> Self {
        let every = match configured {
            Tls::Files { reload, .. } => *reload,
            Tls::Off | Tls::LocalCa => LOCAL_CA_EVERY,
        };
        let (in_force, source) = (Arc::clone(&prepared.in_force), prepared.source.clone());
        metrics.certificate_ends.set(prepared.ends.as_second());
        Self { in_force, source, every, told: Mutex::default(), metrics }
    }

    /// Looks until told to stop, and whenever somebody asks.
    pub async fn watch(self, mut reread: Reread, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut look = interval(this.every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reread.asked() => (),
                _ = look.tick() => (),
            }
            let this = Arc::clone(&this);
            if let Err(e) = aside_in_time(move || this.look(Timestamp::now())).await {
                error!(error = %e, "looking at the certificate crashed; it stays in force");
            }
        }
    }

    /// Takes what is there now, if it is another one and any good. Blocks.
    fn look(&self, now: Timestamp) {
        let found = self.source.newer(&self.in_force.pair(), now);
        self.metrics.certificate_broken.set(found.is_err().into());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(None) => *told = None,
            Ok(Some(pair)) => {
                *told = None;
                info!(ends = %pair.ends, "the certificate was replaced");
                self.metrics.certificate_ends.set(pair.ends.as_second());
                self.metrics.certificate_reloads.inc();
                self.in_force.replace(pair);
            }
            Err(e) => {
                let why = e.to_string();
                if told.as_ref() != Some(&why) {
                    warn!(
                        error = why,
                        "there is no good certificate; the one before stays in force"
                    );
                    *told = Some(why);
                }
            }
        }
    }
}

impl Source {
    /// What should be in force instead; `None` when that is the right one.
    ///
    /// # Errors
    /// Files that are missing or broken, do not belong together, or are not of today.
    fn newer(&self, in_force: &Pair, now: Timestamp) -> Result<Option<Pair>, TlsError> {
        match self {
            Self::Files { cert, key } => of_files(cert, key, in_force, now),
            Self::LocalCa { .. } if in_force.ends >= now + days(RENEW_DAYS) => Ok(None),
            Self::LocalCa { folder, names } => {
                local_ca::prepare(folder, names, now).map(|made| Some(made.in_force.pair()))
            }
        }
    }
}

fn of_files(
    cert: &Path,
    key: &Path,
    in_force: &Pair,
    now: Timestamp,
) -> Result<Option<Pair>, TlsError> {
    let files = Texts::read(cert, key)?;
    let texts = files.fingerprint();
    let ended = |ends| TlsError::Ended { cert: cert.to_owned(), ends };
    if texts == in_force.texts {
        return if in_force.ends > now { Ok(None) } else { Err(ended(in_force.ends)) };
    }
    let pair = files.pair(cert, key)?;
    let facts = facts(&pair).ok_or_else(|| TlsError::Certificate(cert.to_owned()))?;
    if facts.ends <= now {
        return Err(ended(facts.ends));
    }
    if facts.begins > now {
        return Err(TlsError::NotYet { cert: cert.to_owned(), begins: facts.begins });
    }
    Ok(Some(Pair { key: Arc::new(pair), ends: facts.ends, texts }))
}

#[cfg(test)]
mod tests;
