use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::hosting::PinCorrections;
use crate::pins::cache::Pins;
use crate::settings;
use crate::upstream::test_util::{Reply, Server, config, reply, upstream};
use cratehouse_core::error::Kind;
use cratehouse_policy::PolicyInForce;

/// An upstream whose answers can be changed, and a mirror of it.
struct Scene {
    server: Server,
    script: Arc<Script>,
    config: settings::Upstream,
    upstream: Upstream,
    objects: Arc<InMemory>,
    store: MirrorStore,
    pinner: Pinner,
    corrections: Arc<Corrections>,
    metrics: Metrics,
    lines: Arc<MirrorLines>,
}

/// Pins that an administrator has corrected, each of `foo` at the one upstream.
#[derive(Debug, Default)]
struct Corrections(Mutex<BTreeMap<CrateVersion, Checksum>>);

impl PinCorrections for Corrections {
    fn count(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn of(&self, _: &str, _: &CrateName) -> Result<BTreeMap<CrateVersion, Checksum>> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn standing(
        &self,
        _: &str,
        _: &CrateName,
        version: &CrateVersion,
        pinned: Checksum,
    ) -> Result<Checksum> {
        Ok(self.0.lock().unwrap().get(version).copied().unwrap_or(pinned))
    }
}

#[derive(Default)]
struct Script {
    status: AtomicU16,
    body: Mutex<String>,
    /// `ETag` and 304, or neither.
    validators: bool,
}

impl Script {
    fn says(&self, status: u16, body: impl Into<String>) {
        self.status.store(status, Ordering::SeqCst);
        *self.body.lock().unwrap_or_else(PoisonError::into_inner) = body.into();
    }

    fn answer(&self, headers: &hyper::HeaderMap) -> Reply {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let etag = format!("\"{}\"", Checksum::of(body.as_bytes()));
        let asked = headers.get("if-none-match").is_some_and(|v| *v == etag);
        match self.status.load(Ordering::SeqCst) {
            200 if self.validators && asked => reply(304, &[], ""),
            200 if self.validators => reply(200, &[("etag", &etag)], body),
            status => reply(status, &[], body),
        }
    }
}

fn foo() -> CrateName {
    "foo".parse().unwrap()
}

fn line(vers: &str, bytes: &str) -> String {
    let sum = Checksum::of(bytes.as_bytes());
    format!("{{\"name\": \"Foo\", \"vers\": \"{vers}\", \"deps\": [], \"cksum\": \"{sum}\"}}\n")
}

fn text(known: &CachedLookup) -> String {
    let file = known.answer.clone().unwrap().unwrap();
    String::from_utf8(file.identity.bytes.to_vec()).unwrap()
}

fn pinner(
    config: &settings::Upstream,
    store: &MirrorStore,
    corrections: &Arc<Corrections>,
    metrics: &Metrics,
    lines: &Arc<MirrorLines>,
) -> Pinner {
    Pinner {
        pins: Pins::default(),
        store: store.clone(),
        corrections: Arc::clone(corrections) as _,
        policy: Arc::new(PolicyInForce::default()),
        upstreams: Arc::new([Arc::new(upstream(config))]),
        wait: Duration::from_secs(60),
        metrics: metrics.clone(),
        lines: Arc::clone(lines),
    }
}

impl Scene {
    async fn new(validators: bool, fresh: Duration) -> Self {
        let script = Arc::new(Script { validators, ..Script::default() });
        script.says(200, line("1.0.0", "a"));
        let answers = Arc::clone(&script);
        let server = Server::start(move |_, headers| answers.answer(headers)).await;
        let config = settings::Upstream { fresh, ..config(&server.url) };
        let objects = Arc::new(InMemory::new());
        let metrics = Metrics::new().unwrap();
        let (lines, corrections) = (Arc::new(MirrorLines::new(&metrics)), Arc::default());
        let store = MirrorStore::new(Arc::clone(&objects) as _, Arc::clone(&objects) as _);
        Self {
            upstream: upstream(&config),
            pinner: pinner(&config, &store, &corrections, &metrics, &lines),
            store,
            corrections,
            lines,
            metrics,
            server,
            script,
            config,
            objects,
        }
    }

    async fn look(&self, remembered: Option<Rendered>, force: bool) -> CachedLookup {
        let (index, write_behind) = (IndexCache::new(0, 1 << 20), WriteBehind::default());
        let reader = self.reader(&index, &write_behind, &self.lines);
        let known = match reader.begin(ClientKey::OWN, &foo(), remembered, force).await {
            Begun::Known(known) => known,
            Begun::Ask(question) => reader.ask(&foo(), Turn::OWN, *question).await,
        };
        write_behind.settled().await;
        known
    }

    fn reader<'a>(
        &'a self,
        index: &'a IndexCache,
        write_behind: &'a WriteBehind,
        lines: &'a MirrorLines,
    ) -> ReadThrough<'a> {
        ReadThrough {
            upstream: &self.upstream,
            index,
            store: &self.store,
            write_behind,
            at: 0,
            pinner: &self.pinner,
            metrics: &self.metrics,
            lines,
            own: Arc::default(),
        }
    }

    /// Asks with a copy that is there.
    async fn asks(&self, index: &IndexCache, copy: Copy, last: &Rendered) -> CachedLookup {
        let (write_behind, lines) = (WriteBehind::default(), MirrorLines::new(&self.metrics));
        let (seen, now) = (Seen::Absent, Timestamp::now());
        let question = Question { copy: Some(copy), seen, last: Some(last.clone()), now };
        let known =
            self.reader(index, &write_behind, &lines).ask(&foo(), Turn::OWN, question).await;
        write_behind.settled().await;
        known
    }

    /// As a replica that has just started.
    async fn cold(&self) -> CachedLookup {
        self.look(None, false).await
    }

    /// Ends the rest that failure brought.
    fn restart(&mut self) {
        self.upstream = upstream(&self.config);
    }

    /// An administrator finds out what the bytes of a version are.
    fn correct(&self, version: &str, bytes: &str) {
        let bytes = Checksum::of(bytes.as_bytes());
        self.corrections.0.lock().unwrap().insert(version.parse().unwrap(), bytes);
    }

    fn alarms(&self) -> u64 {
        self.metrics.alarms.with_label_values(&["checksum_changed"]).get()
    }

    async fn is_kept(&self) -> bool {
        self.objects.head(&Path::from("mirror/up/index/3/f/foo")).await.is_ok()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_fresh_copy_is_served_by_every_replica_without_asking() {
    let scene = Scene::new(true, MINUTE).await;
    let first = scene.cold().await;
    assert_eq!((first.outcome, text(&first)), (Outcome::Miss, line("1.0.0", "a")));
    let again = scene.cold().await;
    assert_eq!((again.outcome, text(&again)), (Outcome::Store, line("1.0.0", "a")));
    assert_eq!(scene.server.paths(), ["/index/3/f/foo"]);
    assert!(again.until.unwrap() <= Instant::now() + MINUTE);
    assert_eq!(scene.look(None, true).await.outcome, Outcome::Revalidated);
}

#[tokio::test]
async fn an_unchanged_file_is_revalidated_with_and_without_validators() {
    for validators in [true, false] {
        let scene = Scene::new(validators, Duration::ZERO).await;
        let first = scene.cold().await;
        let remembered = Rendered::remembered(&first);
        let again = scene.look(remembered, false).await;
        assert_eq!(again.outcome, Outcome::Revalidated);
        // The rendered file is the very same: nothing was parsed or compressed again.
        assert!(Arc::ptr_eq(&first.answer.unwrap().unwrap(), &again.answer.unwrap().unwrap()));
        let requests = scene.server.requests();
        assert_eq!(requests[1].1.contains_key("if-none-match"), validators);
        assert_eq!(scene.cold().await.outcome, Outcome::Revalidated);
    }
}

#[tokio::test]
async fn a_new_version_is_seen_and_kept() {
    let scene = Scene::new(true, Duration::ZERO).await;
    scene.cold().await;
    let both = line("1.0.0", "a") + &line("1.1.0", "b");
    scene.script.says(200, both.clone());
    let known = scene.cold().await;
    assert_eq!((known.outcome, text(&known)), (Outcome::Miss, both.clone()));
    let kept = scene.store.index("up", &foo()).await.unwrap().unwrap();
    assert_eq!(kept.body, both);
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_left_out_counted_and_nothing_removed() {
    let scene = Scene::new(true, Duration::ZERO).await;
    let skipped = || scene.metrics.index_lines_skipped.with_label_values(&["up"]).get();
    let (a, b) = (line("1.0.0", "a"), line("1.1.0", "b"));
    scene.cold().await;
    scene.script.says(200, a.clone() + &b);
    let first = scene.cold().await.judging.facts().first_seen;
    assert_eq!(first.len(), 1, "1.1.0 is new");

    // Its line becomes unreadable, and so does that of the old version; there is another new one.
    let c = line("1.2.0", "c");
    scene.script.says(200, a.replace("cksum", "sum") + &b[..30] + "\n" + &c);
    let known = scene.cold().await;
    assert_eq!((known.outcome, text(&known), skipped()), (Outcome::Miss, c.clone(), 2));
    assert_eq!(text(&scene.cold().await), c, "from the copy, which has the lines as they came");
    let kept = scene.store.index("up", &foo()).await.unwrap().unwrap();
    assert!(kept.body.starts_with(&a.as_bytes()[..30]));

    // They come back as old as they are.
    let all = a + &b + &c;
    scene.script.says(200, all.clone());
    let known = scene.cold().await;
    let seen = known.judging.facts().first_seen;
    let at = |version: &str| seen.get(&version.parse().unwrap()).copied();
    assert_eq!(at("1.1.0"), first.values().next().copied());
    assert!(at("1.0.0").is_none_or(|at| at == Timestamp::UNIX_EPOCH));
    assert!(at("1.2.0") > at("1.1.0"));
    assert_eq!((text(&known), skipped(), scene.alarms()), (all, 2, 0));

    // A torn end and an answer without one line are failures: the last known file stays.
    for failure in [b[..30].to_owned(), line("1.0.0", "a") + &b[..30], "{}\n".to_owned()] {
        scene.script.says(200, failure);
        assert_eq!(scene.cold().await.outcome, Outcome::Stale);
    }
}

#[tokio::test]
async fn first_sights_are_carried_on_by_the_copy_and_by_memory() {
    let scene = Scene::new(true, Duration::ZERO).await;
    let seen = |known: &CachedLookup| -> Vec<(String, Timestamp)> {
        let seen = known.judging.facts().first_seen;
        seen.iter().map(|(version, at)| (version.to_string(), *at)).collect()
    };
    assert_eq!(seen(&scene.cold().await), [], "what was there at the first fetch is old");
    let dated =
        line("2.0.0", "c").replace("\"deps\"", "\"pubtime\": \"2026-01-01T00:00:00Z\", \"deps\"");
    let both = line("1.0.0", "a") + &dated + &line("1.1.0", "b");
    scene.script.says(200, both.clone());
    let first = seen(&scene.cold().await);
    assert_eq!(first.iter().map(|(v, _)| v.as_str()).collect::<Vec<_>>(), ["1.1.0"]);
    // Another replica, before and after a third version.
    assert_eq!(seen(&scene.cold().await), first);
    scene.script.says(200, both.clone() + &line("1.2.0", "d"));
    let known = scene.cold().await;
    assert_eq!((seen(&known).len(), &seen(&known)[0]), (2, &first[0]));
    // The copy is lost: memory still knows, and who has neither finds what was noted.
    scene.store.delete_index("up", &foo()).await.unwrap();
    scene.script.says(200, both);
    let remembered = scene.look(Rendered::remembered(&known), false).await;
    assert_eq!(seen(&remembered), first);
    scene.store.delete_index("up", &foo()).await.unwrap();
    assert_eq!(seen(&scene.cold().await), first);
    // What comes while there is no copy is new, too.
    scene.store.delete_index("up", &foo()).await.unwrap();
    scene.script.says(200, line("1.0.0", "a") + &line("1.1.0", "b") + &line("1.3.0", "e"));
    let last = seen(&scene.cold().await);
    assert_eq!((last.len(), &last[0], last[1].0.as_str()), (2, &first[0], "1.3.0"));
}

#[tokio::test]
async fn a_change_raises_its_alarm_in_every_process_that_reads_the_copy() {
    let mut scene = Scene::new(true, MINUTE).await;
    scene.cold().await;
    scene.script.says(200, line("1.0.0", "other"));
    scene.look(None, true).await;
    scene.metrics = Metrics::new().unwrap();
    let (store, corrections, lines) = (&scene.store, &scene.corrections, &scene.lines);
    scene.pinner = pinner(&scene.config, store, corrections, &scene.metrics, lines);
    let known = scene.cold().await;
    let pinned = known.judging.facts().changed.values().copied().collect::<Vec<_>>();
    assert_eq!((scene.alarms(), pinned), (1, vec![Checksum::of(b"a")]));
}

#[tokio::test]
async fn trouble_is_answered_from_the_copy_or_from_memory_and_never_as_absent() {
    let mut scene = Scene::new(true, Duration::ZERO).await;
    let first = scene.cold().await;
    let remembered = Rendered::remembered(&first);
    for (status, body) in [(500, ""), (403, ""), (200, ""), (200, "<html>"), (503, "")] {
        scene.script.says(status, body);
        let known = scene.cold().await;
        assert_eq!((known.outcome, text(&known)), (Outcome::Stale, line("1.0.0", "a")), "{status}");
    }
    scene.store.delete_index("up", &foo()).await.unwrap();
    let known = scene.look(remembered, false).await;
    assert_eq!((known.outcome, text(&known)), (Outcome::Stale, line("1.0.0", "a")));
    scene.restart();
    let known = scene.cold().await;
    assert_eq!(known.outcome, Outcome::Error);
    assert_eq!(known.answer.unwrap_err().kind, Kind::Unavailable);
}

#[tokio::test]
async fn an_upstream_in_trouble_is_left_alone_where_there_is_a_copy() {
    let mut scene = Scene::new(true, Duration::ZERO).await;
    scene.cold().await;
    scene.script.says(503, "");
    scene.server.paths();
    for _ in 0..3 {
        assert_eq!(scene.cold().await.outcome, Outcome::Stale);
    }
    assert_eq!(scene.server.paths().len(), 1);
    scene.script.says(200, line("1.0.0", "a"));
    scene.restart();
    assert_eq!(scene.cold().await.outcome, Outcome::Revalidated);
}

#[tokio::test]
async fn a_copy_from_another_url_is_served_only_when_the_new_one_does_not_answer() {
    let mut scene = Scene::new(true, MINUTE).await;
    scene.cold().await;
    let closed = "http://127.0.0.1:9/index/".parse().unwrap();
    scene.config = settings::Upstream { index: closed, ..scene.config.clone() };
    scene.restart();
    assert_eq!(scene.cold().await.outcome, Outcome::Stale);
    assert_eq!(scene.server.paths().len(), 1);
}

#[tokio::test]
async fn a_crate_that_left_its_upstream_is_gone_and_so_is_its_copy() {
    for status in [404, 410, 451] {
        let scene = Scene::new(true, Duration::ZERO).await;
        scene.cold().await;
        assert!(scene.is_kept().await);
        scene.script.says(status, "");
        let known = scene.cold().await;
        assert!(known.is_absent() && known.outcome == Outcome::Negative);
        assert!(!scene.is_kept().await);
    }
}

#[tokio::test]
async fn a_changed_checksum_pins_the_former_one_and_raises_an_alarm() {
    let scene = Scene::new(false, Duration::ZERO).await;
    scene.script.says(200, line("1.0.0", "a") + &line("1.1.0", "b"));
    scene.cold().await;
    scene.script.says(200, line("1.0.0", "x") + &line("1.1.0", "b"));
    let known = scene.cold().await;
    assert_eq!(known.outcome, Outcome::Miss);
    let pinned = async |version: &str| {
        scene.store.pinned("up", &foo(), &version.parse().unwrap()).await.unwrap()
    };
    assert_eq!(pinned("1.0.0").await.unwrap().cksum, Checksum::of(b"a"));
    assert_eq!(pinned("1.1.0").await, None);
    assert_eq!(scene.alarms(), 1);
    scene.cold().await;
    assert_eq!(scene.alarms(), 1);

    // Back to what it was is no change; the same other checksum once more is no news.
    for bytes in ["a", "x"] {
        scene.script.says(200, line("1.0.0", bytes) + &line("1.1.0", "b"));
        scene.cold().await;
        assert_eq!(scene.alarms(), 1, "{bytes}");
    }
}

#[tokio::test]
async fn a_version_that_comes_back_with_another_checksum_is_a_change() {
    for (status, body) in [(200, line("1.1.0", "b")), (404, String::new())] {
        let scene = Scene::new(true, Duration::ZERO).await;
        scene.cold().await;
        scene.script.says(status, body);
        scene.cold().await;
        let pin = scene.store.pinned("up", &foo(), &"1.0.0".parse().unwrap()).await.unwrap();
        assert_eq!(pin.unwrap().cksum, Checksum::of(b"a"), "{status}");
        assert_eq!(scene.alarms(), 0, "to vanish is no change");
    }
}

#[tokio::test]
async fn a_damaged_copy_is_replaced() {
    let scene = Scene::new(true, MINUTE).await;
    scene.cold().await;
    let path = Path::from("mirror/up/index/3/f/foo");
    scene.objects.put(&path, "{}\nnonsense".into()).await.unwrap();
    assert_eq!(scene.cold().await.outcome, Outcome::Miss);
    assert_eq!(scene.cold().await.outcome, Outcome::Store);
}

#[tokio::test]
async fn a_copy_that_waits_for_the_upstream_has_no_memory_that_nobody_counts() {
    let scene = Scene::new(true, Duration::ZERO).await;
    scene.script.says(200, line("1.0.0", "a") + &line("1.1.0", "b"));
    let first = scene.cold().await;
    let file = first.answer.clone().unwrap().unwrap();
    let remembered = Rendered::remembered(&first);
    let kept = scene.store.index("up", &foo()).await.unwrap().unwrap();
    let copy = Copy::of(kept.clone(), remembered.clone().unwrap());
    assert_eq!(copy.kept.body.as_ptr(), file.identity.bytes.as_ptr(), "one body for both");
    assert_eq!(copy.own_bytes(), 0);

    // A file of other lines than its body has: the body counts, or the last known file will do.
    let other = Bytes::from(line("1.0.0", "a"));
    let mut last = remembered.unwrap();
    last.file = Arc::new(IndexFile::new(other, file.versions().cloned().collect()));
    let copy = || Copy::of(kept.clone(), last.clone());
    assert_eq!(copy().own_bytes(), kept.body.len() as u64);
    scene.server.paths();
    let index = IndexCache::new(0, kept.body.len() as u64 - 1);
    let known = scene.asks(&index, copy(), &last).await;
    assert_eq!((known.outcome, scene.server.paths().len()), (Outcome::Stale, 0));
    let index = IndexCache::new(0, 2 * kept.body.len() as u64);
    let known = scene.asks(&index, copy(), &last).await;
    assert_eq!((known.outcome, scene.server.paths().len()), (Outcome::Revalidated, 1));
    assert_eq!(index.taken(), 0);
}

/// Each lookup of it could write a line, and a client can ask as often as it likes.
#[tokio::test]
async fn a_damaged_copy_that_cannot_be_replaced_writes_few_lines() {
    use cratehouse_storage::test_util::{Call, Fault, FaultyStore};
    let mut scene = Scene::new(true, MINUTE).await;
    scene.cold().await;
    let path = Path::from("mirror/up/index/3/f/foo");
    scene.objects.put(&path, "{}\nnonsense".into()).await.unwrap();
    let plan = |call, _: &Path| if call == Call::Put { Fault::Before } else { Fault::None };
    let inner = Arc::clone(&scene.objects) as _;
    let store: Arc<FaultyStore> = Arc::new(FaultyStore::new(inner, Box::new(plan)));
    scene.store = MirrorStore::new(Arc::clone(&store) as _, store);
    let lines = cratehouse_core::log_limit::LINES;
    let suppressed = |kind| scene.metrics.log_lines_suppressed.with_label_values(&[kind]);
    let both = || suppressed("damaged_copy").get().min(suppressed("mirror_store").get());
    // Their window may pass on a busy machine.
    for _ in 0..100 * lines {
        assert_eq!(scene.cold().await.outcome, Outcome::Miss);
        if both() > 0 {
            return;
        }
    }
    panic!("nothing was left out");
}

#[tokio::test]
async fn a_corrected_pin_counts_against_what_the_upstream_has_listed_from_the_start() {
    let scene = Scene::new(true, MINUTE).await;
    let changed = |known: &CachedLookup| (*known.judging.facts().changed).clone();
    assert_eq!(changed(&scene.cold().await), BTreeMap::new());
    for version in ["0.9.0", "1.0.0", "1.0.0+b"] {
        scene.correct(version, "b"); // two of them are not listed
    }
    let expected = BTreeMap::from([("1.0.0".parse().unwrap(), Checksum::of(b"b"))]);
    assert_eq!(changed(&scene.cold().await), expected, "by the copy that was kept before");
    assert_eq!(changed(&scene.look(None, true).await), expected, "beside that copy");
    scene.script.says(200, line("1.0.0", "a") + &line("1.1.0", "c"));
    assert_eq!(changed(&scene.look(None, true).await), expected, "in a new file");
    scene.store.delete_index("up", &foo()).await.unwrap();
    assert_eq!(changed(&scene.cold().await), expected, "where no copy is left");
    assert_eq!(changed(&scene.cold().await), expected, "by the copy that was kept with it");

    // Until the upstream lists what it was corrected to.
    scene.script.says(200, line("1.0.0", "b"));
    assert_eq!(changed(&scene.look(None, true).await), BTreeMap::new());
    assert_eq!(changed(&scene.cold().await), BTreeMap::new());
}
