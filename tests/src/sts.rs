//! A token service as Amazon's STS: https, and keys for whoever shows a token.

use crate::authority::Authority;
use crate::http::{Action, Request, Response, Server};
use crate::https::Https;

/// A running one; it ends when it is dropped.
#[derive(Debug)]
pub struct Sts {
    server: Server,
    https: Https,
}

/// They end far away, so that they are not asked for twice.
const KEYS: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>\
    <Credentials><AccessKeyId>short-lived</AccessKeyId><SecretAccessKey>any</SecretAccessKey>\
    <SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
    </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

impl Sts {
    /// Starts one with a certificate of that authority.
    pub fn start(authority: &Authority) -> Self {
        let server = Server::start(|_, _| Action::Answer(Response::ok(KEYS)));
        let https = Https::before(server.addr(), authority);
        Self { server, https }
    }

    /// `https://localhost:PORT`
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.https.port())
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}
