//! TLS in front of a plain server of the tests.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::Authority;

/// A running one; it ends when it is dropped.
#[derive(Debug)]
pub struct Https {
    addr: SocketAddr,
    _runtime: Runtime,
}

impl Https {
    /// What comes here goes to `plain`. It shows the certificate of that authority.
    pub fn before(plain: SocketAddr, authority: &Authority) -> Self {
        let cert = CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![cert], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, acceptor, plain));
        Self { addr, _runtime: runtime }
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }
}

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
