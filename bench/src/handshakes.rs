//! New TLS connections, full and resumed: h2load cannot resume one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cratehouse_tests::authority::Authority;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, version};

use crate::Result;
use crate::stats::Waits;

/// Those who connect, each as soon as its last connection was closed.
const VISITORS: u64 = 2;
/// A server that says nothing for so long fails the run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a connection goes on with the secrets of an earlier one (RFC 8446, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Full,
    Resumed,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) connections: u64,
    pub(crate) took: Duration,
    /// From connecting until the last byte of the answer.
    pub(crate) waits: Waits,
    /// All that came, heads and bodies, before TLS.
    pub(crate) bytes: u64,
}

/// A server, and how it is connected to.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    addr: SocketAddr,
    path: String,
    config: Arc<ClientConfig>,
    sort: Sort,
}

impl Door {
    /// The server at `addr`, whose certificate is of this authority, is asked for one path.
    pub(crate) fn new(
        addr: SocketAddr,
        path: &str,
        authority: &Authority,
        sort: Sort,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.ca.as_bytes())?)?;
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            // What h2load agrees upon with both: one of them knows no hybrid with ML-KEM.
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if sort == Sort::Full {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { addr, path: path.to_owned(), config: Arc::new(config), sort })
    }

    /// Connects about so many times, asks once on each connection and reads the answer until the
    /// server closes.
    pub(crate) fn knock(&self, connections: u64) -> Result<Seen> {
        let each = connections.div_ceil(VISITORS);
        if self.sort == Sort::Resumed {
            // A ticket is good for one connection, and each connection brings new ones.
            (0..VISITORS).try_for_each(|_| self.visit().map(drop))?;
        }
        let begun = Instant::now();
        let visit = || (0..each).map(|_| self.visit_as_wanted()).collect::<Result<Vec<_>>>();
        let visits = thread::scope(|scope| {
            let visitors: Vec<_> = (0..VISITORS).map(|_| scope.spawn(visit)).collect();
            let visits = visitors.into_iter().map(|one| one.join().map_err(|_| "a panic")?);
            visits.collect::<Result<Vec<_>>>()
        })?;
        let took = begun.elapsed();
        let visits: Vec<Visit> = visits.into_iter().flatten().collect();
        Ok(Seen {
            connections: visits.len() as u64,
            took,
            bytes: visits.iter().map(|visit| visit.bytes).sum(),
            waits: Waits::new(visits.into_iter().map(|visit| visit.took).collect()),
        })
    }

    fn visit_as_wanted(&self) -> Result<Visit> {
        let visit = self.visit()?;
        let wanted = match self.sort {
            Sort::Full => HandshakeKind::Full,
            Sort::Resumed => HandshakeKind::Resumed,
        };
        match visit.kind == Some(wanted) {
            true => Ok(visit),
            false => Err(format!("a handshake was {:?}, not {wanted:?}", visit.kind).into()),
        }
    }

    fn visit(&self) -> Result<Visit> {
        let begun = Instant::now();
        let tcp = TcpStream::connect(self.addr)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(self.addr.ip());
        let tls = ClientConnection::new(Arc::clone(&self.config), name)?;
        let mut stream = StreamOwned::new(tls, tcp);
        let (path, addr) = (&self.path, self.addr);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        match answer.starts_with(b"HTTP/1.1 200 ") {
            true => Ok(Visit {
                took: begun.elapsed(),
                bytes: answer.len() as u64,
                kind: stream.conn.handshake_kind(),
            }),
            false => Err(format!("no success: {}", String::from_utf8_lossy(&answer)).into()),
        }
    }
}

#[derive(Debug)]
struct Visit {
    took: Duration,
    bytes: u64,
    kind: Option<HandshakeKind>,
}
