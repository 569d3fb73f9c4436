//! The version that is meant where a crate is named without one.

use std::sync::Arc;

use crate::flows::registry::lookup::Lookup;
use crate::model::pull::{Subject, Versions};
use cratehouse_core::error::{Error, Result};
use cratehouse_package::lock_file::{Locked, LockedSource};
use cratehouse_package::name::CrateName;
use cratehouse_package::newest::newest as best;

/// The newest version among those that are meant, as the index shows them here: stable and not yanked
/// before all others, so that no version on hold is chosen while there is another.
///
/// # Errors
/// Absent, when there is none; those of the lookup.
pub(super) async fn newest(lookup: &Arc<Lookup>, subject: &Subject) -> Result<Locked> {
    let lower = CrateName::parse(&subject.name.lower()).map_err(Error::invalid)?;
    let Some(file) = lookup.find(&lower).await? else {
        return Err(Error::absent(format!("there is no crate `{}`", subject.name)));
    };
    let meant = file.versions().filter(|listed| subject.versions.have(&listed.version));
    let Some(listed) = best(meant) else {
        let shown = best(file.versions()).map(|listed| listed.version.to_string());
        let shown = shown.map(|newest| format!(": its newest is {newest}")).unwrap_or_default();
        let what = match &subject.versions {
            Versions::All => "has no version",
            _ => "has no such version",
        };
        return Err(Error::absent(format!("the crate `{}` {what}{shown}", subject.name)));
    };
    Ok(Locked {
        name: listed.name.to_string(),
        version: listed.version.to_string(),
        source: LockedSource::Registry,
        registry: None,
        identity: None,
        cksum: None,
    })
}
