//! One HTTP/2 connection over TLS, with as many streams as a test likes and bodies that are sent piece
//! by piece: what a client does that wants to be a nuisance.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::gateway::Gateway;
use crate::http::runtime;

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

/// Pieces of one body that wait to be sent.
const PIECES: usize = 64;

/// A connection; it ends when it is dropped.
pub struct Connection {
    runtime: Runtime,
    sender: SendRequest<Body>,
    authority: String,
}

/// A request under way.
pub struct Stream {
    /// `None`: its body has ended.
    pieces: Option<mpsc::Sender<Bytes>>,
    answer: Arc<Mutex<Option<(u16, String)>>>,
}

impl Connection {
    /// A new one to the registry's listener of a gateway with TLS.
    pub fn open(gateway: &Gateway) -> Self {
        Self::with(gateway, &http2::Builder::new(TokioExecutor::new()))
    }

    /// The same, of a client that takes no byte of any answer.
    pub fn that_reads_nothing(gateway: &Gateway) -> Self {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(0);
        Self::with(gateway, &builder)
    }

    fn with(gateway: &Gateway, builder: &http2::Builder<TokioExecutor>) -> Self {
        let runtime = runtime();
        let addr = gateway.addr();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(gateway.ca_path()).unwrap()).unwrap();
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(addr).await.unwrap();
            let name = ServerName::from(addr.ip());
            let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender, authority: addr.to_string() }
    }

    /// Begins a request whose body follows in pieces.
    pub fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Stream {
        let (pieces, mut coming) = mpsc::channel(PIECES);
        let body = stream::poll_fn(move |context| coming.poll_recv(context));
        let body = body.map(|piece| Ok(Frame::data(piece))).boxed();
        let url = format!("https://{}{path}", self.authority);
        let mut request = hyper::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(StreamBody::new(body)).unwrap();
        let answer = Arc::new(Mutex::new(None));
        let (told, mut sender) = (Arc::clone(&answer), self.sender.clone());
        self.runtime.spawn(async move {
            let Ok(got) = sender.send_request(request).await else { return };
            let status = got.status().as_u16();
            let body = got.into_body().collect().await.map(|body| body.to_bytes());
            let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
            *told.lock().unwrap() = Some((status, text));
        });
        Stream { pieces: Some(pieces), answer }
    }

    /// A byte each second on these streams, for as long as the connection is there.
    pub fn trickle(&self, streams: &[Stream]) {
        for stream in streams {
            let Some(pieces) = stream.pieces.clone() else { continue };
            self.runtime.spawn(async move {
                while pieces.send(Bytes::from_static(b"x")).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
    }
}

impl Stream {
    /// Sends a piece.
    pub fn send(&self, piece: impl Into<Bytes>) {
        if let Some(pieces) = &self.pieces {
            let _ = pieces.try_send(piece.into()); // a refused one is not taken any more
        }
    }

    /// Ends the body.
    pub fn end(&mut self) {
        self.pieces = None;
    }

    /// Status and body, once they are there.
    pub fn answer(&self) -> Option<(u16, String)> {
        self.answer.lock().unwrap().clone()
    }
}
