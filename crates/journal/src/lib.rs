//! The journal: the truth about what is hosted, and the way into it. Commands are judged against the catalog,
//! become events, and are committed as entries that exist once; every replica follows them into a catalog of its
//! own. Checkpoints let a replica begin near the end, `verify` proves the whole.
//!
//! It knows crates by name and version, people by login and right. It does not know mirrors, policies, HTTP, or
//! what is done with a change: who wants to hear of one passes [`writer::OnChange`].

#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests print what they have measured"))]

pub mod audit_log;
pub mod authorize;
pub mod catalog;
pub mod chain;
pub mod change;
pub mod checkpoint;
pub mod checkpoint_format;
pub mod checkpoint_store;
pub mod commands;
pub mod entry;
pub mod entry_store;
pub mod format;
pub mod garbage;
pub mod owners;
pub mod principal;
pub mod publish;
pub mod remove;
pub mod rules;
pub mod subject;
pub mod teams;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod token_expiry;
pub mod token_secret;
pub mod token_use;
pub mod tokens;
pub mod users;
pub mod verify;
pub mod writer;
pub mod yank;
