//! Who asks: the `Authorization` header in its three forms, and who needs one.
//! Source: Cargo book, "Web API" (the token stands there bare) and "Registry authentication".

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::gateway::Gateway;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::secret::Secret;
use cratehouse_journal::authorize::{Action, authorize};
use cratehouse_journal::principal::Principal;

/// The longest `Authorization` header that is looked at, in bytes.
pub const MAX_HEADER_BYTES: usize = 4096;

/// Lets a read pass, and says who reads. Where reads are open the header is not looked at, so that
/// nobody fails with a token that was meant for another registry: then it is nobody.
///
/// # Errors
/// [`Kind::Unauthenticated`] or [`Kind::Forbidden`], where `auth.required` is set.
pub async fn reader(
    gateway: &Gateway,
    headers: &HeaderMap,
    client: ClientKey,
) -> Result<Option<Arc<Principal>>> {
    if let Some(reader) = reader_at_hand(gateway, headers) {
        return Ok(reader);
    }
    let who = caller(gateway, headers, client).await?;
    authorize(&who, Action::Read)?;
    Ok(Some(who))
}

/// The same, if that needs no more than this replica's memory; `None`: ask [`reader`].
pub fn reader_at_hand(gateway: &Gateway, headers: &HeaderMap) -> Option<Option<Arc<Principal>>> {
    if !gateway.config.auth_required {
        return Some(None);
    }
    let token = presented(headers).ok()??;
    let who = gateway.tokens.at_hand(token.reveal())?;
    authorize(&who, Action::Read).ok()?;
    Some(Some(who))
}

/// The client that reads. Where reads are open, and it shows a token that counts all the same, it does
/// not stand behind its neighbours who show none.
pub fn client(gateway: &Gateway, headers: &HeaderMap, client: ClientKey) -> ClientKey {
    let shown = || {
        let token = presented(headers).ok()??;
        gateway.tokens.at_hand(token.reveal())
    };
    if !gateway.config.auth_required && shown().is_some() { client.trusted() } else { client }
}

/// Who asks for a change. What they may do is for the flow to say.
///
/// # Errors
/// [`Kind::Unauthenticated`] without a token that counts.
pub async fn caller(
    gateway: &Gateway,
    headers: &HeaderMap,
    client: ClientKey,
) -> Result<Arc<Principal>> {
    match presented(headers)? {
        Some(token) => gateway.tokens.authenticate(client, token.reveal()).await,
        None => Err(unauthenticated(format!(
            "this needs a token: {}/me says how to get one; then run `cargo login --registry \
             cratehouse`",
            gateway.url
        ))),
    }
}

/// Who shows a token that counts, where none is needed: one that does not may be meant for another registry, and is no
/// failure of theirs.
///
/// # Errors
/// As [`caller`].
pub async fn shown(
    gateway: &Gateway,
    headers: &HeaderMap,
    client: ClientKey,
) -> Result<Arc<Principal>> {
    match presented(headers)? {
        Some(token) => gateway.tokens.recognise(client, token.reveal()).await,
        None => Err(unauthenticated("no token is shown")),
    }
}

/// The token that a request shows, if any.
fn presented(headers: &HeaderMap) -> Result<Option<Secret>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unauthenticated("there is more than one Authorization header: send one"));
    }
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_HEADER_BYTES);
    let token = text.and_then(token);
    token.map(Some).ok_or_else(|| {
        unauthenticated(
            "the Authorization header holds no token: send it bare, after `Bearer `, or as the \
             password of `Basic`",
        )
    })
}

/// The token in an `Authorization` value: bare, `Bearer t`, or the password of `Basic`.
fn token(value: &str) -> Option<Secret> {
    let (scheme, rest) = value.trim().split_once([' ', '\t']).unwrap_or((value.trim(), ""));
    let token = match scheme {
        s if s.eq_ignore_ascii_case("bearer") => rest.trim().to_owned(),
        s if s.eq_ignore_ascii_case("basic") => password(rest.trim())?,
        _ => value.trim().to_owned(),
    };
    (!token.is_empty()).then(|| Secret::new(token))
}

fn password(encoded: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    pair.split_once(':').map(|(_user, password)| password.to_owned())
}

fn unauthenticated(message: impl Into<String>) -> Error {
    Error::new(Kind::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn shown(values: &[&[u8]]) -> Result<Option<String>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        Ok(presented(&headers)?.map(|token| token.reveal().to_owned()))
    }

    #[test]
    fn a_token_may_stand_bare_after_bearer_or_as_a_password() {
        let basic = format!("Basic {}", STANDARD.encode("alice:crh_x:y"));
        assert_eq!(shown(&[b"crh_x"]).unwrap().as_deref(), Some("crh_x"));
        assert_eq!(shown(&[b"Bearer crh_x"]).unwrap().as_deref(), Some("crh_x"));
        assert_eq!(shown(&[b"bearer   crh_x "]).unwrap().as_deref(), Some("crh_x"));
        assert_eq!(shown(&[basic.as_bytes()]).unwrap().as_deref(), Some("crh_x:y"));
        assert_eq!(shown(&[]).unwrap(), None);
    }

    #[test]
    fn a_header_without_a_token_is_refused_as_nobody() {
        let long = vec![b'a'; MAX_HEADER_BYTES + 1];
        let cases: [&[&[u8]]; 8] = [
            &[b""],
            &[b"Bearer"],
            &[b"Basic"],
            &[b"Basic !"],
            &[b"Basic YWxpY2U="],
            &[b"\xff"],
            &[&long],
            &[b"a", b"b"],
        ];
        for case in cases {
            assert_eq!(shown(case).unwrap_err().kind, Kind::Unauthenticated, "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(text in "(Basic |Bearer |)[ -~]{0,60}") {
            let _ = shown(&[text.as_bytes()]);
        }
    }
}
