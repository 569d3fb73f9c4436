//! `GET /api/v1/crates?q=…`. Source: Cargo book, "Web API", Search.

use serde_json::{Value, json};

use crate::flows::access::reader::Reader;
use crate::flows::registry::search::{Hit, Page};
use crate::http::api::call::Call;
use crate::http::response::respond::Answer;
use cratehouse_core::error::Result;

/// A page of the crates that fit.
///
/// # Errors
/// Those of the search.
pub async fn get(call: Call<'_>, query: &str, page: Page) -> Result<Answer> {
    let reader = Reader::Client(call.client, call.who.clone());
    let (hits, total) = call.gateway().search.search(&reader, query, page).await?;
    call.responses().json(&found(&hits, total))
}

fn found(hits: &[Hit], total: u32) -> Value {
    let crates: Vec<_> = hits
        .iter()
        .map(|hit| {
            json!({
                "name": hit.name,
                "max_version": hit.max_version,
                "description": hit.description,
            })
        })
        .collect();
    json!({ "crates": crates, "meta": { "total": total } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_finds_the_fields_that_it_reads() {
        let hit = Hit {
            name: "foo".parse().unwrap(),
            max_version: "1.0.0".to_owned(),
            description: None,
        };
        let found = found(&[hit], 7);
        assert_eq!(found["crates"][0]["name"], "foo");
        assert_eq!(found["crates"][0]["max_version"], "1.0.0");
        assert_eq!(found["meta"]["total"], 7);
    }
}
