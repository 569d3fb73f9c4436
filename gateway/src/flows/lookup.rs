//! stub: owner C1
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::index::IndexFile;
use crate::model::name::{CrateName, NameKey};
use std::sync::Arc;
/// Rendered index files in memory.
#[derive(Debug, Clone)]
pub struct IndexCache {}
impl IndexCache {
    /// `capacity` in bytes.
    pub fn new(_capacity: u64) -> Self {
        Self {}
    }
    /// Drops whatever is cached for any spelling of a name (called after an entry that touches it was applied).
    pub async fn forget(&self, _key: &NameKey) {}
}
/// The index file of a crate, hosted or mirrored; `None` when there is definitely no such crate.
/// `name` is lower case here: it comes from an index path.
pub async fn lookup(_gateway: &Arc<Gateway>, _name: &CrateName) -> Result<Option<Arc<IndexFile>>> {
    todo!()
}
