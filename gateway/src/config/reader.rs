//! Reads typed values by key path out of flags, environment and file, and remembers which keys
//! were asked for: whatever else stands in those three is unknown. Problems are collected, not
//! returned, so that all are told at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::near::meant;
use cratehouse_core::secret::Secret;

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "CRATEHOUSE_";

/// Where values come from, the strongest first.
#[derive(Debug)]
pub(super) struct Sources {
    /// Key path → flag and text.
    pub(super) flags: BTreeMap<&'static str, (&'static str, String)>,
    /// Variable → text; only those that begin with [`PREFIX`].
    pub(super) environment: BTreeMap<String, String>,
    /// The TOML file.
    pub(super) file: Table,
    /// How secret files are read.
    pub(super) read: fn(&Path) -> io::Result<String>,
}

/// See the module. Getters take `&self`, so that a struct literal can be filled with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    asked: RefCell<BTreeSet<String>>,
    overridden: RefCell<Vec<String>>,
    problems: RefCell<Vec<String>>,
}

/// A value and how its owner knows it.
struct Found<'a> {
    origin: String,
    raw: Raw<'a>,
}

enum Raw<'a> {
    /// From a flag or a variable: text that becomes what the key wants.
    Text(&'a str),
    /// From the file: it has a type already.
    Toml(&'a Value),
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            asked: RefCell::default(),
            overridden: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// Notes something that is wrong.
    pub(super) fn problem(&self, text: impl Into<String>) {
        self.problems.borrow_mut().push(text.into());
    }

    /// Whether any source has this key.
    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// A text that is not empty.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.parsed(path, |text| Ok::<_, String>(text.to_owned()))
    }

    /// A path.
    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    /// A text that `parse` makes something of; its error says what is allowed.
    pub(super) fn parsed<T, E: Display>(
        &self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let found = self.find(path)?;
        let text = match found.raw {
            Raw::Text(text) => text,
            Raw::Toml(Value::String(text)) => text,
            Raw::Toml(other) => {
                self.refuse(&found.origin, &other.to_string(), "write a text in quotes");
                return None;
            }
        };
        self.parse_one(&found.origin, text, parse)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, path: &str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(path, |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            found.map(|(_, value)| *value).ok_or_else(|| format!("write {}", words.join(" or ")))
        })
    }

    /// A whole number within a range.
    pub(super) fn integer(&self, path: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let Some(found) = self.find(path) else { return default };
        let (shown, number) = match found.raw {
            Raw::Text(text) => (text.to_owned(), text.trim().parse().ok()),
            Raw::Toml(value) => {
                let number = value.as_integer().and_then(|n| u64::try_from(n).ok());
                (value.to_string(), number)
            }
        };
        number.filter(|n| range.contains(n)).unwrap_or_else(|| {
            let allowed = format!("write a whole number from {} to {}", range.start(), range.end());
            self.refuse(&found.origin, &shown, &allowed);
            default
        })
    }

    /// A share, from 0 to 1.
    pub(super) fn ratio(&self, path: &str, default: f64) -> f64 {
        let Some(found) = self.find(path) else { return default };
        let text = match found.raw {
            Raw::Text(text) => text.trim().to_owned(),
            Raw::Toml(value) => value.to_string(),
        };
        let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        share.unwrap_or_else(|| {
            self.refuse(&found.origin, &text, "write a number from 0 to 1");
            default
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, path: &str, default: bool) -> bool {
        let Some(found) = self.find(path) else { return default };
        let (shown, value) = match found.raw {
            Raw::Text(text) => (text.to_owned(), text.trim().parse().ok()),
            Raw::Toml(value) => (value.to_string(), value.as_bool()),
        };
        value.unwrap_or_else(|| {
            self.refuse(&found.origin, &shown, "write true or false");
            default
        })
    }

    /// A list of texts, each parsed; empty when absent.
    pub(super) fn list<T, E: Display>(
        &self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let Some(found) = self.find(path) else { return Vec::new() };
        let origin = &found.origin;
        let texts: Vec<&str> = match found.raw {
            Raw::Text(text) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect(),
            Raw::Toml(Value::Array(values)) if values.iter().all(Value::is_str) => {
                values.iter().filter_map(Value::as_str).collect()
            }
            Raw::Toml(other) => {
                self.refuse(origin, &other.to_string(), "write a list of texts in quotes");
                return Vec::new();
            }
        };
        texts.into_iter().filter_map(|text| self.parse_one(origin, text, &parse)).collect()
    }

    /// A secret: the trimmed content of the file that `{path}_file` names, or the variable of
    /// `path` itself. In the TOML file, `path` is refused.
    pub(super) fn secret(&self, path: &str) -> Option<Secret> {
        let file_key = format!("{path}_file");
        let file = self.path(&file_key);
        let direct = match self.find(path).map(|found| (found.raw, found.origin)) {
            None => None,
            Some((Raw::Text(text), _)) if !text.trim().is_empty() => Some(Secret::new(text.trim())),
            Some((Raw::Text(_), origin)) => {
                self.problem(format!("`{origin}` is empty: unset it, or give it the secret"));
                None
            }
            Some((Raw::Toml(_), origin)) => {
                self.problem(format!(
                    "`{origin}` does not belong into a file that is read by many: write the secret \
                     into a file of its own and name it by `{file_key}`, or set {}",
                    variable(path)
                ));
                return None;
            }
        };
        match (file, direct) {
            (Some(_), Some(_)) => {
                self.problem(format!("give either `{file_key}` or {}, not both", variable(path)));
                None
            }
            (Some(file), None) => self.secret_file(&file_key, &file),
            (None, direct) => direct,
        }
    }

    /// How many tables an array of tables has, by the file and by numbered variables; `None`
    /// when nobody speaks of it. An empty variable of the array's own name means none.
    pub(super) fn rows(&self, path: &str, most: usize) -> Option<usize> {
        let in_file = match self.find(path) {
            None => None,
            Some(Found { raw: Raw::Text(text), origin }) => {
                let rows = self.numbered(path);
                if !text.trim().is_empty() || rows > 0 {
                    self.problem(format!(
                        "`{origin}` can only be empty, and then alone: it means none; set {}__0__… \
                         for the first",
                        variable(path)
                    ));
                }
                self.overridden.borrow_mut().push(format!("{path}."));
                return Some(0);
            }
            Some(Found { raw: Raw::Toml(Value::Array(rows)), .. })
                if rows.iter().all(Value::is_table) =>
            {
                Some(rows.len())
            }
            Some(Found { raw: Raw::Toml(value), origin }) => {
                let allowed = format!("write [[{path}]] sections, or {path} = [] for none");
                self.refuse(&origin, &value.to_string(), &allowed);
                None
            }
        };
        let rows = match (in_file, self.numbered(path)) {
            (None, 0) => return None,
            (in_file, numbered) => in_file.unwrap_or(0).max(numbered),
        };
        if rows > most {
            self.problem(format!("`{path}`: {most} at most"));
        }
        Some(rows.min(most))
    }

    /// The key paths that were asked for.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// All problems, with what nobody asked for.
    pub(super) fn finish(self) -> Vec<String> {
        let (asked, overridden) = (self.asked.into_inner(), self.overridden.into_inner());
        let mut problems = self.problems.into_inner();
        for path in unknown_keys(&self.sources.file, &asked) {
            if !overridden.iter().any(|prefix| path.starts_with(prefix)) {
                problems.push(unknown_key(&path, &asked));
            }
        }
        let variables: BTreeSet<String> = asked.iter().map(|path| variable(path)).collect();
        for name in self.sources.environment.keys().filter(|name| !variables.contains(*name)) {
            problems.push(unknown_variable(name, &variables, &asked));
        }
        problems
    }

    /// One more than the highest number of a variable `CRATEHOUSE_<PATH>__<number>__…`.
    fn numbered(&self, path: &str) -> usize {
        let prefix = format!("{}__", variable(path));
        let number = |name: &String| {
            let (number, _) = name.strip_prefix(&prefix)?.split_once("__")?;
            number.parse::<u16>().ok().map(|n| usize::from(n) + 1)
        };
        self.sources.environment.keys().filter_map(number).max().unwrap_or(0)
    }

    fn find(&self, path: &str) -> Option<Found<'a>> {
        self.asked.borrow_mut().insert(path.to_owned());
        let sources = self.sources;
        if let Some((flag, text)) = sources.flags.get(path) {
            return Some(Found { origin: (*flag).to_owned(), raw: Raw::Text(text) });
        }
        let name = variable(path);
        if let Some(text) = sources.environment.get(&name) {
            return Some(Found { origin: name, raw: Raw::Text(text) });
        }
        let value = lookup(&sources.file, path)?;
        Some(Found { origin: path.to_owned(), raw: Raw::Toml(value) })
    }

    fn parse_one<T, E: Display>(
        &self,
        origin: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = text.trim();
        if text.is_empty() {
            self.problem(format!("`{origin}` is empty: leave it out, or give it a value"));
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(allowed) => {
                self.refuse(origin, text, &allowed.to_string());
                None
            }
        }
    }

    fn refuse(&self, origin: &str, value: &str, allowed: &str) {
        let value: String = without_credentials(value).chars().take(100).collect();
        self.problem(format!("`{origin}` cannot be `{value}`: {allowed}"));
    }

    fn secret_file(&self, key: &str, file: &Path) -> Option<Secret> {
        let shown = file.display();
        match (self.sources.read)(file) {
            Ok(text) if text.trim().is_empty() => {
                self.problem(format!("`{key}`: {shown} is empty"));
                None
            }
            Ok(text) => Some(Secret::new(text.trim())),
            Err(error) => {
                self.problem(format!("`{key}`: {shown} cannot be read: {error}"));
                None
            }
        }
    }
}

/// A value to be shown: of a URL, what stands before its host is a secret.
fn without_credentials(value: &str) -> String {
    let parts = value.split_once("://").and_then(|(s, rest)| Some((s, rest.rsplit_once('@')?.1)));
    parts.map_or_else(|| value.to_owned(), |(scheme, host)| format!("{scheme}://…@{host}"))
}

/// The variable of a key path.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

fn lookup<'a>(file: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = file.get(parts.next()?)?;
    parts.try_fold(first, |value, part| match value {
        Value::Table(table) => table.get(part),
        Value::Array(rows) => rows.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The paths in the file that nobody asked for, and that lead to nothing that was asked for.
fn unknown_keys(file: &Table, asked: &BTreeSet<String>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut open: Vec<(String, &Table)> = vec![(String::new(), file)];
    while let Some((parent, table)) = open.pop() {
        for (key, value) in table {
            let path = format!("{parent}{}", shown_key(key));
            let inner = format!("{path}.");
            let is_section = asked.iter().any(|known| known.starts_with(&inner));
            match value {
                Value::Table(table) if is_section => open.push((inner, table)),
                Value::Array(rows) if asked.contains(&path) && is_section => {
                    let tables = rows.iter().enumerate();
                    open.extend(tables.filter_map(|(i, row)| {
                        row.as_table().map(|table| (format!("{path}.{i}."), table))
                    }));
                }
                _ if asked.contains(&path) => {}
                _ => unknown.push(path),
            }
        }
    }
    unknown.sort();
    unknown
}

/// A key as TOML writes it: quoted when it is not a bare one, so that it cannot pass for a path.
fn shown_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    }
}

fn unknown_key(path: &str, asked: &BTreeSet<String>) -> String {
    let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    let children = asked.iter().filter_map(|known| match parent {
        "" => known.split('.').next(),
        _ => known.strip_prefix(parent)?.strip_prefix('.')?.split('.').next(),
    });
    let allowed: BTreeSet<&str> = children.collect();
    if asked.iter().any(|known| known.starts_with(&format!("{path}."))) {
        return format!("`{path}` is a section: write [{path}] and its keys below it");
    }
    let place = if parent.is_empty() { String::new() } else { format!(" in `{parent}`") };
    let meant = did_you_mean(meant(path, asked).iter().map(|key| format!("`{key}`")));
    format!("unknown key `{path}`{meant}; allowed{place}: {}", comma_list(allowed))
}

/// ` (did you mean this or that?)`, or nothing.
fn did_you_mean(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" (did you mean {}?)", words.join(" or ")),
    }
}

fn unknown_variable(name: &str, known: &BTreeSet<String>, asked: &BTreeSet<String>) -> String {
    let path = name.strip_prefix(PREFIX).unwrap_or(name).replace("__", ".").to_ascii_lowercase();
    let meant = did_you_mean(meant(&path, asked).iter().map(|key| variable(key)));
    let section = name.split_once("__").map(|(section, _)| format!("{section}__"));
    let near: Vec<&str> = known
        .iter()
        .filter(|k| section.as_ref().is_some_and(|section| k.starts_with(section)))
        .map(String::as_str)
        .collect();
    match near.is_empty() {
        false => format!("unknown variable {name}{meant}; allowed: {}", comma_list(near)),
        true => format!(
            "unknown variable {name}{meant}; variables follow the keys, for example {}",
            variable("server.listen")
        ),
    }
}

fn comma_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}
