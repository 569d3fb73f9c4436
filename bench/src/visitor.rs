//! The clients: each a connection of its own, kept, as a cargo process has.

use std::fs;

use cratehouse_tests::gateway::Gateway;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION};
use reqwest::{Certificate, Client, StatusCode};

use crate::Result;

/// A client of one gateway. Clones share its connection, which is HTTP/2 over TLS.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    http: Client,
    base: String,
}

impl Visitor {
    /// One that has not connected yet.
    pub(crate) fn of(gateway: &Gateway) -> Result<Self> {
        let ca = Certificate::from_pem(&fs::read(gateway.ca_path())?)?;
        let http = Client::builder().no_proxy().tls_certs_only([ca]).build()?;
        Ok(Self { http, base: gateway.url() })
    }

    /// Connects.
    pub(crate) async fn greet(&self) -> Result<()> {
        self.index("config.json").await.map(drop)
    }

    /// Sends the body of a publish request, and reads the answer to its end.
    pub(crate) async fn publish(&self, body: Vec<u8>, token: &str) -> Result<StatusCode> {
        let url = format!("{}/api/v1/crates/new", self.base);
        let request = self.http.put(url).header(AUTHORIZATION, token).body(body);
        let answer = request.header(ACCEPT, "application/json").send().await?;
        let status = answer.status();
        answer.bytes().await?;
        Ok(status)
    }

    /// Asks for a file of the index as cargo does: compressed. Gives the size of what came.
    pub(crate) async fn index(&self, path: &str) -> Result<usize> {
        let url = format!("{}/index/{path}", self.base);
        let answer = self.http.get(url).header(ACCEPT_ENCODING, "gzip").send().await?;
        Ok(answer.error_for_status()?.bytes().await?.len())
    }
}
