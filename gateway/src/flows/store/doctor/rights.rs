//! Who may read and write what: the folders of the registry, and the keys in them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::finding::Finding;
use crate::config::{Config, Tls};
use cratehouse_storage::url::StoreUrl;

const OTHERS: u32 = 0o077;

/// What is known of a file or folder.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Which.
    pub path: PathBuf,
    /// What it is to us.
    pub what: &'static str,
    /// Whether nobody else should look into it.
    pub is_secret: bool,
    /// Its mode.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// Whether whoever looks may do there what a server has to.
    pub is_usable: bool,
}

/// Looks at all of them that are there. Blocks.
pub fn look(config: &Config) -> Vec<Finding> {
    let mut places = vec![(config.data.clone(), "the data folder", true, Access::WRITE_OK)];
    if let StoreUrl::Folder(folder) = &config.store.url {
        places.push((folder.clone(), "the store's folder", false, Access::WRITE_OK));
    }
    let key = match &config.tls {
        Tls::Files { key, .. } => Some(key.clone()),
        Tls::LocalCa => Some(config.data.join("tls/ca.key")),
        Tls::Off => None,
    };
    places.extend(key.map(|key| (key, "the key", true, Access::READ_OK)));
    let us = geteuid().as_raw();
    let found = places.into_iter().filter_map(|(path, what, is_secret, needed)| {
        let found = fs::metadata(&path).ok()?;
        let is_usable = access(&path, needed).is_ok();
        let (mode, owner) = (found.mode() & 0o7777, found.uid());
        Some(judge(&Rights { path, what, is_secret, mode, owner, is_usable }, us))
    });
    let findings: Vec<_> = found.flatten().collect();
    match findings.is_empty() {
        true => vec![Finding::fine("rights", "folders and keys belong to this user alone")],
        false => findings,
    }
}

/// What is wrong with one of them, seen by user `us`.
pub fn judge(rights: &Rights, us: u32) -> Option<Finding> {
    let Rights { path, what, is_secret, mode, owner, is_usable } = rights;
    let shown = path.display();
    if !is_usable {
        return Some(Finding::wrong(
            "rights",
            format!(
                "user {us} may not use {what} {shown}: it belongs to user {owner}, with mode {mode:04o}"
            ),
            format!(
                "run this as the user of the server (`sudo -u '#{owner}' cratehouse doctor`), or give it to that user (chown)"
            ),
        ));
    }
    if *is_secret && mode & OTHERS != 0 {
        return Some(Finding::mind(
            "rights",
            format!("others than its owner can look into {what} {shown} (mode {mode:04o})"),
            format!("chmod {} {}", if is_folder(path) { "0700" } else { "0600" }, quoted(path)),
        ));
    }
    None
}

fn is_folder(path: &Path) -> bool {
    path.is_dir()
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    fn rights(mode: u32, is_secret: bool, is_usable: bool) -> Option<Finding> {
        let path = PathBuf::from("/d/ca.key");
        judge(&Rights { path, what: "the key", is_secret, mode, owner: 7, is_usable }, 8)
    }

    #[test]
    fn what_others_can_read_or_we_cannot_use_is_told_with_the_command_that_mends_it() {
        assert_eq!(rights(0o600, true, true), None);
        assert_eq!(rights(0o755, false, true), None);
        let open = rights(0o640, true, true).unwrap();
        assert_eq!(
            (open.gravity, open.cure.as_deref()),
            (Gravity::Mind, Some("chmod 0600 '/d/ca.key'"))
        );
        let foreign = rights(0o600, true, false).unwrap();
        assert_eq!(foreign.gravity, Gravity::Wrong);
        assert!(foreign.found.contains("belongs to user 7, with mode 0600"), "{foreign:?}");
    }
}
