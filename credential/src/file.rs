//! The file in which this user's registries stand, with their tokens where no key store has them. Only its
//! owner can read it: mode 0600, in a folder of mode 0700. It is replaced as a whole, by a rename.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use cratehouse_cargo::registry::Registry;

const FILE: &str = "credentials.json";
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// How often the lock is tried, and the time between: ten seconds in all.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The registries that are known, and where the token of each is.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// By their URLs.
    pub(crate) registries: BTreeMap<Registry, Place>,
}

/// Where a token is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "kebab-case")]
pub(crate) enum Place {
    /// In the system's key store.
    KeyStore,
    /// Here.
    File {
        /// The token.
        token: String,
        /// Whether the key store has a former one, which could not be replaced.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        former_in_key_store: bool,
    },
}

/// The file, which need not be there.
#[derive(Debug)]
pub(crate) struct CredentialsFile {
    folder: PathBuf,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::KeyStore => "KeyStore",
            Place::File { .. } => "File", // and nothing of the token
        })
    }
}

impl Place {
    /// In the file, in place of a former one.
    pub(crate) fn here(token: &str, former: Option<&Self>) -> Self {
        let former_in_key_store = former.is_some_and(Self::is_in_key_store);
        Self::File { token: token.to_owned(), former_in_key_store }
    }

    /// Whether the key store has this token, or a former one.
    pub(crate) fn is_in_key_store(&self) -> bool {
        matches!(self, Self::KeyStore | Self::File { former_in_key_store: true, .. })
    }
}

impl CredentialsFile {
    /// That in this folder.
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What stands in it; nothing, where there is none.
    ///
    /// # Errors
    /// When it cannot be read or understood, or others can read it.
    pub(crate) fn read(&self) -> Result<Known, String> {
        let path = self.path();
        let mut file = match open_unless_it_waits(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Known::default()),
            Err(e) => return Err(format!("{} cannot be read: {e}", path.display())),
        };
        private(&file, &path)?;
        let mut text = String::new();
        let read = (&mut file).take(MAX_BYTES).read_to_string(&mut text);
        read.map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| {
            let path = path.display();
            format!("{path} cannot be understood ({e}): delete it, and log in again")
        })
    }

    /// Changes what stands in it, if `change` says that it did. One process at a time does.
    ///
    /// # Errors
    /// As [`Self::read`], and when it cannot be written: then it is as it was.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Known) -> bool) -> Result<(), String> {
        let failed = |e: io::Error| format!("{} cannot be written: {e}", self.path().display());
        self.make_folder().map_err(failed)?;
        let path = self.folder.join("lock");
        if path.exists() {
            open_unless_it_waits(&path).map_err(failed)?;
        }
        let lock = private_file(&path, OpenOptions::new().create(true).write(true));
        let lock = lock.map_err(failed)?;
        self.wait_for(&lock).map_err(failed)?; // it is held until it is closed
        let mut known = self.read()?;
        if change(&mut known) {
            let text = serde_json::to_string_pretty(&known).map_err(|e| failed(e.into()))?;
            self.replace(&format!("{text}\n")).map_err(failed)?;
        }
        Ok(())
    }

    /// Others hold it for a moment; one that was stopped in that moment, for ever.
    #[expect(clippy::disallowed_methods, reason = "nothing is async here")]
    fn wait_for(&self, lock: &File) -> io::Result<()> {
        for _ in 0..LOCK_TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
        let text = format!("another process holds {}", self.folder.join("lock").display());
        Err(io::Error::new(io::ErrorKind::WouldBlock, text))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.folder.join(format!("{FILE}.new"));
        let _ = fs::remove_file(&new); // of one that was killed
        let mut file = private_file(&new, OpenOptions::new().create_new(true).write(true))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path())
    }

    fn make_folder(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder)?;
        #[cfg(unix)]
        fs::set_permissions(&self.folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(())
    }
}

/// A named pipe in its place would be waited for without an end.
fn open_unless_it_waits(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(io::Error::other("it is no file"))
}

fn private_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Refuses a file that others can read. Elsewhere than on Unix the user's folder keeps them out.
fn private(file: &File, path: &Path) -> Result<(), String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode =
            file.metadata().map_err(|e| format!("{}: {e}", path.display()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "other users can read {path} (mode {:04o}): run `chmod 600 {path}`, and have its tokens revoked \
                 if somebody may have seen them",
                mode & 0o7777,
                path = path.display(),
            ));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn acme() -> Registry {
        Registry::written("https://crates.acme.example").unwrap()
    }

    fn with_token(file: &CredentialsFile, token: &str) -> Result<(), String> {
        let place = Place::here(token, None);
        file.update(|known| known.registries.insert(acme(), place.clone()).as_ref() != Some(&place))
    }

    #[test]
    fn it_and_its_folder_are_their_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let file = CredentialsFile::in_folder(root.path().join("config/cratehouse"));
        assert_eq!(file.read().unwrap(), Known::default());
        assert!(!root.path().join("config").exists());
        with_token(&file, "crh_1").unwrap();
        assert_eq!((mode(&file.path()), mode(&file.folder)), (0o600, 0o700));
        fs::set_permissions(&file.folder, fs::Permissions::from_mode(0o755)).unwrap();
        with_token(&file, "crh_2").unwrap();
        assert_eq!((mode(&file.path()), mode(&file.folder)), (0o600, 0o700));
        let known = file.read().unwrap();
        assert_eq!(known.registries.get(&acme()), Some(&Place::here("crh_2", None)));
        assert!(!format!("{known:?}").contains("crh_2"));
    }

    #[test]
    fn one_that_others_can_read_is_refused_with_the_cure() {
        let root = tempfile::tempdir().unwrap();
        let file = CredentialsFile::in_folder(root.path().to_owned());
        with_token(&file, "crh_1").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let why = file.read().unwrap_err();
        assert!(why.contains("0640") && why.contains("chmod 600"), "{why}");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(file.read().unwrap().registries.len(), 1);
    }

    #[test]
    fn nothing_is_waited_for_without_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialsFile::in_folder(folder.path().to_owned());
        for name in ["lock", FILE] {
            let path = folder.path().join(name);
            let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
            assert!(made.unwrap().success());
            let why = file.update(|_| true).unwrap_err();
            assert!(why.contains("it is no file"), "{why}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way_and_a_broken_file_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = CredentialsFile::in_folder(root.path().to_owned());
        fs::write(root.path().join("credentials.json.new"), "half").unwrap();
        with_token(&file, "crh_1").unwrap();
        assert!(!root.path().join("credentials.json.new").exists());
        fs::write(file.path(), "{").unwrap();
        assert!(with_token(&file, "crh_2").unwrap_err().contains("log in again"));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "{");
    }
}
