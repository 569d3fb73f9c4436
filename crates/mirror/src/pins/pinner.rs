//! Pins: the checksum of a mirrored version as it was first served here stands for ever, whatever
//! its upstream lists later, unless an administrator corrects it in the journal. Made when its bytes are first served, or when its index line, which
//! was served too, is about to change or vanish (`read_through`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use crate::hosting::PinCorrections;
use crate::log_lines::MirrorLines;
use crate::pins::cache::{Pins, Wanted};
use crate::store::MirrorStore;
use crate::upstream::Upstream;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_package::index::Listed;
use cratehouse_policy::{AgeFact, IntegrityFact, PolicyInForce, Source, Subject};

/// What pins versions, and compares them with their pins.
#[derive(Debug)]
pub struct Pinner {
    pub(crate) pins: Pins,
    pub(crate) store: MirrorStore,
    pub(crate) corrections: Arc<dyn PinCorrections>,
    pub(crate) policy: Arc<PolicyInForce>,
    pub(crate) upstreams: Arc<[Arc<Upstream>]>,
    /// How long a pin may take.
    pub(crate) wait: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) lines: Arc<MirrorLines>,
}

impl Pinner {
    /// Whether memory knows that a version is pinned with the checksum that is wanted.
    pub fn is_known_as_wanted(&self, wanted: &Wanted) -> bool {
        self.pins.known(wanted, self.corrections.count()) == Some(wanted.listed.cksum)
    }

    /// Refuses a version that is pinned with another checksum, unless the policy tolerates that, so
    /// that its upstream is not even asked for it.
    ///
    /// # Errors
    /// Forbidden, with an alarm; that the store does not answer.
    pub async fn refuse_if_pinned_otherwise(&self, wanted: &Wanted) -> Result<()> {
        if let Some(pinned) = self.pins.known(wanted, self.corrections.count()) {
            return self.compare(wanted, pinned).await;
        }
        let (upstream, Listed { name, version, .. }) =
            (wanted.upstream(&self.upstreams), &wanted.listed);
        match self.store.pinned(upstream, name, version).await? {
            Some(pin) => {
                let pinned = self.corrections.standing(upstream, name, version, pin.cksum)?;
                self.compare(wanted, pinned).await
            }
            None => Ok(()),
        }
    }

    /// Pins a version whose bytes have been verified, if it has no pin yet, and refuses it if it has
    /// another that the policy does not tolerate. Comes before the bytes are served or stored; not
    /// earlier, or one broken index line would pin a checksum that no crate file ever had.
    ///
    /// # Errors
    /// Forbidden, with an alarm; that the store does not answer.
    pub async fn pin(&self, wanted: &Wanted) -> Result<()> {
        let create = || {
            let (store, upstream) =
                (self.store.clone(), wanted.upstream(&self.upstreams).to_owned());
            let (listed, bound) = (wanted.listed.clone(), self.wait);
            let corrections = Arc::clone(&self.corrections);
            async move {
                let Listed { name, version, cksum, .. } = &listed;
                let pinning = store.pin(&upstream, name, version, cksum, Timestamp::now());
                let late = |_| Err(too_slow(&listed));
                let pinned = timeout(bound, pinning).await.unwrap_or_else(late)?;
                corrections.standing(&upstream, name, version, pinned.cksum)
            }
        };
        let corrections = self.corrections.count(); // before anything is read
        let pinned = self.pins.known_or(wanted, corrections, create).await?;
        self.compare(wanted, pinned).await
    }

    /// Raises the alarm in any case, and refuses where the policy does not put up with the change.
    async fn compare(&self, wanted: &Wanted, pinned: Checksum) -> Result<()> {
        match self.alarm(wanted, pinned).await {
            Err(_) if self.is_tolerated(wanted) => Ok(()),
            compared => compared,
        }
    }

    /// Raises the alarm that an upstream lists a version with another checksum than its pin, if it is
    /// that.
    ///
    /// # Errors
    /// Forbidden, then.
    pub(crate) async fn alarm(&self, wanted: &Wanted, pinned: Checksum) -> Result<()> {
        let upstream = wanted.upstream(&self.upstreams);
        self.pins.compare(&self.metrics, &self.lines, upstream, wanted, pinned).await
    }

    /// Whether `[integrity]` or a waiver lets a version through though its checksum changed.
    fn is_tolerated(&self, wanted: &Wanted) -> bool {
        let subject = Subject {
            name: &wanted.listed.name,
            version: &wanted.listed.version,
            source: Source::Mirrored { upstream: wanted.upstream(&self.upstreams) },
            age: AgeFact::Old,
            yanked: false,
            license: None,
            integrity: IntegrityFact::ChecksumChanged,
        };
        self.policy.generation().policy.tolerates(&subject, self.policy.now())
    }
}

fn too_slow(listed: &Listed) -> Error {
    Error::unavailable(format_args!(
        "the store did not say in time which checksum `{}` {} has had; try again",
        listed.name, listed.version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_lines::MirrorLines;
    use crate::pins::cache::Pins;
    use cratehouse_core::metrics::Metrics;
    use cratehouse_package::name::CrateName;

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
