//! Tells the binary which commit it was made from: `CRATEHOUSE_BUILD_COMMIT` is the first twelve
//! digits of the commit, with `-dirty` behind it where what the binary is made of differs from it, or
//! `unknown`.
//!
//! The variable `CRATEHOUSE_COMMIT` has the last word, for builds from sources without git.

#![allow(clippy::disallowed_macros, reason = "cargo reads what a build script prints")]

use std::path::Path;
use std::process::Command;

/// What the binary is made of, seen from this package. A change elsewhere makes nothing dirty, and
/// builds nothing again.
const SOURCES: [&str; 6] =
    ["src", "../crates", "build.rs", "Cargo.toml", "../Cargo.toml", "../Cargo.lock"];

/// As many digits of a commit as nobody needs more of.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed=CRATEHOUSE_COMMIT");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let given = std::env::var("CRATEHOUSE_COMMIT").ok().filter(|given| !given.is_empty());
    let commit = given.or_else(of_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CRATEHOUSE_BUILD_COMMIT={commit}");
}

/// `None`: there is no git, or these sources are not in its hands (unpacked in somebody else's tree).
fn of_git() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let mut commit = git(&["rev-parse", "HEAD"])?;
    commit.truncate(DIGITS);
    // The second changes with every commit, also where branches are packed into one file. (A file
    // that is not there would have this run at every build.)
    for path in ["HEAD", "logs/HEAD"] {
        let file = git(&["rev-parse", "--git-path", path])?;
        if Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let status = ["--no-optional-locks", "status", "--porcelain", "--"];
    let changed = git(&[&status[..], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

/// What git says, without the line's end; `None` where it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim_end().to_owned())
}
