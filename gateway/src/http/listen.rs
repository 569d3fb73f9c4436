//! Listening: connections are accepted, bounded, spoken to, and brought to an end. What a
//! request means is the handler's business.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::eager::Eager;
use crate::http::gathered::Gathered;
use crate::http::lanes::Lanes;
use crate::http::respond::Answer;
use crate::metrics::Metrics;

/// The first wait after the system refused a connection (usually: no more file descriptors).
/// It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How many times [`Bounds::idle`] a connection lives, however busy it is. New ones find the
/// replicas that came since, and no client holds on to answers that it does not read.
const LIFE_IN_IDLES: u32 = 60;
/// How long the answers under way may take then: a large crate over a slow line.
const LAST_ANSWERS: Duration = Duration::from_secs(15 * 60);
/// What a client must read in a second meanwhile, in bytes; cargo itself gives up below it
/// (cargo: `http.low-speed-limit`).
const SLOWEST: u64 = 10;
/// For how long it may read less, at a stop of ours.
const STALL_AT_STOP: Duration = Duration::from_secs(5);
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
    /// A connection that asks nothing new for so long is brought to an end (after one to two of
    /// it).
    pub idle: Duration,
    /// For how long a client whose connection comes to its end may read next to nothing.
    pub stall: Duration,
}

/// [`Bounds::idle`] of every listener.
pub const IDLE: Duration = Duration::from_secs(60);
/// [`Bounds::stall`] of every listener.
pub const STALL: Duration = Duration::from_secs(30);

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
    /// Where connections are served.
    pub lanes: Lanes,
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
            let (lane, owned, handler) = (this.lanes.place(), Arc::clone(&this), handler.clone());
            let runtime = lane.runtime().clone();
            let serving = async move {
                match moved_here(stream) {
                    Ok(stream) => owned.connection(stream, peer, handler).await,
                    Err(error) => tracing::warn!(%peer, %error, "a connection was lost"),
                }
                drop((slot, lane));
            };
            open.spawn_on(serving, &runtime);
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
        let traffic = Arc::new(Traffic::default());
        let stream = Counted { stream, traffic: Arc::clone(&traffic) };
        let Some(tls) = &self.tls else {
            return self.converse(stream, |_| Ok(()), (peer, traffic), handler).await;
        };
        let handshake = timeout(self.bounds.head, Gathered::accept(tls, stream));
        match self.shutdown.run_until_cancelled(handshake).await {
            None => {}
            Some(Ok(Ok(stream))) => {
                let gathered = stream.clone();
                let release = |context: &mut Context<'_>| match gathered.release(context) {
                    Poll::Ready(released) => released,
                    Poll::Pending => Ok(()),
                };
                self.converse(stream, release, (peer, traffic), handler).await;
            }
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
    /// as RFC 9110 §7.8 allows. After each step `release` sends what was written.
    async fn converse<S, R, H, F>(
        &self,
        stream: S,
        release: R,
        (peer, traffic): (SocketAddr, Arc<Traffic>),
        handler: H,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        R: Fn(&mut Context<'_>) -> io::Result<()>,
        H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let service = service_fn(|request| {
            let at_work = AtWork::begin(&traffic);
            let answer = handler(request, peer);
            async move {
                let answer = answer.await;
                drop(at_work);
                Ok::<_, Infallible>(answer)
            }
        });
        let server = self.server();
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = released(connection.as_mut(), &release) => ended,
            () = self.time_to_end(&traffic) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = released(connection, &release) => ended,
                    () = self.stalled(&traffic) => Err("its client reads no more".into()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }

    fn server(&self) -> Builder<Eager> {
        let mut server = Builder::new(Eager);
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

    /// Comes to an end on the word to stop, or when a connection asks nothing for too long or
    /// is too old: it holds one of a limited number of places.
    async fn time_to_end(&self, traffic: &Traffic) {
        let quiet = async {
            sleep(self.bounds.head).await;
            let mut before = 0;
            for _ in 0..LIFE_IN_IDLES {
                match traffic.asked.load(Ordering::Relaxed) {
                    now if now == before => return,
                    now => before = now,
                }
                sleep(self.bounds.idle).await;
            }
        };
        self.shutdown.run_until_cancelled(quiet).await;
    }

    /// Comes to an end when nothing is at work for a connection and its client does not read
    /// what is left, or when that takes too long in all. A client that has nothing left to read
    /// and never hears that we stop (HTTP/2 waits for its word) is one of them.
    async fn stalled(&self, traffic: &Traffic) {
        let stalled = async {
            loop {
                let mut before = traffic.written.load(Ordering::Relaxed);
                let mut waited = self.bounds.stall;
                if self.shutdown.run_until_cancelled(sleep(waited)).await.is_none() {
                    before = traffic.written.load(Ordering::Relaxed);
                    waited = STALL_AT_STOP.min(waited);
                    sleep(waited).await;
                }
                let read = traffic.written.load(Ordering::Relaxed) - before;
                let idle = traffic.at_work.load(Ordering::Relaxed) == 0;
                if idle && read < SLOWEST * waited.as_secs().max(1) {
                    return;
                }
            }
        };
        let _ = timeout(LAST_ANSWERS, stalled).await;
    }
}

/// A connection to its end; what it writes leaves whenever it has done all that it can do.
async fn released<C, E>(
    mut connection: Pin<&mut C>,
    release: impl Fn(&mut Context<'_>) -> io::Result<()>,
) -> Result<(), E>
where
    C: Future<Output = Result<(), E>>,
    E: From<io::Error>,
{
    poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        match release(context) {
            Err(error) if ended.is_pending() => Poll::Ready(Err(error.into())),
            _ => ended,
        }
    })
    .await
}

/// A socket that was accepted elsewhere is woken by the runtime that it is used on.
fn moved_here(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// What happens on one connection.
#[derive(Debug, Default)]
struct Traffic {
    /// Requests so far.
    asked: AtomicU64,
    /// Requests that have no answer yet.
    at_work: AtomicU64,
    /// Bytes that the socket has taken so far.
    written: AtomicU64,
}

/// A request without an answer, until it is dropped.
struct AtWork(Arc<Traffic>);

impl AtWork {
    fn begin(traffic: &Arc<Traffic>) -> Self {
        traffic.asked.fetch_add(1, Ordering::Relaxed);
        traffic.at_work.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(traffic))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that counts what it has taken.
struct Counted<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S> Counted<S> {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
            self.traffic.written.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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
mod tests;
