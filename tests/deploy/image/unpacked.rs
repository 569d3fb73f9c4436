//! An OCI layout, unpacked and run without any container runtime.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cratehouse_tests::watchdog::Watchdog;
use flate2::read::GzDecoder;
use serde_json::Value;
use tempfile::TempDir;

/// An image as `deploy/image/build` leaves it.
pub(super) struct Image {
    /// With `oci/`, `digest` and `sbom.cdx.json`.
    pub(super) folder: PathBuf,
    /// What the image says of itself.
    pub(super) config: Value,
    layers: Vec<PathBuf>,
    root: TempDir,
}

impl Image {
    pub(super) fn open(folder: &Path) -> Self {
        let oci = folder.join("oci");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            oci.join("blobs").join(digest.replace(':', "/"))
        };
        let index = json(&oci.join("index.json"));
        let manifest = json(&blob(&index["manifests"][0]));
        let layers = manifest["layers"].as_array().unwrap().iter().map(blob).collect();
        let config = json(&blob(&manifest["config"]));
        let folder = folder.to_owned();
        let mut image = Self { folder, config, layers, root: tempfile::tempdir().unwrap() };
        image.root = image.unpack();
        image
    }

    /// The digest under which it is pulled.
    pub(super) fn digest(&self) -> String {
        let index = json(&self.folder.join("oci/index.json"));
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    }

    /// Of its compressed layers.
    pub(super) fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| fs::metadata(layer).unwrap().len()).sum()
    }

    /// What in it is not root's.
    pub(super) fn others_property(&self) -> Vec<String> {
        let mut found = Vec::new();
        for layer in &self.layers {
            let mut layer = tar::Archive::new(GzDecoder::new(File::open(layer).unwrap()));
            for entry in layer.entries().unwrap().map(Result::unwrap) {
                if (entry.header().uid().unwrap(), entry.header().gid().unwrap()) != (0, 0) {
                    found.push(entry.path().unwrap().display().to_string());
                }
            }
        }
        found
    }

    /// Its files, to look at.
    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its files, to run, with the places that every runtime adds.
    pub(super) fn unpack(&self) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for layer in &self.layers {
            let layer = GzDecoder::new(File::open(layer).unwrap());
            tar::Archive::new(layer).unpack(root.path()).unwrap();
        }
        for folder in ["proc", "dev"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        root
    }

    /// The binary in such a root, which it may only read, as the user that the image names; with the
    /// image's own variables and these.
    pub(super) fn command(&self, root: &Path, data: &Path, variables: &[(&str, &str)]) -> Command {
        let program = self.config["config"]["Entrypoint"][0].as_str().unwrap();
        self.program(program, root, data, variables)
    }

    /// The same for any program in it.
    pub(super) fn program(
        &self,
        program: &str,
        root: &Path,
        data: &Path,
        variables: &[(&str, &str)],
    ) -> Command {
        let config = &self.config["config"];
        let (user, group) = config["User"].as_str().unwrap().split_once(':').unwrap();
        let mut command = Command::new("bwrap");
        command
            .args(["--die-with-parent", "--unshare-user", "--unshare-pid", "--clearenv"])
            .args(["--uid", user, "--gid", group, "--ro-bind"])
            .arg(root)
            .args(["/", "--proc", "/proc", "--dev", "/dev", "--bind"])
            .arg(data)
            .arg("/var/lib/cratehouse");
        let own = config["Env"].as_array().unwrap().iter();
        let own = own.map(|variable| variable.as_str().unwrap().split_once('=').unwrap());
        for (name, value) in own.chain(variables.iter().copied()) {
            command.args(["--setenv", name, value]);
        }
        command.arg("--").arg(program);
        command.stdin(Stdio::null());
        command
    }
}

/// A process that is killed when this is dropped, or when the tests end.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(command.process_group(Watchdog::shared().group()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
