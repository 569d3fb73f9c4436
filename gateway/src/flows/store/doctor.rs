//! `cratehouse doctor`: a look at all that can be wrong, each with what to do. What is looked at stands in a
//! file of its own, and is judged there without asking anybody.

pub mod certificate;
pub mod clock;
pub mod disk;
pub mod dns;
mod finding;
pub mod policy;
pub mod replicas;
pub mod rights;
pub mod store;
pub mod upstreams;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::finding::{Finding, Gravity};
use crate::config::Config;
use crate::flows::open::{Keep, Running, replica_notes_in};
use crate::gateway::Gateway;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::threads::aside;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::format;
use cratehouse_storage::disk::Disk;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::url::StoreUrl;

/// Looks at everything but the server and the certificate, one thing after another: nothing that fails stops the rest.
///
/// # Errors
/// When the system gives no thread.
pub async fn examine(config: &Arc<Config>) -> Result<Vec<Finding>> {
    looked(config, None).await
}

/// The same within a server, which has read the journal.
///
/// # Errors
/// As [`examine`].
pub async fn examine_running(gateway: &Gateway) -> Result<Vec<Finding>> {
    looked(&gateway.config, Some(gateway)).await
}

async fn looked(config: &Arc<Config>, running: Option<&Gateway>) -> Result<Vec<Finding>> {
    let owned = Arc::clone(config);
    let mut findings = aside(move || rights::look(&owned)).await?;
    findings.extend(disks(config));
    let (store, objects) = store::look(config).await;
    findings.push(store);
    if let Some(objects) = &objects {
        findings.extend(clock_of(objects).await);
        findings.extend(match running {
            Some(gateway) => journal_of(gateway, objects).await,
            None => journal_and_replicas(config, objects).await,
        });
    }
    findings.extend(dns::look(config).await);
    findings.extend(upstreams::look(config).await?);
    findings.extend(policy::look(config, objects.as_ref()).await?);
    Ok(findings)
}

/// Of folders that are there; a statement of the system, which a dead network disk may keep waiting.
fn disks(config: &Config) -> Vec<Finding> {
    let mut folders = vec![("the data folder", config.data.clone())];
    if let StoreUrl::Folder(folder) = &config.store.url {
        folders.push(("the store's folder", folder.clone()));
    }
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new(); // two folders are often on one disk
    for (what, path) in folders {
        let (Ok(disk), Ok(found)) = (Disk::below(&path), fs::metadata(&path)) else { continue };
        if seen.insert(found.dev()) {
            findings.push(disk::judge(what, &path, disk));
        }
    }
    findings
}

async fn clock_of(objects: &Objects) -> Option<Finding> {
    match store::time(objects).await {
        Ok(times) => times.map(|(ours, stores)| clock::judge(ours, stores)),
        Err(e) => Some(Finding::mind("clock", e.chain(), "look at what is said of the store")),
    }
}

/// Reads the journal to its end, as a start does, and the notes of the replicas.
async fn journal_and_replicas(config: &Arc<Config>, objects: &Objects) -> Vec<Finding> {
    let mut without_policy = Config::clone(config); // which is looked at by itself
    (without_policy.policy.dir, without_policy.policy.advisories) = (None, None);
    let url = config.url_for(config.server.listen);
    let running = match Running::open(Arc::new(without_policy), url, Keep::Memory).await {
        Ok(running) => running,
        Err(e) => {
            let cure = "see docs/operations.md for this message; `cratehouse journal verify` says which entries are wrong";
            return vec![Finding::wrong("journal", e.chain(), cure)];
        }
    };
    let level = format::enabled(&running.gateway.journal);
    let head = running.gateway.catalog.head();
    running.close().await;
    let mut findings = Vec::new();
    let path = config.catalog.path.clone();
    let catalog = aside(move || Catalog::registry_in(&path)).await;
    match (head, level) {
        (Ok(head), Ok(level)) => {
            // A server that runs has it open, and then it cannot be looked at.
            if let Ok(Some((_, seq))) = catalog {
                findings.extend(journal_behind(seq, head.seq));
            }
            findings.push(journal_read(head.seq, level));
            findings.extend(notes(objects, level).await);
        }
        (Err(e), _) | (_, Err(e)) => {
            findings.push(Finding::wrong("journal", e.chain(), "look at this process's memory"));
        }
    }
    findings
}

/// The same of a server that follows the journal: its catalog is in use, and compared with nothing.
async fn journal_of(gateway: &Gateway, objects: &Objects) -> Vec<Finding> {
    if let Err(e) = gateway.journal.catch_up().await {
        let cure = "see docs/operations.md for this message; `cratehouse journal verify` says which entries are wrong";
        return vec![Finding::wrong("journal", e.chain(), cure)];
    }
    match gateway.catalog.head() {
        Ok(head) => {
            let mut findings = vec![journal_read(head.seq, head.level)];
            findings.extend(notes(objects, head.level).await);
            findings
        }
        Err(e) => {
            vec![Finding::wrong("journal", e.chain(), "look at this process's memory")]
        }
    }
}

fn journal_read(seq: u64, level: Level) -> Finding {
    let found = format!("read to its end, entry {seq}; format level {level}");
    Finding::fine("journal", found)
}

/// A start over such a store is refused.
fn journal_behind(catalog: u64, journal: u64) -> Option<Finding> {
    (catalog > journal).then(|| {
        let found = format!(
            "the catalog of this replica stands at entry {catalog}, and the store's journal ends with {journal}: the \
             store was set back"
        );
        let cure = "restore a newer backup of the store; if what is missing is lost for good, delete the catalog file (`catalog.path`), and start again";
        Finding::wrong("journal", found, cure)
    })
}

async fn notes(objects: &Objects, level: Level) -> Vec<Finding> {
    match replica_notes_in(objects).all().await.map_err(Error::store) {
        Ok(notes) => replicas::judge(&notes, level, Timestamp::now()),
        Err(e) => {
            let cure = "let this user read `replicas/` in the store";
            vec![Finding::mind("replicas", e.chain(), cure)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_set_back_is_told() {
        assert_eq!(journal_behind(18, 18), None);
        assert_eq!(journal_behind(24, 18).unwrap().gravity, Gravity::Wrong);
    }
}
