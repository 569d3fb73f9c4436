//! The real cargo as the client of a gateway, with a home of its own: nothing of this
//! machine's configuration, caches or environment reaches it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::gateway::{Gateway, credential_provider};

/// The name under which clients know the gateway.
pub const REGISTRY: &str = "cratehouse";
/// The name under which it stands in place of crates.io.
pub const PUBLIC: &str = "cratehouse-public";

/// A cargo with its own home, configured for one gateway: as a registry, and with its view of public
/// crates as the replacement of crates.io.
#[derive(Debug)]
pub struct Cargo {
    home: TempDir,
    env: BTreeMap<String, String>,
}

/// What a run of cargo came to.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error: where cargo says most things.
    pub stderr: String,
}

/// A package to be written: `Project::new("app").ours("foo", "1").dep("bar", "1").write()`.
#[derive(Debug, Clone)]
pub struct Project {
    name: String,
    version: String,
    package: Vec<String>,
    sections: BTreeMap<String, Vec<String>>,
    files: BTreeMap<String, String>,
}

/// A folder with a package or a workspace in it; deleted when dropped.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Cargo {
    /// A cargo with an empty home for this gateway, and no token.
    pub fn new(gateway: &Gateway) -> Self {
        Self::at(&gateway.index_url(), &gateway.ca_path(), &std::env::temp_dir())
    }

    /// The same for the registry of this index URL, whose certificate is from this CA, with its home
    /// in this folder.
    pub fn at(index_url: &str, ca: &Path, homes: &Path) -> Self {
        let cargo = Self { home: tempfile::tempdir_in(homes).unwrap(), env: BTreeMap::new() };
        let ca = serde_json::json!(ca);
        let public = index_url.replace("/index/", "/crates-io/index/");
        cargo.configure(&format!(
            r#"[registries.{REGISTRY}]
index = "{index_url}"
credential-provider = ["cargo:token"]

# A registry and not only a source, so that `cargo:token` has a token for it.
[registries.{PUBLIC}]
index = "{public}"
credential-provider = ["cargo:token"]

[source.crates-io]
replace-with = "{PUBLIC}"

[http]
cainfo = {ca}
"#
        ));
        cargo
    }

    /// With a token for the gateway.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.env("CARGO_REGISTRIES_CRATEHOUSE_TOKEN", token)
            .env("CARGO_REGISTRIES_CRATEHOUSE_PUBLIC_TOKEN", token)
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// One that finds `cargo-credential-cratehouse`, where its configuration names it.
    pub fn with_credential_provider(self) -> Self {
        let path = std::env::var("PATH").unwrap();
        let beside = credential_provider().parent().unwrap().display();
        self.env("PATH", &format!("{beside}:{path}"))
    }

    /// Writes another `config.toml` into the home.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.config_path(), text).unwrap();
    }

    /// The home's `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.cargo_home().join("config.toml")
    }

    /// `CARGO_HOME`.
    pub fn cargo_home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Forgets every index file and crate file that it has, as a fresh machine.
    pub fn forget_caches(&self) {
        for folder in ["registry", "target"] {
            let path = self.home.path().join(folder);
            if path.exists() {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    }

    /// Runs it in a folder.
    pub fn run(&self, folder: &Folder, args: &[&str]) -> Ran {
        self.run_at(folder.path(), args)
    }

    /// Runs it in any folder.
    pub fn run_at(&self, folder: &Path, args: &[&str]) -> Ran {
        Ran::new(args, &self.command().args(args).current_dir(folder).output().unwrap())
    }

    /// Runs it in a folder, with this on its standard input.
    pub fn told(&self, folder: &Path, args: &[&str], input: &str) -> Ran {
        let mut command = self.command();
        command.args(args).current_dir(folder).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // it may have ended
        Ran::new(args, &child.wait_with_output().unwrap())
    }

    fn command(&self) -> Command {
        let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        if let Some(beside) = cargo.parent().filter(|p| p.is_absolute()) {
            let rest = std::env::split_paths(&path).collect::<Vec<_>>();
            path = std::env::join_paths(std::iter::once(beside.to_owned()).chain(rest)).unwrap();
        }
        let mut command = Command::new(cargo);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("CARGO_HOME", self.home.path())
            .env("CARGO_TARGET_DIR", self.home.path().join("target"))
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .envs(toolchain())
            .envs(&self.env);
        command
    }
}

/// What rustup's own proxies need to find the toolchain of the outer run.
fn toolchain() -> Vec<(&'static str, std::ffi::OsString)> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup"));
    let rustup = std::env::var_os("RUSTUP_HOME").or_else(|| home.map(Into::into));
    let toolchain = std::env::var_os("RUSTUP_TOOLCHAIN");
    let named = [("RUSTUP_HOME", rustup), ("RUSTUP_TOOLCHAIN", toolchain)];
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl Ran {
    fn new(args: &[&str], output: &Output) -> Self {
        Self {
            line: format!("cargo {}", args.join(" ")),
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics unless it succeeded.
    #[track_caller]
    pub fn assert_ok(self) -> Self {
        assert!(self.ok, "{self}");
        self
    }

    /// Panics unless it failed and said this.
    #[track_caller]
    pub fn assert_err(self, containing: &str) -> Self {
        assert!(!self.ok, "it should have failed: {self}");
        self.assert_says(containing)
    }

    /// Panics unless it said this on either output.
    #[track_caller]
    pub fn assert_says(self, text: &str) -> Self {
        assert!(self.says(text), "it does not say `{text}`: {self}");
        self
    }

    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// Whether it said this on either output.
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`\n{}\n{}", self.line, self.stdout, self.stderr)
    }
}

impl Project {
    /// A library of version 0.1.0 that may be published to the gateway.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            package: Vec::new(),
            sections: BTreeMap::new(),
            files: BTreeMap::from([("src/lib.rs".to_owned(), String::new())]),
        }
    }

    /// With another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// With a line in `[package]`.
    #[must_use]
    pub fn package(mut self, line: &str) -> Self {
        self.package.push(line.to_owned());
        self
    }

    /// With a line in any section: `.line("build-dependencies", "foo = \"1\"")`.
    #[must_use]
    pub fn line(mut self, section: &str, line: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().push(line.to_owned());
        self
    }

    /// With a dependency on a crate of crates.io.
    #[must_use]
    pub fn dep(self, name: &str, req: &str) -> Self {
        self.line("dependencies", &format!("{name} = \"{req}\""))
    }

    /// With a dependency on one of the gateway's own crates.
    #[must_use]
    pub fn ours(self, name: &str, req: &str) -> Self {
        let line = format!("{name} = {{ version = \"{req}\", registry = \"{REGISTRY}\" }}");
        self.line("dependencies", &line)
    }

    /// With a file.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// With this `src/lib.rs`.
    #[must_use]
    pub fn lib(self, text: &str) -> Self {
        self.file("src/lib.rs", text)
    }

    /// With this `src/main.rs`.
    #[must_use]
    pub fn main(self, text: &str) -> Self {
        self.file("src/main.rs", text)
    }

    /// The manifest.
    pub fn manifest(&self) -> String {
        let mut text = format!(
            "[package]\nname = \"{}\"\nversion = \"{}\"\nedition = \"2021\"\n",
            self.name, self.version
        );
        if !self.package.iter().any(|line| line.starts_with("publish")) {
            text += &format!("publish = [\"{REGISTRY}\"]\n");
        }
        self.package.iter().for_each(|line| text += &format!("{line}\n"));
        for (section, lines) in &self.sections {
            text += &format!("\n[{section}]\n{}\n", lines.join("\n"));
        }
        text
    }

    /// Writes it into a folder of its own.
    pub fn write(&self) -> Folder {
        let folder = Folder::empty();
        self.write_into(&folder, "");
        folder
    }

    fn write_into(&self, folder: &Folder, below: &str) {
        folder.write(&format!("{below}Cargo.toml"), &self.manifest());
        self.files.iter().for_each(|(path, text)| folder.write(&format!("{below}{path}"), text));
    }
}

impl Folder {
    /// One with nothing in it.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A workspace of these packages, each in a folder of its own name.
    pub fn workspace(members: &[Project]) -> Self {
        let folder = Self::empty();
        let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
        folder
            .write("Cargo.toml", &format!("[workspace]\nresolver = \"2\"\nmembers = {names:?}\n"));
        members.iter().for_each(|member| member.write_into(&folder, &format!("{}/", member.name)));
        folder
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, folders and all.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// Its `Cargo.lock`.
    pub fn lock(&self) -> String {
        self.read("Cargo.lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_a_manifest_and_files() {
        let project = Project::new("app").ours("foo", "1").dep("bar", "2").main("fn main() {}");
        let folder = Folder::workspace(&[project]);
        let manifest = folder.read("app/Cargo.toml");
        assert!(manifest.contains(
            "[dependencies]\nfoo = { version = \"1\", registry = \"cratehouse\" }\nbar = \"2\"\n"
        ));
        assert!(manifest.contains("publish = [\"cratehouse\"]"));
        assert_eq!(folder.read("app/src/main.rs"), "fn main() {}");
    }
}
