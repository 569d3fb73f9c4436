//! The paths of an archive, one beside the other and each by itself: those that two readers see
//! differently are refused, those with which only some system would stumble are told.
//!
//! cargo packages whatever a Linux folder holds, but for `\\ < > : " | ? *` in the name of a file
//! (cargo: `ops/cargo_package`, `check_filename`), which it checks in no folder's name. What it
//! packages is taken here, with three exceptions: `:` in a folder's name, control characters but for
//! a tab, and characters that turn the direction of text.

use std::cmp::Ordering;

use super::{TarballError, shown};

/// The longest path, in bytes (`PATH_MAX` of Linux).
pub(super) const MAX_PATH_BYTES: usize = 4096;
/// All paths of a crate file, in bytes: they are compared, and so they are kept.
pub(super) const MAX_PATHS_BYTES: usize = 16 * 1024 * 1024;
/// The paths that a warning names; the rest is counted.
const MAX_NAMED: usize = 5;

/// Every path of an archive.
#[derive(Debug, Default)]
pub(super) struct Paths {
    text: String,
    all: Vec<Place>,
}

/// Where a path stands in the text of all, without the `/` behind a folder's.
#[derive(Debug, Clone, Copy)]
struct Place {
    from: usize,
    to: usize,
    folder: bool,
}

/// With which paths some system stumbles.
#[derive(Debug, Default)]
struct Stumbling {
    /// What Windows cannot write, or writes under another name.
    windows: Named,
    /// One path beside another that differs in nothing that some file systems see.
    alike: Named,
}

/// The first of many, in words, and how many they are: what is not named takes no memory.
#[derive(Debug, Default)]
struct Named {
    first: Vec<String>,
    count: usize,
}

impl Paths {
    /// Takes note of a path that was found good by itself.
    pub(super) fn add(&mut self, path: &str, folder: bool) -> Result<(), TarballError> {
        let path = path.strip_suffix('/').filter(|_| folder).unwrap_or(path);
        if path.len() > MAX_PATH_BYTES || self.text.len() + path.len() > MAX_PATHS_BYTES {
            return Err(TarballError::PathsTooLong);
        }
        let from = self.text.len();
        self.text.push_str(path);
        self.all.push(Place { from, to: self.text.len(), folder });
        Ok(())
    }

    /// Compares all: what to tell the publisher.
    pub(super) fn compare(mut self) -> Result<Vec<String>, TarballError> {
        sort(&self.text, &mut self.all);
        self.refuse_doubles()?;
        Ok(self.stumbling().told())
    }

    /// Sorted by their parts, a double stands beside its like, and what is in a folder behind it.
    fn refuse_doubles(&self) -> Result<(), TarballError> {
        for pair in self.all.windows(2) {
            let [one, other] = pair else { continue };
            let (first, second) = (one.of(&self.text), other.of(&self.text));
            if first == second {
                return Err(TarballError::Twice(shown(first.as_bytes())));
            }
            if !one.folder && is_inside(second, first) {
                return Err(TarballError::FileAndFolder(shown(first.as_bytes())));
            }
        }
        Ok(())
    }

    fn stumbling(&self) -> Stumbling {
        let mut windows = Named::default();
        for path in self.all.iter().map(|place| place.of(&self.text)) {
            if path.split('/').any(stumbles_windows) {
                windows.add(|| shown(path.as_bytes()));
            }
        }
        Stumbling { windows, alike: self.alike() }
    }

    /// Those that a file system which does not see case, or what cannot be seen, takes for one.
    fn alike(&self) -> Named {
        let mut folded = Self::default();
        for place in &self.all {
            let from = folded.text.len();
            folded.text.extend(place.of(&self.text).chars().filter_map(folded_char));
            folded.all.push(Place { from, to: folded.text.len(), folder: place.folder });
        }
        let mut order: Vec<usize> = (0..folded.all.len()).collect();
        let text = |at: usize| folded.all.get(at).map_or("", |place| place.of(&folded.text));
        order.sort_by(|a, b| by_parts(text(*a), text(*b)));
        let mut alike = Named::default();
        for pair in order.windows(2) {
            let [one, other] = *pair else { continue };
            if text(one) == text(other) {
                let path = |at: usize| self.all.get(at).map_or("", |place| place.of(&self.text));
                let (one, other) = (path(one).as_bytes(), path(other).as_bytes());
                alike.add(|| format!("{}` beside `{}", shown(one), shown(other)));
            }
        }
        alike
    }
}

impl Place {
    fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.from..self.to).unwrap_or_default()
    }
}

impl Stumbling {
    fn told(self) -> Vec<String> {
        let windows = self.windows.named().map(|paths| {
            format!("on Windows nobody can unpack the crate as it is, because of {paths}")
        });
        let alike = self.alike.named().map(|paths| {
            format!(
                "a file system that does not see upper and lower case, or what is invisible, \
                     puts one file in the place of another: the crate has {paths}"
            )
        });
        windows.into_iter().chain(alike).collect()
    }
}

impl Named {
    fn add(&mut self, words: impl FnOnce() -> String) {
        if self.first.len() < MAX_NAMED {
            self.first.push(words());
        }
        self.count += 1;
    }

    /// In one phrase; `None`: there is none.
    fn named(&self) -> Option<String> {
        let rest = self.count - self.first.len();
        let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
        (self.count > 0).then(|| format!("`{}`{more}", self.first.join("`, `")))
    }
}

fn sort(text: &str, places: &mut [Place]) {
    places.sort_by(|a, b| by_parts(a.of(text), b.of(text)));
}

fn by_parts(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a path has what no reader can be trusted with: separators of other systems and the `:` of
/// drives and streams, control characters, characters that turn the direction of text.
pub(super) fn has_unsafe_chars(path: &str) -> bool {
    path.contains(|c: char| matches!(c, '\\' | ':') || (c.is_control() && c != '\t') || is_bidi(c))
}

/// Unicode's `Bidi_Control`: text is shown in another order than it is read in.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters that cannot be seen, and that some file systems pass over (HFS+: TN1150,
/// "Case-Insensitive String Comparison Algorithm"; Unicode: `Default_Ignorable_Code_Point`).
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// One character for those that differ in case alone; none for what cannot be seen.
fn folded_char(c: char) -> Option<char> {
    if is_ignorable(c) {
        return None;
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => Some(one),
        _ => Some(c),
    }
}

/// Whether a file of this name is the manifest on some system: in any case; behind what Windows drops
/// at the end of a name, or what cannot be seen; by the short name that Windows gives it.
pub(super) fn is_manifest(name: &str) -> bool {
    let plain: String = name.chars().filter_map(folded_char).take(MAX_ALIAS_CHARS).collect();
    let plain = plain.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    plain.trim_start() == "cargo.toml" || is_short_name(plain)
}

/// A name that is longer is no alias of the manifest, whatever it ends with.
const MAX_ALIAS_CHARS: usize = 255;

/// `CARGO~1.TOM`, and the form with a hash that Windows takes after the fourth, `CA0F3C~1.TOM`.
fn is_short_name(name: &str) -> bool {
    let Some((stem, number)) = name.strip_suffix(".tom").and_then(|name| name.split_once('~'))
    else {
        return false;
    };
    let hashed = stem
        .strip_prefix("ca")
        .is_some_and(|hash| hash.len() == 4 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    let cut = !stem.is_empty() && "cargo".starts_with(stem);
    (hashed || cut) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// Whether Windows cannot write a file or folder of this name, or writes another one.
fn stumbles_windows(name: &str) -> bool {
    let forbidden = |c: char| matches!(c, '<' | '>' | '"' | '|' | '?' | '*') || c.is_control();
    name.ends_with(['.', ' ']) || name.contains(forbidden) || is_device(name)
}

/// The names of devices, with whatever extension (Win32, "Naming Files, Paths, and Namespaces").
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is = |device: &&str| stem.eq_ignore_ascii_case(device);
    if ["con", "prn", "aux", "nul", "conin$", "conout$"].iter().any(is) {
        return true;
    }
    let mut chars = stem.chars();
    let number = chars.next_back().is_some_and(|c| matches!(c, '1'..='9' | '¹' | '²' | '³'));
    number && ["com", "lpt"].iter().any(|device| chars.as_str().eq_ignore_ascii_case(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_known_by_all_its_names() {
        for alias in [
            "Cargo.toml",
            "CARGO.TOML",
            "Cargo.toml.",
            "Cargo.toml ",
            "cargo.toml. . .",
            "Cargo.toml\t",
            " Cargo.toml",
            "Car\u{200d}go.toml",
            "\u{feff}Cargo.toml",
            "Cargo.to\u{ad}ml\u{200c}.",
            "CARGO~1.TOM",
            "cargo~12.tom",
            "CARG~100.TOM",
            "CA0F3C~1.TOM",
        ] {
            assert!(is_manifest(alias), "{alias:?}");
        }
        for other in [
            "Cargo.toml.orig",
            "Cargo.lock",
            "Cargo.tomlx",
            "Cargo-toml",
            "CARGO~1.TXT",
            "CARGO~X.TOM",
            "~1.tom",
            "cab~1.tom",
            "c.toml",
        ] {
            assert!(!is_manifest(other), "{other:?}");
        }
    }

    #[test]
    fn windows_stumbles_over_what_it_says_it_does() {
        for name in [
            "aux.rs",
            "NUL",
            "com1.tar.gz",
            "LPT9",
            "COM\u{b9}",
            "con .txt",
            "a.",
            "a ",
            "a\tb",
            "a?",
        ] {
            assert!(stumbles_windows(name), "{name:?}");
        }
        for name in ["auxiliary.rs", "com.rs", "com0", "com10", "null", "console", "a b", ".a", "é"]
        {
            assert!(!stumbles_windows(name), "{name:?}");
        }
    }

    fn compare(paths: &[&str]) -> Result<Vec<String>, TarballError> {
        let mut all = Paths::default();
        for path in paths {
            all.add(path, path.ends_with('/')).unwrap();
        }
        all.compare()
    }

    #[test]
    fn doubles_are_refused_wherever_they_stand() {
        for double in [&["r/a", "r/b", "r/a"][..], &["r/a/", "r/a/"], &["r/a/", "r/a"]] {
            assert!(matches!(compare(double), Err(TarballError::Twice(_))), "{double:?}");
        }
        // `-` and `.` come before `/` in ASCII.
        for both in [&["r/a", "r/a-b", "r/a.b", "r/a/b"][..], &["r/a/b/c", "r/a", "r/a-"]] {
            assert!(matches!(compare(both), Err(TarballError::FileAndFolder(_))), "{both:?}");
        }
        let fine = ["r/a/", "r/a/b", "r/a-", "r/ab", "r/b/a", "r/b/a.b"];
        assert_eq!(compare(&fine).unwrap(), [""; 0]);
    }

    #[test]
    fn one_sentence_tells_of_all_paths_that_are_alike() {
        let told = compare(&["r/A.txt", "r/a.txt", "r/b/x", "r/B/X", "r/\u{200d}b/x"]).unwrap();
        let [told] = told.as_slice() else { panic!("{told:?}") };
        assert!(told.contains("`r/A.txt` beside `r/a.txt`"), "{told}");
        assert!(!told.contains("more"), "{told}");
        let many: Vec<_> = (0..9).map(|n| format!("r/{n}/aux")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let told = compare(&many).unwrap();
        assert!(told.len() == 1 && told[0].ends_with("`r/4/aux` and 4 more"), "{told:?}");
    }

    #[test]
    fn paths_that_are_not_named_are_counted_alone() {
        let many: Vec<_> = (0..9).map(|n| format!("r/{:b}\t", n + 16).replace('1', "A")).collect();
        let all = many.iter().map(|path| path.replace('0', "a"));
        let all: Vec<_> = all.collect();
        let told = compare(&all.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let [windows, alike] = told.as_slice() else { panic!("{told:?}") };
        assert!(windows.ends_with(" and 4 more"), "{windows}");
        assert!(alike.ends_with(" and 3 more"), "{alike}");
    }

    #[test]
    fn paths_are_bounded_one_by_one_and_in_all() {
        let mut paths = Paths::default();
        assert!(paths.add(&"a".repeat(MAX_PATH_BYTES + 1), false).is_err());
        let longest = "a".repeat(MAX_PATH_BYTES);
        let fit = (0..).take_while(|_| paths.add(&longest, false).is_ok()).count();
        assert_eq!(fit, MAX_PATHS_BYTES / MAX_PATH_BYTES);
    }
}
