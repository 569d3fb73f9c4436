//! stub: owner C2
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;
use bytes::Bytes;
use std::sync::Arc;
/// Crate files in memory.
#[derive(Debug)]
pub struct CrateCache {}
impl CrateCache {
    /// `capacity` in bytes.
    pub fn new(_capacity: u64) -> Self {
        todo!()
    }
    /// Drops a crate file from memory.
    pub async fn forget(&self, _cksum: &crate::model::checksum::Checksum) {
        todo!()
    }
}
/// The bytes of one version, verified. `name` and `version` must be spelled as in the index line.
pub async fn download(
    _gateway: &Arc<Gateway>,
    _name: &CrateName,
    _version: &CrateVersion,
) -> Result<Bytes> {
    todo!()
}
