//! An HTTP/1.1 proxy in front of a store, which fails when it is told to: before or after it
//! has passed a request on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::http::{HungUp, Request, read, runtime};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not passed on, and the connection is closed.
    Cut,
    /// It is passed on and applied, and the connection is closed before the answer.
    LoseReply,
    /// It is not passed on, and answered with this status.
    Refuse(u16),
    /// It is passed on and applied, and answered with this status all the same.
    ApplyAndAnswer(u16),
    /// It is passed on after this time.
    Delay(Duration),
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    target: SocketAddr,
    down: AtomicBool,
    plan: Mutex<Option<Arc<Plan>>>,
    faults: AtomicUsize,
}

type Plan = dyn Fn(&Request) -> Option<Fault> + Send + Sync;

impl FaultProxy {
    /// One on a free port of 127.0.0.1, without a fault.
    pub fn before(target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            target,
            down: AtomicBool::new(false),
            plan: Mutex::new(None),
            faults: AtomicUsize::new(0),
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

    /// From now on, what `plan` says happens to each request.
    pub fn plan(&self, plan: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
        *self.shared.plan.lock().unwrap() = Some(Arc::new(plan));
    }

    /// The next request that fits suffers this, and no other one.
    pub fn once(&self, fault: Fault, fits: impl Fn(&Request) -> bool + Send + Sync + 'static) {
        let done = AtomicBool::new(false);
        self.plan(move |request| {
            (fits(request) && !done.swap(true, Ordering::SeqCst)).then_some(fault)
        });
    }

    /// No faults from now on.
    pub fn heal(&self) {
        *self.shared.plan.lock().unwrap() = None;
        self.set_down(false);
    }

    /// Down: open connections end at the next request, new ones are closed at once.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// How many faults there were.
    pub fn faults(&self) -> usize {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        if !shared.down.load(Ordering::SeqCst) {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| proxy(request, Arc::clone(&shared)));
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// The error is the hanging up: hyper then closes the connection.
async fn proxy(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<hyper::Response<Full<Bytes>>, HungUp> {
    let request = read(request).await;
    let promised = request.header("content-length").and_then(|length| length.parse().ok());
    let broke_off = promised.is_some_and(|promised: usize| promised != request.body.len());
    if broke_off || shared.down.load(Ordering::SeqCst) {
        return Err(HungUp);
    }
    let plan = shared.plan.lock().unwrap().clone();
    let fault = plan.and_then(|plan| plan(&request));
    shared.faults.fetch_add(usize::from(fault.is_some()), Ordering::SeqCst);
    match fault {
        None => pass_on(&request, shared.target).await,
        Some(Fault::Cut) => Err(HungUp),
        Some(Fault::LoseReply) => {
            pass_on(&request, shared.target).await?;
            Err(HungUp)
        }
        Some(Fault::Refuse(status)) => Ok(failure(status)),
        Some(Fault::ApplyAndAnswer(status)) => {
            pass_on(&request, shared.target).await?;
            Ok(failure(status))
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            pass_on(&request, shared.target).await
        }
    }
}

fn failure(status: u16) -> hyper::Response<Full<Bytes>> {
    hyper::Response::builder().status(status).body(Full::default()).unwrap()
}

/// A connection for each request: the server may die between two. Headers pass as they are,
/// `Host` included, since the signature covers it. A server that does not answer is a hang-up.
async fn pass_on(
    request: &Request,
    target: SocketAddr,
) -> Result<hyper::Response<Full<Bytes>>, HungUp> {
    let stream = TcpStream::connect(target).await.map_err(|_| HungUp)?;
    let _ = stream.set_nodelay(true);
    let http = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = http.map_err(|_| HungUp)?;
    tokio::spawn(connection);
    let mut onward =
        hyper::Request::builder().method(request.method.as_str()).uri(request.path.as_str());
    for (name, value) in &request.headers {
        onward = onward.header(name, value);
    }
    let body = Full::new(Bytes::from(request.body.clone()));
    let answer = sender.send_request(onward.body(body).unwrap()).await.map_err(|_| HungUp)?;
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| HungUp)?.to_bytes();
    head.headers.remove("connection");
    head.headers.remove("transfer-encoding"); // the body is whole now
    Ok(hyper::Response::from_parts(head, Full::new(body)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::Method;

    use super::*;
    use crate::client::{Client, Reply};
    use crate::http::{Action, Response, Server};

    fn put(proxy: &FaultProxy) -> Option<Reply> {
        let headers = [("x-odd", "kept")];
        let body = Some(b"body".to_vec());
        Client::new(&proxy.origin(), None).try_send(Method::PUT, "/a%20b?c=d", &headers, body).ok()
    }

    #[test]
    fn requests_pass_whole_and_each_fault_is_what_it_says() {
        let server = Server::start(|request, _| {
            Action::Answer(Response::ok(request.body.clone()).header("x-got", &request.path))
        });
        let proxy = FaultProxy::before(server.addr());
        let reply = put(&proxy).unwrap().assert_status(200);
        assert_eq!((reply.text().as_str(), reply.header("x-got")), ("body", Some("/a%20b?c=d")));
        assert_eq!(server.requests()[0].header("x-odd"), Some("kept"));

        for (fault, status, arrives) in [
            (Fault::Cut, None, false),
            (Fault::LoseReply, None, true),
            (Fault::Refuse(409), Some(409), false),
            (Fault::ApplyAndAnswer(503), Some(503), true),
            (Fault::Delay(Duration::from_millis(1)), Some(200), true),
        ] {
            server.forget_requests();
            proxy.once(fault, |request| request.method == "PUT");
            assert_eq!(put(&proxy).map(|reply| reply.status), status, "{fault:?}");
            assert_eq!(server.requests().len(), usize::from(arrives), "{fault:?}");
            assert_eq!(put(&proxy).unwrap().status, 200, "once only");
        }
        assert_eq!(proxy.faults(), 5);
        proxy.set_down(true);
        assert!(put(&proxy).is_none());
        proxy.heal();
        assert!(put(&proxy).is_some());
    }

    #[test]
    fn a_head_keeps_the_length_of_the_body_that_it_has_not() {
        let server = Server::start(|_, _| Action::Answer(Response::ok("12345")));
        let proxy = FaultProxy::before(server.addr());
        let reply = Client::new(&proxy.origin(), None).send(Method::HEAD, "/", &[], None);
        assert_eq!((reply.header("content-length"), reply.body.len()), (Some("5"), 0));
    }
}
