//! Whether a publish may be, as early as that can be known: by the token's scopes before a byte of the
//! body, by name, pattern and owners as soon as its JSON is there. The journal judges again, for good.

use super::upload_limits;
use crate::config::Limits;
use crate::flows::turns::ClientParsers;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_package::publish_frame::{self, Named, UploadError};

/// The largest body of a publish request, in bytes.
pub fn frame_bytes(limits: &Limits) -> usize {
    upload_limits(limits).body_bytes()
}

/// How many bytes of a body have to be here before [`named`] can read it, by what is here; where it is
/// asked again with so many, it stays at that.
///
/// # Errors
/// [`Kind::TooLarge`], when its JSON is larger than it may be.
pub fn head_bytes(begun: &[u8], limits: &Limits) -> Result<usize> {
    publish_frame::head_bytes(begun, &upload_limits(limits)).map_err(|e| refused(&e))
}

/// Reads what is to be published from the beginning of a body, when it has a permit for that, and gives
/// that back.
pub async fn named(
    parsers: &ClientParsers,
    client: ClientKey,
    begun: Vec<u8>,
) -> (Vec<u8>, Result<Named>) {
    let reading = move || {
        let named = publish_frame::named(&begun).map_err(|e| refused(&e));
        (begun, named)
    };
    parsers.publishes.parse(client, reading).await.unwrap_or_else(|e| (Vec::new(), Err(e)))
}

/// The word of a failed publish in metrics.
pub(super) fn label(error: &Error) -> &'static str {
    match error.kind {
        Kind::Unavailable | Kind::Internal => "error",
        _ => "refused",
    }
}

/// What is wrong with a frame.
pub(super) fn refused(error: &UploadError) -> Error {
    let kind = if error.is_too_large() { Kind::TooLarge } else { Kind::Invalid };
    Error::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use cratehouse_core::metrics::Metrics;
    use cratehouse_core::per_address::PerAddress;

    #[tokio::test]
    async fn what_is_to_be_published_is_read_under_a_permit() {
        let metrics = Metrics::new().unwrap();
        let parsers = ClientParsers::new(&PerAddress::default(), &metrics);
        let client = ClientKey::of([192, 0, 2, 1].into());
        let (go, gone): (Vec<_>, Vec<_>) = (0..1000).map(|_| mpsc::channel::<()>()).unzip();
        let mut busy: Vec<_> = gone
            .into_iter()
            .map(|gone| Box::pin(parsers.publishes.parse(client, move || gone.recv())))
            .collect();
        assert!(busy.iter_mut().all(|one| one.now_or_never().is_none()));
        let mut reading = Box::pin(named(&parsers, client, Vec::new()));
        assert!((&mut reading).now_or_never().is_none(), "it waits for its turn");
        drop(go);
        drop(busy);
        assert_eq!(
            reading.await.1.unwrap_err().kind,
            Kind::Invalid,
            "it was read, and is no frame"
        );
    }
}
