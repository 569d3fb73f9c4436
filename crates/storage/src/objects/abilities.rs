//! What a folder's file system must be able to do. Hard links make the create-only puts on which the
//! journal rests, and a synced folder keeps them when the power goes; some file systems (FAT, exFAT,
//! many network and FUSE mounts) have neither. Asked of the system itself, so that what is missing can
//! be named, before anything is written to stay.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use cratehouse_core::error::{Error, Kind, Refusal, Result};

/// Where it is tried: the folder of the self-test.
const FOLDER: &str = "selftest";

/// Tries a folder. Blocks.
///
/// # Errors
/// [`Kind::Internal`] names what the file system lacks; [`Kind::Unavailable`] when its disk is full,
/// read-only or forbidden.
pub(super) fn check(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    let name = format!("{:016x}-link", rand::random::<u64>());
    let (file, link) = (folder.join(&name), folder.join(format!("{name}ed")));
    let tried = try_all(root, &folder, &file, &link);
    for path in [&file, &link] {
        let _ = fs::remove_file(path); // what is not there need not be
    }
    tried
}

fn try_all(root: &Path, folder: &Path, file: &Path, link: &Path) -> Result<()> {
    let failed = |doing: &'static str| move |e| failed(root, doing, e);
    fs::create_dir_all(folder).map_err(failed("making a folder in it"))?;
    let written = File::create_new(file).map_err(failed("making a file in it"))?;
    written.sync_all().map_err(lacks(root, "sync a file to disk (fsync)"))?;
    fs::hard_link(file, link).map_err(lacks(root, "make a hard link"))?;
    match fs::hard_link(file, link) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => (),
        Err(e) => return Err(lacks(root, "refuse a hard link that exists")(e)),
        Ok(()) => {
            return Err(lacks(root, "refuse a hard link that exists")(io::Error::other(
                "it did not",
            )));
        }
    }
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(lacks(root, "sync a folder to disk (fsync)"))
}

/// Of a call that every store needs and some file systems do not have. "Not permitted" is how Linux says
/// so of hard links.
fn lacks(root: &Path, what: &'static str) -> impl Fn(io::Error) -> Error {
    move |e| match Refusal::of(&e) {
        Some(refusal @ (Refusal::Full | Refusal::ReadOnly)) => {
            Error::refused_by_store(refusal).because(e)
        }
        _ => {
            let text = format!(
                "the store's folder {} cannot hold a registry: its file system cannot {what}, on which the journal rests ({e}). Use a local disk with a file system such as ext4 or XFS, or a bucket",
                whole(root)
            );
            Error::new(Kind::Internal, text)
        }
    }
}

fn failed(root: &Path, doing: &str, e: io::Error) -> Error {
    match Refusal::of(&e) {
        Some(refusal) => Error::refused_by_store(refusal).because(e),
        None => Error::unavailable(format!(
            "the store's folder {} cannot be used: {doing}: {e}",
            whole(root)
        )),
    }
}

fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_disk_is_taken_and_nothing_is_left_on_it() {
        let root = tempfile::tempdir().unwrap();
        check(root.path()).unwrap();
        check(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn what_is_missing_is_named_and_waiting_does_not_mend_it() {
        let of = |kind: io::ErrorKind| lacks(Path::new("/store"), "make a hard link")(kind.into());
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Unsupported] {
            let error = of(kind);
            assert_eq!(error.kind, Kind::Internal);
            assert!(error.message.contains("/store cannot hold a registry"), "{error}");
            assert!(error.message.contains("make a hard link"), "{error}");
            assert!(!error.message.contains("S3"), "{error}");
        }
        assert_eq!(of(io::ErrorKind::StorageFull).kind, Kind::Unavailable);
    }
}
