//! stub: owner C2
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::name::CrateName;
use std::sync::Arc;
/// A hosted name that an upstream has too.
#[derive(Debug, Clone)]
pub struct Clash {
    /// The hosted crate.
    pub name: CrateName,
    /// The upstream that has it.
    pub upstream: String,
    /// How that upstream spells it.
    pub spelling: CrateName,
}
/// Asks the upstreams, on purpose, for every hosted name that is not reserved.
pub async fn names(_gateway: &Arc<Gateway>) -> Result<Vec<Clash>> {
    todo!()
}
