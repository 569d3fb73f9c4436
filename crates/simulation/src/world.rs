//! One run: some replicas, those who use them, and what befalls them.

mod end;
mod readers;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::allowed::grant_of;
use crate::changes::login;
use crate::history::{self, Answer, Record};
use crate::operations::{
    ADMIN, LAST, USERS, answer_of, draw_wish, fulfil, hash_of, text_of, user_of,
};
use crate::process::{Memory, Process, Remembers};
use crate::reads::Read;
use crate::registry::{Fulfilled, Operation, Registry, User};
use crate::store::{SimulatedStore, Weather, Wire, holds};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::per_address::PerAddress;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::checkpoint::{Checkpointer, Namer};
use cratehouse_journal::checkpoint_format::{Name, Reader, Writer};
use cratehouse_journal::checkpoint_store::{FOLDER, checkpoints_in};
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::entry::{Actor, Entry, EntryId, Event, EventKind};
use cratehouse_journal::entry_store::journal_in;
use cratehouse_journal::garbage;
use cratehouse_journal::principal::{PrincipalKind, TokenId, UserId};
use cratehouse_journal::publish::VersionWriter;
use cratehouse_journal::writer::bugs::Bug;
use cratehouse_journal::writer::{JournalWriter, Settings};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_storage::blobs::blobs_in;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::objects::Objects;

const REGISTRY: &str = "registry";
/// The time that a request takes in calm weather. It takes some, so that what is tried for ever ends.
const CALM: Duration = Duration::from_millis(1);
const WISHES_EACH: usize = 8;
/// How many read beside those who wish for something.
const READERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(6);
const FOLLOW: Duration = Duration::from_secs(1);
/// In calm weather, a replica needs no longer to recover: what it asked before may take 20 s yet.
const RECOVERY: Duration = Duration::from_secs(25);
/// After so long, a sweep that was broken off is no longer at work, nor is any request of it.
const NOT_AT_WORK: Duration = Duration::from_secs(45);
/// How often a replica is started anew, a second apart, while the store does not let it.
const MOST_STARTS: usize = 60;
/// After so long every request has come into effect or never will, and every command was answered.
const SETTLED: Duration = Duration::from_secs(45);

/// What is to be tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) bug: Option<Bug>,
    /// Create-only puts overwrite.
    pub(crate) overwrites: bool,
    /// Every sound checkpoint is believed.
    pub(crate) believes: bool,
    /// Publishes count their bytes as put when their entry is, and not when their put began.
    pub(crate) forgets_puts: bool,
    /// What replicas remember of who may read what.
    pub(crate) remembers: Option<Remembers>,
}

/// What came of it.
pub(crate) struct Run {
    pub(crate) story: Vec<String>,
    pub(crate) outcome: Result<(), String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, plan: &Plan) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed, plan).await;
        let outcome = world.live().await;
        let story = std::mem::take(&mut *world.story.lock().unwrap());
        Run { story, outcome }
    })
}

/// Somebody who asks, by number.
#[derive(Debug, Clone, Copy)]
struct Client(usize);

impl Client {
    const ALONE: Self = Self(0);

    /// Those who wait for one read of the journal are woken in any order: what each does next has its own moment, or
    /// a run would not be a function of its seed.
    async fn take_turn(self) {
        sleep(CALM * (u32::try_from(self.0).unwrap() + 1)).await;
    }
}

struct World {
    plan: Plan,
    /// Whether the registry is of the format level at which checkpoints must be named, and which knows teams, roles
    /// and rules; then some checkpoints are forged, and those are used.
    strict: bool,
    began: Instant,
    sea: Arc<SimulatedStore>,
    rng: Mutex<StdRng>,
    weather: Weather,
    replicas: Vec<Mutex<Replica>>,
    records: Mutex<Vec<Record>>,
    reads: Mutex<Vec<Read>>,
    tokens: Mutex<u32>,
    /// How often the operator has asked for something.
    operator: Mutex<u32>,
    story: Mutex<Vec<String>>,
}

struct Replica {
    wire: Arc<Wire>,
    /// `None`: it is not running.
    life: Option<Life>,
    /// What is on its disk.
    disk: Option<Catalog>,
    /// The newest entry that it was seen to know.
    known: u64,
}

struct Life {
    process: Arc<Process>,
    checkpointer: Checkpointer,
    writer: JoinHandle<()>,
    /// What is under way for those who use it: it ends with the process.
    requests: JoinSet<()>,
}

impl World {
    async fn new(seed: u64, plan: &Plan) -> Arc<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let sea = Arc::<SimulatedStore>::default();
        let one_in_three = |rng: &mut StdRng, most: u32| match rng.random_range(0..3) {
            0 => rng.random_range(0..most),
            _ => 0,
        };
        let weather = Weather {
            lost: one_in_three(&mut rng, 200),
            unanswered: one_in_three(&mut rng, 200),
            late: one_in_three(&mut rng, 200),
            conflicts: one_in_three(&mut rng, 200),
            slow: one_in_three(&mut rng, 150),
            usual: Duration::from_millis(rng.random_range(1..100)),
            overwrites: plan.overwrites,
        };
        let count = rng.random_range(2..=3);
        let strict = rng.random_range(0..4) > 0;
        let replicas = (0..count).map(|_| {
            let wire = Wire::new(&sea, rng.random());
            Mutex::new(Replica { wire, life: None, disk: None, known: 0 })
        });
        let replicas = replicas.collect();
        let world = Self {
            plan: plan.clone(),
            strict,
            began: Instant::now(),
            sea,
            rng: Mutex::new(rng),
            weather,
            replicas,
            records: Mutex::default(),
            reads: Mutex::default(),
            tokens: Mutex::default(),
            operator: Mutex::default(),
            story: Mutex::default(),
        };
        world.tell(format!("{weather:?}, strict: {strict}"));
        Arc::new(world)
    }

    fn tell(&self, line: impl Into<String>) {
        let at = self.began.elapsed().as_millis();
        self.story.lock().unwrap().push(format!("{at:>7} {}", line.into()));
    }

    fn calm(&self) -> Weather {
        Weather { overwrites: self.plan.overwrites, usual: CALM, ..Weather::default() }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap())
    }

    async fn nap(&self, most_millis: u64) {
        let millis = self.draw(|rng| rng.random_range(0..most_millis));
        sleep(Duration::from_millis(millis)).await;
    }

    async fn live(self: &Arc<Self>) -> Result<(), String> {
        let users = self.draw(|rng| rng.random_range(2..=6));
        self.found(users * WISHES_EACH + 1).await;
        for at in 0..self.replicas.len() {
            self.start(at, false).await;
            self.replicas[at].lock().unwrap().wire.set(self.calm());
        }
        self.begin_with_rules().await;
        for replica in &self.replicas {
            replica.lock().unwrap().wire.set(self.weather);
        }
        let mut work = JoinSet::new();
        for client in 0..users {
            work.spawn(Arc::clone(self).use_it(Client(client)));
        }
        let over = CancellationToken::new();
        let misfortunes = tokio::spawn(Arc::clone(self).misfortunes(over.clone()));
        let sweeping = tokio::spawn(Arc::clone(self).sweep(over.clone()));
        let readers = (users..users + READERS).map(Client);
        let readers: Vec<_> = readers
            .map(|client| tokio::spawn(Arc::clone(self).read_it(client, over.clone())))
            .collect();
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
        over.cancel();
        misfortunes.await.unwrap();
        sweeping.await.unwrap();
        for reader in readers {
            reader.await.unwrap()?;
        }
        self.settle().await
    }

    /// The first entry: users, and a token for every wish that there will be.
    async fn found(&self, wishes: usize) {
        let users = (1..=USERS).map(|user| EventKind::UserCreated {
            user: UserId(user),
            login: login(user),
            kind: PrincipalKind::Person,
        });
        let tokens = (1..).take(wishes).map(|token| EventKind::TokenCreated {
            token: TokenId(token),
            user: UserId(user_of(token)),
            name: "t".to_owned(),
            hash: hash_of(token),
            grant: grant_of(self.user(user_of(token))),
        });
        let level = EventKind::LevelEnabled { level: Level::NAMED_CHECKPOINTS };
        let level = self.strict.then_some(level).into_iter();
        let events = level.chain(users).chain(tokens);
        let events = events.map(|what| Event { by: Actor::Operator, what });
        let entry = Entry {
            seq: 1,
            id: EntryId::random(),
            prev: Catalog::in_memory(REGISTRY).unwrap().head().unwrap().hash,
            time: Timestamp::now(),
            replica: "founder".to_owned(),
            level: Level::FIRST,
            events: events.collect(),
        };
        let calm = Wire::new(&self.sea, 0);
        let objects = Objects::same(calm);
        journal_in(&objects).create(1, entry.seal().unwrap().0).await.unwrap();
    }

    /// Starts a replica, with what is on its disk or without; tries until it has caught up.
    async fn start(&self, at: usize, keeps_disk: bool) {
        let (wire, disk) = {
            let replica = &mut self.replicas[at].lock().unwrap();
            (Arc::clone(&replica.wire), replica.disk.take().filter(|_| keeps_disk))
        };
        let what = if disk.is_some() { "its disk" } else { "an empty disk" };
        self.tell(format!("{at} begins with {what}"));
        let objects = Objects::same(wire);
        let catalog = disk.unwrap_or_else(|| Catalog::in_memory(REGISTRY).unwrap());
        let metrics = Metrics::new().unwrap();
        let mut checkpointer = Checkpointer {
            registry: REGISTRY.to_owned(),
            catalog: catalog.clone(),
            journal: journal_in(&objects),
            checkpoints: checkpoints_in(&objects),
            metrics: metrics.clone(),
            namer: None,
        };
        match self.plan.believes {
            true => checkpointer.load_whatever_is_sound().await,
            false => drop(checkpointer.load(None).await),
        }
        let loaded = metrics.checkpoints.with_label_values(&["loaded"]).get();
        if loaded > 0 {
            self.tell(format!("{at} loads checkpoint {}", catalog.head().unwrap().seq));
        }
        let settings = || Settings {
            operator: None,
            replica: format!("replica{at}"),
            patience: PATIENCE,
            queue: 100,
            waits: FairShares::new(100, &PerAddress::default()),
            follow: FOLLOW,
            founding: Level::KNOWN,
        };
        let mut tries = 0..MOST_STARTS;
        let (journal, writer) = loop {
            if tries.next().is_none() {
                return;
            }
            let journal = journal_in(&objects);
            let metrics = metrics.clone();
            let (writer, appender) =
                JournalWriter::new(journal, catalog.clone(), Box::new(|_| ()), metrics, settings());
            let seed = self.draw(|rng| rng.random());
            let mut writer = writer.simulated(seed, self.plan.bug);
            match writer.begin(|_, _| ()).await {
                Ok(()) => break (appender, writer),
                Err(e) => self.tell(format!("{at} cannot begin: {}", e.chain())),
            }
            sleep(Duration::from_secs(1)).await;
        };
        checkpointer.namer = Some(Namer { journal: journal.clone(), heads: writer.heads() });
        let writer = tokio::spawn(writer.run(CancellationToken::new()));
        let (blobs, bounds) = (blobs_in(&objects), IndexBounds::default());
        let versions = VersionWriter { journal: journal.clone(), blobs, bounds };
        let memory = Memory::new(self.plan.remembers, &catalog);
        let process = Arc::new(Process { catalog, journal, versions, memory });
        let life = Life { process, checkpointer, writer, requests: JoinSet::new() };
        self.replicas[at].lock().unwrap().life = Some(life);
    }

    fn kill(&self, at: usize) {
        let replica = &mut *self.replicas[at].lock().unwrap();
        if let Some(mut life) = replica.life.take() {
            life.writer.abort();
            life.requests.abort_all();
            replica.disk = Some(life.process.catalog.clone());
            self.tell(format!("{at} is killed"));
        }
    }

    fn process(&self, at: usize) -> Option<Arc<Process>> {
        let replica = self.replicas[at].lock().unwrap();
        replica.life.as_ref().map(|life| Arc::clone(&life.process))
    }

    fn anyone(&self) -> usize {
        self.draw(|rng| rng.random_range(0..self.replicas.len()))
    }

    /// Has something done by a replica; `None` when that died meanwhile, or does not run.
    async fn ask<T, F>(&self, at: usize, work: impl FnOnce(Arc<Process>) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, answered) = tokio::sync::oneshot::channel();
        {
            let mut replica = self.replicas[at].lock().unwrap();
            let life = replica.life.as_mut()?;
            let work = work(Arc::clone(&life.process));
            life.requests.spawn(async move {
                let _ = answer.send(work.await);
            });
        }
        answered.await.ok()
    }

    /// Somebody who wants one thing after the other.
    async fn use_it(self: Arc<Self>, client: Client) {
        for _ in 0..WISHES_EACH {
            self.nap(2000).await;
            let at = self.anyone();
            let token = {
                let mut tokens = self.tokens.lock().unwrap();
                *tokens += 1;
                *tokens
            };
            let wish = self.draw(|rng| draw_wish(rng, user_of(token), self.strict));
            if self.process(at).is_some() {
                self.wish(client, at, token, wish).await;
            }
        }
    }

    /// Asks a replica for something, and writes down what came of it.
    async fn wish(&self, client: Client, at: usize, token: u32, wish: Operation) -> Answer {
        self.wish_of(client, at, token, self.user(user_of(token)), wish).await
    }

    /// The operator does.
    async fn operate(&self, at: usize, wish: Operation) -> Answer {
        let nth = {
            let mut nth = self.operator.lock().unwrap();
            *nth += 1;
            *nth
        };
        self.wish_of(Client::ALONE, at, u32::MAX - nth, User::OPERATOR, wish).await
    }

    async fn wish_of(
        &self,
        client: Client,
        at: usize,
        token: u32,
        who: User,
        wish: Operation,
    ) -> Answer {
        self.tell(format!("{token} asks {at} for {wish:?}"));
        let asked = self.sea.head();
        let work = {
            let (wish, forgets_puts) = (wish.clone(), self.plan.forgets_puts);
            move |process: Arc<Process>| async move {
                let answer = fulfil(&process, token, who, &wish, forgets_puts).await;
                (answer, process.applied())
            }
        };
        let (answer, applied) = match self.ask(at, work).await {
            Some((outcome, applied)) => (answer_of(&outcome), applied),
            None => (Answer::Unknown, 0),
        };
        let answered = self.sea.head();
        client.take_turn().await;
        self.tell(format!("{token} hears {answer:?} at {answered}"));
        let (replica, heard) = (at, answer.clone());
        let record = Record { token, who, wish, replica, asked, answered, applied, answer };
        self.records.lock().unwrap().push(record);
        heard
    }

    /// Kills and restarts, cuts off, stops everything for a while, writes checkpoints.
    async fn misfortunes(self: Arc<Self>, over: CancellationToken) {
        while !over.is_cancelled() {
            self.nap(4000).await;
            let at = self.anyone();
            let wait = Duration::from_millis(self.draw(|rng| rng.random_range(0..12_000)));
            match self.draw(|rng| rng.random_range(0..8)) {
                0 => {
                    self.kill(at);
                    sleep(wait / 4).await;
                    let keeps_disk = self.draw(|rng| rng.random());
                    self.start(at, keeps_disk).await;
                }
                1 => {
                    self.tell(format!("{at} is cut off for {wait:?}"));
                    self.replicas[at].lock().unwrap().wire.cut(wait);
                }
                2 => {
                    self.tell(format!("nothing moves for {wait:?}"));
                    self.sea.pause(wait);
                }
                3 | 4 if self.strict => self.forge(at).await,
                _ => {
                    let life = |replica: &Replica| {
                        replica.life.as_ref().map(|life| life.checkpointer.clone())
                    };
                    let checkpointer = life(&self.replicas[at].lock().unwrap());
                    if let Some(checkpointer) = checkpointer
                        && let Ok(name) = checkpointer.write().await
                    {
                        self.tell(format!("{at} writes checkpoint {}", name.seq));
                    }
                }
            }
        }
    }

    /// Somebody who can write below `checkpoints/` alone puts one there that is not what the journal
    /// says, in place of the genuine ones.
    async fn forge(&self, at: usize) {
        let Some(process) = self.process(at) else { return };
        let (name, bytes) = process.catalog.dump().unwrap();
        let (name, bytes) = forged(name, bytes);
        let folder = Path::from(FOLDER);
        let genuine: Vec<_> = self.sea.inner.list(Some(&folder)).try_collect().await.unwrap();
        for object in genuine {
            self.sea.inner.delete(&object.location).await.unwrap();
        }
        let path = Path::from(format!("{FOLDER}/{name}"));
        self.sea.inner.put(&path, bytes.into()).await.unwrap();
        self.tell(format!("somebody forges checkpoint {}", name.seq));
    }

    /// An operator who sweeps now and then, and ends what was broken off, once that is no longer
    /// at work.
    async fn sweep(self: Arc<Self>, over: CancellationToken) {
        let mut finish = false;
        while !over.is_cancelled() {
            self.nap(2500).await;
            let at = self.anyone();
            let plan = garbage::Plan {
                stored_before: Timestamp::MAX,
                dry_run: false,
                force: false,
                finish,
            };
            let work = move |process: Arc<Process>| async move {
                garbage::sweep(
                    &process.journal,
                    &process.versions.blobs,
                    &CommandActor::Operator,
                    &plan,
                    |_, _| ControlFlow::Continue(()),
                )
                .await
            };
            match self.ask(at, work).await {
                Some(Ok(swept)) => {
                    self.tell(format!("swept by {at}: {} of {}", swept.deleted, swept.stored));
                    finish = false;
                }
                Some(Err(e)) => {
                    self.tell(format!("the sweep has stopped at {at}: {}", e.chain()));
                    finish = true;
                }
                None => finish = true,
            }
            if finish {
                sleep(NOT_AT_WORK).await;
            }
        }
    }
}

/// A sound checkpoint in which the first user has another name. It is looked at before the genuine one:
/// hashes differ from run to run, and their order must not.
fn forged(name: Name, bytes: Bytes) -> (Name, Bytes) {
    let mut forged = (0..).map(|nth| renamed(name, bytes.clone(), &format!("mallory{nth}")));
    forged.find(|(other, _)| *other > name).unwrap()
}

fn renamed(name: Name, bytes: Bytes, login: &str) -> (Name, Bytes) {
    let mut reader = Reader::open(name, bytes).unwrap();
    let mut writer = Writer::begin(reader.header()).unwrap();
    while let Some(row) = reader.next_row().unwrap() {
        let (key, value) = (row.key::<Value>().unwrap(), row.value().replace("user1", login));
        writer.row(row.table(), &key, value.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}
