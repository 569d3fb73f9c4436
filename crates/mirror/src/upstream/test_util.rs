//! An upstream for tests: a small HTTP server on the loopback interface.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    missing_docs,
    reason = "helpers of tests"
)]

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use url::Url;

use super::{Turn, Upstream};
use crate::settings;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::per_address::PerAddress;

/// An answer of the test server.
pub type Reply = Response<Full<Bytes>>;

/// What was asked: path and headers.
pub type Seen = (String, HeaderMap);

/// A server that answers as a closure says and remembers what it was asked.
pub struct Server {
    /// `http://127.0.0.1:port`
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&str, &HeaderMap) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (answer, noted) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (path, headers) = (request.uri().path().to_owned(), request.headers());
                    let reply = answer(&path, headers);
                    noted.lock().unwrap().push((path, headers.clone()));
                    async move { Ok::<_, Infallible>(reply) }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service),
                );
            }
        });
        Self { url, seen }
    }

    /// The paths that were asked for since the last call.
    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|(path, _)| path).collect()
    }

    /// What was asked since the last call.
    pub fn requests(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    reply.body(Full::new(body.into())).unwrap()
}

pub fn config(url: &str) -> settings::Upstream {
    settings::Upstream {
        name: "up".to_owned(),
        index: Url::parse(&format!("{url}/index/")).unwrap(),
        identity: settings::Identity::CratesIo,
        dl: None,
        token: None,
        fresh: Duration::from_secs(60),
        negative: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        ca_file: None,
        private_dl: false,
    }
}

/// Small ones.
pub fn limits() -> settings::UpstreamLimits {
    settings::UpstreamLimits {
        index_bytes: 1000,
        crate_bytes: 256 << 20,
        fill: Duration::from_secs(120),
        redirects: 3,
        requests: 4,
        per_address: PerAddress::default(),
    }
}

pub fn upstream(config: &settings::Upstream) -> Upstream {
    let none: Option<PathBuf> = None;
    Upstream::new(config, &limits(), none.as_deref(), Metrics::new().unwrap()).unwrap()
}

impl Upstream {
    /// How many wait for a place of a crate file.
    pub fn crates_waiting(&self) -> usize {
        self.crate_requests.waiting()
    }

    /// A place of an index file.
    pub async fn index_place(&self) -> impl Sized {
        self.index_requests.turn(Turn::OWN).await
    }

    /// The same of a client.
    pub async fn index_place_of(&self, client: ClientKey) -> impl Sized {
        self.index_requests.turn(Turn { client, held: false }).await
    }

    /// Who waits for one.
    pub fn index_waiting(&self) -> Vec<ClientKey> {
        self.index_requests.clients()
    }
}
