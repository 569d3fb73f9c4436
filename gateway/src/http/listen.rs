//! Listening: connections are accepted, bounded, spoken to, and brought to an end. What a
//! request means is the handler's business.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::respond::Answer;
use crate::metrics::Metrics;

/// The first wait after the system refused a connection (usually: no more file descriptors).
/// It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that asks nothing new for so long is brought to an end (after one to two of it).
const IDLE: Duration = Duration::from_secs(60);
/// How long the answers under way may take then: a large crate over a slow line.
const LAST_ANSWERS: Duration = Duration::from_secs(15 * 60);
/// An HTTP/2 client is asked for a sign of life this often, and has so long to give it.
const PING: Duration = Duration::from_secs(20);
/// The head of a request: the request line and all headers, in bytes.
const HEAD_BYTES: u16 = 32 * 1024;

/// What a listener bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at one time; further ones wait in the system's queue.
    pub connections: usize,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// How long a TLS handshake or a request's head may take.
    pub head: Duration,
}

/// How a listener speaks.
pub struct Listening {
    /// With TLS or without.
    pub tls: Option<TlsAcceptor>,
    /// Its limits.
    pub bounds: Bounds,
    /// Where its connections are counted, if they are.
    pub metrics: Option<Metrics>,
    /// The word to stop.
    pub shutdown: CancellationToken,
}

impl Listening {
    /// Serves until the word to stop, and then until the last answer is out. The caller bounds
    /// how long that may take.
    pub async fn run<H, F>(self, listener: TcpListener, handler: H)
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        let slots = Arc::new(Semaphore::new(self.bounds.connections.min(Semaphore::MAX_PERMITS)));
        let this = Arc::new(self);
        let open = TaskTracker::new();
        while let Some(Some((stream, peer, slot))) =
            shutdown.run_until_cancelled(next(&listener, &slots)).await
        {
            let (this, handler) = (Arc::clone(&this), handler.clone());
            open.spawn(async move {
                this.connection(stream, peer, handler).await;
                drop(slot);
            });
        }
        drop(listener);
        open.close();
        open.wait().await;
    }

    async fn connection<H, F>(&self, stream: TcpStream, peer: SocketAddr, handler: H)
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let _open = self.metrics.as_ref().map(|m| Open::new(&m.connections));
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        let Some(tls) = &self.tls else {
            return self.converse(stream, peer, handler).await;
        };
        let handshake = timeout(self.bounds.head, tls.accept(stream));
        match self.shutdown.run_until_cancelled(handshake).await {
            None => {}
            Some(Ok(Ok(stream))) => self.converse(stream, peer, handler).await,
            Some(failed) => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => io::Error::from(io::ErrorKind::TimedOut),
                };
                tracing::debug!(%peer, %error, "a TLS handshake failed");
                if let Some(metrics) = &self.metrics {
                    metrics.handshake_failures.inc();
                }
            }
        }
    }

    /// HTTP/1.1 or HTTP/2, as the client speaks; its wish to upgrade (`Upgrade: h2c`) is ignored,
    /// as RFC 9110 §7.8 allows.
    async fn converse<S, H, F>(&self, stream: S, peer: SocketAddr, handler: H)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let asked = AtomicU64::new(0);
        let service = service_fn(|request| {
            asked.fetch_add(1, Ordering::Relaxed);
            let answer = handler(request, peer);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let server = self.server();
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.time_to_end(&asked) => {
                connection.as_mut().graceful_shutdown();
                timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }

    fn server(&self) -> Builder<TokioExecutor> {
        let mut server = Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head)
            .max_buf_size(usize::from(HEAD_BYTES));
        server
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.bounds.streams)
            .max_header_list_size(u32::from(HEAD_BYTES))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        server
    }

    /// Comes to an end on the word to stop, or when a connection asks nothing for too long: it
    /// holds one of a limited number of places.
    async fn time_to_end(&self, asked: &AtomicU64) {
        let quiet = async {
            sleep(self.bounds.head).await;
            let mut before = 0;
            loop {
                match asked.load(Ordering::Relaxed) {
                    now if now == before => return,
                    now => before = now,
                }
                sleep(IDLE).await;
            }
        };
        self.shutdown.run_until_cancelled(quiet).await;
    }
}

/// The next connection, once there is a place for it; `None` never, in practice.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, slot)),
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Whether the trouble is over with the client that brought it.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Counts a connection for as long as it lives.
struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::Upload;
    use crate::http::respond;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    const TOO_LONG: Duration = Duration::from_secs(20);

    struct Running {
        at: SocketAddr,
        shutdown: CancellationToken,
        ended: JoinHandle<()>,
    }

    /// A listener whose handler takes bodies of up to 10 bytes and answers "ok" after a moment.
    async fn running(
        tls: Option<TlsAcceptor>,
        metrics: Option<Metrics>,
        head: Duration,
    ) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let bounds = Bounds { connections: 10, streams: 10, head };
        let listening = Listening { tls, bounds, metrics, shutdown: shutdown.clone() };
        let ended = tokio::spawn(listening.run(listener, |request, _| async move {
            let is_head = request.method() == hyper::Method::HEAD;
            let (head, body) = request.into_parts();
            let mut upload = Upload::new(body, &head.headers);
            let answer = match upload.read(10, TOO_LONG).await {
                Ok(_) => respond::text("ok"),
                Err(error) => respond::error(&error, crate::http::route::Form::Json, "", ""),
            };
            upload.let_go();
            sleep(Duration::from_millis(100)).await;
            respond::finish(answer, is_head, None, "id")
        }));
        Running { at, shutdown, ended }
    }

    /// Sends bytes, and reads until the server closes.
    async fn talk(at: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        timeout(TOO_LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_wish_to_upgrade_to_h2c_is_ignored() {
        let server = running(None, None, TOO_LONG).await;
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings, close\r\n\
                       upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
        let answer = talk(server.at, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }

    #[tokio::test]
    async fn a_refused_upload_that_is_still_being_sent_gets_its_answer() {
        let server = running(None, None, TOO_LONG).await;
        let mut request =
            b"PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5000000\r\n\r\n"
                .to_vec();
        request.extend_from_slice(&[b'x'; 5_000_000]);
        let answer = talk(server.at, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("too large"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_waits_for_a_word_is_refused_without_one() {
        let server = running(None, None, TOO_LONG).await;
        let head = "PUT / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: ";
        let refused = talk(server.at, format!("{head}5000000\r\n\r\n").as_bytes()).await;
        assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
        let closing = format!("{head}2\r\nconnection: close\r\n\r\nab");
        let taken = talk(server.at, closing.as_bytes()).await;
        assert!(taken.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "{taken}");
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_or_half_a_head_is_let_go() {
        let server = running(None, None, Duration::from_millis(200)).await;
        assert_eq!(talk(server.at, b"").await, "");
        assert_eq!(talk(server.at, b"GET / HT").await, "");
        assert_eq!(talk(server.at, b"PRI * HTTP/2.0\r\n").await, "");
    }

    #[tokio::test]
    async fn a_stop_finishes_what_is_under_way_and_ends_what_is_idle() {
        let server = running(None, None, TOO_LONG).await;
        let mut idle = TcpStream::connect(server.at).await.unwrap();
        let asked = tokio::spawn(talk(server.at, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
        sleep(Duration::from_millis(50)).await;
        server.shutdown.cancel();
        timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
        assert!(asked.await.unwrap().ends_with("ok"));
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(TcpStream::connect(server.at).await.is_err());
    }

    #[tokio::test]
    async fn http_2_is_spoken_too_and_its_heads_have_a_length_without_a_body() {
        let server = running(None, None, TOO_LONG).await;
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let url = format!("http://{}/", server.at);
        let got = client.get(&url).send().await.unwrap();
        assert_eq!(got.version(), reqwest::Version::HTTP_2);
        assert_eq!(got.text().await.unwrap(), "ok");
        let head = client.head(&url).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], "2");
        assert_eq!(head.text().await.unwrap(), "");
        let refused = client.put(&url).body(vec![b'x'; 3_000_000]).send().await.unwrap();
        assert_eq!(refused.status(), 413);
        server.shutdown.cancel();
        timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn connections_and_failed_handshakes_are_counted() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
        )
        .unwrap();
        let metrics = Metrics::new().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = running(Some(acceptor), Some(metrics.clone()), TOO_LONG).await;
        let mut stream = TcpStream::connect(server.at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(TOO_LONG, stream.read_to_end(&mut rest)).await.unwrap();
        server.shutdown.cancel();
        timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
        assert_eq!(metrics.handshake_failures.get(), 1);
        assert_eq!(metrics.connections.get(), 0);
    }
}
