//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::name::CrateName;
use std::sync::Arc;
/// One found crate.
#[derive(Debug, Clone)]
pub struct Hit {
    /// name
    pub name: CrateName,
    /// newest version
    pub max_version: String,
    /// description
    pub description: Option<String>,
}
/// Searches hosted crates and mirrored ones that were ever asked for. Returns at most `limit` hits and the total.
pub async fn search(
    _gateway: &Arc<Gateway>,
    _query: &str,
    _limit: usize,
) -> Result<(Vec<Hit>, u32)> {
    todo!()
}
