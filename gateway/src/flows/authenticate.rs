//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::principal::Principal;
/// Who holds this token (the bare text, after `Bearer `/Basic was taken off). Unauthenticated when nobody.
pub async fn authenticate(_gateway: &Gateway, _token: &str) -> Result<Principal> {
    todo!()
}
