//! `POST /api/v1/tokens/report`: a scanner tells which tokens it found where others read them. It needs no token: who has
//! one could end it anyway. The form is that of GitHub's secret scanning partners: a list of
//! `{"token", "type", "url", "source"}`, answered by a list of `{"token_hash", "token_type", "label"}`.
//! Source: GitHub Docs, "Secret scanning partner program".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::excerpt::excerpt;
use cratehouse_journal::token_secret;
use cratehouse_journal::tokens::{self, Found};
use cratehouse_journal::writer::Waiter;

/// Tokens in one report, at most.
const MAX_REPORTED: usize = 100;

/// One of a scanner's list. What else stands there is not looked at.
#[derive(Debug, Deserialize)]
struct Reported {
    token: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

/// Revokes what is a token of this registry, and says of each whether it is one that counted.
///
/// # Errors
/// Invalid, when it is no such list or a longer one; throttled, when such lists had no token that counts too often.
pub async fn post(call: Call<'_>) -> Result<Answer> {
    let (gateway, owner) = (call.gateway(), call.owner(None));
    gateway.tokens.failed.admit(call.client, None)?;
    let reported: Vec<Reported> = call.upload.read_json(&call.app.bodies, owner).await?;
    if reported.len() > MAX_REPORTED {
        return Err(Error::invalid(format_args!("report {MAX_REPORTED} tokens at most at once")));
    }
    let found: Vec<_> = reported.iter().filter_map(Reported::found).collect();
    // One may have just been made, elsewhere.
    let client = Waiter::Unauthenticated(call.client);
    if !found.is_empty() {
        gateway.journal.catch_up_for(client).await?;
    }
    let counted: Vec<bool> = {
        let view = gateway.catalog.view()?;
        let counts = |one: &Reported| match one.found() {
            Some(found) => Ok(view.token_shown(&found.hash)?.is_some_and(|(row, _)| !row.revoked)),
            None => Ok(false),
        };
        reported.iter().map(counts).collect::<Result<_>>()?
    };
    let revoked = tokens::report(&gateway.journal, &found).await?;
    for token in &revoked {
        warn!(%token, "a token was found where others read it, and is revoked");
    }
    gateway.metrics.tokens_reported.inc_by(revoked.len() as u64);
    if !counted.contains(&true) {
        gateway.tokens.failed.note(call.client, None);
    }
    let told = reported.iter().zip(counted).map(|(one, counted)| one.told(counted));
    respond::json(&told.collect::<Vec<_>>())
}

impl Reported {
    /// What could be a token of ours.
    fn found(&self) -> Option<Found> {
        let text = self.token.trim();
        token_secret::check_form(text).ok().filter(|()| !text.is_empty())?;
        let place = self.url.as_deref().or(self.source.as_deref()).unwrap_or_default();
        Some(Found { hash: Checksum::of(text.as_bytes()), place: excerpt(place).to_string() })
    }

    fn told(&self, counted: bool) -> Value {
        let hash = Checksum::of(self.token.as_bytes());
        json!({
            "token_hash": STANDARD.encode(hash.as_bytes()),
            "token_type": self.kind,
            "label": if counted { "true_positive" } else { "false_positive" },
        })
    }
}
