//! Downloads that wait to be written down: counted as they come, records when they are written.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZero;

use bytes::Bytes;
use jiff::Timestamp;

use super::{MAX_BATCH_RECORDS, MAX_WAITING_RECORDS};
use crate::model::pull::{Pull, Puller, encode};
use crate::stores::download_log::BatchName;
use cratehouse_core::checksum::Checksum;
use cratehouse_journal::principal::{Principal, TokenId};
use cratehouse_mirror::files::uses::day_of;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The part of an IPv6 address that a host does not choose: 64 bits (RFC 4291 §2.5.1).
const V6_NETWORK: u128 = !0 << 64;
/// Records of one version and token that are kept for addresses of one IPv6 network, between two writes.
const MAX_NETWORK_RECORDS: usize = 16;

/// What counts as the same download, made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Download {
    what: (CrateName, CrateVersion, Checksum),
    by: Option<Puller>,
    address: IpAddr,
    /// Days since 1970, so that no record is of two.
    day: i64,
}

/// The IPv6 network that one token has one version from.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Network {
    checksum: Checksum,
    token: Option<TokenId>,
    /// Its own: its other bits are 0.
    address: Ipv6Addr,
}

/// How often something was downloaded, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    downloads: NonZero<u64>,
    first: Timestamp,
    last: Timestamp,
}

/// Downloads, counted.
pub(super) type Tallied = HashMap<Download, Count>;

/// What waits, in the order in which it is written: `unsent`, then what is settled, then what is
/// still counted.
#[derive(Debug, Default)]
pub(super) struct Tallying {
    tallied: Tallied,
    /// How many of them are of one version, token and IPv6 network.
    networks: HashMap<Network, usize>,
    /// Records that were taken from there and are in no batch yet, the earliest first.
    settled: VecDeque<Pull>,
    /// The oldest ones, once the store did not take them: the same bytes are put again under the
    /// same name, because they may have landed.
    pub(super) unsent: Option<Batch>,
    /// Records that are just put in order or encoded, and whose downloads they are.
    moving: (usize, u64),
    /// Downloads in `tallied` and in `settled`.
    downloads: u64,
    /// Downloads that were dropped since that was last logged.
    pub(super) dropped: u64,
}

/// Records of one day, as they are written.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) name: BatchName,
    pub(super) lines: Bytes,
    pub(super) records: usize,
    pub(super) downloads: u64,
}

impl Download {
    pub(super) fn new(
        what: (CrateName, CrateVersion, Checksum),
        who: Option<&Principal>,
        address: IpAddr,
    ) -> Self {
        Self { what, by: who.map(Into::into), address, day: 0 }
    }
}

impl Network {
    fn of(download: &Download) -> Option<Self> {
        let IpAddr::V6(address) = download.address.to_canonical() else { return None };
        let address = Ipv6Addr::from_bits(address.to_bits() & V6_NETWORK);
        let token = download.by.as_ref().map(|by| by.token);
        Some(Self { checksum: download.what.2, token, address })
    }
}

#[cfg(test)]
impl From<&Pull> for Download {
    fn from(pull: &Pull) -> Self {
        let what = (pull.krate.clone(), pull.version.clone(), pull.checksum);
        Self { what, by: pull.by.clone(), address: pull.address, day: 0 }
    }
}

/// The checksum says nearly all of what was downloaded, so the names need not be hashed.
impl Hash for Download {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what.2.hash(state);
        self.by.as_ref().map(|by| by.token).hash(state);
        self.address.hash(state);
    }
}

impl Tallying {
    /// Counts a download. Gives how many different ones are counted now; `None`: it was dropped,
    /// because too much waits.
    pub(super) fn note(&mut self, download: Download, at: Timestamp) -> Option<usize> {
        let day = at.as_second().div_euclid(DAY_SECONDS);
        let download = Download { day, ..download };
        if !self.counted_again(&download, at) {
            let download = self.by_network(download);
            let is_full = self.waiting() >= MAX_WAITING_RECORDS;
            match self.counted_again(&download, at) {
                true => {}
                false if is_full => {
                    self.dropped += 1;
                    return None;
                }
                false => self.begin(download, at),
            }
        }
        self.downloads += 1;
        Some(self.tallied.len())
    }

    /// Counts a download, if there is a record of the same one.
    fn counted_again(&mut self, download: &Download, at: Timestamp) -> bool {
        let Some(count) = self.tallied.get_mut(download) else { return false };
        count.downloads = count.downloads.saturating_add(1);
        // A clock may be set back.
        (count.first, count.last) = (count.first.min(at), count.last.max(at));
        true
    }

    /// Of an IPv6 network that has enough records, a further one is the network's: one host has all
    /// addresses of it, and must not make a record with each.
    fn by_network(&self, download: Download) -> Download {
        let full = |of: &Network| self.networks.get(of).is_some_and(|n| *n >= MAX_NETWORK_RECORDS);
        match Network::of(&download).filter(full) {
            Some(network) => Download { address: network.address.into(), ..download },
            None => download,
        }
    }

    fn begin(&mut self, download: Download, at: Timestamp) {
        if let Some(network) = Network::of(&download) {
            *self.networks.entry(network).or_default() += 1;
        }
        let count = Count { downloads: NonZero::<u64>::MIN, first: at, last: at };
        self.tallied.insert(download, count);
    }

    /// Whether all that was taken is in a batch, so that more may be taken.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_empty()
    }

    /// Takes what is counted, to be given back with [`Tallying::settle`].
    pub(super) fn take(&mut self) -> Tallied {
        self.moving.0 = self.tallied.len();
        self.networks.clear();
        std::mem::take(&mut self.tallied)
    }

    /// Takes back what was taken, as records in order.
    pub(super) fn settle(&mut self, records: Vec<Pull>) {
        self.moving = (0, 0);
        self.settled = records.into();
    }

    /// Takes the oldest records, as far as they are of one day and fit into a batch, to be given
    /// back with [`Tallying::put`].
    pub(super) fn take_a_day(&mut self) -> Vec<Pull> {
        let Some(day) = self.settled.front().map(|pull| day_of(pull.time)) else {
            return Vec::new();
        };
        let same = |pull: &&Pull| day_of(pull.time) == day;
        let count = self.settled.iter().take(MAX_BATCH_RECORDS).take_while(same).count();
        let taken: Vec<_> = self.settled.drain(..count).collect();
        let downloads = downloads(&taken);
        self.downloads = self.downloads.saturating_sub(downloads);
        self.moving = (taken.len(), downloads);
        taken
    }

    /// Takes back what was taken, as a batch.
    pub(super) fn put(&mut self, batch: Option<Batch>) {
        self.moving = (0, 0);
        self.unsent = batch;
    }

    /// How many downloads wait.
    pub(super) fn downloads(&self) -> u64 {
        self.downloads + self.moving.1 + self.unsent.as_ref().map_or(0, |batch| batch.downloads)
    }

    /// How many records wait.
    pub(super) fn records(&self) -> usize {
        self.waiting() + self.unsent.as_ref().map_or(0, |batch| batch.records)
    }

    fn waiting(&self) -> usize {
        self.tallied.len() + self.settled.len() + self.moving.0
    }
}

/// What was counted, as records in the order of their first downloads.
pub(super) fn records(tallied: Tallied, replica: &str) -> Vec<Pull> {
    let record = |(download, count): (Download, Count)| {
        let Download { what, by, address, .. } = download;
        let first = Pull::single(count.first, what, by, address, replica.to_owned());
        first.repeated(count.downloads, count.last)
    };
    let mut records: Vec<_> = tallied.into_iter().map(record).collect();
    records.sort_by_key(|pull| pull.time);
    records
}

impl Batch {
    /// `None` when there are none.
    pub(super) fn of(records: &[Pull], replica: &str) -> serde_json::Result<Option<Self>> {
        let Some(begins) = records.iter().map(|pull| pull.time).min() else { return Ok(None) };
        let (name, lines) = (BatchName::new(begins, replica), encode(records)?.into());
        Ok(Some(Self { name, lines, records: records.len(), downloads: downloads(records) }))
    }
}

fn downloads(records: &[Pull]) -> u64 {
    records.iter().fold(0, |sum, pull| sum.saturating_add(pull.count.get()))
}
