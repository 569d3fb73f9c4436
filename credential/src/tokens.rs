//! The tokens of this user, by registry: in the system's key store where one answers, else in the file.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cargo_credential::{
    Action, Credential, CredentialResponse, Error, LoginOptions, Operation, RegistryInfo, Secret,
};

use crate::file::{CredentialsFile, Place};
use crate::key_store;
use crate::words;
use cratehouse_cargo::registry::Registry;

/// Opens the key store: only when it is asked, since that may start it or load its library.
type OpenKeyStore = fn() -> Option<&'static dyn Credential>;

/// A key store may show a prompt, and a person needs time for a password. Where nobody sees the prompt, as in a
/// CI job, cargo must not wait for ever.
const KEY_STORE_TIMEOUT: Duration = Duration::from_secs(120);

/// The tokens of this user.
#[derive(Debug)]
pub(crate) struct Tokens {
    file: CredentialsFile,
    key_store: OpenKeyStore,
    key_store_timeout: Duration,
}

/// What the key store is asked.
enum Question {
    Get,
    Login(Secret<String>),
    Logout,
}

impl Tokens {
    /// Those of the user that runs this.
    ///
    /// # Errors
    /// When there is no place for them.
    pub(crate) fn of_this_user() -> Result<Self, String> {
        let folder = config_folder(|name| std::env::var_os(name).map(Into::into)).ok_or(
            "there is no place for tokens: set the environment variable HOME or XDG_CONFIG_HOME to a folder",
        )?;
        Ok(Self::new(CredentialsFile::in_folder(folder), key_store::of_this_system))
    }

    /// Those of this file and of this key store.
    pub(crate) fn new(file: CredentialsFile, key_store: OpenKeyStore) -> Self {
        Self { file, key_store, key_store_timeout: KEY_STORE_TIMEOUT }
    }

    /// Whether somebody logged in there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn know(&self, registry: &Registry) -> Result<bool, String> {
        Ok(self.file.read()?.registries.contains_key(registry))
    }

    /// The token for this registry, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or the key store that has it does not answer.
    pub(crate) fn of(&self, registry: &Registry) -> Result<Option<Secret<String>>, String> {
        match self.file.read()?.registries.remove(registry) {
            None => Ok(None),
            Some(Place::File { token, .. }) => Ok(Some(token.into())),
            Some(Place::KeyStore) => self.in_key_store(registry).map_err(|why| {
                format!(
                    "the token for {registry} is in the system's key store, which does not give it here ({why}): \
                     unlock it, or run `cargo login` in this session"
                )
            }),
        }
    }

    fn in_key_store(&self, registry: &Registry) -> Result<Option<Secret<String>>, String> {
        match self.ask_key_store(registry, Question::Get).unwrap_or(Err("there is none".into())) {
            Ok(CredentialResponse::Get { token, .. }) => Ok(Some(token)),
            Ok(_) => Err("it gives another answer than was asked for".to_owned()),
            Err(Error::NotFound) => Err("it has no such token".to_owned()),
            Err(e) => Err(shown(&e)),
        }
    }

    /// Keeps a token, and says where it is.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(crate) fn keep(&self, registry: &Registry, token: &str) -> Result<String, String> {
        let stored = self.ask_key_store(registry, Question::Login(token.to_owned().into()));
        let path = self.file.path();
        let told = match &stored {
            Some(Ok(_)) => "the system's key store".to_owned(),
            Some(Err(e)) => format!(
                "{}, which only you can read (no key store here: {})",
                path.display(),
                shown(e)
            ),
            None => format!("{}, which only you can read", path.display()),
        };
        self.file.update(|known| {
            let place = match stored {
                Some(Ok(_)) => Place::KeyStore,
                _ => Place::here(token, known.registries.get(registry)),
            };
            known.registries.insert(registry.clone(), place);
            true
        })?;
        Ok(told)
    }

    /// Forgets the token for this registry, and the registry; false: it was not known.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn forget(&self, registry: &Registry) -> Result<bool, String> {
        let mut was = None;
        if self.know(registry)? {
            self.file.update(|known| {
                was = known.registries.remove(registry);
                was.is_some()
            })?;
        }
        if was.as_ref().is_some_and(Place::is_in_key_store)
            && let Err(e) = self
                .ask_key_store(registry, Question::Logout)
                .unwrap_or(Err("there is none".into()))
        {
            words::tell(&format!(
                "the key store does not answer ({}): the entry \"cargo-registry:{registry}\" stays in it until you \
                 delete it there",
                shown(&e)
            ));
        }
        Ok(was.is_some())
    }

    /// `None`: there is none. It may show a prompt that nobody sees, so the answer is not waited for without an
    /// end: the thread that does ends with this process.
    fn ask_key_store(
        &self,
        registry: &Registry,
        question: Question,
    ) -> Option<Result<CredentialResponse, Error>> {
        let (open, registry) = (self.key_store, registry.clone());
        let (answers, answer) = mpsc::channel();
        thread::spawn(move || answers.send(open().map(|store| ask(store, &registry, question))));
        answer.recv_timeout(self.key_store_timeout).unwrap_or_else(|_| {
            let seconds = self.key_store_timeout.as_secs();
            Some(Err(format!("it did not answer within {seconds} seconds").into()))
        })
    }
}

/// Asks a key store. Its entries are found by this URL: one for both indexes, and none of cargo's own.
fn ask(
    store: &dyn Credential,
    registry: &Registry,
    question: Question,
) -> Result<CredentialResponse, Error> {
    let entry = RegistryInfo { index_url: registry.url(), name: None, headers: Vec::new() };
    let token; // the action has it by reference
    let action = match question {
        Question::Get => Action::Get(Operation::Read),
        Question::Logout => Action::Logout,
        Question::Login(given) => {
            token = given;
            let token = Some(token.as_ref().map(String::as_str));
            Action::Login(LoginOptions { token, login_url: None })
        }
    };
    store.perform(&entry, &action, &[])
}

/// The error and its causes on one line.
fn shown(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    let mut words: Vec<_> = chain.map(ToString::to_string).collect();
    words.dedup();
    words::plain(&words.join(": "))
}

/// `$XDG_CONFIG_HOME/cratehouse` (XDG Base Directory Specification: a relative one does not count), and
/// on Windows the folder of the user's configuration.
fn config_folder(
    variable: impl Fn(&str) -> Option<std::path::PathBuf>,
) -> Option<std::path::PathBuf> {
    let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    let system = variable(if cfg!(windows) { "APPDATA" } else { "XDG_CONFIG_HOME" });
    let config = system
        .filter(|folder| folder.is_absolute())
        .or_else(|| Some(variable(home).filter(|home| home.is_absolute())?.join(".config")))?;
    Some(config.join("cratehouse"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;

    /// The one key store of these tests: entries by their URLs.
    static ENTRIES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

    struct Fake;

    impl Credential for Fake {
        fn perform(
            &self,
            registry: &RegistryInfo<'_>,
            action: &Action<'_>,
            _args: &[&str],
        ) -> Result<CredentialResponse, Error> {
            let mut entries = ENTRIES.lock().unwrap();
            let at = entries.iter().position(|(url, _)| url == registry.index_url);
            match action {
                Action::Get(_) => Ok(CredentialResponse::Get {
                    token: entries[at.ok_or(Error::NotFound)?].1.clone().into(),
                    cache: cargo_credential::CacheControl::Session,
                    operation_independent: true,
                }),
                Action::Login(options) => {
                    let token = options.token.as_ref().unwrap().to_owned().expose();
                    entries.push((registry.index_url.to_owned(), token));
                    Ok(CredentialResponse::Login)
                }
                _ => {
                    entries.remove(at.unwrap());
                    Ok(CredentialResponse::Logout)
                }
            }
        }
    }

    /// One whose prompt nobody sees.
    struct Silent;

    impl Credential for Silent {
        fn perform(
            &self,
            _registry: &RegistryInfo<'_>,
            _action: &Action<'_>,
            _args: &[&str],
        ) -> Result<CredentialResponse, Error> {
            loop {
                thread::park();
            }
        }
    }

    struct Locked;

    impl Credential for Locked {
        fn perform(
            &self,
            _registry: &RegistryInfo<'_>,
            _action: &Action<'_>,
            _args: &[&str],
        ) -> Result<CredentialResponse, Error> {
            Err("the collection is locked".into())
        }
    }

    fn registry(host: &str) -> Registry {
        Registry::written(&format!("https://{host}")).unwrap()
    }

    fn tokens(folder: &tempfile::TempDir, key_store: OpenKeyStore) -> Tokens {
        Tokens::new(CredentialsFile::in_folder(folder.path().to_owned()), key_store)
    }

    #[test]
    fn without_a_key_store_they_are_in_the_file() {
        for key_store in [(|| None) as OpenKeyStore, || Some(&Locked)] {
            let folder = tempfile::tempdir().unwrap();
            let tokens = tokens(&folder, key_store);
            let acme = registry("acme.example");
            assert!(!tokens.know(&acme).unwrap() && tokens.of(&acme).unwrap().is_none());
            let place = tokens.keep(&acme, "crh_1").unwrap();
            assert!(place.contains("credentials.json"), "{place}");
            assert_eq!(place.contains("is locked"), key_store().is_some(), "{place}");
            assert_eq!(tokens.of(&acme).unwrap().unwrap().expose(), "crh_1");
            assert!(!tokens.know(&registry("other.example")).unwrap());
            assert!(tokens.forget(&acme).unwrap() && !tokens.forget(&acme).unwrap());
            assert!(!tokens.know(&acme).unwrap());
            assert!(!std::fs::read_to_string(tokens.file.path()).unwrap().contains("crh_1"));
        }
    }

    #[test]
    fn with_a_key_store_the_file_only_names_the_registry() {
        let folder = tempfile::tempdir().unwrap();
        let acme = registry("stored.example");
        tokens(&folder, || None).keep(&acme, "crh_old").unwrap();
        let tokens = tokens(&folder, || Some(&Fake));
        assert_eq!(tokens.keep(&acme, "crh_1").unwrap(), "the system's key store");
        let text = std::fs::read_to_string(tokens.file.path()).unwrap();
        assert!(text.contains("stored.example") && !text.contains("crh_"), "{text}");
        assert_eq!(tokens.of(&acme).unwrap().unwrap().expose(), "crh_1");
        assert!(tokens.forget(&acme).unwrap());
        assert!(ENTRIES.lock().unwrap().iter().all(|(url, _)| url != acme.url()));
    }

    #[test]
    fn a_key_store_that_does_not_give_a_token_is_told_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let acme = registry("away.example");
        tokens(&folder, || Some(&Fake)).keep(&acme, "crh_1").unwrap();
        for key_store in [(|| None) as OpenKeyStore, || Some(&Locked)] {
            let why = tokens(&folder, key_store).of(&acme).unwrap_err();
            assert!(why.contains("away.example") && why.contains("cargo login"), "{why}");
        }
        // Over ssh, say: from then on the file has it for both.
        tokens(&folder, || Some(&Locked)).keep(&acme, "crh_2").unwrap();
        let both = tokens(&folder, || Some(&Fake));
        assert_eq!(both.of(&acme).unwrap().unwrap().expose(), "crh_2");
    }

    #[test]
    fn a_key_store_that_does_not_answer_is_not_waited_for_without_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let acme = registry("silent.example");
        tokens(&folder, || Some(&Fake)).keep(&acme, "crh_1").unwrap();
        let silent = Tokens {
            key_store_timeout: Duration::from_millis(1),
            ..tokens(&folder, || Some(&Silent))
        };
        let why = silent.of(&acme).unwrap_err();
        assert!(why.contains("did not answer within 0 seconds"), "{why}");
        let place = silent.keep(&acme, "crh_2").unwrap();
        assert!(place.contains("credentials.json"), "{place}");
        assert_eq!(silent.of(&acme).unwrap().unwrap().expose(), "crh_2");
        let entries = || {
            let entries = ENTRIES.lock().unwrap();
            entries.iter().filter(|(url, _)| url == acme.url()).count()
        };
        assert_eq!(entries(), 1);
        assert!(tokens(&folder, || Some(&Fake)).forget(&acme).unwrap());
        assert_eq!(entries(), 0, "the former token is forgotten too");
    }

    #[cfg(unix)]
    #[test]
    fn they_are_in_the_users_configuration() {
        let with = |pairs: &[(&str, &str)]| {
            config_folder(|name| Some(pairs.iter().find(|(n, _)| *n == name)?.1.into()))
        };
        let home = ("HOME", "/home/alice");
        assert_eq!(with(&[home]), Some(PathBuf::from("/home/alice/.config/cratehouse")));
        assert_eq!(with(&[home, ("XDG_CONFIG_HOME", "/c")]), Some("/c/cratehouse".into()));
        assert_eq!(
            with(&[home, ("XDG_CONFIG_HOME", "c")]),
            Some("/home/alice/.config/cratehouse".into())
        );
        assert_eq!(with(&[]), None);
    }
}
