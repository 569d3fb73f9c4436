//! The part of the manifest format that is read. Old spellings are accepted beside the new ones,
//! never both at once; unknown keys are passed over, and nothing of them is kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{MAX_WORDS, ManifestError, ManifestLimits};
use crate::toml_walk::{MANIFEST, Node, Place, Stopped, Visitor, walk};
use cratehouse_core::excerpt::excerpt;

/// A dependency table.
pub(super) type RawDeps = BTreeMap<String, RawDep>;

/// A Cargo.toml.
#[derive(Debug, Default)]
pub(super) struct RawManifest {
    pub(super) package: Option<RawPackage>,
    pub(super) dependencies: RawDeps,
    pub(super) dev_dependencies: RawDeps,
    pub(super) build_dependencies: RawDeps,
    pub(super) target: BTreeMap<String, RawTarget>,
    pub(super) features: BTreeMap<String, Vec<String>>,
    /// Whether the tables have something in them.
    pub(super) patch: bool,
    pub(super) replace: bool,
    /// `[lints] workspace`
    pub(super) inherits_lints: bool,
}

/// The dependencies for one target.
#[derive(Debug, Default)]
pub(super) struct RawTarget {
    pub(super) dependencies: RawDeps,
    pub(super) dev_dependencies: RawDeps,
    pub(super) build_dependencies: RawDeps,
}

/// `[package]`: what of it the index and the pages need.
#[derive(Debug, Default)]
pub(super) struct RawPackage {
    values: BTreeMap<&'static str, RawValue>,
    /// The first key, known here or not, that says `key.workspace = …`.
    pub(super) inherited: Option<String>,
}

/// A value in `[package]`.
#[derive(Debug)]
pub(super) enum RawValue {
    Text(String),
    Bool(bool),
    /// Texts, [`MAX_WORDS`] of them and perhaps one more.
    Words(Vec<String>),
    /// Anything else.
    Other,
}

/// The keys of `[package]` that are read.
const PACKAGE_KEYS: [&str; 13] = [
    "categories",
    "description",
    "documentation",
    "homepage",
    "keywords",
    "license",
    "license-file",
    "links",
    "name",
    "readme",
    "repository",
    "rust-version",
    "version",
];

/// A dependency: its requirement alone, or a table.
#[derive(Debug, Default)]
pub(super) struct RawDep(pub(super) RawDetail);

/// A dependency's table; where the value does not matter, whether there is one.
#[derive(Debug, Default)]
pub(super) struct RawDetail {
    pub(super) version: Option<String>,
    pub(super) package: Option<String>,
    pub(super) registry: Option<()>,
    pub(super) registry_index: Option<String>,
    pub(super) path: Option<()>,
    pub(super) git: Option<()>,
    pub(super) features: Vec<String>,
    pub(super) optional: bool,
    pub(super) default_features: Option<bool>,
    pub(super) workspace: Option<()>,
    pub(super) artifact: Option<()>,
    pub(super) lib: Option<()>,
    pub(super) target: Option<()>,
}

impl RawManifest {
    /// Reads a Cargo.toml.
    ///
    /// # Errors
    /// When it is not TOML, holds more than the limits, or a key that is wanted has another kind of
    /// value.
    pub(super) fn read(text: &str, limits: &ManifestLimits) -> Result<Self, ManifestError> {
        let mut reader =
            Reader { limits, manifest: Self::default(), deps: 0, spellings: [None; 4] };
        match walk(text, MANIFEST, &mut reader) {
            Ok(()) => Ok(reader.manifest),
            Err(Stopped::Toml(error)) => Err(ManifestError::Toml(error.to_string())),
            Err(Stopped::Visitor(error)) => Err(error),
        }
    }
}

impl RawPackage {
    pub(super) fn get(&self, key: &str) -> Option<&RawValue> {
        self.values.get(key)
    }
}

/// Fills a manifest while its text is walked.
struct Reader<'l> {
    limits: &'l ManifestLimits,
    manifest: RawManifest,
    /// The dependencies so far, of all tables.
    deps: usize,
    /// Which spelling of a table was met, of those that have two.
    spellings: [Option<&'static str>; 4],
}

/// What says that a key must be something else.
type Wrong = ManifestError;

fn wrong(at: Place<'_>, kind: &'static str) -> Wrong {
    ManifestError::NotOfKind(excerpt(&at.keys.join(".")), kind)
}

/// The same of the key that something is below of.
fn wrong_parent(at: Place<'_>, depth: usize, kind: &'static str) -> Wrong {
    let keys = at.keys.get(..depth).unwrap_or(at.keys);
    wrong(Place { keys, ..at }, kind)
}

/// The keys of a dependency that have a plain value, and which.
const PLAIN: [(&str, &str); 7] = [
    ("version", "a text"),
    ("package", "a text"),
    ("registry-index", "a text"),
    ("features", "a list of texts"),
    ("optional", "true or false"),
    ("default-features", "true or false"),
    ("default_features", "true or false"),
];

impl Visitor for Reader<'_> {
    type Error = ManifestError;

    fn value(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), ManifestError> {
        if at.arrays > 0 {
            return Ok(());
        }
        match at.keys {
            [table] => self.top(table, at, node),
            ["package" | "project", key, rest @ ..] => self.package(at, key, rest, node),
            ["features", name] => self.feature(at, name, node),
            ["features", ..] => Err(wrong_parent(at, 2, "a list of texts")),
            ["target", name, rest @ ..] => self.target(at, name, rest, node),
            ["patch", ..] => {
                self.manifest.patch = true;
                Ok(())
            }
            ["replace", ..] => {
                self.manifest.replace = true;
                Ok(())
            }
            ["lints", "workspace", ..] => {
                self.manifest.inherits_lints = true;
                Ok(())
            }
            [table, name, rest @ ..] => match Kind::of(table) {
                Some(kind) => self.dependency(at, None, kind, name, rest, node),
                None => Ok(()),
            },
            [] => Ok(()),
        }
    }

    fn item(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), ManifestError> {
        if at.arrays > 0 {
            return Ok(());
        }
        match at.keys {
            ["package" | "project", key] => {
                self.word(key, node);
                Ok(())
            }
            ["features", name] => {
                let Some(values) = self.manifest.features.get_mut(*name) else { return Ok(()) };
                push_text(at, values, self.limits.features, node)
            }
            ["target", target, table, name, "features"] => match Kind::of(table) {
                Some(kind) => self.dependency_feature(at, Some(target), kind, name, node),
                None => Ok(()),
            },
            [table, name, "features"] => match Kind::of(table) {
                Some(kind) => self.dependency_feature(at, None, kind, name, node),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// A list of texts grows, up to one more than the limit, so that it is seen to be too long.
fn push_text(
    at: Place<'_>,
    list: &mut Vec<String>,
    limit: usize,
    node: Node<'_>,
) -> Result<(), Wrong> {
    let Node::Text(text) = node else { return Err(wrong(at, "a list of texts")) };
    if list.len() <= limit {
        list.push(text.to_owned());
    }
    Ok(())
}

impl Reader<'_> {
    /// A key at the top: the tables that are wanted must be tables.
    fn top(&mut self, table: &str, at: Place<'_>, node: Node<'_>) -> Result<(), Wrong> {
        let is_package = matches!(table, "package" | "project");
        let is_wanted = is_package
            || Kind::of(table).is_some()
            || matches!(table, "features" | "target" | "patch" | "replace" | "lints");
        if is_wanted && node != Node::Table {
            return Err(wrong(at, "a table"));
        }
        if is_package {
            self.package_table(table)?;
        }
        match Kind::of(table) {
            Some(kind) => self.spelling(kind, table),
            None => Ok(()),
        }
    }

    fn package_table(&mut self, table: &str) -> Result<&mut RawPackage, Wrong> {
        let spelled = if table == "package" { "package" } else { "project" };
        self.only_spelling(3, spelled)?;
        Ok(self.manifest.package.get_or_insert_default())
    }

    /// Tables with two spellings may be written in one of them.
    fn spelling(&mut self, kind: Kind, table: &str) -> Result<(), Wrong> {
        let (slot, [new, old]) = match kind {
            Kind::Normal => return Ok(()),
            Kind::Dev => (1, ["dev-dependencies", "dev_dependencies"]),
            Kind::Build => (2, ["build-dependencies", "build_dependencies"]),
        };
        self.only_spelling(slot, if table == new { new } else { old })
    }

    fn only_spelling(&mut self, slot: usize, spelled: &'static str) -> Result<(), Wrong> {
        let Some(former) = self.spellings.get_mut(slot) else { return Ok(()) };
        match former.replace(spelled).filter(|former| *former != spelled) {
            Some(former) => Err(ManifestError::Toml(format!(
                "`{former}` and `{spelled}` are the same table: write one of them"
            ))),
            None => Ok(()),
        }
    }

    fn package(
        &mut self,
        at: Place<'_>,
        key: &str,
        rest: &[&str],
        node: Node<'_>,
    ) -> Result<(), Wrong> {
        let package = self.package_table(at.keys.first().copied().unwrap_or_default())?;
        if key != "metadata" && rest.first() == Some(&"workspace") {
            package.inherited.get_or_insert_with(|| excerpt(key));
        }
        let Some(key) = PACKAGE_KEYS.into_iter().find(|wanted| *wanted == key) else {
            return Ok(());
        };
        let value = match node {
            Node::Text(text) if rest.is_empty() => RawValue::Text(text.to_owned()),
            Node::Bool(value) if rest.is_empty() => RawValue::Bool(value),
            Node::Array if rest.is_empty() => RawValue::Words(Vec::new()),
            _ => RawValue::Other,
        };
        package.values.insert(key, value);
        Ok(())
    }

    /// An item of a list in `[package]`.
    fn word(&mut self, key: &str, node: Node<'_>) {
        let package = self.manifest.package.as_mut();
        let Some(value) = package.and_then(|package| package.values.get_mut(key)) else { return };
        match (&mut *value, node) {
            (RawValue::Words(words), Node::Text(text)) => {
                if words.len() <= MAX_WORDS {
                    words.push(text.to_owned());
                }
            }
            _ => *value = RawValue::Other,
        }
    }

    fn feature(&mut self, at: Place<'_>, name: &str, node: Node<'_>) -> Result<(), Wrong> {
        if node != Node::Array {
            return Err(wrong(at, "a list of texts"));
        }
        if self.manifest.features.len() <= self.limits.features {
            self.manifest.features.insert(name.to_owned(), Vec::new());
        }
        Ok(())
    }

    fn target(
        &mut self,
        at: Place<'_>,
        name: &str,
        rest: &[&str],
        node: Node<'_>,
    ) -> Result<(), Wrong> {
        if rest.is_empty() && node != Node::Table {
            return Err(wrong(at, "a table"));
        }
        if !self.manifest.target.contains_key(name) {
            if self.manifest.target.len() == self.limits.dependencies {
                return Err(self.too_many());
            }
            self.manifest.target.insert(name.to_owned(), RawTarget::default());
        }
        let [table, rest @ ..] = rest else { return Ok(()) };
        match (Kind::of(table), rest) {
            (Some(_), []) if node != Node::Table => Err(wrong(at, "a table")),
            (Some(kind), [dep, rest @ ..]) => {
                self.dependency(at, Some(name), kind, dep, rest, node)
            }
            _ => Ok(()),
        }
    }

    fn too_many(&self) -> Wrong {
        ManifestError::TooManyDependencies { limit: self.limits.dependencies }
    }

    fn table(&mut self, target: Option<&str>, kind: Kind) -> Option<&mut RawDeps> {
        let manifest = &mut self.manifest;
        Some(match (target, kind) {
            (None, Kind::Normal) => &mut manifest.dependencies,
            (None, Kind::Dev) => &mut manifest.dev_dependencies,
            (None, Kind::Build) => &mut manifest.build_dependencies,
            (Some(target), kind) => {
                let target = manifest.target.get_mut(target)?;
                match kind {
                    Kind::Normal => &mut target.dependencies,
                    Kind::Dev => &mut target.dev_dependencies,
                    Kind::Build => &mut target.build_dependencies,
                }
            }
        })
    }

    /// A dependency, or a key of one.
    fn dependency(
        &mut self,
        at: Place<'_>,
        target: Option<&str>,
        kind: Kind,
        name: &str,
        rest: &[&str],
        node: Node<'_>,
    ) -> Result<(), Wrong> {
        if target.is_none() {
            self.spelling(kind, at.keys.first().copied().unwrap_or_default())?;
        }
        let (full, too_many) = (self.deps >= self.limits.dependencies, self.too_many());
        let Some(table) = self.table(target, kind) else { return Ok(()) };
        let mut is_new = false;
        let RawDep(detail) = match table.entry(name.to_owned()) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(_) if full => return Err(too_many),
            Entry::Vacant(free) => {
                is_new = true;
                free.insert(RawDep::default())
            }
        };
        let set = match rest {
            [] => detail.set_whole(at, node),
            [key] => detail.set(at, key, node),
            // `workspace.x = 1`, `path.x = 1`: that it is there is enough.
            [key, below @ ..] => detail.set_part(at, key, below.len()),
        };
        self.deps += usize::from(is_new);
        set
    }

    fn dependency_feature(
        &mut self,
        at: Place<'_>,
        target: Option<&str>,
        kind: Kind,
        name: &str,
        node: Node<'_>,
    ) -> Result<(), Wrong> {
        let limit = self.limits.features;
        let dep = self.table(target, kind).and_then(|table| table.get_mut(name));
        match dep {
            Some(RawDep(detail)) => push_text(at, &mut detail.features, limit, node),
            None => Ok(()),
        }
    }
}

impl RawDetail {
    fn set_whole(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), Wrong> {
        match node {
            Node::Table => Ok(()),
            Node::Text(version) => {
                self.version = Some(version.to_owned());
                Ok(())
            }
            _ => Err(wrong(
                at,
                "a version requirement like \"0.9.8\" or a table like { version = \"0.9.8\" }",
            )),
        }
    }

    fn set(&mut self, at: Place<'_>, key: &str, node: Node<'_>) -> Result<(), Wrong> {
        let text = || match node {
            Node::Text(text) => Ok(Some(text.to_owned())),
            _ => Err(wrong(at, "a text")),
        };
        let yes_or_no = || match node {
            Node::Bool(value) => Ok(value),
            _ => Err(wrong(at, "true or false")),
        };
        match key {
            "version" => self.version = text()?,
            "package" => self.package = text()?,
            "registry-index" => self.registry_index = text()?,
            "optional" => self.optional = yes_or_no()?,
            "features" if node != Node::Array => return Err(wrong(at, "a list of texts")),
            "features" => {}
            "default-features" | "default_features" => {
                if self.default_features.replace(yes_or_no()?).is_some() {
                    return Err(ManifestError::Toml(format!(
                        "`{}` is there in two spellings: write one of them",
                        excerpt(&at.keys.join("."))
                    )));
                }
            }
            _ => self.note(key),
        }
        Ok(())
    }

    /// Something below a key.
    fn set_part(&mut self, at: Place<'_>, key: &str, below: usize) -> Result<(), Wrong> {
        if let Some((_, kind)) = PLAIN.iter().find(|(plain, _)| *plain == key) {
            return Err(wrong_parent(at, at.keys.len().saturating_sub(below), kind));
        }
        self.note(key);
        Ok(())
    }

    /// That a key is there.
    fn note(&mut self, key: &str) {
        match key {
            "registry" => self.registry = Some(()),
            "path" => self.path = Some(()),
            "git" => self.git = Some(()),
            "workspace" => self.workspace = Some(()),
            "artifact" => self.artifact = Some(()),
            "lib" => self.lib = Some(()),
            "target" => self.target = Some(()),
            _ => {}
        }
    }
}

/// What the dependencies of a table are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Dev,
    Build,
}

impl Kind {
    fn of(table: &str) -> Option<Self> {
        match table {
            "dependencies" => Some(Self::Normal),
            "dev-dependencies" | "dev_dependencies" => Some(Self::Dev),
            "build-dependencies" | "build_dependencies" => Some(Self::Build),
            _ => None,
        }
    }
}
