//! Crates: the file, the index line, and the publish request, each as cargo and crates.io
//! make them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tarball::TarballBuilder;

/// What every fixture's index line says about its publication.
pub const PUBTIME: &str = "2024-02-29T12:34:56Z";

/// crates.io's identity in index lines and publish requests.
pub const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

/// A version of a crate, built step by step:
/// `Krate::new("foo", "1.0.0").dep("bar", "^1")`.
#[derive(Debug, Clone)]
pub struct Krate {
    /// As its author spells it.
    pub name: String,
    /// SemVer, perhaps with build metadata.
    pub version: String,
    deps: Vec<Dep>,
    features: BTreeMap<String, Vec<String>>,
    package: BTreeMap<String, Value>,
    manifest_tail: String,
    manifest: Option<String>,
    lib: String,
    files: BTreeMap<String, Vec<u8>>,
    yanked: bool,
}

/// A dependency of a [`Krate`].
#[derive(Debug, Clone)]
pub struct Dep {
    package: String,
    req: String,
    alias: Option<String>,
    kind: &'static str,
    optional: bool,
    default_features: bool,
    features: Vec<String>,
    target: Option<String>,
    registry: Option<String>,
}

impl Dep {
    /// A normal dependency on a crate of crates.io.
    pub fn new(package: &str, req: &str) -> Self {
        Self {
            package: package.to_owned(),
            req: req.to_owned(),
            alias: None,
            kind: "normal",
            optional: false,
            default_features: true,
            features: Vec::new(),
            target: None,
            registry: None,
        }
    }

    /// For the build script.
    #[must_use]
    pub fn build(mut self) -> Self {
        self.kind = "build";
        self
    }

    /// For tests.
    #[must_use]
    pub fn dev(mut self) -> Self {
        self.kind = "dev";
        self
    }

    /// Optional.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Without its default features.
    #[must_use]
    pub fn no_default_features(mut self) -> Self {
        self.default_features = false;
        self
    }

    /// With these features.
    #[must_use]
    pub fn features(mut self, features: &[&str]) -> Self {
        self.features = owned(features);
        self
    }

    /// Under another name in the code.
    #[must_use]
    pub fn renamed(mut self, alias: &str) -> Self {
        self.alias = Some(alias.to_owned());
        self
    }

    /// Only for a `cfg(…)` or a triple.
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    /// From another registry, by its index URL (`sparse+https://…/`): `registry-index` in the
    /// crate's own manifest, absent in a publish request to that same registry.
    #[must_use]
    pub fn registry_index(mut self, url: &str) -> Self {
        self.registry = Some(url.to_owned());
        self
    }

    fn shown_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.package)
    }

    fn index_json(&self) -> Value {
        let mut dep = json!({
            "name": self.shown_name(),
            "req": self.req,
            "features": self.features,
            "optional": self.optional,
            "default_features": self.default_features,
            "target": self.target,
            "kind": self.kind,
        });
        if self.alias.is_some() {
            dep["package"] = json!(self.package);
        }
        dep
    }

    fn publish_json(&self, publishing_to: &str) -> Value {
        let mut dep = json!({
            "name": self.package,
            "version_req": self.req,
            "features": self.features,
            "optional": self.optional,
            "default_features": self.default_features,
            "target": self.target,
            "kind": self.kind,
        });
        if let Some(alias) = &self.alias {
            dep["explicit_name_in_toml"] = json!(alias);
        }
        match &self.registry {
            None => dep["registry"] = json!(CRATES_IO),
            Some(url) if url != publishing_to => dep["registry"] = json!(url),
            Some(_) => {}
        }
        dep
    }

    fn manifest(&self, out: &mut String) {
        let table = match self.kind {
            "build" => "build-dependencies",
            "dev" => "dev-dependencies",
            _ => "dependencies",
        };
        let target =
            self.target.as_ref().map_or(String::new(), |t| format!("target.{}.", toml_str(t)));
        let _ = writeln!(out, "\n[{target}{table}.{}]", self.shown_name());
        let _ = writeln!(out, "version = {}", toml_str(&self.req));
        if self.alias.is_some() {
            let _ = writeln!(out, "package = {}", toml_str(&self.package));
        }
        if self.optional {
            out.push_str("optional = true\n");
        }
        if !self.default_features {
            out.push_str("default-features = false\n");
        }
        if !self.features.is_empty() {
            let _ = writeln!(out, "features = {}", json!(self.features));
        }
        if let Some(url) = &self.registry {
            let _ = writeln!(out, "registry-index = {}", toml_str(url));
        }
    }
}

impl Krate {
    /// A crate with a library and nothing else.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            deps: Vec::new(),
            features: BTreeMap::new(),
            package: BTreeMap::new(),
            manifest_tail: String::new(),
            manifest: None,
            lib: format!("//! {name} {version}\n"),
            files: BTreeMap::new(),
            yanked: false,
        }
    }

    /// With a normal dependency.
    #[must_use]
    pub fn dep(self, package: &str, req: &str) -> Self {
        self.with(Dep::new(package, req))
    }

    /// With a dependency of any kind.
    #[must_use]
    pub fn with(mut self, dep: Dep) -> Self {
        self.deps.push(dep);
        self
    }

    /// With a feature.
    #[must_use]
    pub fn feature(mut self, name: &str, values: &[&str]) -> Self {
        self.features.insert(name.to_owned(), owned(values));
        self
    }

    /// With a key in `[package]`: `.package("description", "…")`.
    #[must_use]
    pub fn package(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.package.insert(key.to_owned(), value.into());
        self
    }

    /// With more text at the end of the manifest.
    #[must_use]
    pub fn manifest_tail(mut self, text: &str) -> Self {
        self.manifest_tail.push_str(text);
        self
    }

    /// With this manifest and no other.
    #[must_use]
    pub fn manifest_text(mut self, text: &str) -> Self {
        self.manifest = Some(text.to_owned());
        self
    }

    /// With this `src/lib.rs`. Another text makes another checksum.
    #[must_use]
    pub fn lib(mut self, source: &str) -> Self {
        self.lib = source.to_owned();
        self
    }

    /// With one more file, such as `src/main.rs` or `build.rs`.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), bytes.into());
        self
    }

    /// With a file of that many bytes that do not compress.
    #[must_use]
    pub fn ballast(self, bytes: usize) -> Self {
        let mut noise = Vec::with_capacity(bytes + 32);
        let mut block = Sha256::digest(b"ballast");
        while noise.len() < bytes {
            noise.extend_from_slice(&block);
            block = Sha256::digest(block);
        }
        noise.truncate(bytes);
        self.file("ballast.bin", noise)
    }

    /// Yanked from the start, in an upstream's index.
    #[must_use]
    pub fn yanked(mut self) -> Self {
        self.yanked = true;
        self
    }

    /// The folder in which everything in the crate file stands.
    pub fn root(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// The manifest as cargo normalises it.
    pub fn manifest(&self) -> String {
        if let Some(text) = &self.manifest {
            return text.clone();
        }
        let mut out = String::from("[package]\nedition = \"2021\"\n");
        let _ = writeln!(out, "name = {}", toml_str(&self.name));
        let _ = writeln!(out, "version = {}", toml_str(&self.version));
        for (key, value) in &self.package {
            let _ = writeln!(out, "{key} = {value}");
        }
        if !self.features.is_empty() {
            out.push_str("\n[features]\n");
            for (name, values) in &self.features {
                let _ = writeln!(out, "{} = {}", toml_str(name), json!(values));
            }
        }
        for dep in &self.deps {
            dep.manifest(&mut out);
        }
        out + &self.manifest_tail
    }

    /// The crate file. The same steps make the same bytes.
    pub fn crate_bytes(&self) -> Vec<u8> {
        let root = self.root();
        let mut tarball = TarballBuilder::new()
            .file(&format!("{root}/Cargo.toml"), self.manifest().as_bytes())
            .file(&format!("{root}/src/lib.rs"), self.lib.as_bytes());
        for (path, bytes) in &self.files {
            tarball = tarball.file(&format!("{root}/{path}"), bytes);
        }
        tarball.gzip()
    }

    /// SHA-256 of the crate file, in hexadecimal.
    pub fn cksum(&self) -> String {
        sha256(&self.crate_bytes())
    }

    /// The index line as crates.io writes it, in its order of fields, with an unknown field
    /// and odd spacing, so that whoever parses and prints it again changes it. Without `\n`.
    pub fn index_line(&self) -> String {
        let deps: Vec<Value> = self.deps.iter().map(Dep::index_json).collect();
        let (plain, new) = split_features(&self.features);
        let mut line = format!(
            r#"{{"name":{},"vers":{},"deps":{},"cksum":{},"features":{},"yanked":{}"#,
            json!(self.name),
            json!(self.version),
            json!(deps),
            json!(self.cksum()),
            json!(plain),
            self.yanked,
        );
        for (key, field) in [("links", "links"), ("rust-version", "rust_version")] {
            if let Some(value) = self.package.get(key) {
                let _ = write!(line, r#","{field}":{value}"#);
            }
        }
        let _ = write!(line, r#","pubtime":"{PUBTIME}""#);
        if !new.is_empty() {
            let _ = write!(line, r#","features2":{},"v":2"#, json!(new));
        }
        line + r#", "from_the_future": {"b": 1.50, "a": "\u00e9"}}"#
    }

    /// The JSON part of cargo's publish request. `publishing_to` is the registry's index URL:
    /// dependencies from there carry no `registry`.
    pub fn publish_json(&self, publishing_to: &str) -> Value {
        let deps: Vec<Value> = self.deps.iter().map(|d| d.publish_json(publishing_to)).collect();
        let field = |key: &str| self.package.get(key).cloned().unwrap_or(Value::Null);
        json!({
            "name": self.name,
            "vers": self.version,
            "deps": deps,
            "features": self.features,
            "authors": [],
            "description": field("description"),
            "documentation": field("documentation"),
            "homepage": field("homepage"),
            "readme": null,
            "readme_file": null,
            "keywords": self.package.get("keywords").cloned().unwrap_or(json!([])),
            "categories": self.package.get("categories").cloned().unwrap_or(json!([])),
            "license": field("license"),
            "license_file": field("license-file"),
            "repository": field("repository"),
            "badges": {},
            "links": field("links"),
            "rust_version": field("rust-version"),
        })
    }

    /// The body of cargo's publish request.
    pub fn publish_body(&self) -> Vec<u8> {
        frame(self.publish_json("").to_string().as_bytes(), &self.crate_bytes())
    }

    /// A publish request for this crate with another crate file in it.
    pub fn publish_body_with(&self, crate_bytes: &[u8]) -> Vec<u8> {
        frame(self.publish_json("").to_string().as_bytes(), crate_bytes)
    }
}

/// A publish request's body: both parts, each after its length (Cargo book, "Web API").
pub fn frame(json: &[u8], crate_bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(json.len() + crate_bytes.len() + 8);
    for part in [json, crate_bytes] {
        body.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
        body.extend_from_slice(part);
    }
    body
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where a sparse index keeps a crate's file (Cargo book, "Index files"): `se/rd/serde`.
pub fn index_path(name: &str) -> String {
    let name = name.to_lowercase();
    format!("{}/{name}", prefix(&name))
}

/// The folders of [`index_path`], with the name's case kept: `{prefix}` in a `dl`.
pub fn prefix(name: &str) -> String {
    match name.len() {
        1 => "1".to_owned(),
        2 => "2".to_owned(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

type Features = BTreeMap<String, Vec<String>>;

/// As crates.io does it: features that use `dep:` or `?/`, and those that need them, go apart.
fn split_features(all: &Features) -> (Features, Features) {
    let mut new: Features = Features::new();
    loop {
        let before = new.len();
        for (name, values) in all {
            let is_new = |v: &String| {
                v.starts_with("dep:") || v.contains("?/") || new.contains_key(v.as_str())
            };
            if values.iter().any(is_new) {
                new.insert(name.clone(), values.clone());
            }
        }
        if new.len() == before {
            let plain = all.iter().filter(|(name, _)| !new.contains_key(*name));
            return (plain.map(|(n, v)| (n.clone(), v.clone())).collect(), new);
        }
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

/// A JSON string of plain text is a TOML string too.
fn toml_str(text: &str) -> String {
    json!(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_steps_make_the_same_bytes_and_another_text_another_checksum() {
        let make = || Krate::new("foo", "1.0.0").dep("bar", "^1");
        assert_eq!(make().crate_bytes(), make().crate_bytes());
        assert_ne!(make().cksum(), make().lib("pub fn x() {}").cksum());
    }

    #[test]
    fn a_line_is_json_that_does_not_survive_being_parsed_and_printed() {
        let line = Krate::new("foo", "1.0.0").dep("bar", "^1").index_line();
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["deps"][0]["name"], "bar");
        assert_ne!(value.to_string(), line);
    }

    #[test]
    fn features_that_old_cargos_do_not_know_go_to_features2_with_those_that_need_them() {
        let krate = Krate::new("foo", "1.0.0")
            .with(Dep::new("bar", "1").optional())
            .feature("default", &["nice"])
            .feature("nice", &["dep:bar"])
            .feature("plain", &[]);
        let line: Value = serde_json::from_str(&krate.index_line()).unwrap();
        assert_eq!(line["features"], json!({"plain": []}));
        assert_eq!(line["features2"], json!({"default": ["nice"], "nice": ["dep:bar"]}));
        assert_eq!(line["v"], 2);
    }

    #[test]
    fn a_request_names_the_registry_of_a_dependency_only_when_it_is_another() {
        let ours = "sparse+https://gw.example/index/";
        let krate =
            Krate::new("foo", "1.0.0").dep("a", "1").with(Dep::new("b", "1").registry_index(ours));
        let json = krate.publish_json(ours);
        assert_eq!(json["deps"][0]["registry"], CRATES_IO);
        assert_eq!(json["deps"][1].get("registry"), None);
        assert!(krate.manifest().contains("registry-index = \"sparse+https://gw.example/index/\""));
    }

    #[test]
    fn a_frame_is_two_parts_after_their_lengths() {
        assert_eq!(frame(b"{}", b"x"), b"\x02\0\0\0{}\x01\0\0\0x");
    }
}
