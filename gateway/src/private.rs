//! What the process makes is its owner's alone: folders 0700 and files 0600, whatever the umask. What
//! is there already keeps its mode.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::config::Config;
use cratehouse_storage::url::StoreUrl;
use rustix::fs::Mode;

/// Nobody else reads or writes it.
const OWNER_ALONE: u32 = 0o077;
/// The same, but for the group.
const WITH_GROUP: u32 = 0o007;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS: u32 = 0o077;

/// Sets the mask of the process. A store's folder that was made by hand for a group to write into is
/// shared on purpose: what is put there must be for the group, too.
///
/// The data folder is the owner's alone even then: it has the catalog and keys. So it is made here, if it is
/// not there.
pub(crate) fn keep(config: &Config) {
    let shared = match &config.store.url {
        StoreUrl::Folder(path) => {
            // What everybody may write into, such as a bare mount point, is shared with no group.
            mode_of(path).is_some_and(|mode| mode & (GROUP_WRITES | OTHERS_WRITE) == GROUP_WRITES)
        }
        _ => false,
    };
    if shared {
        // Trouble with it is told by whoever puts something there.
        let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
    }
    let mask = if shared { WITH_GROUP } else { OWNER_ALONE };
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// What to say of a data folder that was there before, and that others can look into.
pub(crate) fn complaint(data: &Path) -> Option<String> {
    let mode = mode_of(data)?;
    (mode & OTHERS != 0).then(|| {
        format!(
            "others can look into the data folder {} (mode {:04o}), where the catalog and keys are: \
             chmod 0700 it",
            data.display(),
            mode & 0o7777
        )
    })
}

fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode())
}
