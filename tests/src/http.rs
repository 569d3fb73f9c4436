//! A plain HTTP/1.1 server in a thread of its own, which notes every request and can
//! misbehave: be far away, wait, hang up, promise more bytes than it sends.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` and so on.
    pub method: String,
    /// Path and query, not decoded.
    pub path: String,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// Read to its end.
    pub body: Vec<u8>,
}

/// What to do about a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Answer.
    Answer(Response),
    /// Ask the handler again shortly: the answer is being held back.
    Wait,
    /// Close the connection without a word.
    HangUp,
}

/// An answer, perhaps a false one.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Without `Content-Length`, which is added.
    pub headers: Vec<(String, String)>,
    /// What `Content-Length` counts.
    pub body: Vec<u8>,
    /// Send only the first half of the body, then close the connection.
    pub cut_short: bool,
}

struct Shared {
    /// `None` where nothing is noted.
    requests: Option<Mutex<Vec<Request>>>,
    down: AtomicBool,
    latency_micros: AtomicU64,
    handler: Box<Handler>,
}

/// Called with the request and the time since it came; called again after [`Action::Wait`].
type Handler = dyn Fn(&Request, Duration) -> Action + Send + Sync;

const BETWEEN_ASKS: Duration = Duration::from_millis(5);

impl Server {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(handler: impl Fn(&Request, Duration) -> Action + Send + Sync + 'static) -> Self {
        Self::serving(handler, Some(Mutex::default()))
    }

    /// The same for any number of requests: none is noted.
    pub fn forgetful(
        handler: impl Fn(&Request, Duration) -> Action + Send + Sync + 'static,
    ) -> Self {
        Self::serving(handler, None)
    }

    fn serving(
        handler: impl Fn(&Request, Duration) -> Action + Send + Sync + 'static,
        requests: Option<Mutex<Vec<Request>>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            requests,
            down: AtomicBool::new(false),
            latency_micros: AtomicU64::new(0),
            handler: Box::new(handler),
        });
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { addr, shared, runtime: Some(runtime) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `127.0.0.1:PORT`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.noted().clone()
    }

    /// How many requests were for exactly this path and query.
    pub fn count(&self, path: &str) -> usize {
        self.shared.noted().iter().filter(|r| r.path == path).count()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.noted().clear();
    }

    /// From now on every request takes that long, as if the way here and the way back took half
    /// of it each: the handler is asked in between.
    pub fn set_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap();
        self.shared.latency_micros.store(micros, Ordering::SeqCst);
    }

    /// Down: open connections end at the next request, new ones are closed at once.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Response {
    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut_short: false }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Shared {
    fn noted(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.as_ref().expect("this server notes nothing").lock().unwrap()
    }

    fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_micros.load(Ordering::SeqCst))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// One thread of its own for a server.
pub(crate) fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        if !shared.down.load(Ordering::SeqCst) {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(request, Arc::clone(&shared)));
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// The error is the hanging up: hyper then closes the connection.
async fn respond(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<hyper::Response<Sent>, HungUp> {
    let begun = Instant::now();
    let latency = shared.latency();
    let seen = read(request).await;
    if shared.requests.is_some() {
        shared.noted().push(seen.clone());
    }
    until(begun + latency / 2).await;
    let came = Instant::now();
    loop {
        if shared.down.load(Ordering::SeqCst) {
            return Err(HungUp);
        }
        match (shared.handler)(&seen, came.elapsed()) {
            Action::Answer(response) => {
                until(begun + latency).await;
                return Ok(send(response));
            }
            Action::HangUp => return Err(HungUp),
            Action::Wait => tokio::time::sleep(BETWEEN_ASKS).await,
        }
    }
}

async fn until(instant: Instant) {
    if instant > Instant::now() {
        tokio::time::sleep_until(instant.into()).await;
    }
}

/// A request, read to its end; a body that breaks off counts as empty.
pub(crate) async fn read(request: hyper::Request<Incoming>) -> Request {
    let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let (head, body) = request.into_parts();
    Request {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or(String::new(), ToString::to_string),
        headers: head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
        body: body.collect().await.map_or(Vec::new(), |body| body.to_bytes().to_vec()),
    }
}

fn send(response: Response) -> hyper::Response<Sent> {
    let Response { status, headers, mut body, cut_short } = response;
    let mut head = hyper::Response::builder().status(status);
    if status != 304 {
        head = head.header("content-length", body.len());
    }
    for (name, value) in headers {
        head = head.header(name, value);
    }
    if cut_short {
        body.truncate(body.len() / 2);
    }
    head.body(Sent { bytes: Some(body.into()), cut_short, flushed: false }).unwrap()
}

/// A body of no known length, so that hyper believes our `Content-Length`; it may break off.
struct Sent {
    bytes: Option<Bytes>,
    cut_short: bool,
    /// Whether hyper had a pause in which it sends what it has.
    flushed: bool,
}

#[derive(Debug)]
pub(crate) struct HungUp;

impl Body for Sent {
    type Data = Bytes;
    type Error = HungUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HungUp>>> {
        if self.cut_short && self.bytes.is_none() && !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.bytes.take() {
            Some(bytes) if !bytes.is_empty() => Some(Ok(Frame::data(bytes))),
            _ if self.cut_short => Some(Err(HungUp)),
            _ => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.bytes {
            Some(bytes) if !self.cut_short => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the test's server hangs up")
    }
}

impl std::error::Error for HungUp {}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(server: &Server, path: &str) -> reqwest::Result<Vec<u8>> {
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        let body = client.get(format!("{}{path}", server.origin())).send()?.bytes()?;
        Ok(body.to_vec())
    }

    #[test]
    fn requests_are_noted_and_answered() {
        let server = Server::start(|_, _| Action::Answer(Response::ok("yes")));
        assert_eq!(get(&server, "/a?b").unwrap(), b"yes");
        assert_eq!(server.count("/a?b"), 1);
        assert_eq!(server.requests()[0].header("accept"), Some("*/*"));
    }

    #[test]
    fn it_can_wait_hang_up_break_off_and_be_down() {
        let server = Server::start(|request, waited| match request.path.as_str() {
            "/slow" if waited < Duration::from_millis(20) => Action::Wait,
            "/gone" => Action::HangUp,
            "/cut" => Action::Answer(Response { cut_short: true, ..Response::ok("12345678") }),
            _ => Action::Answer(Response::ok("")),
        });
        assert!(get(&server, "/slow").is_ok());
        assert!(get(&server, "/gone").is_err());
        let cut = get(&server, "/cut").unwrap_err();
        assert!(cut.is_body() || cut.is_decode(), "the head arrives: {cut:?}");
        server.set_down(true);
        assert!(get(&server, "/slow").is_err());
        server.set_down(false);
        assert!(get(&server, "/slow").is_ok());
    }

    #[test]
    fn a_server_that_is_far_away_applies_a_request_before_its_answer_is_back() {
        let seen = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        let server = Server::forgetful(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Action::Answer(Response::ok("far"))
        });
        let latency = Duration::from_millis(40);
        server.set_latency(latency);
        let asked = Instant::now();
        assert_eq!(get(&server, "/").unwrap(), b"far");
        assert!(asked.elapsed() >= latency);
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }
}
