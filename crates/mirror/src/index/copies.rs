//! What administrators do with the copies of mirrored crates: ask again, forget, list.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::files::crate_files::CrateFiles;
use crate::index::cache::Outcome;
use crate::index::chain::{Chain, lowered};
use crate::upstream::Upstream;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};
use cratehouse_storage::blobs::Origin;

/// Asks the upstreams now, whatever is fresh. Says what was found.
///
/// # Errors
/// When the name is hosted or reserved here, or an upstream did not answer.
pub async fn refresh(chain: &Arc<Chain>, name: &CrateName) -> Result<String> {
    if chain.is_ours(&name.key())? {
        return Err(Error::invalid(format_args!(
            "`{name}` is hosted or reserved here: its name is never asked of an upstream"
        )));
    }
    let (known, at) = chain.ask_anew(name).await;
    let upstream = chain.upstreams.get(at).map_or("", |upstream| upstream.name());
    if known.outcome == Outcome::Stale {
        return Err(Error::unavailable(format_args!(
            "the upstream `{upstream}` did not answer, so `{name}` stays as it was last seen; the \
             log knows why: try again later"
        )));
    }
    Ok(match known.answer? {
        None => format!("no upstream has a crate `{name}`"),
        Some(file) => {
            let (count, news) = (file.versions().count(), known.outcome);
            let noun = if count == 1 { "version" } else { "versions" };
            let news = if news == Outcome::Revalidated { "unchanged" } else { "new" };
            format!("`{name}` has {count} {noun} at upstream `{upstream}` ({news})")
        }
    })
}

/// Forgets the mirrored copies of a crate (its index files, and the bytes of one or all
/// versions); pins stay.
///
/// # Errors
/// Absent, when only a version of the same number with other build metadata is there; when the
/// store does not answer.
pub async fn purge(
    chain: &Chain,
    files: &CrateFiles,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<String> {
    let name = lowered(name);
    let mut sums = BTreeSet::new();
    for upstream in chain.upstreams.iter() {
        sums.extend(mirrored_checksums(chain, upstream, &name, version).await?);
    }
    if let Some(version) = version.filter(|_| sums.is_empty()) {
        refuse_for_another(chain, &name, version).await?;
    }
    for sum in &sums {
        files.blobs.delete(Origin::Mirrored, sum).await.map_err(Error::store)?;
        files.cache.forget(sum);
    }
    // Last, because they tell the checksums: a purge that fails half-way can be repeated.
    for (at, upstream) in chain.upstreams.iter().enumerate() {
        let _turn = chain.write_behind.turn((upstream.name(), &name)).await;
        chain.store.delete_index(upstream.name(), &name).await?;
        if version.is_none() {
            chain.names.forget(at, &name);
        }
    }
    chain.index.forget(&name.key());
    Ok(format!("forgot the index files of `{name}` and {} crate files at the most", sums.len()))
}

/// A version is meant exactly: nothing is purged for one that only resembles what is there.
async fn refuse_for_another(chain: &Chain, name: &CrateName, version: &CrateVersion) -> Result<()> {
    for upstream in chain.upstreams.iter() {
        let mut known = chain.store.pinned_versions(upstream.name(), name).await?;
        if let Some(kept) = chain.store.index(upstream.name(), name).await? {
            let name = name.clone();
            let read = move || mirrored::read(&kept.body, &name, &OwnRegistries::default());
            let read = chain.index.renderers.make(read).await?;
            known.extend(read.into_iter().flat_map(|read| read.versions).map(|v| v.version));
        }
        if let Some(other) = known.iter().find(|other| other.same_number(version)) {
            return Err(Error::absent(no_such_version(name, version, Some(other))));
        }
    }
    Ok(())
}

/// The checksums under which bytes of a crate may be kept: those of its copy, and those of its
/// pins, for versions that the upstream has removed.
async fn mirrored_checksums(
    chain: &Chain,
    upstream: &Upstream,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<Vec<Checksum>> {
    let wanted = |other: &CrateVersion| version.is_none_or(|version| version == other);
    let mut sums = Vec::new();
    if let Some(kept) = chain.store.index(upstream.name(), name).await? {
        let name = name.clone();
        let read = move || mirrored::read(&kept.body, &name, &OwnRegistries::default());
        let listed = chain.index.renderers.make(read).await?;
        let listed = listed.map(|read| read.versions).unwrap_or_default();
        sums.extend(listed.iter().filter(|v| wanted(&v.version)).map(|v| v.cksum));
    }
    for pinned in chain.store.pinned_versions(upstream.name(), name).await? {
        if wanted(&pinned) {
            let pin = chain.store.pinned(upstream.name(), name, &pinned).await?;
            sums.extend(pin.map(|pin| pin.cksum));
        }
    }
    Ok(sums)
}

/// Every mirrored crate name in the store that was ever asked for and found, in lower case.
///
/// # Errors
/// When the store does not answer.
pub async fn names(chain: &Chain) -> Result<Vec<CrateName>> {
    let mut names = BTreeSet::new();
    for upstream in chain.upstreams.iter() {
        names.extend(chain.store.names(upstream.name()).await?);
    }
    Ok(names.into_iter().collect())
}
