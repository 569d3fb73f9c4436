//! Pins: the checksum of a mirrored version as it was first served here stands for ever, whatever
//! its upstream lists later, unless an administrator corrects it in the journal. Made when its bytes are first served, or when its index line, which
//! was served too, is about to change or vanish (`read_through`).

use std::fmt;

use jiff::Timestamp;
use moka::future::Cache;
use moka::sync;
use tokio::time::timeout;

use crate::flows::mirror_lines::MirrorLines;
use crate::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::single_flight::Flights;
use cratehouse_package::index::Listed;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::{AgeFact, IntegrityFact, Source, Subject};

/// Pins that are remembered in memory; each takes about 200 bytes.
const REMEMBERED_PINS: u64 = 50_000;

/// A mirrored version, as the upstream that answers for its name lists it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The upstream's number in the chain.
    pub at: usize,
    /// What its index line says.
    pub listed: Listed,
}

/// Pins that were read, as they stand since the corrections of that number
/// ([`Catalog::corrections`]): nothing here is believed after the next one. And what was listed
/// against them, so that each change raises one alarm however often it is asked for.
#[derive(Debug)]
pub struct Pins {
    known: sync::Cache<Key, (u64, Checksum)>,
    reading: Flights<(Key, u64), Result<Checksum>>,
    alarmed: Cache<(Key, Checksum), ()>,
}

type Key = (usize, CrateName, CrateVersion);

impl Pins {
    /// What is pinned, if that was read already and no pin was corrected since.
    pub(super) fn known(&self, wanted: &Wanted, corrections: u64) -> Option<Checksum> {
        let (as_of, pinned) = self.known.get(&wanted.key())?;
        (as_of == corrections).then_some(pinned)
    }

    /// What is pinned; all who ask at the same time share one `read`, which must bound its time.
    async fn known_or<F>(
        &self,
        wanted: &Wanted,
        corrections: u64,
        read: impl FnOnce() -> F,
    ) -> Result<Checksum>
    where
        F: Future<Output = Result<Checksum>> + Send + 'static,
    {
        if let Some(pinned) = self.known(wanted, corrections) {
            return Ok(pinned);
        }
        let key = (wanted.key(), corrections); // who came before a correction reads for himself
        let (known, place) = (self.known.clone(), wanted.key());
        let start = || {
            let reading = read();
            async move {
                // Another flight may have landed since we looked.
                if let Some((_, pinned)) = known.get(&place).filter(|(at, _)| *at == corrections) {
                    return Ok(pinned);
                }
                let pinned = reading.await?;
                known.insert(place, (corrections, pinned));
                Ok(pinned)
            }
        };
        self.reading.join(key, start).await.unwrap_or_else(|| Err(broke_off()))
    }

    /// Raises the alarm that an upstream lists a version with another checksum than its pin, if
    /// it is that: the first time that this checksum is seen.
    pub(super) async fn compare(
        &self,
        metrics: &Metrics,
        lines: &MirrorLines,
        upstream: &str,
        wanted: &Wanted,
        pinned: Checksum,
    ) -> Result<()> {
        let listed = &wanted.listed;
        if listed.cksum == pinned {
            return Ok(());
        }
        let change = self.alarmed.entry((wanted.key(), listed.cksum));
        if change.or_insert(()).await.is_fresh() {
            metrics.alarms.with_label_values(&["checksum_changed"]).inc();
            if let Some(suppressed) = lines.checksum_changed.admit() {
                tracing::error!(upstream, krate = %listed.name, version = %listed.version, %pinned,
                    listed = %listed.cksum, suppressed, "the checksum of a version changed upstream");
            }
        }
        Err(Error::forbidden(format_args!(
            "{wanted} is refused: the upstream `{upstream}` now lists it with another checksum \
             than when it was first served here. A published version never changes, so ask the \
             registry's administrators to find out why before anybody uses it"
        )))
    }
}

impl Default for Pins {
    fn default() -> Self {
        Self {
            known: sync::Cache::new(REMEMBERED_PINS),
            reading: Flights::default(),
            alarmed: Cache::new(REMEMBERED_PINS),
        }
    }
}

/// Refuses a version that is pinned with another checksum, unless the policy tolerates that, so that its upstream is not even
/// asked for it.
///
/// # Errors
/// Forbidden, with an alarm; that the store does not answer.
pub async fn refuse_if_pinned_otherwise(gateway: &Gateway, wanted: &Wanted) -> Result<()> {
    if let Some(pinned) = gateway.crates.pins.known(wanted, gateway.catalog.corrections()) {
        return compare(gateway, wanted, pinned).await;
    }
    let (upstream, Listed { name, version, .. }) = (wanted.upstream(gateway), &wanted.listed);
    match gateway.mirror.pinned(upstream, name, version).await? {
        Some(pin) => {
            let pinned = gateway.catalog.standing_pin(upstream, name, version, pin.cksum)?;
            compare(gateway, wanted, pinned).await
        }
        None => Ok(()),
    }
}

/// Pins a version whose bytes have been verified, if it has no pin yet, and refuses it if it has
/// another that the policy does not tolerate. Comes before the bytes are served or stored; not earlier, or one broken index line
/// would pin a checksum that no crate file ever had.
///
/// # Errors
/// Forbidden, with an alarm; that the store does not answer.
pub async fn pin(gateway: &Gateway, wanted: &Wanted) -> Result<()> {
    let create = || {
        let (mirror, upstream) = (gateway.mirror.clone(), wanted.upstream(gateway).to_owned());
        let (listed, bound) = (wanted.listed.clone(), gateway.config.limits.fill);
        let catalog = gateway.catalog.clone();
        async move {
            let Listed { name, version, cksum, .. } = &listed;
            let pinning = mirror.pin(&upstream, name, version, cksum, Timestamp::now());
            let pinned = timeout(bound, pinning).await.unwrap_or_else(|_| Err(too_slow(&listed)));
            catalog.standing_pin(&upstream, name, version, pinned?.cksum)
        }
    };
    let corrections = gateway.catalog.corrections(); // before anything is read
    let pinned = gateway.crates.pins.known_or(wanted, corrections, create).await?;
    compare(gateway, wanted, pinned).await
}

fn too_slow(listed: &Listed) -> Error {
    Error::unavailable(format_args!(
        "the store did not say in time which checksum `{}` {} has had; try again",
        listed.name, listed.version
    ))
}

fn broke_off() -> Error {
    Error::new(Kind::Internal, "reading a pin broke off; the registry's log knows more")
}

/// Raises the alarm in any case, and refuses where the policy does not put up with the change.
async fn compare(gateway: &Gateway, wanted: &Wanted, pinned: Checksum) -> Result<()> {
    let (pins, upstream) = (&gateway.crates.pins, wanted.upstream(gateway));
    let lines = &gateway.mirror_lines;
    match pins.compare(&gateway.metrics, lines, upstream, wanted, pinned).await {
        Err(_) if is_tolerated(gateway, wanted) => Ok(()),
        compared => compared,
    }
}

/// Whether `[integrity]` or a waiver lets a version through though its checksum changed.
fn is_tolerated(gateway: &Gateway, wanted: &Wanted) -> bool {
    let subject = Subject {
        name: &wanted.listed.name,
        version: &wanted.listed.version,
        source: Source::Mirrored { upstream: wanted.upstream(gateway) },
        age: AgeFact::Old,
        yanked: false,
        license: None,
        integrity: IntegrityFact::ChecksumChanged,
    };
    let book = &gateway.rulebook;
    book.in_force().policy.tolerates(&subject, book.now())
}

impl Wanted {
    fn key(&self) -> Key {
        (self.at, self.listed.name.clone(), self.listed.version.clone())
    }

    /// The name of the upstream.
    pub fn upstream<'a>(&self, gateway: &'a Gateway) -> &'a str {
        gateway.upstreams.get(self.at).map_or("?", |upstream| upstream.name())
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.listed.name, self.listed.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(at: usize, cksum: Checksum) -> Wanted {
        let name = CrateName::parse("foo").unwrap();
        let version = "1.0.0".parse().unwrap();
        Wanted { at, listed: Listed { name, version, cksum, yanked: false, pubtime: None } }
    }

    #[tokio::test]
    async fn a_pin_is_read_once_and_belongs_to_one_upstream() {
        let (pins, sum) = (Pins::default(), Checksum::of(b"first"));
        let first = wanted(0, sum);
        assert_eq!(pins.known(&first, 0), None);
        assert_eq!(pins.known_or(&first, 0, || async move { Ok(sum) }).await.unwrap(), sum);

        let changed = wanted(0, Checksum::of(b"second"));
        assert_eq!(pins.known(&changed, 0), Some(sum));
        let again = pins.known_or(&changed, 0, || async { panic!("read twice") }).await;
        assert_eq!(again.unwrap(), sum);
        assert_eq!(pins.known(&wanted(1, sum), 0), None);
    }

    #[tokio::test]
    async fn what_was_read_before_a_correction_is_read_again() {
        let (pins, old, new) = (Pins::default(), Checksum::of(b"old"), Checksum::of(b"new"));
        let version = wanted(0, new);
        assert_eq!(pins.known_or(&version, 0, || async move { Ok(old) }).await.unwrap(), old);
        assert_eq!(pins.known(&version, 1), None);
        assert_eq!(pins.known_or(&version, 1, || async move { Ok(new) }).await.unwrap(), new);
        assert_eq!(pins.known(&version, 1), Some(new));
    }

    #[tokio::test]
    async fn each_change_raises_one_alarm() {
        let (pins, metrics, sum) = (Pins::default(), Metrics::new().unwrap(), Checksum::of(b"a"));
        let lines = MirrorLines::new(&metrics);
        let alarms = metrics.alarms.with_label_values(&["checksum_changed"]);
        let listed = async |at, bytes: &[u8]| {
            let wanted = wanted(at, Checksum::of(bytes));
            (pins.compare(&metrics, &lines, "up", &wanted, sum).await.is_ok(), alarms.get())
        };
        assert_eq!(listed(0, b"a").await, (true, 0));
        assert_eq!(listed(0, b"b").await, (false, 1));
        assert_eq!(listed(0, b"b").await, (false, 1));
        assert_eq!(listed(0, b"c").await, (false, 2));
        assert_eq!(listed(1, b"b").await, (false, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_changes_everything_raises_every_alarm_and_writes_few_lines() {
        let (pins, metrics, sum) = (Pins::default(), Metrics::new().unwrap(), Checksum::of(b"a"));
        let lines = MirrorLines::new(&metrics);
        for n in 0..20_000 {
            let wanted = wanted(n, Checksum::of(b"b"));
            assert!(pins.compare(&metrics, &lines, "up", &wanted, sum).await.is_err());
        }
        assert_eq!(metrics.alarms.with_label_values(&["checksum_changed"]).get(), 20_000);
        let suppressed = metrics.log_lines_suppressed.with_label_values(&["checksum_changed"]);
        assert_eq!(suppressed.get(), 20_000 - u64::from(cratehouse_core::log_limit::LINES));
    }

    #[tokio::test]
    async fn a_pin_that_could_not_be_read_is_not_remembered() {
        let (pins, sum) = (Pins::default(), Checksum::of(b"x"));
        let no = || async { Err(Error::unavailable("no")) };
        let failed = pins.known_or(&wanted(0, sum), 0, no).await;
        assert_eq!(failed.unwrap_err().message, "no");
        assert_eq!(pins.known(&wanted(0, sum), 0), None);
    }
}
