//! A certificate authority, for gateways that share one certificate as replicas do.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The one name of its certificates that is not this machine's own.
pub const EXAMPLE: &str = "upstream.acme.example";

/// A CA and a server certificate for this machine's own names, as PEM texts.
#[derive(Debug, Clone)]
pub struct Authority {
    /// What clients trust.
    pub ca: String,
    /// What servers show.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// The server certificate as it stands in a handshake.
    pub cert_der: Vec<u8>,
    /// The CA's own key.
    ca_key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let ca = ca_params().self_signed(&ca_key).unwrap().pem();
        let ca_key = ca_key.serialize_pem();
        let (cert, key, cert_der) = Default::default();
        Self { ca, cert, key, cert_der, ca_key }.renewed()
    }

    /// The same CA with another certificate and key.
    #[must_use]
    pub fn renewed(&self) -> Self {
        let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&self.ca_key).unwrap());
        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1", EXAMPLE].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &issuer).unwrap();
        let (cert, cert_der) = (cert.pem(), cert.der().to_vec());
        Self { cert, key: key.serialize_pem(), cert_der, ..self.clone() }
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "The CA of the tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
