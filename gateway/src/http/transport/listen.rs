//! Listening: connections are accepted, bounded, spoken to, and brought to an end. What a
//! request means is the handler's business.

mod crowd;
mod plain;
mod sending;
mod traffic;
mod unread;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::response::respond::Answer;
use crate::http::transport::coalescing::CoalescedWriter;
use crate::http::transport::eager::Eager;
use crate::http::transport::proxy_header::{self, Introduced};
use crate::http::transport::workers::Workers;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::networks::Networks;
pub use crowd::ConnectionShares;
use crowd::{Crowd, LOOK_EVERY, Seat};
use sending::Sending;
use traffic::{AtWork, Counted, Traffic};
use unread::Unread;

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
/// A client that is just connecting at a stop has so long to shake hands, and then to ask.
const FIRST_REQUEST_AT_STOP: Duration = Duration::from_secs(2);
/// Connections that the system may have accepted for us, and that are served at a stop: tokio's
/// listeners let so many wait.
const QUEUED: usize = 1024;
/// What a client says after our last word is read away until it has closed, said nothing for so
/// long, or done it for [`LINGER`].
const LINGER_QUIET: Duration = Duration::from_secs(2);
const LINGER: Duration = Duration::from_secs(60);
/// An HTTP/2 client is asked for a sign of life this often, and has so long to give it.
const PING: Duration = Duration::from_secs(20);
/// What a client may send on one stream, and on all streams of one connection, before somebody has read
/// it, in bytes: enough for 600 kB a second over 100 ms. It is counted nowhere else, and there are thousands of
/// connections.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024;
/// The head of a request: the request line and all headers, in bytes.
const HEAD_BYTES: u16 = 32 * 1024;

/// What a listener bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at one time; for further ones the idlest goes, or they wait.
    pub connections: usize,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// How long a TLS handshake or a request's head may take.
    pub head: Duration,
    /// A connection that asks nothing new for so long is brought to an end (after one to two of
    /// it).
    pub idle: Duration,
    /// For how long a client may read next to nothing of an answer.
    pub stall: Duration,
}

/// [`Bounds::idle`] of every listener.
pub const IDLE: Duration = Duration::from_secs(60);
/// [`Bounds::stall`] of every listener.
pub const STALL: Duration = Duration::from_secs(30);

/// How a listener speaks.
pub struct Listening {
    /// Who begins each connection with a PROXY header.
    pub introduced_by: Option<Networks>,
    /// With TLS or without.
    pub tls: Option<TlsAcceptor>,
    /// Our URL, for who speaks plain http where TLS is spoken.
    pub url: Option<String>,
    /// Its limits.
    pub bounds: Bounds,
    /// How many connections one client may have.
    pub shares: Option<ConnectionShares>,
    /// Where its connections are counted, if they are.
    pub metrics: Option<Metrics>,
    /// The word to stop.
    pub shutdown: CancellationToken,
    /// Where connections are served.
    pub workers: Workers,
}

impl Listening {
    /// Serves until the word to stop, and then until the last answer is out. The caller bounds
    /// how long that may take.
    pub async fn run<H, F>(mut self, listener: TcpListener, handler: H)
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        let (shares, metrics) = (self.shares.take(), self.metrics.clone());
        let crowd = Arc::new(Crowd::new(self.bounds.connections, shares, metrics));
        let this = Arc::new(self);
        let open = TaskTracker::new();
        let serve = |((stream, peer), seat): (Arrived, Seat)| {
            let (worker, owned, handler) =
                (this.workers.place(), Arc::clone(&this), handler.clone());
            let runtime = worker.runtime().clone();
            let serving = async move {
                match moved_here(stream) {
                    Ok(stream) => owned.connection(stream, (peer, &seat), handler).await,
                    Err(error) => tracing::warn!(%peer, %error, "a connection was lost"),
                }
                drop((seat, worker));
            };
            open.spawn_on(serving, &runtime);
        };
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(arrived) =
            shutdown.run_until_cancelled(next(&listener, &mut looks, &crowd)).await
        {
            serve((arrived, crowd.seat().await));
        }
        serve_queued(listener, &crowd, serve).await;
        open.close();
        open.wait().await;
    }

    async fn connection<H, F>(
        &self,
        mut stream: TcpStream,
        (peer, seat): (SocketAddr, &Seat),
        handler: H,
    ) where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let _open = self.metrics.as_ref().map(|m| Open::new(&m.connections));
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        let Some(peer) = self.introduced(&mut stream, (peer, seat)).await else { return };
        if !seat.admit(peer) {
            tracing::debug!(%peer, "its address has all the connections that it may have");
            return;
        }
        let traffic = &seat.traffic;
        let stream = Counted::new(stream, traffic);
        let ended = match &self.tls {
            None => self.converse(stream, |_| Ok(()), (peer, seat), handler).await,
            Some(tls) => {
                let Some(stream) = self.handshake(tls, stream, (peer, seat)).await else { return };
                let gathered = stream.clone();
                let release = move |context: &mut Context<'_>| match gathered.release(context) {
                    Poll::Ready(released) => released,
                    Poll::Pending => Ok(()),
                };
                self.converse(stream, release, (peer, seat), handler).await
            }
        };
        if let (Ended::ByUs, Some(stream)) = (ended, traffic.take_left()) {
            tokio::select! {
                () = linger(stream) => {}
                () = seat.told_to_go() => {}
            }
        }
    }

    /// Where a client is. `None` when that had to be said, and was not.
    async fn introduced(
        &self,
        stream: &mut TcpStream,
        (peer, seat): (SocketAddr, &Seat),
    ) -> Option<SocketAddr> {
        if !self.introduced_by.as_ref().is_some_and(|trusted| trusted.contains(peer.ip())) {
            return Some(peer);
        }
        let reading = timeout(self.bounds.head, proxy_header::read(stream));
        let why = match self.hurried(seat, reading).await? {
            Ok(Ok(Introduced::Client(client))) => return Some(client),
            Ok(Ok(Introduced::Itself)) => return Some(peer),
            Ok(Ok(Introduced::Nobody)) => return None,
            Ok(Err(refused)) => refused.to_string(),
            Err(late) => late.to_string(),
        };
        tracing::debug!(%peer, why, "a trusted proxy did not say for whom it connects");
        if let Some(metrics) = &self.metrics {
            metrics.proxy_headers_refused.inc();
        }
        None
    }

    /// TLS with a client that speaks it in time; `None` otherwise, and when we stop meanwhile.
    async fn handshake(
        &self,
        tls: &TlsAcceptor,
        stream: Counted,
        (peer, seat): (SocketAddr, &Seat),
    ) -> Option<CoalescedWriter<Counted>> {
        let handshake = timeout(self.bounds.head, self.shake_hands(tls, stream));
        let error = match self.hurried(seat, handshake).await? {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::from(io::ErrorKind::TimedOut),
        };
        tracing::debug!(%peer, %error, "a TLS handshake failed");
        if let Some(metrics) = &self.metrics {
            metrics.handshake_failures.inc();
        }
        None
    }

    async fn shake_hands(
        &self,
        tls: &TlsAcceptor,
        stream: Counted,
    ) -> io::Result<CoalescedWriter<Counted>> {
        match &self.url {
            Some(url) if plain::is_spoken(&stream).await? => {
                plain::answer(stream, url).await?;
                Err(io::Error::other("its client speaks plain http"))
            }
            _ => CoalescedWriter::accept(tls, stream).await,
        }
    }

    /// Work that a stop leaves [`FIRST_REQUEST_AT_STOP`], and that ends where the connection has to
    /// make room.
    async fn hurried<T>(&self, seat: &Seat, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.shutdown.cancelled().await;
            sleep(FIRST_REQUEST_AT_STOP).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
            () = seat.told_to_go() => None,
        }
    }

    /// HTTP/1.1 or HTTP/2, as the client speaks; its wish to upgrade (`Upgrade: h2c`) is ignored,
    /// as RFC 9110 §7.8 allows. After each step `release` sends what was written.
    async fn converse<S, R, H, F>(
        &self,
        stream: S,
        release: R,
        (peer, seat): (SocketAddr, &Seat),
        handler: H,
    ) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        R: Fn(&mut Context<'_>) -> io::Result<()>,
        H: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let traffic = &seat.traffic;
        let service = service_fn(|request| {
            let at_work = AtWork::begin(traffic);
            let answer = handler(request, peer);
            async move {
                let answer = answer.await;
                Ok::<_, Infallible>(answer.map(|body| Sending::new(body, at_work)))
            }
        });
        let server = self.server();
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        let (ended, by) = tokio::select! {
            ended = released(connection.as_mut(), &release) => (ended, Ended::ByThem),
            () = self.unread(seat, peer) => {
                (Err("its client does not read an answer".into()), Ended::ByThem)
            }
            leaves = self.time_to_end(seat) => {
                connection.as_mut().graceful_shutdown();
                // What it was sent since it was told is finished.
                let sends = traffic.is_sending() && !traffic.given_up.load(Ordering::Relaxed);
                if leaves && !sends && !traffic.is_at_work() {
                    let _ = released(connection, &release).now_or_never(); // its last word
                    return Ended::ByThem;
                }
                let ended = tokio::select! {
                    ended = released(connection, &release) => ended,
                    () = self.stalled(traffic) => Err("its client reads no more".into()),
                    () = seat.told_to_go() => Err("it makes room for another one".into()),
                };
                (ended, Ended::ByUs)
            }
        };
        match ended {
            Ok(()) => by,
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection broke");
                Ended::ByThem
            }
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
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        server
    }

    /// Comes to an end on the word to stop, or when a connection asks nothing for too long or
    /// is too old: it holds one of a limited number of places. A client that has just connected
    /// is about to ask, and is told with its first answer. Says whether the connection has to make
    /// room for another one.
    async fn time_to_end(&self, seat: &Seat) -> bool {
        let traffic = &seat.traffic;
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
        let stopping = tokio::select! {
            outcome = self.shutdown.run_until_cancelled(quiet) => outcome.is_none(),
            () = seat.told_to_go() => return true,
        };
        if stopping && traffic.asked.load(Ordering::Relaxed) == 0 {
            let _ = timeout(FIRST_REQUEST_AT_STOP, traffic.first.notified()).await;
        }
        false
    }

    /// Comes to an end when a client has taken next to nothing of an answer for too long, though it may
    /// have asked and read others meanwhile: that answer holds memory. Never for an exempt peer, which
    /// may be a proxy that speaks for many.
    async fn unread(&self, seat: &Seat, peer: SocketAddr) {
        if seat.is_exempt(peer) {
            return pending().await;
        }
        let (traffic, tick) = (&seat.traffic, self.bounds.stall / 2);
        let mut unread = Unread::default();
        while !unread.is_stalled(traffic, tick) {
            sleep(tick).await;
        }
        if let Some(metrics) = &self.metrics {
            metrics.connections_closed.with_label_values(&["unread"]).inc();
        }
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
                if !traffic.is_at_work() && read < SLOWEST * waited.as_secs().max(1) {
                    return;
                }
            }
        };
        let _ = timeout(LAST_ANSWERS, stalled).await;
    }
}

/// Whose wish it was that a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Ours, and the last answer is with the system.
    ByUs,
    /// The client's, or it broke.
    ByThem,
}

/// Reads away what a client still says after our last word. A socket that is closed with unread
/// bytes, or to which more come, is reset, and what was on its way to the client is lost with it
/// (RFC 9112 §9.6; an HTTP/2 client says something with all that it reads).
async fn linger(mut stream: TcpStream) {
    let reading = async {
        let mut scrap = [0; 512];
        while let Ok(Ok(1..)) = timeout(LINGER_QUIET, stream.read(&mut scrap)).await {}
    };
    let _ = timeout(LINGER, reading).await;
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

/// A connection that was accepted, and from whom.
type Arrived = (TcpStream, SocketAddr);

/// The next connection; meanwhile it is looked at what the others do.
async fn next(listener: &TcpListener, looks: &mut Interval, crowd: &Crowd) -> Arrived {
    let mut pause = FIRST_PAUSE;
    loop {
        let arrived = tokio::select! {
            arrived = listener.accept() => arrived,
            _ = looks.tick() => {
                crowd.look();
                continue;
            }
        };
        match arrived {
            Ok(arrived) => return arrived,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                crowd.make_room(); // nearly always there are no more file descriptors
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Closes a listener after the connections that the system has accepted for us have been served: those clients
/// believe to be connected, and would see a reset.
async fn serve_queued(listener: TcpListener, crowd: &Arc<Crowd>, serve: impl Fn((Arrived, Seat))) {
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..QUEUED {
        match accepted(&listener) {
            Ok(arrived) => serve((arrived, crowd.seat().await)),
            Err(error) if is_of_one_client(&error) => {}
            Err(_) => return, // nobody waits any more, in nearly all cases
        }
    }
}

fn accepted(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Whether the failure ends with the client that brought it.
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
