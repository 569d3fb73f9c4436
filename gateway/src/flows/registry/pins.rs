//! Looking at the pin of a mirrored version, and correcting it: when an upstream's first answer was
//! the wrong one, or a change of a published version turns out to be right.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::flows::registry::hosting::Hosting;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::times::to_the_second;
use cratehouse_journal::catalog::CorrectedPin;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_mirror::mirror::Mirror;
use cratehouse_mirror::store::Pin;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};

/// A pin, and what stands over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// What the store says.
    pub pin: Pin,
    /// What the journal made of it.
    pub corrected: Option<CorrectedPin>,
}

/// A pin as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// The checksum that was first served.
    pub checksum: Checksum,
    /// When that was.
    pub first_served: Timestamp,
    /// What stands over it.
    pub corrected: Option<Correction>,
}

/// What the journal made of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// The checksum that counts.
    pub checksum: Checksum,
    /// The entry that says so.
    pub entry: u64,
}

/// What a correction stands over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The upstream whose pin it is.
    pub upstream: String,
    /// The checksum that counted until then.
    pub checksum: Checksum,
}

impl From<Pinned> for Listed {
    fn from(pinned: Pinned) -> Self {
        let Pinned { upstream, pin, corrected } = pinned;
        let corrected = corrected.map(|by| Correction { checksum: by.cksum, entry: by.corrected });
        let first_served = to_the_second(pin.first_seen);
        Self { upstream, checksum: pin.cksum, first_served, corrected }
    }
}

impl From<Pinned> for Former {
    fn from(pinned: Pinned) -> Self {
        Self { checksum: pinned.standing(), upstream: pinned.upstream }
    }
}

impl Pinned {
    /// The checksum that counts.
    pub fn standing(&self) -> Checksum {
        self.corrected.map_or(self.pin.cksum, |corrected| corrected.cksum)
    }
}

/// The pins of a mirrored version, one for each upstream that has served it.
///
/// # Errors
/// Absent, when there is none; when the store does not answer.
pub async fn of(
    (mirror, hosting): (&Mirror, &Hosting),
    name: &CrateName,
    version: &CrateVersion,
) -> Result<Vec<Pinned>> {
    let (mut found, mut instead) = (Vec::new(), None);
    for upstream in mirror.upstreams.iter().map(|upstream| upstream.name()) {
        if let Some(pin) = mirror.store.pinned(upstream, name, version).await? {
            let corrected = hosting.catalog.view()?.corrected_pin(upstream, name, version)?;
            found.push(Pinned { upstream: upstream.to_owned(), pin, corrected });
        } else if instead.is_none() {
            let others = mirror.store.pinned_versions(upstream, name).await?;
            instead = others.into_iter().find(|other| other.same_number(version));
        }
    }
    match (found.is_empty(), instead) {
        (false, _) => Ok(found),
        (true, Some(other)) => Err(Error::absent(no_such_version(name, version, Some(&other)))),
        (true, None) => Err(Error::absent(format!(
            "`{name}` {version} has no pin: it was never served here from an upstream of this \
             configuration"
        ))),
    }
}

/// Lets `checksum` stand over the pin of a mirrored version, on every replica, from the entry on
/// that says so. `upstream` must be named where several have a pin. Gives the pin as it was.
///
/// # Errors
/// Absent, when there is no such pin; invalid, when the upstream is not clear, no reason is given,
/// or format level 2 is not enabled.
pub async fn correct(
    (mirror, hosting): (&Mirror, &Hosting),
    by: CommandActor,
    (name, version): (&CrateName, &CrateVersion),
    upstream: Option<&str>,
    checksum: Checksum,
    reason: &str,
) -> Result<Pinned> {
    let pinned = chosen(of((mirror, hosting), name, version).await?, upstream)?;
    let command = Command::CorrectPin {
        upstream: pinned.upstream.clone(),
        krate: name.clone(),
        version: version.clone(),
        pinned: pinned.pin.cksum,
        checksum,
        reason: reason.to_owned(),
    };
    hosting.journal.append(ActorCommand { by, command }).await?;
    warn!(upstream = pinned.upstream, %name, %version, former = %pinned.standing(), %checksum,
        reason, "a pin was corrected by an administrator");
    Ok(pinned)
}

fn chosen(pins: Vec<Pinned>, upstream: Option<&str>) -> Result<Pinned> {
    let names: Vec<_> = pins.iter().map(|pinned| format!("`{}`", pinned.upstream)).collect();
    let matching = |pinned: &Pinned| upstream.is_none_or(|name| name == pinned.upstream);
    let mut matching = pins.into_iter().filter(matching);
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::absent(format!(
            "only these upstreams have a pin of this version: {}",
            names.join(", ")
        ))),
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "several upstreams have a pin of this version: choose one with `--upstream` ({})",
            names.join(", ")
        ))),
    }
}
