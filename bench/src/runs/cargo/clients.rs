//! Cargo processes that begin at one time.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cratehouse_tests::cargo::{Cargo, Folder};
use serde::Serialize;

use super::Registry;
use crate::Result;
use crate::corpus::LOCK;

/// One platform's packages, as a machine that builds gets them.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Folders in memory that Linux has: what is unpacked there waits for no disk.
const IN_MEMORY: &str = "/dev/shm";

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Does {
    /// Get every package of the lock file.
    Fetch,
    /// Make the lock file.
    Resolve,
}

impl Does {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Resolve => "generate-lockfile",
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Fetch => &["fetch", "--locked", "--quiet", "--target", TARGET],
            Self::Resolve => &["generate-lockfile", "--quiet"],
        }
    }
}

/// Each has an empty home and a project of its own. Gives how long it takes until all have ended.
pub(super) fn race(registry: &Registry, does: Does, processes: usize) -> Result<Duration> {
    let runners = (0..processes).map(|_| Ok((cargo(registry)?, project(does)?)));
    let runners = runners.collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let all: Vec<_> = runners
            .iter()
            .map(|(cargo, project)| scope.spawn(|| cargo.run(project, does.args())))
            .collect();
        all.into_iter().try_for_each(|one| match one.join() {
            Ok(ran) if ran.ok => Ok(()),
            Ok(ran) => Err(format!("from {}: {ran}", registry.label).into()),
            Err(_) => Err("a cargo could not be run".into()),
        })
    })
    .map(|()| begun.elapsed())
}

fn cargo(registry: &Registry) -> Result<Cargo> {
    let homes = Path::new(IN_MEMORY);
    let elsewhere = std::env::temp_dir();
    let homes = if homes.is_dir() { homes } else { &elsewhere };
    let cargo = Cargo::at(registry.index.as_deref().unwrap_or_default(), &registry.ca, homes);
    if registry.index.is_none() {
        cargo.configure("");
    } else if !registry.has_view {
        let configuration = std::fs::read_to_string(cargo.config_path())?;
        cargo.configure(&configuration.replace("/crates-io/index/", "/index/"));
    }
    Ok(cargo)
}

/// A copy of the project of the corpus.
fn project(does: Does) -> Result<Folder> {
    let (lock, folder) = (Path::new(LOCK), Folder::empty());
    for name in ["Cargo.toml", "Cargo.lock", "lib.rs"] {
        if !(does == Does::Resolve && name == "Cargo.lock") {
            folder.write(name, &std::fs::read_to_string(lock.with_file_name(name))?);
        }
    }
    Ok(folder)
}
