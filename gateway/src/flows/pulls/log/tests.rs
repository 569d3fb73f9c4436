use std::net::Ipv6Addr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::flows::fixture::memory;
use crate::flows::store::show::Since;
use crate::model::pull::fixture::{all_of, pull};
use crate::model::pull::{Pull, Selection, Totals};
use crate::stores::download_log::BatchName;
use bytes::Bytes;
use cratehouse_journal::entry_store::journal_in;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};
use object_store::ObjectStore;
use object_store::path::Path;

const NOON: &str = "2026-11-22T12:00:00Z";

struct Log {
    store: Arc<FaultyStore>,
    metrics: Metrics,
}

impl Log {
    fn new() -> Self {
        let store = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::None)));
        Self { store, metrics: Metrics::new().unwrap() }
    }

    fn store(&self) -> DownloadLogStore {
        DownloadLogStore::new(Arc::clone(&self.store) as Arc<dyn ObjectStore>)
    }

    fn replica(&self, name: &str) -> DownloadLog {
        DownloadLog::new(self.store(), name, true, self.metrics.clone())
    }

    /// `recorded`, `dropped` and `batches_failed`.
    fn counts(&self) -> (u64, u64, u64) {
        let m = &self.metrics;
        (m.pulls_recorded.get(), m.pulls_dropped.get(), m.pull_batches_failed.get())
    }

    fn away(&self, fault: Fault) {
        let plan = move |call, _: &Path| if call == Call::Put { fault } else { Fault::None };
        self.store.plan(Box::new(plan));
    }

    async fn batches(&self) -> Vec<BatchName> {
        let mut all = Vec::new();
        for day in self.store().days().await.unwrap() {
            all.extend(self.store().batches(day).await.unwrap());
        }
        all
    }

    async fn answer(&self, selection: &Selection) -> (Vec<Pull>, Answer) {
        let mut pulls = Vec::new();
        let heard = |pull| {
            pulls.push(pull);
            ControlFlow::Continue(())
        };
        let answer = ask(&self.store(), selection, heard).await.unwrap();
        (pulls, answer)
    }

    async fn all(&self) -> Vec<Pull> {
        self.answer(&all_of("foo")).await.0
    }
}

impl DownloadLog {
    fn notes(&self, pull: &Pull) {
        self.note(Download::from(pull), pull.time);
    }
}

/// Downloads of as many addresses.
fn from_others(count: usize, pull: &Pull) -> impl Iterator<Item = Pull> {
    (0..u32::try_from(count).unwrap())
        .map(|n| Pull { address: std::net::Ipv4Addr::from_bits(n).into(), ..pull.clone() })
}

fn at(minute: usize, version: &str) -> Pull {
    pull(&format!("2026-11-22T12:{minute:02}:00Z"), version, "alice")
}

#[tokio::test]
async fn what_waits_is_written_in_one_batch_and_an_idle_replica_writes_none() {
    let server = Log::new();
    let pulls = server.replica("a");
    pulls.write().await.unwrap();
    assert_eq!(server.batches().await, []);
    for minute in 0..3 {
        pulls.notes(&at(minute, &format!("1.0.{minute}")));
    }
    pulls.write().await.unwrap();
    pulls.write().await.unwrap();
    assert_eq!(server.batches().await.len(), 1);
    assert_eq!(server.all().await.len(), 3);
    assert_eq!((server.counts(), pulls.left()), ((3, 0, 0), 0));
}

#[tokio::test]
async fn what_is_downloaded_again_and_again_is_one_record() {
    let server = Log::new();
    let pulls = server.replica("a");
    let at_second = |n: u64| {
        let time = at(0, "1.0.0").time + Duration::from_millis(n);
        Pull { time, ..at(0, "1.0.0") }
    };
    (0..100_000).for_each(|n| pulls.notes(&at_second(n)));
    for other in ["alice", "bob", ""] {
        pulls.notes(&Pull { krate: "Foo".parse().unwrap(), ..pull(NOON, "1.0.0", other) });
    }
    assert_eq!((pulls.left(), pulls.records()), (100_003, 4));
    pulls.write().await.unwrap();
    let [batch] = &server.batches().await[..] else { panic!("one batch") };
    let bytes = server.store().read(batch).await.unwrap().unwrap();
    assert!(bytes.len() < 2000, "{} bytes", bytes.len());
    let all = server.all().await;
    let counts: Vec<_> = all.iter().map(|pull| pull.count.get()).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (4, 100_003));
    let many = all.iter().find(|pull| pull.count.get() == 100_000).unwrap();
    assert_eq!((many.time, many.last()), (at_second(0).time, at_second(99_999).time));
    assert_eq!((server.counts(), server.metrics.pull_records.get()), ((100_003, 0, 0), 4));

    pulls.notes(&at_second(0));
    pulls.write().await.unwrap();
    assert_eq!(server.all().await.len(), 5, "each write begins anew");
}

#[tokio::test]
async fn while_the_store_is_away_a_record_that_waits_counts_on() {
    let server = Log::new();
    let pulls = server.replica("a");
    from_others(MAX_WAITING_RECORDS, &at(1, "1.0.0")).for_each(|pull| pulls.notes(&pull));
    let known = from_others(1, &at(2, "1.0.0")).next().unwrap();
    pulls.notes(&known);
    pulls.notes(&at(3, "3.0.0"));
    assert_eq!((pulls.left(), server.counts()), (MAX_WAITING_RECORDS as u64 + 1, (0, 1, 0)));
    pulls.write().await.unwrap();
    assert_eq!(server.counts(), (MAX_WAITING_RECORDS as u64 + 1, 1, 0));
}

#[tokio::test]
async fn a_batch_has_the_pulls_of_one_day() {
    let server = Log::new();
    let pulls = server.replica("a");
    let times = ["2026-11-21T23:59:59.9Z", "2026-11-22T00:00:00Z", "2026-11-22T00:00:01Z"];
    times.iter().for_each(|time| pulls.notes(&pull(time, "1.0.0", "")));
    pulls.write().await.unwrap();
    let begins: Vec<_> = server.batches().await.iter().map(|b| b.begins.to_string()).collect();
    assert_eq!(begins, [times[0], times[1]]);
}

#[tokio::test]
async fn a_store_that_is_away_loses_nothing_until_the_bound() {
    let server = Log::new();
    let pulls = server.replica("a");
    pulls.notes(&at(0, "1.0.0"));
    server.away(Fault::Before);
    assert!(pulls.write().await.is_err());
    // One batch of one pull is held already.
    from_others(MAX_WAITING_RECORDS, &at(1, "1.0.0")).for_each(|pull| pulls.notes(&pull));
    assert!(pulls.write().await.is_err());
    assert_eq!((server.counts(), pulls.dropped()), ((0, 0, 2), 0));
    for _ in 0..5 {
        pulls.notes(&at(2, "2.0.0"));
    }
    assert_eq!((server.counts(), pulls.dropped(), pulls.dropped()), ((0, 5, 2), 5, 0));
    assert_eq!(pulls.left(), MAX_WAITING_RECORDS as u64 + 1);
    assert_eq!(pulls.records(), MAX_WAITING_RECORDS + 1);
    server.away(Fault::None);
    pulls.write().await.unwrap();
    let batches = MAX_WAITING_RECORDS / MAX_BATCH_RECORDS + 1;
    assert_eq!(server.batches().await.len(), batches);
    assert_eq!(server.counts(), (MAX_WAITING_RECORDS as u64 + 1, 5, 2));
    assert_eq!(pulls.left(), 0);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_not_written_twice() {
    let server = Log::new();
    let pulls = server.replica("test");
    pulls.notes(&at(0, "1.0.0"));
    server.away(Fault::After);
    assert!(pulls.write().await.is_err());
    pulls.notes(&at(1, "1.0.0"));
    server.away(Fault::None);
    pulls.write().await.unwrap();
    assert_eq!(server.all().await, [at(0, "1.0.0"), at(1, "1.0.0")]);
    assert_eq!(server.batches().await.len(), 2);
}

#[tokio::test]
async fn without_retention_nothing_is_recorded() {
    let server = Log::new();
    let pulls = DownloadLog::new(server.store(), "a", false, server.metrics.clone());
    let foo = pull(NOON, "1.0.0", "");
    pulls.record(&foo.krate, &foo.version, foo.checksum, None, foo.address);
    assert_eq!(pulls.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn batches_are_written_at_the_interval_when_they_are_full_and_at_the_stop() {
    let server = Log::new();
    let (pulls, stop) = (Arc::new(server.replica("a")), CancellationToken::new());
    let (shared, stopped) = (Arc::clone(&pulls), stop.clone());
    let hour = Duration::from_secs(3600);
    let writing = tokio::spawn(async move { keep_writing(&shared, hour, &stopped).await });
    let written = async |count: u64, within: Duration| {
        let reached = async {
            while server.counts().0 != count {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(within, reached).await.unwrap();
    };
    tokio::task::yield_now().await; // past the first tick, which finds nothing
    pulls.notes(&at(0, "1.0.0"));
    written(1, hour * 2).await;
    from_others(MAX_BATCH_RECORDS, &at(0, "1.0.0")).for_each(|pull| pulls.notes(&pull));
    written(1 + MAX_BATCH_RECORDS as u64, hour / 2).await;
    pulls.notes(&at(0, "1.0.0"));
    stop.cancel();
    writing.await.unwrap();
    assert_eq!(server.counts(), (2 + MAX_BATCH_RECORDS as u64, 0, 0));
}

#[tokio::test]
async fn what_the_store_does_not_take_before_the_stop_is_counted_as_lost() {
    let server = Log::new();
    let (pulls, stop) = (server.replica("a"), CancellationToken::new());
    pulls.notes(&at(0, "1.0.0"));
    server.away(Fault::Before);
    stop.cancel();
    keep_writing(&pulls, Duration::from_secs(1), &stop).await;
    assert_eq!((server.counts().0, server.counts().1), (0, 1));
}

#[tokio::test]
async fn old_days_are_deleted_by_any_replica() {
    let server = Log::new();
    let pulls = server.replica("a");
    for day in ["2026-11-19", "2026-11-20", "2026-11-22"] {
        pulls.notes(&pull(&format!("{day}T23:59:59Z"), "1.0.0", ""));
    }
    pulls.write().await.unwrap();
    let (one, other, now) = (server.store(), server.store(), NOON.parse().unwrap());
    let swept = tokio::join!(sweep(&one, 2, now), sweep(&other, 2, now));
    assert!(swept.0.unwrap() + swept.1.unwrap() >= 1);
    let kept: Vec<_> = server.all().await.iter().map(|p| day_of(p.time).to_string()).collect();
    assert_eq!(kept, ["2026-11-20", "2026-11-22"]);
    assert_eq!(sweep(&one, 2, now).await.unwrap(), 0);
    assert_eq!(oldest_kept(36_500, Date::MIN), Date::MIN);
}

#[tokio::test]
async fn the_pulls_of_all_replicas_are_told_in_the_order_of_time() {
    let server = Log::new();
    let (a, b) = (server.replica("a"), server.replica("b"));
    // The batches overlap: a has 0 2 4 … and 30 …, b 1 3 5 …
    for minute in (0..20).step_by(2) {
        a.notes(&at(minute, &format!("1.0.{minute}")));
        b.notes(&at(minute + 1, &format!("1.0.{minute}")));
    }
    a.write().await.unwrap();
    b.write().await.unwrap();
    a.notes(&at(10, "2.0.0")); // the clock was set back
    a.notes(&at(30, "1.0.0"));
    a.write().await.unwrap();
    a.notes(&pull("2026-11-23T00:00:00Z", "1.0.0", ""));
    a.write().await.unwrap();
    let all = server.all().await;
    assert_eq!(all.len(), 23);
    assert!(all.is_sorted_by_key(|pull| pull.time));

    let since = Some(at(19, "1.0.0").time);
    let (late, told) = server.answer(&Selection { since, ..all_of("Foo@1") }).await;
    assert_eq!(late.len(), 3);
    assert_eq!(told, Answer { first: Some(day_of(NOON.parse().unwrap())), unreadable: 0 });
    let (one, _) = server.answer(&all_of("foo@2.0.0")).await;
    assert_eq!(one.len(), 1);
    let mut totals = Totals::default();
    all.iter().for_each(|pull| totals.add(pull));
    assert_eq!((totals.pulls(), totals.lines().count()), (23, 2));

    let mut heard = 0;
    let enough = |_| {
        heard += 1;
        ControlFlow::Break(())
    };
    ask(&server.store(), &all_of("foo"), enough).await.unwrap();
    assert_eq!(heard, 1, "who has heard enough is told no more");

    for limit in [1, 2, 5, 1000] {
        assert_eq!(in_pages(&server, all_of("foo"), limit).await, all, "{limit}");
        let since = Selection { since, ..all_of("Foo@1") };
        assert_eq!(in_pages(&server, since, limit).await, late, "{limit}");
    }
    let alices = Selection { user: Some("Alice".to_owned()), ..all_of("foo") };
    assert_eq!(in_pages(&server, alices, 5).await.len(), 22);
    let nobodys = Selection { user: Some("bob".to_owned()), ..all_of("foo") };
    assert_eq!(in_pages(&server, nobodys, 5).await, []);
}

async fn in_pages(server: &Log, selection: Selection, limit: usize) -> Vec<Pull> {
    let (mut pulls, mut after) = (Vec::new(), None);
    loop {
        let asked = page::Asked { selection: selection.clone(), limit, after };
        let page = page::page(&server.store(), &asked).await.unwrap();
        assert!(page.pulls.len() <= limit);
        pulls.extend(page.pulls);
        match page.next {
            None => return pulls,
            Some(next) => after = Some(next.parse().unwrap()),
        }
    }
}

#[tokio::test]
async fn an_answer_says_what_could_not_be_read_and_a_store_that_is_away_gives_none() {
    let server = Log::new();
    assert_eq!(server.answer(&all_of("foo")).await, (Vec::new(), Answer::default()));
    let lines = Bytes::from_static(b"what is this?\n");
    server.store().put(&BatchName::new(NOON.parse().unwrap(), "a"), lines).await.unwrap();
    let (pulls, answer) = server.answer(&all_of("foo")).await;
    assert_eq!((pulls.len(), answer.unreadable), (0, 1));
    server.store.plan(Box::new(|_, _| Fault::Before));
    assert!(ask(&server.store(), &all_of("foo"), |_| ControlFlow::Continue(())).await.is_err());
}

#[tokio::test]
async fn a_question_may_begin_with_a_journal_entry() {
    use crate::flows::fixture::TestGateway;
    use cratehouse_journal::commands::Command;
    let store = memory();
    let server = TestGateway::open(&store, &[], crate::flows::fixture::limits()).await;
    let before = Timestamp::now();
    server.command(Command::create_user("alice".to_owned())).await;
    let journal = journal_in(&Objects::same(store));
    let time = start(&journal, Since::Seq(1)).await.unwrap();
    assert!(before <= time && time <= Timestamp::now());
    assert_eq!(start(&journal, Since::Time(before)).await.unwrap(), before);
    assert!(start(&journal, Since::Seq(2)).await.unwrap_err().message.contains("no entry 2"));
}

#[tokio::test]
async fn a_host_that_changes_its_ipv6_address_makes_no_record_with_each() {
    let server = Log::new();
    let pulls = server.replica("a");
    let from = |bits: u128| Pull { address: Ipv6Addr::from_bits(bits).into(), ..at(0, "1.0.0") };
    let network = 0x2001_0db8_u128 << 96;
    (1..=100_000).for_each(|n| pulls.notes(&from(network | n)));
    assert_eq!((pulls.left(), pulls.records()), (100_000, 17));
    pulls.notes(&from(network | 1));
    pulls.notes(&from(network | 1 << 64 | 1));
    assert_eq!(pulls.records(), 18, "another network");
    from_others(100, &at(0, "1.0.0")).for_each(|pull| pulls.notes(&pull));
    assert_eq!(pulls.records(), 118, "IPv4 addresses are clients");
    pulls.write().await.unwrap();
    let all = server.all().await;
    let rest = all.iter().find(|pull| pull.address == Ipv6Addr::from_bits(network)).unwrap();
    assert_eq!(rest.count.get(), 100_000 - 16);
    pulls.notes(&from(network | 1 << 32));
    pulls.write().await.unwrap();
    let address = from(network | 1 << 32).address;
    assert!(
        server.all().await.iter().any(|pull| pull.address == address),
        "each write begins anew"
    );
}
