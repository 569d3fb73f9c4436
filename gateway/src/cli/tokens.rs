//! `token …`: the tokens of users.

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::model::age::Age;
use cratehouse_core::error::Error;
use cratehouse_journal::principal::{CratePattern, Grant, Scope, TokenId};
use cratehouse_journal::token_expiry::Expiry;
use cratehouse_journal::tokens::Selection;

/// `token …`
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it, alone, on standard output; it is never shown again
    Create(TokenCreate),
    /// List tokens, without their secrets
    List(TokenList),
    /// Revoke a token
    Revoke {
        /// The token's number, as `token list` shows it
        #[arg(value_parser = token_id)]
        id: TokenId,
    },
    /// Make a token in place of another, which goes on for a while, and print it, alone, on standard output
    Rotate {
        /// The token's number, as `token list` shows it
        #[arg(value_parser = token_id)]
        id: TokenId,
        /// When the other ends: a span such as 24h or 7d, a date, a time
        #[arg(long, value_name = "WHEN", default_value = "7d")]
        overlap: Expiry,
    },
}

/// `token list`
#[derive(Debug, Clone, Args)]
pub struct TokenList {
    /// Only those of this user
    #[arg(long, value_name = "LOGIN")]
    pub user: Option<String>,
    /// Only those that were never used
    #[arg(long)]
    pub never_used: bool,
    /// Only those without an end
    #[arg(long)]
    pub without_end: bool,
    /// Only those that were made so long ago: a span such as 90d
    #[arg(long, value_name = "SPAN")]
    pub older_than: Option<Age>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `token create`
#[derive(Debug, Clone, Args)]
pub struct TokenCreate {
    /// The user it belongs to
    #[arg(long, value_name = "LOGIN")]
    pub user: String,
    /// What it is for
    #[arg(long, default_value = "cli")]
    pub name: String,
    /// What it may do: read, publish-new, publish-update, yank, change-owners, tokens, audit, admin; may be
    /// repeated [default: the first five]
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    pub scopes: Vec<Scope>,
    /// The crates it may change: a name, or a prefix followed by `*`; may be repeated [default: all]
    #[arg(long = "crate", value_name = "PATTERN", value_delimiter = ',')]
    pub crates: Vec<CratePattern>,
    /// The crates that it may read, where its user may: a name, or a prefix followed by `*`; may be repeated
    /// [default: all]
    #[arg(long = "read-only-crates", value_name = "PATTERN", value_delimiter = ',')]
    pub reads: Vec<CratePattern>,
    /// When it ends: a span such as 90d, a date, or a time such as 2027-01-31T12:00Z
    /// [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<Expiry>,
}

impl TokenList {
    /// Which tokens are meant.
    ///
    /// # Errors
    /// An age that is beyond all times.
    pub fn selection(&self, now: Timestamp) -> Result<Selection, Error> {
        let before = self.older_than.as_ref().map(|age| age.before(now)).transpose();
        Ok(Selection {
            login: self.user.clone(),
            never_used: self.never_used,
            endless: self.without_end,
            before: before.map_err(|why| Error::invalid(format!("`--older-than`: {why}")))?,
        })
    }
}

impl TokenCreate {
    /// What the token may do.
    ///
    /// # Errors
    /// An end that is not after `now`.
    pub fn grant(&self, now: Timestamp) -> Result<Grant, String> {
        let mut grant = Grant::usual();
        if !self.scopes.is_empty() {
            grant.scopes = self.scopes.iter().copied().collect();
        }
        grant.crates.clone_from(&self.crates);
        grant.reads.clone_from(&self.reads);
        grant.expires = self.expires.as_ref().map(|expiry| expiry.end(now)).transpose()?;
        Ok(grant)
    }
}

pub(super) fn token_id(text: &str) -> Result<TokenId, &'static str> {
    text.parse().map(TokenId).map_err(|_| "write the token's number, as `token list` shows it")
}
