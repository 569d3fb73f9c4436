//! The way to an upstream's servers: where a server speaks HTTP/2, one connection carries all
//! requests, however many are made at the first moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, Response, Version};
use tokio::time::timeout;
use url::{Origin, Url};

use super::wire::{Speak, client};
use crate::settings;
use cratehouse_core::error::Result;

/// Servers of which it is remembered what they speak: those of an upstream are two or three.
const SERVERS: usize = 64;

/// How long the others wait for what the first request tells of a server. Then each is on its own,
/// so that one slow answer holds nobody up.
const FIRST: Duration = Duration::from_secs(1);

/// Clients of one upstream, for one sort of addresses.
pub(super) struct Endpoint {
    config: settings::Upstream,
    roots: Arc<[Certificate]>,
    public_only: bool,
    /// Speaks what a server does. It learns that from the handshake, so that requests which come
    /// before its end would each make a connection of their own.
    any: Client,
    /// Speaks HTTP/2 alone, and makes one connection at a time. Built when it is first needed.
    http2: OnceLock<Option<Client>>,
    servers: Mutex<HashMap<Origin, Arc<Server>>>,
}

/// What is known of a server.
#[derive(Debug, Default)]
struct Server {
    speaks: AtomicU8,
    /// Whoever asks while nothing is known; the others wait for what that tells.
    first: tokio::sync::Mutex<()>,
}

const UNKNOWN: u8 = 0;
const HTTP2: u8 = 1;
const OTHER: u8 = 2;

impl Endpoint {
    /// Trusts the system's and these certificates; for public addresses alone, or for any.
    ///
    /// # Errors
    /// When no client can be made.
    pub(super) fn new(
        config: &settings::Upstream,
        roots: Arc<[Certificate]>,
        public_only: bool,
    ) -> Result<Self> {
        Ok(Self {
            any: client(config, &roots, public_only, Speak::Any)?,
            config: config.clone(),
            roots,
            public_only,
            http2: OnceLock::new(),
            servers: Mutex::default(),
        })
    }

    /// Sends one request, and once more when the connection broke before an answer: a kept one
    /// may have been closed by the other side in that moment.
    ///
    /// # Errors
    /// Those of the second time.
    pub(super) async fn get(&self, url: &Url, headers: HeaderMap) -> reqwest::Result<Response> {
        match self.once(url, headers.clone()).await {
            Err(e) if !e.is_timeout() && (e.is_connect() || e.is_request()) => {
                self.once(url, headers).await
            }
            sent => sent,
        }
    }

    async fn once(&self, url: &Url, headers: HeaderMap) -> reqwest::Result<Response> {
        if url.scheme() != "https" {
            return self.any.get(url.clone()).headers(headers).send().await;
        }
        let server = self.server(url.origin());
        let turn = match server.speaks() {
            UNKNOWN => timeout(FIRST, server.first.lock()).await.ok(),
            _ => None,
        };
        let speaks = server.speaks();
        let first = turn.filter(|_| speaks == UNKNOWN);
        let client = match speaks {
            HTTP2 => self.http2().unwrap_or(&self.any),
            _ => &self.any,
        };
        let sent = client.get(url.clone()).headers(headers).send().await;
        match &sent {
            Ok(response) if response.version() == Version::HTTP_2 => server.learn(HTTP2),
            Ok(_) => server.learn(OTHER),
            Err(e) if speaks == UNKNOWN || e.is_connect() => server.learn(OTHER),
            Err(_) => {}
        }
        drop(first);
        sent
    }

    fn http2(&self) -> Option<&Client> {
        let build = || client(&self.config, &self.roots, self.public_only, Speak::Http2).ok();
        self.http2.get_or_init(build).as_ref()
    }

    fn server(&self, origin: Origin) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= SERVERS && !servers.contains_key(&origin) {
            servers.clear(); // what they speak is learned again
        }
        Arc::clone(servers.entry(origin).or_default())
    }
}

impl Server {
    fn speaks(&self) -> u8 {
        self.speaks.load(Ordering::Relaxed)
    }

    fn learn(&self, speaks: u8) {
        self.speaks.store(speaks, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicUsize;

    use bytes::Bytes;
    use futures_util::future::join_all;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto::Builder;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::upstream::test_util;

    /// A server over TLS that counts its connections.
    struct Scene {
        url: Url,
        counts: Arc<Counts>,
        door: Endpoint,
    }

    impl Scene {
        async fn new(protocols: &[&str]) -> Self {
            let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
            let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
            let mut tls = rustls::ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![own.cert.der().clone()], key.into())
                .unwrap();
            tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{}/", listener.local_addr().unwrap());
            let counts = Arc::<Counts>::default();
            tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&counts)));
            let root = Certificate::from_der(own.cert.der()).unwrap();
            let door = Endpoint::new(&test_util::config(&url), [root].into(), false).unwrap();
            Self { url: url.parse().unwrap(), counts, door }
        }

        async fn ask_at_once(&self, times: usize) -> Vec<Version> {
            let asked = (0..times).map(|_| self.door.get(&self.url, HeaderMap::new()));
            join_all(asked).await.into_iter().map(|answer| answer.unwrap().version()).collect()
        }
    }

    #[derive(Default)]
    struct Counts {
        connections: AtomicUsize,
        asked: AtomicUsize,
        /// Later requests are answered once so many are under way.
        gathering: AtomicUsize,
    }

    async fn serve(listener: TcpListener, tls: TlsAcceptor, counts: Arc<Counts>) {
        while let Ok((stream, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            let (tls, counts) = (tls.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                let stream = tls.accept(stream).await.unwrap();
                let answer = service_fn(move |_| answer(Arc::clone(&counts)));
                let http = Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }

    async fn answer(
        counts: Arc<Counts>,
    ) -> std::result::Result<hyper::Response<Full<Bytes>>, Infallible> {
        counts.asked.fetch_add(1, Ordering::SeqCst);
        let gathering = counts.gathering.load(Ordering::SeqCst);
        while (2..gathering).contains(&counts.asked.load(Ordering::SeqCst)) {
            tokio::task::yield_now().await;
        }
        Ok(hyper::Response::default())
    }

    #[tokio::test]
    async fn many_at_the_first_moment_share_one_connection_beside_the_first() {
        let scene = Scene::new(&["h2", "http/1.1"]).await;
        scene.counts.gathering.store(50, Ordering::SeqCst);
        let asked = timeout(Duration::from_secs(60), scene.ask_at_once(50)).await;
        assert_eq!(asked.expect("they are under way together"), [Version::HTTP_2; 50]);
        scene.ask_at_once(50).await;
        assert_eq!(scene.counts.connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_http2_is_asked_as_it_speaks() {
        let scene = Scene::new(&["http/1.1"]).await;
        for _ in 0..2 {
            assert_eq!(scene.ask_at_once(5).await, [Version::HTTP_11; 5]);
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_speaking_http2_is_asked_as_it_speaks() {
        let scene = Scene::new(&["http/1.1"]).await;
        scene.door.server(scene.url.origin()).learn(HTTP2);
        assert_eq!(scene.ask_at_once(5).await, [Version::HTTP_11; 5]);
    }
}
