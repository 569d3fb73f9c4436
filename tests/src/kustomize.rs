//! The overlays of `deploy/k8s/` as kubectl builds them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tools::{said, tool};

/// Debian's, whose kustomize (2.0 in Debian 12) is the oldest that must do.
pub const OLD_KUBECTL: &str = "kubectl-debian";
/// One with today's kustomize.
pub const NEW_KUBECTL: &str = "kubectl-1.37";

/// YAML as Kubernetes reads it: 1.1, in which `0440` is octal.
const TO_JSON: &str = "import json, sys, yaml; \
    print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";

/// One overlay, built.
#[derive(Debug)]
pub struct Overlay {
    /// Its folder's name.
    pub name: String,
    /// The objects as YAML.
    pub yaml: String,
    /// And as values.
    pub objects: Vec<Value>,
}

/// `deploy/k8s/`
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/k8s")
}

/// Every overlay, built by one of the kubectls.
pub fn overlays(kubectl: &str) -> Vec<Overlay> {
    let folders = fs::read_dir(manifests().join("overlays")).unwrap().map(|e| e.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().map(|folder| Overlay::build(kubectl, folder)).collect()
}

impl Overlay {
    /// Builds the overlay in a folder.
    pub fn build(kubectl: &str, folder: &Path) -> Self {
        let yaml = said(tool(kubectl).arg("kustomize").arg(folder));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &yaml).unwrap();
        let json = said(tool("python/bin/python").args(["-c", TO_JSON]).arg(file.path()));
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, yaml, objects: serde_json::from_str(&json).unwrap() }
    }

    /// All objects of a kind.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The one object of a kind.
    pub fn one(&self, kind: &str) -> &Value {
        let [one] = self.all(kind)[..] else { panic!("{}: one {kind}", self.name) };
        one
    }

    /// The pods' template.
    pub fn pod(&self) -> &Value {
        &self.one("Deployment")["spec"]["template"]
    }

    /// Their one container.
    pub fn container(&self) -> &Value {
        let containers = self.pod()["spec"]["containers"].as_array().unwrap();
        let [one] = &containers[..] else { panic!("{}: one container", self.name) };
        one
    }

    /// The variables of the container whose values stand there.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let variables = list(&self.container()["env"]);
        variables.iter().map(|v| (text(&v["name"]), text(&v["value"]))).collect()
    }

    /// The ConfigMap that is mounted as a volume of that name.
    pub fn config_map(&self, volume: &str) -> &Value {
        let volumes = list(&self.pod()["spec"]["volumes"]);
        let name = &volumes.iter().find(|v| v["name"] == volume).unwrap()["configMap"]["name"];
        let maps = self.all("ConfigMap");
        maps.into_iter()
            .find(|map| map["metadata"]["name"] == *name)
            .unwrap_or_else(|| panic!("{}: no ConfigMap {name}", self.name))
    }

    /// The configuration of the gateway.
    pub fn config(&self) -> toml::Table {
        self.config_map("config")["data"]["cratehouse.toml"].as_str().unwrap().parse().unwrap()
    }
}

/// The items of a list that may be missing.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
