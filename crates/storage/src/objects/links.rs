//! Symbolic links in a folder store are never followed: who can make one there could have the server
//! send or overwrite files that are not the store's. The way to an object is walked from the store's
//! folder one name at a time, each looked up in the folder that is open by then, so that nothing can
//! be exchanged in between. The store's folder itself may be reached by a link.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path as FsPath, PathBuf};

use object_store::path::Path;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use cratehouse_core::error::LinkFollowed;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Checks that no link stands on the way to an object, nor in its place. What is absent is no link.
///
/// # Errors
/// Names the link.
pub(super) fn check(root: &FsPath, location: &Path) -> io::Result<()> {
    reached(root, location).map(drop)
}

/// Checks that no link stands on the way to an object. In its place there may be one: a delete takes the
/// link away, and not what it names.
///
/// # Errors
/// Names the link.
pub(super) fn check_way(root: &FsPath, location: &Path) -> io::Result<()> {
    let mut parts: Vec<_> = location.parts().map(|part| part.as_ref().to_owned()).collect();
    parts.pop();
    absent(open_folder(root, &parts), location).map(drop)
}

/// Checks that an open file is the one that is reached without a link.
///
/// # Errors
/// When it is another one.
pub(super) fn check_file(root: &FsPath, location: &Path, file: &File) -> io::Result<()> {
    let found = fstat(file)?;
    match reached(root, location)? {
        Some(stat) if (stat.st_dev, stat.st_ino) == (found.st_dev, found.st_ino) => Ok(()),
        // Overwritten since it was opened: then it is not what a link led to, or absent again.
        Some(_) | None => match found.st_nlink {
            0 => Ok(()),
            _ => Err(refusal(location)),
        },
    }
}

/// What stands at an object's place; `None`: nothing, or not even its folder.
fn reached(root: &FsPath, location: &Path) -> io::Result<Option<Stat>> {
    let mut parts: Vec<_> = location.parts().map(|part| part.as_ref().to_owned()).collect();
    let Some(last) = parts.pop() else { return Ok(None) };
    let Some(folder) = absent(open_folder(root, &parts), location)? else { return Ok(None) };
    let stat = absent(statat(&folder, &last, AtFlags::SYMLINK_NOFOLLOW), location)?;
    match stat {
        Some(stat) if is_link(&stat) => Err(refusal(location)),
        other => Ok(other),
    }
}

fn open_folder(root: &FsPath, parts: &[String]) -> Result<OwnedFd, Errno> {
    let mut folder = openat(CWD, root, FOLDER, Mode::empty())?;
    for part in parts {
        folder = openat(&folder, part, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(folder)
}

fn absent<T>(found: Result<T, Errno>, location: &Path) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        // With NOFOLLOW and DIRECTORY a link is one or the other; so is a file in a folder's place.
        Err(Errno::LOOP | Errno::NOTDIR) => Err(refusal(location)),
        Err(e) => Err(e.into()),
    }
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

fn refusal(location: &Path) -> io::Error {
    io::Error::other(LinkFollowed(format!(
        "{location} in the store's folder is a symbolic link, or lies behind one: links are never followed. Put the file itself there"
    )))
}

/// Which objects of a listing are reached without a link. Folders that were seen are kept open for one
/// listing.
#[derive(Debug)]
pub(super) struct Lister {
    root: PathBuf,
    /// The last folder of objects, and what it is: `None`, behind a link.
    folders: HashMap<Vec<OsString>, Option<OwnedFd>>,
}

/// Folders that one listing keeps open.
const MAX_OPEN: usize = 64;

impl Lister {
    pub(super) fn new(root: &FsPath) -> Self {
        Self { root: root.to_owned(), folders: HashMap::new() }
    }

    /// Whether an object is reached without a link; not, when it is gone meanwhile.
    ///
    /// # Errors
    /// When that cannot be looked at: a listing that leaves something out would hide it.
    pub(super) fn admits(&mut self, location: &Path) -> io::Result<bool> {
        let mut parts: Vec<_> = location.parts().map(|part| part.as_ref().to_owned()).collect();
        let Some(last) = parts.pop() else { return Ok(false) };
        let key: Vec<OsString> = parts.iter().map(OsString::from).collect();
        if !self.folders.contains_key(&key) {
            if self.folders.len() >= MAX_OPEN {
                self.folders.clear();
            }
            let opened = unless_passed_over(open_folder(&self.root, &parts))?;
            self.folders.insert(key.clone(), opened);
        }
        let Some(Some(folder)) = self.folders.get(&key) else { return Ok(false) };
        let stat = statat(folder, &last, AtFlags::SYMLINK_NOFOLLOW);
        Ok(unless_passed_over(stat)?.is_some_and(|stat| !is_link(&stat)))
    }
}

fn unless_passed_over<T>(found: Result<T, Errno>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_left_out_of_a_listing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("there"), "x").unwrap();
        let mut lister = Lister::new(folder.path());
        assert!(lister.admits(&Path::from("there")).unwrap());
        assert!(!lister.admits(&Path::from("gone")).unwrap());
        assert!(!lister.admits(&Path::from("gone/too")).unwrap());
        assert!(!lister.admits(&Path::from("there/below")).unwrap());
        let long = "n".repeat(300); // as any other error: of rights, of the disk, of open files
        assert!(lister.admits(&Path::from(long.as_str())).is_err());
        assert!(lister.admits(&Path::from(format!("{long}/below"))).is_err());
    }
}
