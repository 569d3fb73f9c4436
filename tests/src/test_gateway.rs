//! A gateway with somebody who may publish, for tests of what is accepted and what is not.

use crate::client::{Client, Reply};
use crate::gateway::Gateway;
use crate::krate::Krate;

/// A gateway, a client of it, and alice's token.
#[derive(Debug)]
pub struct TestGateway {
    /// The gateway.
    pub gateway: Gateway,
    /// A client that keeps its connection.
    pub client: Client,
    /// A token of alice's that may do all but administer.
    pub token: String,
}

impl Default for TestGateway {
    fn default() -> Self {
        Self::of(Gateway::start())
    }
}

impl TestGateway {
    /// Alice in a gateway without an upstream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Alice in this gateway.
    pub fn of(gateway: Gateway) -> Self {
        let (client, token) = (gateway.client(), gateway.token("alice"));
        Self { gateway, client, token }
    }

    /// Publishes as alice.
    pub fn publish(&self, krate: &Krate) -> Reply {
        self.client.publish(krate, &self.token)
    }

    /// Publishes what must be accepted.
    #[track_caller]
    pub fn accept(&self, krate: &Krate) -> Reply {
        self.publish(krate).assert_status(200)
    }

    /// What a publish adds to the store.
    pub fn truth(&self) -> Vec<String> {
        let mut files = self.gateway.stored("journal");
        files.extend(self.gateway.stored("blobs/hosted"));
        files
    }

    /// Sends a body that must be refused with this status, in the form of the web API, with
    /// nothing stored. Gives the details.
    #[track_caller]
    pub fn refuse_body(&self, body: Vec<u8>, status: u16, containing: &str) -> String {
        let before = self.truth();
        let reply = self.client.publish_raw(body, &self.token);
        let details = reply.assert_refused(status, containing);
        assert_eq!(self.truth(), before, "a refusal stores nothing: {details}");
        details
    }

    /// Publishes what must be refused.
    #[track_caller]
    pub fn refuse(&self, krate: &Krate, status: u16, containing: &str) -> String {
        self.refuse_body(krate.publish_body(), status, containing)
    }
}
