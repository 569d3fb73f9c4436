//! An upstream registry as far away as is asked for: HTTP/2 over TLS, as public ones speak, in this
//! process. It counts what it is asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, ETAG, IF_NONE_MATCH};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::Result;

/// Requests under way on one connection, as content delivery networks allow.
pub(crate) const STREAMS: u32 = 128;
/// Where a gateway finds whom it must trust, in its folder.
const CA: &str = "upstream-ca.pem";
/// So long that nothing is revalidated while it is measured.
const FRESH_SECONDS: u32 = 604_800;

/// A running upstream; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    addr: SocketAddr,
    authority: Authority,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What stands behind a path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// As it is sent.
    pub(crate) body: Bytes,
    /// Whether that is gzip of what is meant.
    pub(crate) gzip: bool,
    /// What it is recognised by, quotes included; nothing where it is empty.
    pub(crate) etag: String,
    /// How long it takes longer than everything else.
    pub(crate) slow: Duration,
}

/// What there is at a path.
type Find = Box<dyn Fn(&str) -> Option<Found> + Send + Sync>;

struct Shared {
    find: Find,
    latency_micros: AtomicU64,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    /// Requests by path.
    asked: Mutex<HashMap<String, usize>>,
}

/// What it was asked since it was last asked about that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Requests in all.
    pub(crate) requests: usize,
    /// Those for the path that was asked for most often.
    pub(crate) most: usize,
    /// New connections.
    pub(crate) connections: usize,
}

impl Origin {
    /// Starts one whose files are where `find` finds them, by their paths; it says 404 otherwise.
    pub(crate) fn start(
        find: impl Fn(&str) -> Option<Found> + Send + Sync + 'static,
    ) -> Result<Self> {
        let authority = Authority::new();
        let tls = TlsAcceptor::from(Arc::new(tls(&authority)?));
        let shared = Arc::new(Shared {
            find: Box::new(find),
            latency_micros: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        // One thread: what is measured has the other core.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        runtime.spawn(accept(listener, tls, Arc::clone(&shared)));
        Ok(Self { addr, authority, shared, runtime: Some(runtime) })
    }

    /// Its URL, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// Whom its clients must trust.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Every request takes that long from now on.
    pub(crate) fn set_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.shared.latency_micros.store(micros, Ordering::SeqCst);
    }

    /// Requests that have no answer yet.
    pub(crate) fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::SeqCst)
    }

    /// What it was asked since this was last called.
    pub(crate) fn asked(&self) -> Asked {
        let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = std::mem::take(&mut *asked);
        Asked {
            requests: asked.values().sum(),
            most: asked.values().max().copied().unwrap_or_default(),
            connections: self.shared.connections.swap(0, Ordering::SeqCst),
        }
    }

    /// How a gateway knows it; [`Origin::trusted_by`] says whom it must trust for that.
    pub(crate) fn upstream(&self) -> UpstreamConfig {
        UpstreamConfig::new("main", &format!("{}/index/", self.url()))
            .fresh_seconds(FRESH_SECONDS)
            .text("ca_file", CA)
    }

    /// Puts its CA's certificate where [`Origin::upstream`] says that it is. The gateway must not
    /// have been started.
    pub(crate) fn trusted_by(&self, gateway: &Gateway) -> Result<()> {
        Ok(std::fs::write(gateway.folder().join(CA), &self.authority.ca)?)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

fn tls(authority: &Authority) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(authority.cert.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.collect::<Result<_, _>>()?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let mut server = Builder::new(TokioExecutor::new());
    server.http2().max_concurrent_streams(STREAMS);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let came = Instant::now();
    let _under_way = UnderWay::begin(&shared);
    let path = request.uri().path();
    {
        let mut asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(path.to_owned()).or_default() += 1;
    }
    let found = (shared.find)(path);
    let slow = found.as_ref().map_or(Duration::ZERO, |found| found.slow);
    let latency = Duration::from_micros(shared.latency_micros.load(Ordering::SeqCst)) + slow;
    if !latency.is_zero() {
        tokio::time::sleep_until((came + latency).into()).await;
    }
    let known = request.headers().get(IF_NONE_MATCH).map(|etag| etag.as_bytes());
    Ok(respond(found, known))
}

fn respond(found: Option<Found>, known: Option<&[u8]>) -> Response<Full<Bytes>> {
    let Some(found) = found else { return status(StatusCode::NOT_FOUND) };
    let etag = found.etag.parse().ok().filter(|_| !found.etag.is_empty());
    let mut response = match known == Some(found.etag.as_bytes()) && etag.is_some() {
        true => status(StatusCode::NOT_MODIFIED),
        false => Response::new(Full::new(found.body)),
    };
    if found.gzip && response.status() == StatusCode::OK {
        let gzip = hyper::header::HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// A request without an answer, until it is dropped.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Certificate, Client, Version};

    use super::*;

    #[test]
    fn it_speaks_http2_counts_and_recognises() {
        let origin = Origin::start(|path| {
            let etag = "\"1\"".to_owned();
            (path == "/a").then(|| Found { body: "whole".into(), etag, ..Found::default() })
        })
        .unwrap();
        origin.set_latency(Duration::from_millis(20));
        let ca = Certificate::from_pem(origin.authority().ca.as_bytes()).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
        let get = async |path: &str, etag: &str| {
            let request = client.get(format!("{}{path}", origin.url()));
            let answer = request.header("if-none-match", etag).send().await.unwrap();
            (answer.status().as_u16(), answer.version(), answer.text().await.unwrap())
        };
        Runtime::new().unwrap().block_on(async {
            let begun = Instant::now();
            assert_eq!(get("/a", "\"2\"").await, (200, Version::HTTP_2, "whole".to_owned()));
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert_eq!(get("/a", "\"1\"").await.0, 304);
            assert_eq!(get("/b", "\"1\"").await.0, 404);
        });
        assert_eq!(origin.asked(), Asked { requests: 3, most: 2, connections: 1 });
        assert_eq!(origin.asked(), Asked { requests: 0, most: 0, connections: 0 });
        assert_eq!(origin.under_way(), 0);
    }
}
