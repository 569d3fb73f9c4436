//! What cargo's configuration says of HTTP and of registries, read as cargo reads it: the environment, then `.cargo/config.toml`
//! in this folder and in those above it, then that in cargo's home (Cargo book, "Configuration"). What stands
//! on cargo's command line (`--config`) is not told to us. Tokens stand in `credentials.toml` of cargo's home, or in a variable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What of it concerns us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CargoConfig {
    /// `http.cainfo`: the file with the CAs that are trusted in place of the system's.
    pub cainfo: Option<PathBuf>,
    /// `http.proxy`: before the variables such as `HTTPS_PROXY`.
    pub proxy: Option<String>,
    /// `registries.<name>.index`, by name.
    pub registries: BTreeMap<String, String>,
    /// Cargo's own folder, in which its credentials are.
    pub home: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    http: Table,
    registries: BTreeMap<String, RegistryTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryTable {
    index: Option<String>,
}

/// The file `credentials.toml`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Credentials {
    registries: BTreeMap<String, Credential>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Credential {
    token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Table {
    cainfo: Option<PathBuf>,
    proxy: Option<String>,
}

impl CargoConfig {
    /// What holds in this process's folder and environment.
    ///
    /// # Errors
    /// When a file of configuration cannot be read.
    pub fn of_this_process() -> Result<Self, String> {
        let here =
            std::env::current_dir().map_err(|e| format!("this folder cannot be read: {e}"))?;
        Self::read(&here, |name| std::env::var_os(name))
    }

    fn read(here: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = set("CARGO_HOME").map(|home| here.join(home));
        let home = home.or_else(|| {
            let user = set(if cfg!(windows) { "USERPROFILE" } else { "HOME" })?;
            Some(PathBuf::from(user).join(".cargo"))
        });
        let mut config = Self {
            registries: BTreeMap::new(),
            home: home.clone(),
            cainfo: set("CARGO_HTTP_CAINFO").map(|path| here.join(path)),
            proxy: set("CARGO_HTTP_PROXY").and_then(|proxy| proxy.into_string().ok()),
        };
        let above = here.ancestors().map(|folder| folder.join(".cargo"));
        for folder in above.chain(home) {
            config.fill_from(&folder)?;
        }
        Ok(config)
    }

    /// The token in the variable of a registry with such an index, as cargo names it
    /// (`CARGO_REGISTRIES_<NAME>_TOKEN`); cargo itself has it for that registry alone, and for no source.
    pub fn token_of(
        &self,
        is_index: impl Fn(&str) -> bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Option<String> {
        let mut tokens =
            self.named(is_index, &variable).filter_map(|name| of(&variable, name, "TOKEN"));
        tokens.find(|token| !token.is_empty())
    }

    /// The token that cargo's own credentials have for a registry with such an index: the file that `cargo login`
    /// writes where no credential provider is configured.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn kept_token_of(
        &self,
        is_index: impl Fn(&str) -> bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<String>, String> {
        let Some(home) = &self.home else { return Ok(None) };
        // Where both are there, cargo reads the one without an ending.
        let files = ["credentials", "credentials.toml"].map(|name| home.join(name));
        let Some(path) = files.into_iter().find(|path| path.is_file()) else { return Ok(None) };
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
        // What is wrong in it is not told: it may be a part of a token.
        let kept: Credentials = toml::from_str(&text)
            .map_err(|_| format!("{} cannot be read: it is not TOML of cargo's", path.display()))?;
        let mut named = self.named(is_index, &variable);
        let token = named.find_map(|name| kept.registries.get(name)?.token.clone());
        Ok(token.filter(|token| !token.is_empty()))
    }

    /// The names of the registries with such an index.
    fn named<'a>(
        &'a self,
        is_index: impl Fn(&str) -> bool + 'a,
        variable: &'a impl Fn(&str) -> Option<OsString>,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let ours = self.registries.iter().filter(move |(name, index)| {
            is_index(&of(variable, name, "INDEX").unwrap_or_else(|| (*index).clone()))
        });
        ours.map(|(name, _)| name.as_str())
    }

    /// A key that stands nearer has the last word.
    fn fill_from(&mut self, folder: &Path) -> Result<(), String> {
        // Where both are there, cargo reads the one without an ending.
        let names = ["config", "config.toml"].map(|name| folder.join(name));
        let Some(path) = names.into_iter().find(|path| path.is_file()) else { return Ok(()) };
        let broken =
            |why: &dyn std::fmt::Display| format!("{} cannot be read: {why}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|e| broken(&e))?;
        let Config { http, registries } =
            toml::from_str(&text).map_err(|e| broken(&e.message()))?;
        // A path is meant from the folder in which `.cargo` is.
        let from = folder.parent().unwrap_or(folder);
        self.cainfo = self.cainfo.take().or_else(|| http.cainfo.map(|path| from.join(path)));
        self.proxy = self.proxy.take().or(http.proxy);
        for (name, RegistryTable { index }) in registries {
            if let Some(index) = index {
                self.registries.entry(name).or_insert(index);
            }
        }
        Ok(())
    }
}

/// What a registry's variable says.
fn of(variable: &impl Fn(&str) -> Option<OsString>, name: &str, what: &str) -> Option<String> {
    let name = name.to_uppercase().replace('-', "_");
    variable(&format!("CARGO_REGISTRIES_{name}_{what}"))?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Folders {
        root: tempfile::TempDir,
    }

    impl Folders {
        fn new(files: &[(&str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("work/project")).unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self { root }
        }

        fn read(&self, variables: &[(&str, &str)]) -> Result<CargoConfig, String> {
            let here = self.root.path().join("work/project");
            CargoConfig::read(&here, |name| {
                let given = variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into());
                let home = || Some(self.root.path().join("home").into_os_string());
                given
                    .or_else(|| if name == "HOME" || name == "USERPROFILE" { home() } else { None })
            })
        }

        fn at(&self, path: &str) -> Option<PathBuf> {
            Some(self.root.path().join(path))
        }
    }

    #[test]
    fn what_is_nearest_counts_and_paths_are_meant_from_beside_the_folder() {
        let server = Folders::new(&[
            ("home/.cargo/config.toml", "[http]\ncainfo = \"ca.pem\"\nproxy = \"localhost:1\""),
            ("work/.cargo/config.toml", "[build]\njobs = 2\n[http]\ntimeout = 3"),
        ]);
        let http = server.read(&[]).unwrap();
        assert_eq!(http.cainfo, server.at("home/ca.pem"));
        assert_eq!(http.proxy.as_deref(), Some("localhost:1"));
        let server = Folders::new(&[
            ("home/.cargo/config.toml", "[http]\ncainfo = \"ca.pem\"\nproxy = \"localhost:1\""),
            ("work/project/.cargo/config.toml", "http.cainfo = \"near.pem\""),
            ("work/.cargo/config", "http.cainfo = \"far.pem\""),
        ]);
        let http = server.read(&[]).unwrap();
        assert_eq!(http.cainfo, server.at("work/project/near.pem"));
        assert_eq!(http.proxy.as_deref(), Some("localhost:1"));
        let http =
            server.read(&[("CARGO_HTTP_CAINFO", "own.pem"), ("CARGO_HTTP_PROXY", "")]).unwrap();
        assert_eq!(http.cainfo, server.at("work/project/own.pem"));
    }

    #[test]
    fn another_home_of_cargo_is_read_in_its_place() {
        let server = Folders::new(&[
            ("home/.cargo/config.toml", "http.cainfo = \"ca.pem\""),
            ("work/cargo/config.toml", "http.cainfo = \"/etc/ca.pem\""),
        ]);
        let http = server.read(&[("CARGO_HOME", "../cargo")]).unwrap();
        assert_eq!(http.cainfo, Some("/etc/ca.pem".into()));
        let nothing = Folders::new(&[]).read(&[]).unwrap();
        assert_eq!(CargoConfig { home: None, ..nothing }, CargoConfig::default());
    }

    #[test]
    fn the_variable_of_a_registry_is_found_by_its_index() {
        let index = |name: &str, url: &str| format!("[registries.{name}]\nindex = \"{url}\"\n");
        let text = [index("acme-crates", "sparse+https://a/index/"), index("other", "https://b/")];
        let server = Folders::new(&[("home/.cargo/config.toml", &text.concat())]);
        let config = server.read(&[]).unwrap();
        let token = |wanted: &str, variables: &[(&str, &str)]| {
            config.token_of(
                |index| index == wanted,
                |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into()),
            )
        };
        let set = ("CARGO_REGISTRIES_ACME_CRATES_TOKEN", "crh_1");
        assert_eq!(token("sparse+https://a/index/", &[set]), Some("crh_1".to_owned()));
        assert_eq!(token("sparse+https://a/index/", &[(set.0, "")]), None);
        assert_eq!(token("https://b/", &[set]), None);
        let elsewhere = ("CARGO_REGISTRIES_ACME_CRATES_INDEX", "https://b/");
        assert_eq!(token("https://b/", &[set, elsewhere]), Some("crh_1".to_owned()));
        assert_eq!(token("sparse+https://a/index/", &[set, elsewhere]), None);
    }

    #[test]
    fn the_kept_token_of_a_registry_is_found_by_its_index() {
        let server = Folders::new(&[
            ("home/.cargo/config.toml", "[registries.acme]\nindex = \"sparse+https://a/index/\"\n"),
            (
                "home/.cargo/credentials.toml",
                "[registries.acme]\ntoken = \"crh_1\"\n[registry]\ntoken = \"x\"",
            ),
        ]);
        let config = server.read(&[]).unwrap();
        let token = |wanted: &str| config.kept_token_of(|index| index == wanted, |_| None);
        assert_eq!(token("sparse+https://a/index/"), Ok(Some("crh_1".to_owned())));
        assert_eq!(token("https://b/"), Ok(None));
        fs::write(server.root.path().join("home/.cargo/credentials.toml"), "token = crh_2")
            .unwrap();
        let why = token("https://b/").unwrap_err();
        assert!(why.contains("credentials.toml") && !why.contains("crh_2"), "{why}");
    }

    #[test]
    fn a_broken_file_is_named() {
        let server = Folders::new(&[("work/.cargo/config.toml", "http.cainfo = 7")]);
        let why = server.read(&[]).unwrap_err();
        assert!(why.contains("config.toml cannot be read"), "{why}");
    }
}
