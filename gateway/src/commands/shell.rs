//! `completions` and `man`: made from the definitions of the command line. Neither reads the configuration,
//! which may be wrong.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Cli, Completions, Man};
use clap::CommandFactory as _;
use cratehouse_core::console;
use cratehouse_core::error::{Error, Kind, Result};

const PROGRAM: &str = "cratehouse";

/// Prints the completions of a shell.
pub(crate) fn completions(what: &Completions) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(what.shell, &mut Cli::command(), PROGRAM, &mut script);
    print(&script)
}

/// Prints the main page of the manual, or writes all pages into a folder.
pub(crate) fn man(what: &Man) -> Result<ExitCode> {
    match &what.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Error::internal)?;
            print(&page)
        }
        Some(folder) => {
            write_pages(folder).map_err(|e| {
                let text = format!("the pages cannot be written into {}", folder.display());
                Error::new(Kind::Internal, text).because(e)
            })?;
            super::print(&format!("the pages are in {}", folder.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn write_pages(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}

fn print(text: &[u8]) -> Result<ExitCode> {
    super::heard(console::print(&String::from_utf8_lossy(text)))?;
    Ok(ExitCode::SUCCESS)
}
