//! The token with which commands ask a server: from the environment, from a file, or from what cargo has.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

use cratehouse_cargo::config::CargoConfig;
use cratehouse_cargo::registry::Registry;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::secret::Secret;

/// The variable that has a token.
pub(super) const VARIABLE: &str = "CRATEHOUSE_TOKEN";
/// The longest token that is taken, in bytes: as a server reads.
const MAX_BYTES: u64 = 4096;

/// Finds the token for a registry.
///
/// # Errors
/// Invalid, when there is none, or what there is cannot be one; it is not told.
pub(super) fn find(
    registry: &Registry,
    file: Option<&Path>,
    cargo: &CargoConfig,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Secret> {
    if let Some(text) = variable(VARIABLE).filter(|text| !text.is_empty()) {
        return checked(text.to_str().unwrap_or_default(), VARIABLE);
    }
    if let Some(path) = file {
        return checked(&read(path)?, &path.display().to_string());
    }
    let is_ours = |index: &str| Registry::of_index(index).as_ref() == Some(registry);
    if let Some(text) = cargo.token_of(is_ours, &variable) {
        return checked(&text, "the variable that cargo has for this registry");
    }
    let kept = cargo.kept_token_of(is_ours, &variable).map_err(Error::invalid)?;
    match kept {
        Some(text) => checked(&text, "cargo's credentials"),
        None => Err(Error::invalid(format!(
            "there is no token for {registry}: set {VARIABLE}, name a file with `--token-file`, or log in with cargo \
             (a registry of its configuration whose index is sparse+{registry}/index/, and its token in \
             credentials.toml of cargo's folder or in CARGO_REGISTRIES_<NAME>_TOKEN)"
        ))),
    }
}

fn read(path: &Path) -> Result<String> {
    let refuse = |why: &dyn std::fmt::Display| {
        Error::invalid(format!("`--token-file`: {} cannot be read: {why}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|e| refuse(&e))?;
    let mut text = String::new();
    // What is read is not told, whatever is wrong with it.
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| refuse(&e.kind()))?;
    Ok(text)
}

/// A token is one word.
fn checked(text: &str, place: &str) -> Result<Secret> {
    let token = text.trim();
    let is_word = token.bytes().all(|byte| byte.is_ascii_graphic());
    match is_word && !token.is_empty() && token.len() as u64 <= MAX_BYTES {
        true => Ok(Secret::new(token)),
        false => Err(Error::invalid(format!("{place} has no token in it: one word is wanted"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn registry() -> Registry {
        Registry::written("https://crates.acme.example").unwrap()
    }

    fn cargo(home: &Path) -> CargoConfig {
        let registries = BTreeMap::from([
            ("other".to_owned(), "sparse+https://other.example/index/".to_owned()),
            ("acme".to_owned(), "sparse+https://crates.acme.example/crates-io/index/".to_owned()),
        ]);
        CargoConfig { registries, home: Some(home.to_owned()), ..CargoConfig::default() }
    }

    #[test]
    fn a_token_is_looked_for_in_the_environment_a_file_and_cargos_places_in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let kept = "[registries.acme]\ntoken = \"kept\"\n[registries.other]\ntoken = \"other\"\n";
        fs::write(folder.path().join("credentials.toml"), kept).unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "filed\n").unwrap();
        let find = |file: Option<&Path>, set: &[(&str, &str)]| {
            let variable =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            find(&registry(), file, &cargo(folder.path()), variable).unwrap().reveal().to_owned()
        };
        let cargos = ("CARGO_REGISTRIES_ACME_TOKEN", "cargos");
        assert_eq!(find(Some(&file), &[(VARIABLE, " set "), cargos]), "set");
        assert_eq!(find(Some(&file), &[(VARIABLE, ""), cargos]), "filed");
        assert_eq!(find(None, &[cargos]), "cargos");
        assert_eq!(find(None, &[]), "kept");
    }

    #[test]
    fn where_there_is_none_the_three_ways_are_told_and_what_is_wrong_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let find = |file: Option<&Path>, set: Option<&str>| {
            let variable =
                |name: &str| (name == VARIABLE).then(|| set.map(OsString::from)).flatten();
            find(&registry(), file, &cargo(folder.path()), variable).unwrap_err().message
        };
        let none = find(None, None);
        for way in [VARIABLE, "--token-file", "credentials.toml"] {
            assert!(none.contains(way), "{none}");
        }
        let odd = find(None, Some("two words"));
        assert!(odd.contains(VARIABLE) && !odd.contains("words"), "{odd}");
        let file = folder.path().join("token");
        assert!(find(Some(&file), None).contains("--token-file"));
        fs::write(&file, b"\xff\xfesecret").unwrap();
        assert!(!find(Some(&file), None).contains("secret"));
        fs::write(&file, "x".repeat(5000)).unwrap();
        assert!(find(Some(&file), None).contains("no token in it"));
    }
}
