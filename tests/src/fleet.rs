//! Three replicas as an organisation runs them: over Ceph's S3, behind HAProxy, with certificate
//! files that they share, and replaced like pods: a new process finds an empty disk.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::tls::TlsInfo;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::client::Client;
use crate::gateway::{Builder, Gateway};
use crate::haproxy::Haproxy;
use crate::patience::until;
use crate::rgw::Rgw;
use crate::s3::S3;

/// The replicas and all that is around them.
#[derive(Debug)]
pub struct Fleet {
    /// Each by itself.
    pub replicas: Vec<Gateway>,
    /// In front of them.
    pub haproxy: Haproxy,
    /// Their store.
    pub bucket: S3,
    authority: Authority,
    certificate: TempDir,
    _rgw: Rgw,
}

/// How long the steps of a replacement took.
#[derive(Debug, Clone, Copy)]
pub struct Replaced {
    /// From the signal to the end of the process.
    pub ending: Duration,
    /// From the start of the next one to its first `/readyz` that is 200.
    pub starting: Duration,
    /// From then on until the balancer used it.
    pub joining: Duration,
}

const SIZE: usize = 3;
const CA: &str = "ca.pem";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

impl Fleet {
    /// Three of the release binary; `more` configures each of them.
    pub fn start(more: impl Fn(Builder) -> Builder) -> Self {
        let rgw = Rgw::start();
        let bucket = rgw.bucket();
        let (authority, mut haproxy) = (Authority::new(), Haproxy::prepare());
        let certificate = TempDir::with_prefix("cratehouse-certificate-").unwrap();
        fs::write(certificate.path().join(CA), &authority.ca).unwrap();
        write_certificate(&certificate, &authority);
        let url = format!("https://{}", haproxy.addr());
        let replica = |nth: usize| {
            let builder = Gateway::builder()
                .newest_build()
                .certificate_in(&authority, certificate.path())
                .s3(&bucket)
                .public_url(&url)
                .set("server", &format!("replica = \"replica-{nth}\""));
            more(builder).start()
        };
        let replicas: Vec<_> = (0..SIZE).map(replica).collect();
        haproxy.start(&replicas);
        Self { replicas, haproxy, bucket, authority, certificate, _rgw: rgw }
    }

    /// The URL that clients know, without a slash at its end.
    pub fn url(&self) -> String {
        format!("https://{}", self.haproxy.addr())
    }

    /// The base URL of the index, as cargo's configuration has it.
    pub fn index_url(&self) -> String {
        format!("sparse+{}/index/", self.url())
    }

    /// What clients trust.
    pub fn ca_path(&self) -> PathBuf {
        self.certificate.path().join(CA)
    }

    /// A client by way of the balancer, which keeps its connection.
    pub fn client(&self) -> Client {
        Client::new(&self.url(), Some(self.authority.ca.as_bytes()))
    }

    /// SIGTERM, the end, and a new process on an empty disk; returns when the balancer uses it.
    pub fn replace(&mut self, nth: usize) -> Replaced {
        let began = Instant::now();
        let status = self.replicas[nth].stop();
        assert!(status.success(), "replica {nth} ended with {status}");
        self.renew(nth, began.elapsed())
    }

    /// SIGKILL; [`Fleet::renew`] comes after it.
    pub fn kill(&mut self, nth: usize) {
        self.replicas[nth].kill();
    }

    /// A new process on an empty disk in place of one that has ended.
    pub fn renew(&mut self, nth: usize, ending: Duration) -> Replaced {
        until("the balancer has seen that it is gone", || !self.haproxy.uses(nth));
        self.replicas[nth].wipe();
        let began = Instant::now();
        self.replicas[nth].start_again();
        let starting = began.elapsed();
        let ready = Instant::now();
        until("the balancer uses the new replica", || self.haproxy.uses(nth));
        Replaced { ending, starting, joining: ready.elapsed() }
    }

    /// Puts another certificate of the same CA in place of that of all replicas.
    pub fn rotate_certificate(&mut self) {
        self.authority = self.authority.renewed();
        write_certificate(&self.certificate, &self.authority);
    }

    /// Whether a replica shows the newest certificate to who connects now.
    pub fn shows_newest_certificate(&self, nth: usize) -> bool {
        let trust = reqwest::Certificate::from_pem(self.authority.ca.as_bytes()).unwrap();
        let http = reqwest::blocking::Client::builder().tls_certs_only([trust]).tls_info(true);
        let url = format!("{}/index/config.json", self.replicas[nth].url());
        let answer = http.build().unwrap().get(url).send().unwrap();
        let shown = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
        shown.unwrap() == self.authority.cert_der.as_slice()
    }

    /// Waits until every replica stands at the journal's end.
    pub fn settle(&self) {
        until("every replica stands at the journal's end", || {
            let entries = self.bucket.list("journal").len() as f64;
            let head = |one: &Gateway| one.metric("cratehouse_journal_head", &[]);
            self.replicas.iter().all(|one| head(one) == entries)
        });
    }
}

/// Each file is replaced by a rename, as whoever renews certificates does: no half of one is read.
fn write_certificate(folder: &TempDir, authority: &Authority) {
    for (name, text) in [(KEY, &authority.key), (CERT, &authority.cert)] {
        let path = folder.path().join(name);
        let next = path.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, path).unwrap();
    }
}
