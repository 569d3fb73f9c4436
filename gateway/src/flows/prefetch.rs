//! stub: owner C2
use crate::error::Result;
use crate::gateway::Gateway;
use std::sync::Arc;
/// Fills the mirror with every registry package of a Cargo.lock (its text). `progress(done, total)`.
/// Returns the packages that failed with their reasons; tries all.
pub async fn prefetch(
    _gateway: &Arc<Gateway>,
    _lock: &str,
    _progress: impl Fn(usize, usize),
) -> Result<Vec<(String, crate::error::Error)>> {
    todo!()
}
