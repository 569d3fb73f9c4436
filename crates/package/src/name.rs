//! Crate names, as crates.io allows them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use cratehouse_core::excerpt::excerpt;

/// The longest crate name, in bytes (crates.io: `crates_io_validation`, `MAX_NAME_LENGTH`).
pub const MAX_NAME_BYTES: usize = 64;

/// A crate name with the spelling that its author gave it: an ASCII letter, then letters,
/// digits, `-` and `_`, at most [`MAX_NAME_BYTES`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CrateName(Arc<str>);

/// What two spellings of one name have in common: lower case, with `_` for `-`. No two crates
/// of a registry may share it (crates.io: `canon_crate_name`). Shares the text of a name that is
/// spelled so already.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey(Arc<str>);

/// Why a text is not a crate name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a crate name cannot be empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("the crate name `{0}` is too long: {MAX_NAME_BYTES} characters at most")]
    TooLong(String),
    /// It begins with something else than a letter.
    #[error("the crate name `{0}` must start with an ASCII letter")]
    Start(String),
    /// A character that is not allowed.
    #[error(
        "the crate name `{0}` has the character `{shown}`: only ASCII letters, digits, `-` and `_` are allowed",
        shown = excerpt(&.1.to_string())
    )]
    Character(String, char),
    /// A name that Windows or the toolchain keeps for itself.
    #[error(
        "the crate name `{0}` is reserved by the toolchain or by an operating system: choose another"
    )]
    Reserved(String),
}

impl CrateName {
    /// Parses a name.
    ///
    /// # Errors
    /// Says which rule is broken. [`NameError::Reserved`] is not among them: see
    /// [`CrateName::check_unreserved`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let shown = || {
            let longest =
                text.char_indices().nth(MAX_NAME_BYTES + 1).map_or(text.len(), |(at, _)| at);
            excerpt(text.get(..longest).unwrap_or_default())
        };
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong(shown()));
        }
        if !first.is_ascii_alphabetic() {
            return Err(NameError::Start(shown()));
        }
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Ok(Self(text.into()));
        }
        let other = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        Err(NameError::Character(shown(), other.unwrap_or_default()))
    }

    /// The name as its author spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What all spellings of this name have in common.
    pub fn key(&self) -> NameKey {
        if self.0.bytes().all(|b| canonical(b) == b) {
            return NameKey(Arc::clone(&self.0));
        }
        let mut room = [0; MAX_NAME_BYTES];
        for (to, from) in room.iter_mut().zip(self.0.bytes()) {
            *to = canonical(from);
        }
        let text = room.get(..self.0.len()).and_then(|text| std::str::from_utf8(text).ok());
        NameKey(text.unwrap_or_default().into())
    }

    /// The name in lower case, as index paths spell it.
    pub fn lower(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Where the sparse index keeps this crate's file: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcd`,
    /// in lower case (Cargo book, "Index files").
    pub fn index_path(&self) -> String {
        let lower = self.lower();
        format!("{}/{lower}", prefix_of(&lower))
    }

    /// The `{prefix}` marker of a `dl` template: the folders of [`CrateName::index_path`], with
    /// the case of the name kept (cargo: `sources/registry/download.rs`).
    pub fn prefix(&self) -> String {
        prefix_of(&self.0)
    }

    /// Refuses the names that crates.io reserves: those of the standard library and of Windows
    /// devices.
    ///
    /// # Errors
    /// [`NameError::Reserved`].
    pub fn check_unreserved(&self) -> Result<(), NameError> {
        if RESERVED.contains(&self.key().as_str()) {
            return Err(NameError::Reserved(self.0.to_string()));
        }
        Ok(())
    }

    /// Every spelling of this name in lower case, that is each `-` and `_` replaced by either;
    /// none when it has more than `max_separators` of them.
    pub fn spellings(&self, max_separators: u32) -> Option<Vec<CrateName>> {
        let lower = self.lower();
        let separators = lower.bytes().filter(|b| matches!(b, b'-' | b'_')).count();
        let separators = u32::try_from(separators).ok().filter(|n| *n <= max_separators.min(16))?;
        let spell = |bits: u32| {
            let mut nth = 0;
            let spelled: String = lower
                .chars()
                .map(|c| match c {
                    '-' | '_' => {
                        nth += 1;
                        if bits >> (nth - 1) & 1 == 0 { '-' } else { '_' }
                    }
                    c => c,
                })
                .collect();
            CrateName(spelled.into())
        };
        Some((0..1u32 << separators).map(spell).collect())
    }
}

/// crates.io's own list (its `reserved_crate_names` migrations), by [`NameKey`].
const RESERVED: &[&str] = &[
    "alloc",
    "arena",
    "ast",
    "builtins",
    "collections",
    "compiler_builtins",
    "compiler_rt",
    "compiletest",
    "core",
    "coretest",
    "debug",
    "driver",
    "flate",
    "fmt_macros",
    "grammar",
    "graphviz",
    "macro",
    "macros",
    "proc_macro",
    "rbml",
    "rust_installer",
    "rustbook",
    "rustc",
    "rustc_back",
    "rustc_borrowck",
    "rustc_driver",
    "rustc_llvm",
    "rustc_resolve",
    "rustc_trans",
    "rustc_typeck",
    "rustdoc",
    "rustllvm",
    "rustuv",
    "serialize",
    "std",
    "syntax",
    "test",
    "unicode",
    "aux",
    "com0",
    "com1",
    "com2",
    "com3",
    "com4",
    "com5",
    "com6",
    "com7",
    "com8",
    "com9",
    "con",
    "lpt0",
    "lpt1",
    "lpt2",
    "lpt3",
    "lpt4",
    "lpt5",
    "lpt6",
    "lpt7",
    "lpt8",
    "lpt9",
    "nul",
    "prn",
];

/// A byte of a name as its key has it.
fn canonical(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

fn prefix_of(name: &str) -> String {
    let part = |from: usize, to: usize| name.get(from..to).unwrap_or_default();
    match name.len() {
        0 | 1 => "1".to_owned(),
        2 => "2".to_owned(),
        3 => format!("3/{}", part(0, 1)),
        _ => format!("{}/{}", part(0, 2), part(2, 4)),
    }
}

impl NameKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A pattern over crate names: a name, a prefix that ends in `*`, or `*`.
/// Compared by [`NameKey`], so `acme-*` covers `ACME_foo` too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern {
    text: String,
    key: String,
    prefix: bool,
}

impl NamePattern {
    /// Whether a name of this key is covered.
    pub fn covers(&self, key: &NameKey) -> bool {
        match self.prefix {
            true => key.as_str().starts_with(&self.key),
            false => key.as_str() == self.key,
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form that it shares with all its spellings: a [`NameKey`], or the beginning of one followed by `*`.
    pub fn key(&self) -> String {
        format!("{}{}", self.key, if self.prefix { "*" } else { "" })
    }

    /// The [`key`](Self::key)s of all patterns that cover a name, the most specific one first.
    pub fn keys_over(name: &NameKey) -> impl Iterator<Item = String> {
        let text = name.as_str();
        let prefixes = (0..=text.len()).rev().filter_map(|end| text.get(..end));
        std::iter::once(text.to_owned()).chain(prefixes.map(|prefix| format!("{prefix}*")))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a pattern over crate names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name pattern: write a crate name, a prefix followed by `*`, or `*`")]
pub struct PatternError(String);

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = || PatternError(text.chars().take(100).collect());
        let (stem, prefix) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if !(prefix && stem.is_empty()) {
            CrateName::parse(stem).map_err(|_| refuse())?;
        }
        let key = stem.to_ascii_lowercase().replace('-', "_");
        Ok(Self { text: text.to_owned(), key, prefix })
    }
}

impl TryFrom<String> for NamePattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.text
    }
}

impl FromStr for CrateName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CrateName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<CrateName> for String {
    fn from(name: CrateName) -> String {
        name.0.to_string()
    }
}

impl fmt::Display for CrateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CrateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CrateName {
        CrateName::parse(text).unwrap()
    }

    #[test]
    fn names_that_crates_io_refuses_are_refused() {
        for bad in ["", "1abc", "_x", "-x", "é", "aé", "a b", "a/b", "..", &"a".repeat(65)] {
            assert!(CrateName::parse(bad).is_err(), "{bad}");
        }
        assert!(name(&"a".repeat(64)).check_unreserved().is_ok());
        for reserved in ["nul", "NUL", "std", "proc-macro", "com0"] {
            assert!(name(reserved).check_unreserved().is_err(), "{reserved}");
        }
    }

    #[test]
    fn a_key_has_no_case_and_no_dash_and_costs_nothing_where_a_name_is_spelled_so() {
        let longest = "A-".repeat(MAX_NAME_BYTES / 2);
        for text in ["a", "serde_json2", "Serde-JSON2", "a-b_c-", &longest] {
            let expected = text.to_ascii_lowercase().replace('-', "_");
            assert_eq!(name(text).key().as_str(), expected);
            assert_eq!(name(&expected).key(), name(text).key());
        }
        let plain = name("serde_json");
        assert!(Arc::ptr_eq(&plain.key().0, &plain.0));
    }

    #[test]
    fn index_paths_are_those_of_the_cargo_book() {
        assert_eq!(name("A").index_path(), "1/a");
        assert_eq!(name("ab").index_path(), "2/ab");
        assert_eq!(name("aBc").index_path(), "3/a/abc");
        assert_eq!(name("AbCd-e").index_path(), "ab/cd/abcd-e");
        assert_eq!(name("AbCd-e").prefix(), "Ab/Cd");
    }

    #[test]
    fn what_is_no_name_is_told_on_one_line() {
        for text in ["a\nfaked", "\nfaked", "a\u{202e}b"] {
            let told = CrateName::parse(text).unwrap_err().to_string();
            assert!(!told.contains(['\n', '\u{202e}']) && told.contains("\\u{"), "{told}");
        }
        let long = format!("a\n{}", "b".repeat(1000));
        let told = CrateName::parse(&long).unwrap_err().to_string();
        assert!(!told.contains('\n') && told.len() < 200, "{told}");
    }

    #[test]
    fn spellings_cover_both_separators() {
        let all: Vec<_> =
            name("Foo-b_r").spellings(8).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["foo-b-r", "foo_b-r", "foo-b_r", "foo_b_r"]);
        assert_eq!(name("a-b-c").spellings(1), None);
    }

    #[test]
    fn patterns_cover_every_spelling() {
        let pattern: NamePattern = "acme-*".parse().unwrap();
        assert!(pattern.covers(&name("ACME_tools").key()));
        assert!(!pattern.covers(&name("acmetools").key()));
        assert!("*".parse::<NamePattern>().unwrap().covers(&name("x").key()));
        assert!("a*b".parse::<NamePattern>().is_err());
        assert!("".parse::<NamePattern>().is_err());
        assert_eq!(
            ["acme-*", "ACME_*", "Foo-bar"].map(|p| p.parse::<NamePattern>().unwrap().key()),
            ["acme_*", "acme_*", "foo_bar"]
        );
        let over: Vec<_> = NamePattern::keys_over(&name("A-b").key()).collect();
        assert_eq!(over, ["a_b", "a_b*", "a_*", "a*", "*"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_name_or_an_error(text in ".{0,80}") {
            if let Ok(name) = CrateName::parse(&text) {
                assert_eq!(name.as_str(), text);
                assert!(name.index_path().ends_with(&name.lower()));
            }
        }
    }
}
