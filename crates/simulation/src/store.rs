//! The store of the simulation, and the weather between it and each replica.
//!
//! A request, once sent, goes its own way: it may come into effect long after its sender has
//! given up or died, and its answer may be lost.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};

/// Slow requests take half of this either way, at the most.
const SLOW: Duration = Duration::from_secs(20);
/// How many times its usual time a late request may take.
const LATENESS: u32 = 20;

/// What every replica shares.
#[derive(Debug, Default)]
pub(crate) struct SimulatedStore {
    pub(crate) inner: InMemory,
    /// Entries in the journal.
    entries: AtomicU64,
    /// Until when nothing comes into effect.
    still_until: Mutex<Option<Instant>>,
}

impl SimulatedStore {
    /// How many entries the journal has at this moment.
    pub(crate) fn head(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// For a while, nothing comes into effect for anybody.
    pub(crate) fn pause(&self, wait: Duration) {
        *self.still_until.lock().unwrap() = Some(Instant::now() + wait);
    }

    async fn flow(&self) {
        let until = *self.still_until.lock().unwrap();
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }
}

/// How rough it is: requests among a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Fail, and are not done.
    pub(crate) lost: u32,
    /// Are done, and their answer is lost.
    pub(crate) unanswered: u32,
    /// Fail, and are done some time later all the same.
    pub(crate) late: u32,
    /// Puts alone: are not done, and the answer says that the object exists.
    pub(crate) conflicts: u32,
    /// Take up to 10 s either way.
    pub(crate) slow: u32,
    /// The usual time that a request takes either way, at the most.
    pub(crate) usual: Duration,
    /// Create-only puts overwrite, as those of some servers do.
    pub(crate) overwrites: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Lost,
    Unanswered,
    Late,
    Conflict,
}

/// One replica's way to the sea.
pub(crate) struct Wire {
    sea: Arc<SimulatedStore>,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    weather: Weather,
    /// Until when everything is lost.
    cut_until: Option<Instant>,
}

impl Wire {
    pub(crate) fn new(sea: &Arc<SimulatedStore>, seed: u64) -> Arc<Self> {
        let rng = StdRng::seed_from_u64(seed);
        let state = State { rng, weather: Weather::default(), cut_until: None };
        Arc::new(Self { sea: Arc::clone(sea), state: Mutex::new(state) })
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }

    pub(crate) fn cut(&self, wait: Duration) {
        self.state.lock().unwrap().cut_until = Some(Instant::now() + wait);
    }

    fn overwrites(&self) -> bool {
        self.state.lock().unwrap().weather.overwrites
    }

    fn draw(&self, put: bool) -> (Fate, Duration, Duration) {
        let State { rng, weather, cut_until } = &mut *self.state.lock().unwrap();
        let mut way = || {
            let most = match rng.random_range(0..1000) < weather.slow {
                true => SLOW / 2,
                false => weather.usual,
            };
            most.mul_f64(rng.random::<f64>())
        };
        let (there, back) = (way(), way());
        let mut number = rng.random_range(0..1000);
        let mut drawn = |share: u32| {
            let hit = number < share;
            number = number.saturating_sub(share);
            hit
        };
        let fate = match () {
            () if cut_until.is_some_and(|until| Instant::now() < until) => Fate::Lost,
            () if drawn(weather.lost) => Fate::Lost,
            () if drawn(weather.unanswered) => Fate::Unanswered,
            () if drawn(weather.late) => Fate::Late,
            () if put && drawn(weather.conflicts) => Fate::Conflict,
            () => Fate::Fine,
        };
        (fate, there, back)
    }

    async fn send<T, F>(&self, put: bool, path: &Path, done: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (fate, there, back) = self.draw(put);
        let (sea, path) = (Arc::clone(&self.sea), path.to_string());
        let request = tokio::spawn(async move {
            if fate == Fate::Late {
                tokio::spawn(async move {
                    sleep(there + (back * LATENESS).min(SLOW)).await;
                    sea.flow().await;
                    done.await
                });
                sleep(there).await;
                return Err(lost());
            }
            sleep(there).await;
            sea.flow().await;
            match fate {
                Fate::Lost => return Err(lost()),
                Fate::Conflict => return Err(Error::AlreadyExists { path, source: "409".into() }),
                Fate::Fine | Fate::Unanswered | Fate::Late => (),
            }
            let done = done.await;
            sleep(back).await;
            if fate == Fate::Unanswered { Err(lost()) } else { done }
        });
        request.await.unwrap_or_else(|e| panic!("a request has crashed: {e}"))
    }
}

fn lost() -> Error {
    Error::Generic { store: "sea", source: "lost on the way".into() }
}

#[async_trait]
impl ObjectStore for Wire {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        if self.overwrites() {
            opts.mode = PutMode::Overwrite;
        }
        let (sea, path) = (Arc::clone(&self.sea), location.clone());
        let put = async move {
            let new = sea.inner.head(&path).await.is_err();
            let put = sea.inner.put_opts(&path, payload, opts).await?;
            if new && path.as_ref().starts_with("journal/") {
                sea.entries.fetch_add(1, Ordering::Relaxed);
            }
            Ok(put)
        };
        self.send(true, location, put).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "sea".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (sea, path) = (Arc::clone(&self.sea), location.clone());
        self.send(false, location, async move { sea.inner.get_opts(&path, options).await }).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let wire = Self {
            sea: Arc::clone(&self.sea),
            state: {
                let State { rng, weather, cut_until } = &mut *self.state.lock().unwrap();
                let rng = StdRng::seed_from_u64(rng.random());
                Mutex::new(State { rng, weather: *weather, cut_until: *cut_until })
            },
        };
        let wire = Arc::new(wire);
        let delete = move |location: Result<Path>| {
            let wire = Arc::clone(&wire);
            async move {
                let location = location?;
                let (sea, path) = (Arc::clone(&wire.sea), location.clone());
                let delete = async move { sea.inner.delete(&path).await };
                wire.send(false, &location, delete).await.map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let sea = Arc::clone(&self.sea);
        let prefix = prefix.cloned();
        stream::once(async move {
            sea.flow().await;
            stream::iter(sea.inner.list(prefix.as_ref()).collect::<Vec<_>>().await)
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.sea.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.sea.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

/// Whether the sea holds exactly these bytes there.
pub(crate) async fn holds(sea: &SimulatedStore, path: &Path, bytes: &[u8]) -> bool {
    match sea.inner.get(path).await {
        Ok(found) => found
            .into_stream()
            .try_collect::<Vec<_>>()
            .await
            .map(|parts| parts.concat())
            .is_ok_and(|held| held == bytes),
        Err(_) => false,
    }
}
