//! `PUT /api/v1/crates/new`. Source: Cargo book, "Web API", Publish.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::flows::registry::publish::{self, PublishAnswer};
use crate::http::api::call::Call;
use crate::http::request::body::Largest;
use crate::http::request::body::budget::Owner;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::Result;
use cratehouse_journal::principal::Principal;

/// Publishes a version.
///
/// # Errors
/// Those of the publish and of the body.
pub async fn put(call: Call<'_>) -> Result<Answer> {
    let who = call.holder()?;
    let (gateway, owner) = (call.gateway(), call.owner(Some(&who)));
    let frame = frame(call, &who, owner).await;
    let frame = frame.inspect_err(|e| gateway.publisher.count_refusal(e))?;
    let answer = gateway.publisher.publish((&who, owner.client), frame).await?;
    respond::json(&published(&answer))
}

/// The body of a publish, if it may be: the gate has judged the token before it is read, what it publishes is judged
/// before its archive is.
async fn frame(call: Call<'_>, who: &Principal, owner: Owner) -> Result<Bytes> {
    let (gateway, bodies) = (call.gateway(), &call.app.bodies);
    let limits = &gateway.config.limits;
    let (permit, largest) = (bodies.publish.reserve(owner), publish::frame_bytes(limits));
    let largest = Largest::configured(largest, "limits.publish_crate_kib");
    let mut body = call.upload.arriving(permit, largest, bodies.arrival)?;
    let head_bytes = |begun: &[u8]| publish::head_bytes(begun, limits);
    let wanted = head_bytes(body.at_least(0).await?)?;
    let wanted = head_bytes(body.at_least(wanted).await?)?;
    head_bytes(body.at_least(wanted).await?)?;
    let begun = Instant::now();
    let named = body.lend(|begun| publish::named(&gateway.parsers, owner.client, begun)).await?;
    gateway.publisher.admit(who, &named).await?;
    body.excuse(begun.elapsed());
    body.whole().await
}

fn published(answer: &PublishAnswer) -> Value {
    json!({
        "warnings": { "invalid_categories": [], "invalid_badges": [], "other": answer.warnings }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_finds_the_fields_that_it_reads() {
        let answer = PublishAnswer { warnings: vec!["mind the name".to_owned()] };
        assert_eq!(published(&answer)["warnings"]["other"][0], "mind the name");
    }
}
