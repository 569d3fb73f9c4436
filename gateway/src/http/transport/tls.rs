//! TLS 1.2 and 1.3 with a certificate from files, or from a local CA under `<data>/tls/`.
//! Reads and writes files, so it runs at start-up, before anything is served, and then
//! ([`rotation`]) beside that.

mod local_ca;
pub mod rotation;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use crate::config::Tls;
use crate::http::transport::tls::rotation::CertificateInUse;
use crate::model::certificate::Certificate;
use cratehouse_core::checksum::Checksum;

/// What a TLS listener needs, and what the start-up lines tell.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// For the acceptor; offers h2 and http/1.1.
    pub config: Arc<ServerConfig>,
    /// The absolute path of the local CA's certificate, which clients have to trust.
    pub ca: Option<PathBuf>,
    /// When the server certificate ends.
    pub ends: Timestamp,
    /// Where the server certificate is from.
    pub made: Made,
    /// What the acceptor shows.
    in_force: Arc<CertificateInUse>,
    /// Where another one would come from.
    source: Source,
}

/// Where a server certificate is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// From the operator's files.
    Provided,
    /// The local CA was made at this start, and the certificate with it.
    Created,
    /// From an earlier start.
    Reused,
    /// By an earlier CA: names had changed, or the old one neared its end.
    Renewed,
}

/// Where certificates come from.
#[derive(Debug, Clone)]
enum Source {
    /// Files that the operator replaces.
    Files { cert: PathBuf, key: PathBuf },
    /// The local CA, which makes another one in time.
    LocalCa { folder: PathBuf, names: Vec<String> },
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A file without what should be in it.
    #[error("{} has no {what} in PEM form: {source}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What happened.
        source: pem::Error,
    },
    /// A certificate that cannot be understood.
    #[error("the certificate in {} cannot be read", .0.display())]
    Certificate(PathBuf),
    /// A key that is not the certificate's.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A certificate of the past.
    #[error("the certificate in {} has ended at {ends}", cert.display())]
    Ended {
        /// Which.
        cert: PathBuf,
        /// When.
        ends: Timestamp,
    },
    /// A certificate of the future.
    #[error("the certificate in {} is not good before {begins}", cert.display())]
    NotYet {
        /// Which.
        cert: PathBuf,
        /// When.
        begins: Timestamp,
    },
    /// A local CA of the future.
    #[error(
        "the local CA in {} is not good before {begins}, and this machine's clock says {now}: one of \
         the two is wrong. Set the clock; if the CA was made under a wrong one, delete it and its key \
         to make a new one, which clients then have to trust", cert.display()
    )]
    Clock {
        /// Its certificate.
        cert: PathBuf,
        /// When it begins.
        begins: Timestamp,
        /// What the clock says.
        now: Timestamp,
    },
    /// Half a local CA.
    #[error(
        "{} is there, but its key {} cannot be used ({reason}): restore the key, or delete both to \
         make a new CA, which clients then have to trust", cert.display(), key.display()
    )]
    LostCaKey {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The key, the certificate or the library's settings.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Prepares TLS as configured; `None` when it is off. `names` are the hosts, besides
/// `localhost` and its addresses, that a certificate of the local CA names: that of our URL.
///
/// # Errors
/// Files that are missing, unreadable, or do not belong together.
pub fn server_config(
    tls: &Tls,
    data: &Path,
    names: &[String],
) -> Result<Option<Prepared>, TlsError> {
    match tls {
        Tls::Off => Ok(None),
        Tls::Files { cert, key, .. } => provided(cert, key).map(Some),
        Tls::LocalCa => local_ca::prepare(&data.join("tls"), names, Timestamp::now()).map(Some),
    }
}

/// Whether the files of the certificate, or of the local CA, can be used. Makes nothing. `None`: TLS is off, or
/// the first start makes all of it.
///
/// # Errors
/// As [`server_config`].
pub fn check(tls: &Tls, data: &Path) -> Result<Option<Certificate>, TlsError> {
    match tls {
        Tls::Off => Ok(None),
        Tls::LocalCa => {
            local_ca::check(&data.join("tls"), Timestamp::now())?;
            Ok(None)
        }
        Tls::Files { cert, key, .. } => {
            let pair = read_pair(cert, key)?;
            provided(cert, key)?;
            facts(&pair).map(Some).ok_or_else(|| TlsError::Certificate(cert.to_owned()))
        }
    }
}

/// The certificate that a start would find; `None`: TLS is off, or the local CA has made none yet. Makes
/// nothing, and judges nothing but that certificate and key belong together.
///
/// # Errors
/// As [`check`].
pub fn look(tls: &Tls, data: &Path) -> Result<Option<Certificate>, TlsError> {
    let (cert, key) = match tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert, key, .. } => (cert.clone(), key.clone()),
        Tls::LocalCa => {
            let (cert, key) = local_ca::server_files(&data.join("tls"));
            if !cert.exists() {
                return Ok(None);
            }
            (cert, key)
        }
    };
    let pair = read_pair(&cert, &key)?;
    facts(&pair).map(Some).ok_or(TlsError::Certificate(cert))
}

fn provided(cert: &Path, key: &Path) -> Result<Prepared, TlsError> {
    let texts = Texts::read(cert, key)?;
    let pair = texts.pair(cert, key)?;
    let ends = facts(&pair).ok_or_else(|| TlsError::Certificate(cert.to_owned()))?.ends;
    let source = Source::Files { cert: cert.to_owned(), key: key.to_owned() };
    Prepared::of(pair, (ends, texts.fingerprint()), None, Made::Provided, source)
}

impl Prepared {
    fn of(
        pair: CertifiedKey,
        (ends, texts): (Timestamp, Checksum),
        ca: Option<PathBuf>,
        made: Made,
        source: Source,
    ) -> Result<Self, TlsError> {
        let in_force = Arc::new(CertificateInUse::new(pair, ends, texts));
        let config = config(Arc::clone(&in_force))?;
        Ok(Self { config, ca, ends, made, in_force, source })
    }
}

/// `None` when the certificate cannot be parsed.
fn facts(pair: &CertifiedKey) -> Option<Certificate> {
    let (_, cert) = x509_parser::parse_x509_certificate(pair.cert.first()?).ok()?;
    let begins = Timestamp::from_second(cert.validity().not_before.timestamp()).ok()?;
    let ends = Timestamp::from_second(cert.validity().not_after.timestamp()).ok()?;
    let names = cert.subject_alternative_name().ok()?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    });
    Some(Certificate { begins, ends, names: names.collect() })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A certificate chain and its key, as they stand in their files.
struct Texts {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { chain: fs::read(cert).map_err(at(cert))?, key: fs::read(key).map_err(at(key))? })
    }

    /// Another one for other texts.
    fn fingerprint(&self) -> Checksum {
        let both = [Checksum::of(&self.chain), Checksum::of(&self.key)];
        Checksum::of(both.map(|one| one.to_string()).concat().as_bytes())
    }

    /// The two, which must belong together; the paths are those that errors name.
    fn pair(&self, cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
        let no_cert = |source| TlsError::Pem { path: cert.to_owned(), what: "certificate", source };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<_, _>>()
            .map_err(no_cert)?;
        if chain.is_empty() {
            return Err(no_cert(pem::Error::NoItemsFound));
        }
        let key_der = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| TlsError::Pem {
            path: key.to_owned(),
            what: "private key",
            source,
        })?;
        CertifiedKey::from_der(chain, key_der, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() }
            }
            rustls::Error::InvalidCertificate(_) => TlsError::Certificate(cert.to_owned()),
            other => TlsError::Rustls(other),
        })
    }
}

fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    Texts::read(cert, key)?.pair(cert, key)
}

/// The tickets of a session are for this process alone, and outlive the certificate.
fn config(in_force: Arc<CertificateInUse>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(in_force);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::File { path, source }
}

/// The host of a URL, as certificates name it; none, where it has none.
pub fn host_of(url: &str) -> Vec<String> {
    let host = url::Url::parse(url).ok().and_then(|u| u.host_str().map(str::to_owned));
    host.map(|h| h.trim_matches(['[', ']']).to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A whole handshake in memory; returns what ALPN chose.
    async fn handshake(
        server: &Prepared,
        ca: &Path,
        name: &str,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<Vec<u8>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let acceptor = TlsAcceptor::from(server.config.clone());
        let (client, _server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        let client = client.map_err(|e| e.to_string())?;
        Ok(client.get_ref().1.alpn_protocol().unwrap_or_default().to_vec())
    }

    #[tokio::test]
    async fn clients_that_trust_the_local_ca_accept_every_name() {
        let data = tempfile::tempdir().unwrap();
        let hosts = ["crates.acme.example".to_owned(), "[fd00::1]".to_owned()];
        let server = server_config(&Tls::LocalCa, data.path(), &hosts).unwrap().unwrap();
        assert_eq!(server.made, Made::Created);
        let seen = look(&Tls::LocalCa, data.path()).unwrap().unwrap();
        assert_eq!(seen.ends, server.ends);
        assert!(seen.names.contains("crates.acme.example"), "{seen:?}");
        let ca = server.ca.clone().unwrap();
        assert!(ca.is_absolute() && ca.ends_with("tls/ca.pem"));
        for name in ["localhost", "127.0.0.1", "::1", "crates.acme.example", "fd00::1"] {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                assert_eq!(handshake(&server, &ca, name, version).await.unwrap(), b"h2", "{name}");
            }
        }
        let other = handshake(&server, &ca, "evil.example", &rustls::version::TLS13).await;
        assert!(other.is_err());
    }

    #[test]
    fn files_of_the_operator_are_used_or_refused_with_the_reason() {
        let data = tempfile::tempdir().unwrap();
        let made = local_ca::prepare(data.path(), &[], Timestamp::now()).unwrap();
        let file = |name: &str| data.path().join(name);
        let prepare = |cert: &str, key: &str| {
            let tls =
                Tls::Files { cert: file(cert), key: file(key), reload: Duration::from_secs(1) };
            server_config(&tls, data.path(), &[])
        };
        let refused = |cert: &str, key: &str| prepare(cert, key).unwrap_err().to_string();
        let server = prepare("server.pem", "server.key").unwrap().unwrap();
        assert_eq!((server.ends, server.made, server.ca), (made.ends, Made::Provided, None));

        let error = refused("server.pem", "ca.key");
        assert!(error.contains("does not belong"), "{error}");
        let error = refused("none.pem", "server.key");
        assert!(error.contains("none.pem"), "{error}");
        let error = refused("server.pem", "none.key");
        assert!(error.contains("none.key"), "{error}");
        let error = refused("server.pem", "server.pem");
        assert!(error.contains("no private key"), "{error}");
        let error = refused("server.key", "server.key");
        assert!(error.contains("no certificate"), "{error}");
    }

    #[test]
    fn tls_that_is_off_needs_nothing() {
        assert!(server_config(&Tls::Off, Path::new("nowhere"), &[]).unwrap().is_none());
        assert!(look(&Tls::Off, Path::new("nowhere")).unwrap().is_none());
        assert!(look(&Tls::LocalCa, Path::new("nowhere")).unwrap().is_none());
    }
}
