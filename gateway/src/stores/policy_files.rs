//! The folder of policy files.
//!
//! Its `*.toml` files are read, sorted by name; hidden files are not, so that an editor's and
//! Kubernetes' own (`..data`) do not count. Links are followed: a mounted ConfigMap is a folder of
//! links through `..data`, which is turned to a new folder when it changes. A folder that is
//! changed while it is read may give files of both; polling reads it again, since the
//! fingerprint is another then.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cratehouse_core::checksum::Checksum;
use cratehouse_policy::PolicyText;

/// The most policy files in a folder.
const MAX_FILES: usize = 256;
/// The most that all policy files hold together, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The most entries of the folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// The policy files of a folder as they were at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Their texts, by name.
    pub texts: Vec<PolicyText>,
    /// A hash of their names and bytes: as long as it is the same, so are they.
    pub fingerprint: Checksum,
}

/// Why a folder of policy files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFilesError {
    /// The folder or a file could not be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There are too many files.
    #[error("{} has too many files: {MAX_FILES} policy files at most", .0.display())]
    TooMany(PathBuf),
    /// They are too large.
    #[error("the policy files in {} are larger than {MAX_BYTES} bytes together", .0.display())]
    TooLarge(PathBuf),
    /// A file is not text.
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

/// Reads the policy files of a folder. Blocks: run it off the async threads. They are small, and
/// reading them anew every few seconds is how a change is noticed wherever the folder comes from.
///
/// # Errors
/// When the folder, or a policy file in it, cannot be read, or there is too much of them; a folder
/// that is not there is an error too, because a typing error must not allow everything.
pub fn read(folder: &Path) -> Result<PolicyFiles, PolicyFilesError> {
    // Which one is meant depends on where the program was started, and the error has to say that.
    let folder = &std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (mut texts, mut left, mut parts) = (Vec::new(), MAX_BYTES, Vec::new());
    for (name, path) in listed(folder)? {
        let Some(bytes) = content(&path, left)? else { continue };
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| PolicyFilesError::TooLarge(folder.to_owned()))?;
        parts.push((name.clone(), Checksum::of(&bytes).to_string()));
        let text = String::from_utf8(bytes).map_err(|_| PolicyFilesError::NotText(path))?;
        texts.push(PolicyText { name, text });
    }
    let fingerprint = Checksum::of(format!("{parts:?}").as_bytes());
    Ok(PolicyFiles { texts, fingerprint })
}

/// Names and paths of what may be policy files, by name.
fn listed(folder: &Path) -> Result<Vec<(String, PathBuf)>, PolicyFilesError> {
    let unreadable = |error| PolicyFilesError::Unreadable { path: folder.to_owned(), error };
    let mut found = Vec::new();
    for (nth, entry) in fs::read_dir(folder).map_err(unreadable)?.enumerate() {
        let path = entry.map_err(unreadable)?.path();
        if nth >= MAX_ENTRIES {
            return Err(PolicyFilesError::TooMany(folder.to_owned()));
        }
        let Some(name) = path.file_name() else { continue };
        let name = name.to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') {
            found.push((name, path));
        }
    }
    if found.len() > MAX_FILES {
        return Err(PolicyFilesError::TooMany(folder.to_owned()));
    }
    found.sort();
    Ok(found)
}

/// A file's bytes, one more than `most` at the most; `None`: it is a folder.
fn content(path: &Path, most: u64) -> Result<Option<Vec<u8>>, PolicyFilesError> {
    let unreadable = |error| PolicyFilesError::Unreadable { path: path.to_owned(), error };
    let kind = fs::metadata(path).map_err(unreadable)?; // before the open: a pipe would block it
    if !kind.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_toml_files_are_read_by_name_and_nothing_else() {
        let folder = folder(&[
            ("b.toml", "b"),
            ("a.toml", "a"),
            (".hidden.toml", "x"),
            ("..data.toml", "x"),
            ("README.md", "x"),
            ("c.toml~", "x"),
        ]);
        fs::create_dir(folder.path().join("folder.toml")).unwrap();
        let read = read(folder.path()).unwrap();
        let told: Vec<_> = read.texts.iter().map(|t| (t.name.as_str(), t.text.as_str())).collect();
        assert_eq!(told, [("a.toml", "a"), ("b.toml", "b")]);
    }

    #[test]
    fn the_fingerprint_tells_every_change() {
        let folder = folder(&[("a.toml", "ab"), ("b.toml", "c")]);
        let fingerprint = || read(folder.path()).unwrap().fingerprint;
        let first = fingerprint();
        fs::write(folder.path().join("README.md"), "words").unwrap();
        assert_eq!(fingerprint(), first);
        fs::write(folder.path().join("a.toml"), "a").unwrap();
        fs::write(folder.path().join("b.toml"), "bc").unwrap();
        let moved = fingerprint();
        assert_ne!(moved, first);
        fs::rename(folder.path().join("b.toml"), folder.path().join("c.toml")).unwrap();
        assert_ne!(fingerprint(), moved);
    }

    #[cfg(unix)]
    #[test]
    fn a_mounted_config_map_is_read_through_its_links() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        for (version, text) in [("..2026_1", "one"), ("..2026_2", "two")] {
            fs::create_dir(inside(version)).unwrap();
            fs::write(inside(version).join("a.toml"), text).unwrap();
        }
        symlink("..2026_1", inside("..data")).unwrap();
        symlink("..data/a.toml", inside("a.toml")).unwrap();
        let before = read(folder.path()).unwrap();
        assert_eq!((before.texts.len(), before.texts[0].text.as_str()), (1, "one"));
        symlink("..2026_2", inside("..data_tmp")).unwrap();
        fs::rename(inside("..data_tmp"), inside("..data")).unwrap();
        let after = read(folder.path()).unwrap();
        assert_eq!(after.texts[0].text, "two");
        assert_ne!(before.fingerprint, after.fingerprint);
        fs::remove_file(inside("..data")).unwrap();
        let dangling = read(folder.path()).unwrap_err();
        assert!(matches!(dangling, PolicyFilesError::Unreadable { .. }), "{dangling}");
    }

    #[test]
    fn too_much_and_too_little_are_refused() {
        let missing = read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(missing, PolicyFilesError::Unreadable { .. }));
        assert!(read(folder(&[]).path()).unwrap().texts.is_empty());
        let half = "#".repeat(usize::try_from(MAX_BYTES).unwrap() / 2);
        let full = [("a.toml", half.as_str()), ("b.toml", half.as_str())];
        assert!(read(folder(&full).path()).is_ok());
        let over = [full[0], full[1], ("c.toml", "#")];
        let refused = read(folder(&over).path()).unwrap_err();
        assert!(matches!(refused, PolicyFilesError::TooLarge(_)), "{refused}");
        let many: Vec<_> = (0..=MAX_FILES).map(|n| format!("{n}.toml")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
        let refused = read(folder(&many).path()).unwrap_err();
        assert!(matches!(refused, PolicyFilesError::TooMany(_)), "{refused}");
        let binary = tempfile::tempdir().unwrap();
        fs::write(binary.path().join("a.toml"), b"\xff").unwrap();
        assert!(matches!(read(binary.path()), Err(PolicyFilesError::NotText(_))));
    }
}
