//! Memory for responses that are made for one request: lists, reports, explanations. Each takes its
//! share of a budget while it is written, and holds it until it was sent or its client has gone.
//! Index files and crate files have budgets of their own.

use std::io::{self, Write};

use serde::Serialize;

use crate::gateway::{Gateway, RESPONSE_STEP_BYTES};
use crate::http::response::respond::{self, Answer};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::{FairShares, Share};
use cratehouse_core::memory_budget::bytes_holding;
use cratehouse_core::metrics::Metrics;

/// A response up to this size counts with the request that it answers; see
/// [`crate::http::request::in_flight`].
const SMALL_BYTES: usize = 16 << 10;

/// The budget of a gateway, for one client.
#[derive(Debug, Clone, Copy)]
pub struct Responses<'a> {
    steps: &'a FairShares,
    metrics: &'a Metrics,
    client: ClientKey,
}

impl<'a> Responses<'a> {
    /// For a client.
    pub fn to(gateway: &'a Gateway, client: ClientKey) -> Self {
        Self { steps: &gateway.responses, metrics: &gateway.metrics, client }
    }

    /// Whose share they take.
    pub fn client(&self) -> ClientKey {
        self.client
    }

    /// Whether there may be room for a large response: it is asked before one is made.
    ///
    /// # Errors
    /// Unavailable, when there is none now.
    pub fn admit(&self) -> Result<()> {
        self.steps.try_take(self.client, steps(SMALL_BYTES)).map(drop).ok_or_else(|| self.full())
    }

    fn full(&self) -> Error {
        self.metrics.response_memory_refusals.inc();
        Error::unavailable(
            "the registry is sending more answers than its memory is configured for, in all or to \
             you; read those that you asked for, and try again in a few seconds",
        )
    }

    /// A JSON answer of the web API.
    ///
    /// # Errors
    /// Unavailable, when there is no room for it now; internal, when the value cannot be written as
    /// JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<Answer> {
        let mut body = Growing { bytes: Vec::new(), share: None, of: *self };
        if let Err(error) = serde_json::to_writer(&mut body, value) {
            if !error.is_io() {
                return Err(Error::internal(error));
            }
            return Err(self.full());
        }
        Ok(respond::json_bytes(body.finish()))
    }
}

/// The memory that responses above [`SMALL_BYTES`] take now, and may take, in bytes.
pub(crate) fn memory(budget: &FairShares) -> (usize, usize) {
    (budget.taken() * RESPONSE_STEP_BYTES, budget.total() * RESPONSE_STEP_BYTES)
}

/// A body while it is written.
struct Growing<'a> {
    bytes: Vec<u8>,
    share: Option<Share>,
    of: Responses<'a>,
}

impl Growing<'_> {
    /// Room for a buffer of so many bytes.
    fn take(&mut self, bytes: usize) -> Option<()> {
        let held = self.share.as_ref().map_or(0, Share::units);
        let more = steps(bytes).saturating_sub(held);
        let more = self.of.steps.try_take(self.of.client, more)?;
        match &mut self.share {
            Some(share) => share.grow(more),
            None => self.share = Some(more),
        }
        Some(())
    }

    fn finish(mut self) -> bytes::Bytes {
        let Some(mut share) = self.share.take() else { return self.bytes.into() };
        self.bytes.shrink_to_fit();
        share.shrink(steps(self.bytes.len()));
        bytes_holding(self.bytes.into(), share)
    }
}

impl Write for Growing<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let (needed, has) = (self.bytes.len() + part.len(), self.bytes.capacity());
        if needed > has {
            let twice = if needed > SMALL_BYTES { 2 * has } else { SMALL_BYTES.min(2 * has) };
            let mut capacity = needed.max(twice);
            if capacity > SMALL_BYTES && self.take(capacity).is_none() {
                // Perhaps not twice as much, but what is needed.
                self.take(needed).ok_or(io::ErrorKind::OutOfMemory)?;
                capacity = needed;
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn steps(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(RESPONSE_STEP_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use cratehouse_core::error::Kind;
    use cratehouse_core::per_address::PerAddress;

    struct Steps {
        steps: FairShares,
        metrics: Metrics,
    }

    impl Steps {
        fn new(kib: usize) -> Self {
            let per_address = PerAddress::default();
            Self { steps: FairShares::new(kib, &per_address), metrics: Metrics::new().unwrap() }
        }

        fn json(&self, client: ClientKey, value: &impl Serialize) -> Result<Answer> {
            Responses { steps: &self.steps, metrics: &self.metrics, client }.json(value)
        }

        fn taken(&self) -> usize {
            memory(&self.steps).0
        }
    }

    fn text(kib: usize) -> String {
        "x".repeat(kib << 10)
    }

    #[test]
    fn a_small_answer_takes_nothing_of_the_budget_and_a_large_one_its_size_until_it_is_sent() {
        let server = Steps::new(1000);
        let small = server.json(ClientKey::Exempt, &text(15)).unwrap();
        assert_eq!(memory(&server.steps), (0, 1000 << 10));
        let lines = vec![text(1); 300];
        let large = server.json(ClientKey::Exempt, &lines).unwrap();
        let held = server.taken();
        assert!((300 << 10..=302 << 10).contains(&held), "{held}");
        let body = large.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        assert_eq!(body, serde_json::to_vec(&lines).unwrap());
        assert_eq!(server.taken(), held, "somebody still has its bytes");
        drop((body, small));
        assert_eq!(server.taken(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_while_it_is_written_and_others_go_on() {
        let server = Steps::new(1000);
        let client = |n: u8| ClientKey::of(std::net::IpAddr::from([192, 0, 2, n]));
        let held: Vec<_> = (0..2).map(|_| server.json(client(1), &text(100)).unwrap()).collect();
        let refused = server.json(client(1), &text(100)).unwrap_err();
        assert_eq!((refused.kind, refused.retry_after.is_some()), (Kind::Unavailable, true));
        assert!(server.json(client(1), &text(10)).is_ok(), "a small one is sent");
        assert!(server.json(client(2), &text(200)).is_ok(), "another client");
        assert!(server.json(ClientKey::Exempt, &text(2000)).is_err(), "it never fits");
        assert_eq!(server.metrics.response_memory_refusals.get(), 2);
        drop(held);
        assert_eq!(server.taken(), 0);
    }
}
