//! A token service as Amazon's STS: https, and keys for whoever shows a token.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::authority::Authority;
use crate::http::{Action, Request, Response, Server};

/// A running one; it ends when it is dropped.
#[derive(Debug)]
pub struct Sts {
    server: Server,
    addr: SocketAddr,
    _tls: Runtime,
}

/// Far away, so that the keys are not asked for twice.
const ANSWER: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
    <AccessKeyId>short-lived</AccessKeyId><SecretAccessKey>any</SecretAccessKey>\
    <SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
    </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

impl Sts {
    /// Starts one with a certificate of that authority.
    pub fn start(authority: &Authority) -> Self {
        let server = Server::start(|_, _| Action::Answer(Response::ok(ANSWER)));
        let cert = CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![cert], key).unwrap()));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, acceptor, server.addr()));
        Self { server, addr, _tls: runtime }
    }

    /// `https://localhost:PORT`
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

/// TLS in front of a plain server.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, plain: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let Ok(mut inside) = TcpStream::connect(plain).await else { return };
            _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}
