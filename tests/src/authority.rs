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
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "The CA of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);

        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1", EXAMPLE].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &issuer).unwrap().pem();
        Self { ca, cert, key: key.serialize_pem() }
    }
}
