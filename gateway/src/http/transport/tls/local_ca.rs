//! A local CA under `<data>/tls/` and the server certificate that it signs: made when missing,
//! made anew when names change or an end nears, the same for every process on the folder.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use super::{Certificate, Made, Prepared, Source, Texts, TlsError, at, facts, provider, read_pair};

/// How long the local CA lives.
const CA_DAYS: i64 = 3650;
/// How long a server certificate lives: some clients accept no more (CA/Browser Forum baseline
/// requirements §6.3.2, 398 days).
const SERVER_DAYS: i64 = 397;
/// A certificate that ends sooner than this is made anew.
pub(super) const RENEW_DAYS: i64 = 30;
/// Clients' clocks may be behind ours by as much.
const SKEW: SignedDuration = SignedDuration::from_hours(1);
/// What every server certificate of the local CA names.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The local CA's way. An exclusive lock lets two processes that start at once take turns, so
/// that the second finds what the first made.
pub(super) fn prepare(
    folder: &Path,
    names: &[String],
    now: Timestamp,
) -> Result<Prepared, TlsError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let folder = &fs::canonicalize(folder).map_err(at(folder))?;
    let _lock = lock(&folder.join("lock"))?;
    let (ca, fresh_ca) = match Ca::read(folder, now)? {
        Some(ca) => (ca, false),
        None => {
            keep_former(folder)?;
            (Ca::create(folder, now)?, true)
        }
    };
    let source = Source::LocalCa { folder: folder.clone(), names: names.to_vec() };
    let names = all_names(names);
    let (cert, key) = server_files(folder);
    let kept = read_pair(&cert, &key).ok().filter(|pair| ca.vouches_for(pair, &names, now));
    let made = match (kept.is_some(), fresh_ca) {
        (true, _) => Made::Reused,
        (false, true) => Made::Created,
        (false, false) => Made::Renewed,
    };
    if made != Made::Reused {
        ca.issue(&cert, &key, &names, now)?;
    }
    let texts = Texts::read(&cert, &key)?;
    let pair = texts.pair(&cert, &key)?;
    let ends = facts(&pair).ok_or(TlsError::Certificate(cert))?.ends;
    Prepared::of(pair, (ends, texts.fingerprint()), Some(ca.path), made, source)
}

/// Whether the CA that is there, if there is one, can be used. Makes nothing.
pub(super) fn check(folder: &Path, now: Timestamp) -> Result<(), TlsError> {
    Ca::read(folder, now).map(drop)
}

/// The server's certificate, and its key.
pub(super) fn server_files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("server.pem"), folder.join("server.key"))
}

fn all_names(names: &[String]) -> BTreeSet<String> {
    let local = LOCAL_NAMES.iter().map(|name| (*name).to_owned());
    // An IPv6 host of a URL stands in brackets, in a certificate it does not.
    let bare = |name: &String| name.trim_matches(['[', ']']).to_ascii_lowercase();
    local.chain(names.iter().map(bare)).collect()
}

/// The local CA, opened.
struct Ca {
    path: PathBuf,
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    ends: Timestamp,
}

impl Ca {
    /// `None` when there is none yet, or when it nears its end.
    fn read(folder: &Path, now: Timestamp) -> Result<Option<Self>, TlsError> {
        let (path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        // The key is written first: a key without certificate is a start that was cut short.
        if !path.try_exists().map_err(at(&path))? {
            return Ok(None);
        }
        let lost = |reason: String| TlsError::LostCaKey {
            cert: path.clone(),
            key: key_path.clone(),
            reason,
        };
        let key = fs::read_to_string(&key_path).map_err(|e| lost(e.to_string()))?;
        let key = KeyPair::from_pem(&key).map_err(|e| lost(e.to_string()))?;
        let pair = read_pair(&path, &key_path).map_err(|e| lost(e.to_string()))?;
        let unreadable = || TlsError::Certificate(path.clone());
        let Certificate { begins, ends, .. } = facts(&pair).ok_or_else(unreadable)?;
        if begins > now {
            // Made anew it would break every client, if it is this start whose clock is wrong.
            return Err(TlsError::Clock { cert: path, begins, now });
        }
        let cert = pair.cert.first().ok_or_else(unreadable)?.clone();
        if ends < now + days(RENEW_DAYS) {
            return Ok(None);
        }
        let issuer = Issuer::from_ca_cert_der(&cert, key)?;
        Ok(Some(Self { path, cert, issuer, ends }))
    }

    fn create(folder: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let (path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // A name of its own, so that trust stores keep two such CAs apart.
        let name = format!("Cratehouse local CA {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ends = now + days(CA_DAYS);
        (params.not_before, params.not_after) = (instant(now - SKEW), instant(ends));
        let cert = params.self_signed(&key)?;
        write(&key_path, &key.serialize_pem(), Reader::Owner)?;
        write(&path, &cert.pem(), Reader::All)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { path, cert: cert.der().clone(), issuer, ends })
    }

    /// Writes a new server certificate and its key. A kill between the two leaves a pair that
    /// does not match, and the next start makes another.
    fn issue(
        &self,
        cert_path: &Path,
        key_path: &Path,
        names: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<(), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "Cratehouse");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let begins = now - SKEW;
        let ends = self.ends.min(begins + days(SERVER_DAYS));
        (params.not_before, params.not_after) = (instant(begins), instant(ends));
        let cert = params.signed_by(&key, &self.issuer)?;
        write(key_path, &key.serialize_pem(), Reader::Owner)?;
        write(cert_path, &cert.pem(), Reader::All)
    }

    /// Whether the certificate has exactly these names, and a client that trusts this CA accepts
    /// it for each of them, now and for a while.
    fn vouches_for(&self, pair: &CertifiedKey, names: &BTreeSet<String>, now: Timestamp) -> bool {
        let accepted = || {
            let mut roots = RootCertStore::empty();
            roots.add(self.cert.clone()).ok()?;
            let client =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider().into());
            let client = client.build().ok()?;
            let (end_entity, chain) = pair.cert.split_first()?;
            for name in names {
                let name = ServerName::try_from(name.as_str()).ok()?;
                for time in [now, now + days(RENEW_DAYS)] {
                    client.verify_server_cert(end_entity, chain, &name, &[], unix(time)).ok()?;
                }
            }
            Some(())
        };
        facts(pair).is_some_and(|facts| facts.names == *names) && accepted().is_some()
    }
}

/// Keeps a CA whose end is near beside the one that takes its place: if it is a wrong clock that says
/// so, clients go on to trust the former one once it is put back.
fn keep_former(folder: &Path) -> Result<(), TlsError> {
    for name in ["ca.pem", "ca.key"] {
        let (path, former) = (folder.join(name), folder.join(format!("former-{name}")));
        if path.try_exists().map_err(at(&path))? {
            fs::rename(&path, former).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Waits for its turn; the lock ends with the file handle.
fn lock(path: &Path) -> Result<File, TlsError> {
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(at(path))?;
    file.lock().map_err(at(path))?;
    Ok(file)
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    Owner,
    All,
}

/// Writes a file so that it is there whole or not at all, also after a power failure. The lock
/// is held, so that a leftover of the temporary name is nobody's.
fn write(path: &Path, text: &str, reader: Reader) -> Result<(), TlsError> {
    let temporary = path.with_extension("new");
    let written = || {
        if temporary.try_exists()? {
            fs::remove_file(&temporary)?;
        }
        let mut file = create(&temporary, reader)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    written().map_err(at(path))
}

fn create(path: &Path, reader: Reader) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        if reader == Reader::Owner { 0o600 } else { 0o644 },
    );
    options.open(path)
}

pub(super) fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

fn instant(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(at.as_second())
}

fn unix(at: Timestamp) -> UnixTime {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::now()
    }

    #[test]
    fn a_second_start_reuses_everything() {
        let data = tempfile::tempdir().unwrap();
        let start = |host: &str| prepare(data.path(), &[host.to_owned()], now()).unwrap();
        let (first, ca) = (start("a.example"), fs::read(data.path().join("ca.pem")).unwrap());
        let second = start("A.example");
        assert_eq!((second.made, second.ends), (Made::Reused, first.ends));
        assert_eq!(fs::read(data.path().join("ca.pem")).unwrap(), ca);
        assert_eq!(start("b.example").made, Made::Renewed);
        assert_eq!(start("localhost").made, Made::Renewed);
        assert_eq!(start("localhost").made, Made::Reused);
        assert_eq!(fs::read(data.path().join("ca.pem")).unwrap(), ca);
    }

    #[test]
    fn certificates_are_made_anew_before_they_end() {
        let data = tempfile::tempdir().unwrap();
        let start = |now| prepare(data.path(), &[], now).unwrap();
        let day = |n| now() + days(n);
        assert_eq!(start(day(0)).made, Made::Created);
        assert_eq!(start(day(SERVER_DAYS - RENEW_DAYS - 1)).made, Made::Reused);
        assert_eq!(start(day(SERVER_DAYS - RENEW_DAYS + 1)).made, Made::Renewed);
        let last = start(day(CA_DAYS - RENEW_DAYS - 2));
        assert!(last.ends <= day(CA_DAYS), "no certificate outlives its CA");
        assert_eq!(start(day(CA_DAYS - RENEW_DAYS + 2)).made, Made::Created);
        assert!(start(day(CA_DAYS)).ends > day(CA_DAYS + 300));
    }

    #[test]
    fn a_ca_of_the_future_is_refused_with_a_word_on_the_clock_and_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        let start = |now| prepare(data.path(), &[], now);
        let file = |name: &str| fs::read(data.path().join(name)).unwrap();
        assert_eq!(start(now() + days(400)).unwrap().made, Made::Created);
        let ca = file("ca.pem");
        let error = start(now()).unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains("clock"), "{error}");
        assert!(error.contains("delete"), "{error}");
        assert_eq!(file("ca.pem"), ca);
        assert_eq!(start(now() + days(400)).unwrap().made, Made::Reused, "that clock was right");
    }

    #[test]
    fn a_server_certificate_of_the_future_is_made_anew() {
        let data = tempfile::tempdir().unwrap();
        let start = |now| prepare(data.path(), &[], now).unwrap().made;
        assert_eq!(start(now()), Made::Created);
        assert_eq!(start(now() + days(SERVER_DAYS)), Made::Renewed);
        assert_eq!(start(now()), Made::Renewed, "else no client would accept it");
    }

    #[test]
    fn a_ca_that_a_wrong_clock_ends_is_kept_beside_the_new_one() {
        let data = tempfile::tempdir().unwrap();
        let file = |name: &str| data.path().join(name);
        prepare(data.path(), &[], now()).unwrap();
        let (cert, key) = (fs::read(file("ca.pem")).unwrap(), fs::read(file("ca.key")).unwrap());
        let late = prepare(data.path(), &[], now() + days(CA_DAYS * 3)).unwrap();
        assert_eq!(late.made, Made::Created);
        assert!(prepare(data.path(), &[], now()).is_err(), "of the future");
        for (name, text) in [("ca.pem", cert), ("ca.key", key)] {
            assert_eq!(fs::read(file(&format!("former-{name}"))).unwrap(), text);
            fs::copy(file(&format!("former-{name}")), file(name)).unwrap();
        }
        assert_eq!(prepare(data.path(), &[], now()).unwrap().made, Made::Renewed);
    }

    #[test]
    fn what_a_cut_short_start_left_is_repaired() {
        let data = tempfile::tempdir().unwrap();
        let start = || prepare(data.path(), &[], now());
        let file = |name: &str| data.path().join(name);
        fs::write(file("ca.key"), "half").unwrap();
        fs::write(file("ca.new"), "half").unwrap();
        assert_eq!(start().unwrap().made, Made::Created);
        fs::copy(file("ca.key"), file("server.key")).unwrap();
        assert_eq!(start().unwrap().made, Made::Renewed);
        fs::write(file("server.pem"), "").unwrap();
        assert_eq!(start().unwrap().made, Made::Renewed);
        fs::remove_file(file("ca.key")).unwrap();
        let error = start().unwrap_err().to_string();
        assert!(error.contains("ca.key") && error.contains("delete both"), "{error}");
        fs::remove_file(file("ca.pem")).unwrap();
        assert_eq!(start().unwrap().made, Made::Created);
    }

    #[test]
    fn two_processes_that_start_at_once_agree() {
        let data = tempfile::tempdir().unwrap();
        let start = || prepare(data.path(), &[], now()).unwrap().made;
        let made = std::thread::scope(|scope| {
            let started: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            started.into_iter().map(|s| s.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(made.iter().filter(|made| **made == Made::Created).count(), 1, "{made:?}");
        assert_eq!(made.iter().filter(|made| **made == Made::Reused).count(), 3, "{made:?}");
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        prepare(data.path(), &[], now()).unwrap();
        for key in ["ca.key", "server.key"] {
            let mode = fs::metadata(data.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }
}
