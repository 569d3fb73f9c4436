//! Tools that tests need beside the system's own, at fixed versions: `tests/run --install` puts them
//! below the target folder.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program at `path` below the folder of tools. One that is missing fails the test.
pub fn tool(path: &str) -> Command {
    let tool = folder().join(path);
    assert!(tool.exists(), "{} is missing: `tests/run --install` installs it", tool.display());
    let mut command = Command::new(tool);
    command.stdin(Stdio::null());
    command
}

/// What a program says on its standard output; a program that fails, fails the test.
pub fn said(command: &mut Command) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program to its end. One that is missing fails the test.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| {
        panic!("{:?}: {e}; `tests/run --install` installs it", command.get_program())
    })
}

/// `PATH` with the programs that cargo has put among the tools.
pub fn with_path() -> OsString {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let ours = folder().join("cargo/bin");
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&usual))).unwrap()
}

/// Where they are: `tools` in the target folder. (Tests stand in `<target>/<profile>/deps/`.)
pub fn folder() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().join("tools")
}
