//! Commands about the command line itself: completions for shells, and manual pages.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `completions`
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `man`
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// A folder to write a page for each command into, such as /usr/local/share/man/man1; without
    /// one, the main page is printed
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}
