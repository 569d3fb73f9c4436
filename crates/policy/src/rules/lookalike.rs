//! Names that could be taken for others.
//!
//! Two names are close when, in lower case and with `_` for `-`,
//! - they are the same but for separators (`lazystatic`, `lazy_static`, `lazy__static`), from
//!   [`MIN_CHARS`] on; or
//! - they look the same: `0` and `o`, `1`, `i` and `l`, `5` and `s`, `rn` and `m`, `vv` and `w`,
//!   from [`MIN_CHARS`] on; or
//! - they have the same words in another order (`cfg-if`, `if-cfg`); or
//! - they differ in one word only, by one letter: left out, added (a plural `s` too), another, or
//!   two that changed places. The longer word has [`MIN_WORD_CHARS`] at the least and both begin
//!   alike, because slips are rare there and short words that differ by a letter are many.
//!
//! A digit for another digit, more or fewer, is a number and no slip: `acme-v1` is not close to
//! `acme-v2`. Names that are equal up to case, `-` and `_` are one name, and none of this module's
//! business.

use crate::parse::Rules;
use crate::rules::publish::Violation;
use cratehouse_package::name::CrateName;

/// Shorter names are close to too many others.
const MIN_CHARS: usize = 4;
/// Shorter words differ by one letter too often.
const MIN_WORD_CHARS: usize = 5;

/// The first of some names that a new one is too close to.
pub fn resembles<'a>(
    new: &CrateName,
    existing: impl IntoIterator<Item = &'a CrateName>,
) -> Option<&'a CrateName> {
    let new = Shape::of(new);
    existing.into_iter().find(|name| new.is_close_to(&Shape::of(name)))
}

pub(crate) fn objection<'a>(
    rules: &Rules,
    new: &CrateName,
    hosted: impl IntoIterator<Item = &'a CrateName>,
) -> Option<Violation> {
    let rule = rules.names.as_ref()?;
    if rule.exceptions.iter().any(|pattern| pattern.covers(&new.key())) {
        return None;
    }
    let other = resembles(new, hosted)?;
    let sentence = format!(
        "`{new}` could be taken for `{other}`, which is published here: choose a name that differs \
         more, or have an administrator except it (`[names] exceptions` of the policy)"
    );
    Some(Violation { mode: rules.mode.and(rule.mode), sentence })
}

/// A name as it is compared.
struct Shape {
    key: String,
    /// What the eye sees: without separators, look-alikes made one.
    seen: String,
    /// Its words in alphabetical order.
    words: Vec<String>,
}

impl Shape {
    fn of(name: &CrateName) -> Self {
        let key = name.key().as_str().to_owned();
        let seen = key.replace('_', "").replace("rn", "m").replace("vv", "w");
        let seen = seen.replace('0', "o").replace(['1', 'i'], "l").replace('5', "s");
        let mut words: Vec<_> = words(&key).map(str::to_owned).collect();
        words.sort_unstable();
        Self { key, seen, words }
    }

    fn is_close_to(&self, other: &Self) -> bool {
        if self.key == other.key {
            return false;
        }
        let long_enough = self.key.len().max(other.key.len()) >= MIN_CHARS;
        (long_enough && (self.seen == other.seen || self.words == other.words))
            || one_word_differs(&self.key, &other.key)
    }
}

fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('_').filter(|word| !word.is_empty())
}

fn one_word_differs(a: &str, b: &str) -> bool {
    let mut differing = words(a).zip(words(b)).filter(|(a, b)| a != b);
    let same_count = words(a).count() == words(b).count();
    match (differing.next(), differing.next()) {
        (Some((a, b)), None) if same_count => is_slip(a, b),
        _ => false,
    }
}

/// Whether two words differ by one letter, or by two that changed places.
fn is_slip(a: &str, b: &str) -> bool {
    if a.len().max(b.len()) < MIN_WORD_CHARS {
        return false;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let begin = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(begin..).unwrap_or_default(), b.get(begin..).unwrap_or_default());
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) =
        (a.get(..a.len() - end).unwrap_or_default(), b.get(..b.len() - end).unwrap_or_default());
    let letter = |byte: &u8| !byte.is_ascii_digit();
    begin > 0
        && match (a, b) {
            ([a], [b]) => letter(a) || letter(b),
            ([one], []) | ([], [one]) => letter(one),
            ([a, b], [c, d]) => a == d && b == c && (letter(a) || letter(b)),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &str, b: &str) -> bool {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        let there = resembles(&a, [&b]).is_some();
        assert_eq!(there, resembles(&b, [&a]).is_some(), "{a} {b}");
        there
    }

    #[test]
    fn a_slip_of_the_finger_or_the_eye_is_close() {
        for (wrong, right) in [
            ("serd", "serde"),
            ("serdee", "serde"),
            ("sedre", "serde"),
            ("serbe", "serde"),
            ("tokoi", "tokio"),
            ("toki0", "tokio"),
            ("tokl0", "tokio"),
            ("rayom", "rayon"),
            ("hyperr", "hyper"),
            ("postgress", "postgres"),
            ("rustdecimal", "rust_decimal"),
            ("lazystatic", "lazy_static"),
            ("envlogger", "env_logger"),
            ("oncecell", "once_cell"),
            ("serdejson", "serde_json"),
            ("if-cfg", "cfg-if"),
            ("acme-tokens", "acme-token"),
            ("reqvvest", "reqwest"),
            ("crossbearn", "crossbeam"),
            ("Tokoi", "tokio"),
        ] {
            assert!(close(wrong, right), "{wrong} {right}");
        }
    }

    #[test]
    fn names_that_differ_on_purpose_are_not_close() {
        for (a, b) in [
            ("serde", "serde_json"),
            ("serde-json", "serde_yaml"),
            ("tokio", "tonic"),
            ("rand", "brand"),
            ("syn", "sync"),
            ("clap", "dap"),
            ("time", "tame"),
            ("md5", "mds"),
            ("acme-v1", "acme-v2"),
            ("acme-v1", "acme-v11"),
            ("windows-sys", "windows-sync"),
            ("acme-api", "acme-app"),
            ("acme-auth", "acme-auto"),
            ("sha1", "sha2"),
            ("base64", "base32"),
            ("hyper", "hyper-util"),
            ("acme-job", "acme-jobs"),
            ("anyhow", "anymap"),
            ("Foo-bar", "foo_BAR"),
        ] {
            assert!(!close(a, b), "{a} {b}");
        }
    }

    #[test]
    fn the_name_that_is_resembled_is_told() {
        let hosted: Vec<CrateName> = ["tonic", "tokio"].map(|name| name.parse().unwrap()).into();
        let found = resembles(&"tokoi".parse().unwrap(), &hosted);
        assert_eq!(found.map(CrateName::as_str), Some("tokio"));
        assert!(resembles(&"tokio".parse().unwrap(), &hosted).is_none());
    }
}
