//! Commands about the advisory database.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `advisories …`
#[derive(Debug, Clone, Subcommand)]
pub enum AdvisoriesCommand {
    /// Get RustSec's advisory database, or another, and keep it in the store for all replicas
    Fetch(AdvisoriesFetch),
    /// Say which database the store keeps
    Show,
}

/// `advisories fetch`
#[derive(Debug, Clone, Args)]
pub struct AdvisoriesFetch {
    /// Take this archive (.tar.gz) instead of the one at `policy.advisories_url`
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Also take a database that has far fewer advisories than the one before, or older ones
    #[arg(long)]
    pub force: bool,
}
