//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::principal::Principal;
use bytes::Bytes;
use std::sync::Arc;
/// What cargo prints after a publish.
#[derive(Debug, Clone, Default)]
pub struct PublishAnswer {
    /// `warnings.other`
    pub warnings: Vec<String>,
}
/// Publishes what one `PUT /crates/new` body holds.
pub async fn publish(
    _gateway: &Arc<Gateway>,
    _who: &Principal,
    _body: Bytes,
) -> Result<PublishAnswer> {
    todo!()
}
