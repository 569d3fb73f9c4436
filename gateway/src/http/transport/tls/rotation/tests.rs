use std::fs;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::{Made, provider, server_config};
use super::*;

/// A certificate and its key in a folder, as an operator has them; they sign themselves.
struct Operator {
    folder: TempDir,
    roots: RootCertStore,
}

impl Operator {
    fn new() -> Self {
        let operator = Self { folder: tempfile::tempdir().unwrap(), roots: RootCertStore::empty() };
        operator.renewed(2000, 3000)
    }

    fn tls(&self) -> Tls {
        let file = |name: &str| self.folder.path().join(name);
        let reload = Duration::from_secs(1);
        Tls::Files { cert: file("tls.crt"), key: file("tls.key"), reload }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Another pair, good from one year to another. Clients trust what was there before, too.
    fn renewed(mut self, from: i32, to: i32) -> Self {
        let (cert, key) = made(from, to);
        self.roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        self.write("tls.crt", &cert);
        self.write("tls.key", &key);
        self
    }

    fn serve(&self) -> (Prepared, Rotation) {
        let prepared = server_config(&self.tls(), self.folder.path(), &[]).unwrap().unwrap();
        let rotation = Rotation::of(&prepared, &self.tls(), Metrics::new().unwrap());
        (prepared, rotation)
    }

    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> TlsConnector {
        let client = ClientConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        TlsConnector::from(Arc::new(client))
    }
}

fn made(from: i32, to: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// How a client's handshake went, and which certificate it saw. A word each way, so that tickets
/// have arrived.
async fn shake(client: &TlsConnector, server: &Prepared) -> (HandshakeKind, Vec<u8>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::clone(&server.config));
    let name = ServerName::try_from("localhost").unwrap();
    let served = async {
        let mut stream = acceptor.accept(far).await.unwrap();
        stream.write_all(b"word").await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let asked = async {
        let mut stream = client.connect(name, near).await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        let (_, session) = stream.get_ref();
        let cert = session.peer_certificates().unwrap()[0].to_vec();
        (session.handshake_kind().unwrap(), cert)
    };
    let (_open, seen) = tokio::join!(served, asked);
    seen
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn a_new_pair_is_shown_to_new_clients_and_tickets_outlive_the_old_one() {
    for version in VERSIONS {
        let operator = Operator::new();
        let (server, rotation) = operator.serve();
        let old = operator.client(version);
        let (kind, first) = shake(&old, &server).await;
        assert_eq!(kind, HandshakeKind::Full);
        let ends = rotation.metrics.certificate_ends.get();
        rotation.look(now());
        assert_eq!(rotation.metrics.certificate_reloads.get(), 0, "nothing has changed");

        let operator = operator.renewed(2001, 2999);
        rotation.look(now());
        assert_eq!(rotation.metrics.certificate_reloads.get(), 1);
        assert!(rotation.metrics.certificate_ends.get() < ends);
        assert_eq!(shake(&old, &server).await.0, HandshakeKind::Resumed, "{version:?}");
        let (kind, second) = shake(&operator.client(version), &server).await;
        assert_eq!(kind, HandshakeKind::Full);
        assert_ne!(first, second);
    }
}

#[tokio::test]
async fn a_ticket_of_another_replica_costs_a_full_handshake_and_nothing_else() {
    for version in VERSIONS {
        let operator = Operator::new();
        let ((a, _), (b, _)) = (operator.serve(), operator.serve());
        let client = operator.client(version);
        assert_eq!(shake(&client, &a).await.0, HandshakeKind::Full);
        assert_eq!(shake(&client, &a).await.0, HandshakeKind::Resumed, "{version:?}");
        assert_eq!(shake(&client, &b).await.0, HandshakeKind::Full, "{version:?}");
        assert_eq!(shake(&client, &b).await.0, HandshakeKind::Resumed, "{version:?}");
    }
}

#[test]
fn whatever_is_broken_keeps_the_pair_that_was_there() {
    let operator = Operator::new();
    let (_, rotation) = operator.serve();
    let (cert, key) = made(2000, 3000);
    let in_force = rotation.in_force.pair().texts;
    let told = || rotation.told.lock().unwrap().clone();
    let refused = |cert: &str, key: &str, why: &str| {
        operator.write("tls.crt", cert);
        operator.write("tls.key", key);
        rotation.look(now());
        assert_eq!(rotation.in_force.pair().texts, in_force, "{why}");
        assert_eq!(rotation.metrics.certificate_broken.get(), 1, "{why}");
        assert!(told().unwrap().contains(why), "{:?}", told());
    };
    refused(&cert[..cert.len() / 2], &key, "no certificate");
    refused(&cert, "", "no private key");
    refused("", &key, "no certificate");
    refused(&cert, &made(2000, 3000).1, "does not belong");
    let (past, past_key) = made(2000, 2001);
    refused(&past, &past_key, "has ended");
    let (future, future_key) = made(2999, 3000);
    refused(&future, &future_key, "not good before");
    fs::remove_file(operator.folder.path().join("tls.key")).unwrap();
    rotation.look(now());
    assert!(told().unwrap().contains("tls.key"));
    assert_eq!(rotation.metrics.certificate_reloads.get(), 0);

    operator.write("tls.crt", &cert);
    operator.write("tls.key", &key);
    rotation.look(now());
    assert_ne!(rotation.in_force.pair().texts, in_force);
    assert_eq!((told(), rotation.metrics.certificate_broken.get()), (None, 0));
    assert_eq!(rotation.metrics.certificate_reloads.get(), 1);
}

#[test]
fn a_certificate_that_ends_while_it_is_shown_is_told() {
    let operator = Operator::new();
    let (_, rotation) = operator.serve();
    rotation.look(now());
    assert_eq!(rotation.metrics.certificate_broken.get(), 0);
    rotation.look(rotation.in_force.pair().ends);
    assert_eq!(rotation.metrics.certificate_broken.get(), 1);
}

#[test]
fn the_local_ca_renews_its_certificate_while_it_runs() {
    let data = tempfile::tempdir().unwrap();
    let prepared = server_config(&Tls::LocalCa, data.path(), &[]).unwrap().unwrap();
    let rotation = Rotation::of(&prepared, &Tls::LocalCa, Metrics::new().unwrap());
    let before = rotation.in_force.pair();
    rotation.look(before.ends - days(RENEW_DAYS));
    assert_eq!(rotation.in_force.pair().texts, before.texts);
    let late = before.ends - days(RENEW_DAYS - 1);
    rotation.look(late);
    let after = rotation.in_force.pair();
    assert!(after.texts != before.texts && after.ends > before.ends);
    assert_eq!(rotation.metrics.certificate_ends.get(), after.ends.as_second());
    let again = local_ca::prepare(&data.path().join("tls"), &[], late).unwrap();
    assert_eq!((again.made, again.in_force.pair().texts), (Made::Reused, after.texts));
}

/// The first words of a client that knows this version at the most (RFC 5246 §7.4.1.2): one
/// cipher suite (ECDHE-ECDSA with AES-128-GCM), P-256, and ECDSA with SHA-256.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [
        version.as_slice(),
        &[7; 32],
        &[0, 0, 2, 0xc0, 0x2b, 1, 0, 0, u8::try_from(extensions.len()).unwrap()],
        extensions,
    ]
    .concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], body.as_slice()].concat()
}

#[tokio::test]
async fn nothing_older_than_tls_1_2_is_spoken() {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const PROTOCOL_VERSION: u8 = 70;
    let (server, _) = Operator::new().serve();
    let said = async |version| {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(&client_hello(version)).await.unwrap();
        let accepting = tokio::spawn(TlsAcceptor::from(Arc::clone(&server.config)).accept(far));
        let mut head = [0; 7];
        near.read_exact(&mut head).await.unwrap();
        accepting.abort();
        head
    };
    assert_eq!(said([3, 3]).await[0], HANDSHAKE, "TLS 1.2");
    for old in [[3, 2], [3, 1], [3, 0]] {
        let [kind, .., alert] = said(old).await;
        assert_eq!((kind, alert), (ALERT, PROTOCOL_VERSION), "{old:?}");
    }
}
