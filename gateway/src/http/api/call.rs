//! One request, as the handlers of the API see it.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::body::Incoming;

use crate::flows::access::reader::Reader;
use crate::gateway::Gateway;
use crate::http::app::App;
use crate::http::request::authenticate;
use crate::http::request::body::Upload;
use crate::http::request::body::budget::Owner;
use crate::http::response::responses::Responses;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::principal::Principal;

/// What the record of a download wants to know of a request, beside its token.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Who is connected, as far as the connection knows.
    pub peer: SocketAddr,
    /// Whether it takes the answer's body: a `HEAD` does not.
    pub takes_body: bool,
}

/// A request whose route is known.
#[derive(Debug)]
pub struct Call<'a> {
    /// What serves it.
    pub app: &'a App,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Where it comes from.
    pub asker: Asker,
    /// Whose share of limits it takes.
    pub client: ClientKey,
    /// Who asks, as the gate has found; nobody, where reads are open.
    pub who: Option<Arc<Principal>>,
    /// Its body.
    pub upload: &'a mut Upload<Incoming>,
}

impl<'a> Call<'a> {
    /// All that there is.
    pub fn gateway(&self) -> &'a Arc<Gateway> {
        &self.app.gateway
    }

    /// Memory for its answer.
    pub fn responses(&self) -> Responses<'a> {
        Responses::to(self.gateway(), self.client)
    }

    /// Who holds the token of a request whose route needs one: the gate has seen to it.
    ///
    /// # Errors
    /// None, but that of a table of routes that is wrong.
    pub fn holder(&self) -> Result<Arc<Principal>> {
        let missing = || Error::internal(std::io::Error::other("the route needs no token"));
        self.who.clone().ok_or_else(missing)
    }

    /// Who reads, and for whose share of limits.
    pub fn reader(&self) -> Reader {
        Reader::Client(self.reading_client(), self.who.clone())
    }

    /// The client that reads, as [`authenticate::client`] sees it.
    pub fn reading_client(&self) -> ClientKey {
        authenticate::client(self.gateway(), self.headers, self.client)
    }

    /// Whose share of the budgets its body takes.
    pub fn owner(&self, who: Option<&Principal>) -> Owner {
        Owner { client: self.client, token: who.map(|who| who.token) }
    }
}
