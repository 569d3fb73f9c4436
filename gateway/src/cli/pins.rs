//! `pin …`: the checksums of mirrored versions.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::VersionSpec;
use cratehouse_core::checksum::Checksum;

/// `pin …`
#[derive(Debug, Clone, Subcommand)]
pub enum PinCommand {
    /// Print the checksum with which a mirrored version is pinned, since when, and what corrects it
    Show {
        /// The version
        #[arg(value_name = "NAME@VERSION")]
        target: VersionSpec,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let another checksum stand over a pin, on every replica; the journal keeps the reason
    Correct(PinCorrect),
}

/// `pin correct`
#[derive(Debug, Clone, Args)]
pub struct PinCorrect {
    /// The version
    #[arg(value_name = "NAME@VERSION")]
    pub target: VersionSpec,
    /// The right checksum of its crate file
    #[arg(long, value_name = "SHA256")]
    pub checksum: Checksum,
    /// Why, for the journal
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub reason: String,
    /// The upstream whose pin is meant, where several have one
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
}
