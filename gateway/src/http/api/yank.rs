//! `DELETE …/yank` and `PUT …/unyank`. Source: Cargo book, "Web API", Yank.

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::Result;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Yanks a version, or undoes it.
///
/// # Errors
/// Those of the journal.
pub async fn set(
    call: Call<'_>,
    name: &CrateName,
    version: &CrateVersion,
    yanked: bool,
) -> Result<Answer> {
    let who = call.holder()?;
    let journal = &call.gateway().journal;
    cratehouse_journal::yank::yank(journal, &who, name, version, yanked).await?;
    respond::done(None)
}
