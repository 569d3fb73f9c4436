//! The binary under test, and the ports for it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

use crate::patience::eventually;

/// The folder of the gateway's package.
const GATEWAY: &str = "gateway";
/// The folder of the packages that every binary is made of.
const LIBRARIES: &str = "crates";

/// The binary under test: beside the test binary's own folder, or beside a benchmark. Built,
/// once, where it is missing or older than its sources: cargo does not do it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let profile = profile();
        built(profile.join(name()), || build(&profile))
    })
}

/// Cargo's credential provider, beside it, and built in the same cases.
pub fn credential_provider() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let profile = profile();
        let name = format!("cargo-credential-cratehouse{}", std::env::consts::EXE_SUFFIX);
        built_of("credential", profile.join(name), || build(&profile))
    })
}

/// The binary as organisations run it, in the same target folder, and built in the same cases.
fn release_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let profile = profile();
        let target = profile.parent().unwrap();
        built(target.join("release").join(name()), || build_alone("release", target))
    })
}

/// The release binary where it is newer than its sources, else the binary under test; says which.
pub(super) fn newest_binary() -> &'static Path {
    static BINARY: OnceLock<&'static Path> = OnceLock::new();
    BINARY.get_or_init(|| {
        let release = profile().parent().unwrap().join("release").join(name());
        let fresh = modified(&release).is_some_and(|built| built >= newest(&sources(GATEWAY)));
        let binary = if fresh { release_binary() } else { binary() };
        println!("the binary under test is {}", if fresh { "release" } else { "debug" });
        binary
    })
}

fn name() -> String {
    format!("cratehouse{}", std::env::consts::EXE_SUFFIX)
}

/// The folder of the profile with which the tests, or a benchmark, were built.
fn profile() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
}

fn built(binary: PathBuf, build: impl FnOnce()) -> PathBuf {
    built_of(GATEWAY, binary, build)
}

fn built_of(package: &str, binary: PathBuf, build: impl FnOnce()) -> PathBuf {
    let newest = [package, LIBRARIES].into_iter().map(|folder| newest(&sources(folder))).max();
    if modified(&binary) < newest {
        build();
    }
    binary
}

fn sources(package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn newest(folder: &Path) -> SystemTime {
    let mut files = Vec::new();
    walk(folder, folder, &mut files);
    let times = files.iter().filter_map(|file| modified(&folder.join(file)));
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Of the whole workspace with its tests, as `tests/run` does: cargo would build the
/// dependencies once more for the gateway alone, whose features are fewer. For a benchmark, the
/// gateway alone, as organisations run it.
fn build(profile: &Path) {
    let target = profile.parent().unwrap();
    let name = match profile.file_name().unwrap().to_str().unwrap() {
        "release" => return build_alone("release", target),
        "dist" => return build_alone("dist", target),
        "debug" => "dev",
        other => other,
    };
    cargo_build(&["--workspace", "--all-targets", "--profile", name], target);
}

fn build_alone(profile: &str, target: &Path) {
    cargo_build(&["--package", "cratehouse", "--profile", profile], target);
}

fn cargo_build(what: &[&str], target: &Path) {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--locked"])
        .args(what)
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the binary under test does not build");
}

/// A port that nobody uses. It lies below the range from which the system takes ports for
/// outgoing connections, so that it is still free after a restart; a test process begins at a
/// place of its own.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap();
    eventually("a free port", || {
        let nth = TAKEN.fetch_add(1, Ordering::SeqCst);
        let port = FIRST + start.wrapping_add(nth) % COUNT;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
}

/// Every file below `folder`, as a path from `root`.
/// Whether a file of a folder store is an object that is still being written: `name#1` (object_store's
/// `LocalFileSystem`), in nobody's list.
pub(super) fn is_staged(path: &str) -> bool {
    let number = path.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, root, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_still_written_is_no_object() {
        assert!(is_staged("blobs/mirror/ab/abcd#1") && !is_staged("blobs/mirror/ab/abcd"));
        assert!(!is_staged("a#b"));
    }

    #[test]
    fn ports_differ() {
        let ports: BTreeSet<u16> = (0..20).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 20);
    }
}
