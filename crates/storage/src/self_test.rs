//! Does the object store do what the journal rests on? Some that speak S3 overwrite where they
//! were asked to create, or let two creates win, and would lose published versions in silence.
//! So it is tried before anything is written, on objects that are deleted again.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tokio::time::timeout;
use tracing::warn;

use crate::objects::Objects;
use crate::url::StoreUrl;
use cratehouse_core::error::{Error, Kind, Refusal, Result};
use cratehouse_core::random_id::RandomId;

/// The objects stand side by side in one folder: on a disk, a folder for each start would stay.
const FOLDER: &str = "selftest";
/// Races whose outcome may stay unknown, because an answer was lost.
const SPARE_RACES: u64 = 10;
/// What is under way at one time, so that a start need not wait for a far store's every answer.
const RACES_AT_ONCE: usize = 4;
const DELETES_AT_ONCE: usize = 16;
/// How long a store may take for everything, and for the cleaning up after a failure.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);
/// What a refusal ends with.
const ADVICE: &str = "Tested with this release: a local folder, and Ceph RGW. By its \
    documentation Amazon S3 behaves too, and so do Google Cloud Storage and Azure; that was not \
    tested. An S3 store needs the permissions s3:GetObject, s3:PutObject and s3:DeleteObject on its \
    objects, and s3:ListBucket on the bucket; GCS and Azure have the like";

/// How hard a store is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Keys that are raced for.
    pub races: u64,
    /// Create-only puts of one key at the same time.
    pub creates: u64,
}

impl Effort {
    /// A bucket is tried thoroughly at every start: what answers there may have been exchanged. A
    /// folder's creates are the operating system's; it is only looked whether it has them.
    pub fn of(store: &StoreUrl) -> Self {
        match store {
            StoreUrl::Bucket { .. } => Self { races: 24, creates: 32 },
            StoreUrl::Folder(_) | StoreUrl::Memory => Self { races: 2, creates: 4 },
        }
    }
}

/// Proves with races of create-only puts, a read of an absent object, reads after writes, a
/// listing and deletes that a registry can live in this store. `progress` hears how many races
/// are run, of how many.
///
/// # Errors
/// [`Kind::Internal`] names what is wrong with the store, or which permission is missing;
/// [`Kind::Unavailable`] when it does not answer. Nothing is left in it then either, as far as
/// it lets us delete.
pub async fn self_test(
    objects: &Objects,
    effort: Effort,
    progress: impl Fn(u64, u64),
) -> Result<()> {
    let test = Test { objects, run: RandomId::random().to_string() };
    let late = |_| no_answer("the self-test did not end in time");
    let tried = timeout(TIME_LIMIT, test.all(effort, progress)).await;
    let outcome = tried.map_err(late).and_then(|outcome| outcome);
    if outcome.is_err() && timeout(CLEANUP_LIMIT, test.clean_up(effort)).await.is_err() {
        warn!("objects of a self-test may be left in the store, under {FOLDER}/{}", test.run);
    }
    outcome
}

struct Test<'a> {
    objects: &'a Objects,
    /// Random: tests of several replicas do not meet.
    run: String,
}

/// What came of a race.
enum Race {
    /// One create won, and its bytes are there.
    Decided,
    /// Answers were lost: nothing is proven either way.
    Unknown(object_store::Error),
}

impl Test<'_> {
    async fn all(&self, effort: Effort, progress: impl Fn(u64, u64)) -> Result<()> {
        self.writes_and_reads().await?;
        self.tells_what_is_absent().await?;
        self.keeps_what_exists().await?;
        let raced = self.races(effort, progress).await?;
        let mut written: Vec<_> = (0..raced).map(|key| self.race_path(key)).collect();
        written.push(self.plain_path());
        self.lists(&written).await?;
        self.deletes(&written).await
    }

    /// What was written is what is read at once, also where something stood before.
    async fn writes_and_reads(&self) -> Result<()> {
        for bytes in ["first", "second"] {
            let put = self.objects.durable.put(&self.plain_path(), bytes.into()).await;
            put.map_err(|e| failed("writing an object", "s3:PutObject", e))?;
            let read = self.read(&self.plain_path()).await;
            let read = read.map_err(|e| failed("reading an object", "s3:GetObject", e))?;
            if read.as_deref() != Some(bytes.as_bytes()) {
                return Err(refuse("a read right after a write does not find what was written"));
            }
        }
        Ok(())
    }

    /// An absent object is told from one that cannot be read.
    async fn tells_what_is_absent(&self) -> Result<()> {
        match self.read(&self.path("absent")).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(refuse("it has bytes under a name that nobody ever wrote")),
            Err(e) if is_denied(&e) => Err(refuse(
                "a read of an object that is not there is answered with 403 (forbidden) instead of 404: S3 does so where the credentials lack the permission s3:ListBucket on the bucket",
            )
            .because(e)),
            Err(e) => Err(failed("reading an absent object", "s3:ListBucket", e)),
        }
    }

    /// A create of what exists already is refused, and changes nothing.
    async fn keeps_what_exists(&self) -> Result<()> {
        let created = self.create(&self.plain_path(), "third".into()).await;
        let read = self.read(&self.plain_path()).await;
        let read = read.map_err(|e| failed("reading an object", "s3:GetObject", e))?;
        if created.is_ok() || read.as_deref() != Some(b"second") {
            return Err(refuse(
                "a create-only put (`If-None-Match: *`) of an object that exists overwrites it",
            ));
        }
        Ok(())
    }

    /// Runs races until enough are decided; how many keys that took.
    async fn races(&self, effort: Effort, progress: impl Fn(u64, u64)) -> Result<u64> {
        let (mut decided, mut unknown, mut refusal) = (0, None, None);
        let mut note = |race: Result<Race>| {
            match race {
                Ok(Race::Decided) => decided += 1,
                Ok(Race::Unknown(e)) => unknown = Some(e),
                Err(e) => refusal = Some(e),
            }
            progress(decided, effort.races);
            decided
        };
        let planned: Vec<_> = (0..effort.races).map(|key| self.race(key, effort.creates)).collect();
        let mut planned = stream::iter(planned).buffer_unordered(RACES_AT_ONCE);
        let mut done = 0;
        while let Some(race) = planned.next().await {
            done = note(race); // to the end, whatever came of it: none must put anything later
        }
        let mut run = effort.races;
        while done < effort.races && run < effort.races + SPARE_RACES {
            done = note(self.race(run, effort.creates).await);
            run += 1;
        }
        match (refusal, unknown) {
            (Some(refusal), _) => Err(refusal),
            (None, _) if done == effort.races => Ok(run),
            (None, why) => {
                let text = "too many create-only puts (`If-None-Match: *`) came to nothing";
                Err(why.map_or_else(|| no_answer(text), |e| failed(text, "s3:PutObject", e)))
            }
        }
    }

    /// Many create one object at the same time: one may win, and what is read is the winner's.
    async fn race(&self, key: u64, creates: u64) -> Result<Race> {
        let path = self.race_path(key);
        let bytes = |n: u64| Bytes::from(format!("create {n} of {}", self.run));
        let puts = (0..creates).map(|n| self.create(&path, bytes(n)));
        let outcomes = future::join_all(puts).await;
        let (mut winners, mut lost) = (Vec::new(), None);
        for (n, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(()) => winners.push(n),
                Err(e) => lost = Some(e),
            }
        }
        let [winner] = winners[..] else {
            return match (winners.len(), lost) {
                // Everybody's answer was lost, or a conflict let nobody through.
                (0, Some(e)) => Ok(Race::Unknown(e)),
                (count, _) => Err(refuse(&format!(
                    "{count} of {creates} simultaneous create-only puts (`If-None-Match: *`) of one object won; it must be one"
                ))),
            };
        };
        match self.read(&path).await {
            Ok(Some(found)) if found == bytes(winner) => Ok(Race::Decided),
            Ok(Some(_)) => Err(refuse(
                "a create-only put was answered as the winner of a race, and another's bytes are there",
            )),
            Ok(None) => Err(refuse("a read right after a create does not find the object")),
            Err(e) => Ok(Race::Unknown(e)),
        }
    }

    async fn lists(&self, written: &[Path]) -> Result<()> {
        let listing = self.objects.durable.list(Some(&Path::from(FOLDER)));
        let listing = listing.map_ok(|object| object.location).try_collect::<Vec<_>>().await;
        let listed = listing.map_err(|e| failed("listing objects", "s3:ListBucket", e))?;
        // A race that was lost in the network may have left nothing.
        match listed.contains(&self.plain_path())
            && written.iter().filter(|path| listed.contains(path)).count() > 1
        {
            true => Ok(()),
            false => Err(refuse("a listing does not show what was written before")),
        }
    }

    async fn deletes(&self, written: &[Path]) -> Result<()> {
        let deletes: Vec<_> =
            written.iter().map(|path| self.objects.durable.delete(path)).collect();
        let mut deletes = stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE);
        while let Some(deleted) = deletes.next().await {
            match deleted {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => (),
                Err(e) => return Err(failed("deleting an object", "s3:DeleteObject", e)),
            }
        }
        match self.read(&self.plain_path()).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(refuse("a deleted object is still there")),
            Err(e) => Err(failed("reading a deleted object", "s3:ListBucket", e)),
        }
    }

    /// Deletes whatever a test may have written.
    async fn clean_up(&self, effort: Effort) {
        let keys = 0..effort.races + SPARE_RACES;
        let mut paths: Vec<_> = keys.map(|key| self.race_path(key)).collect();
        paths.push(self.plain_path());
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        // What is not there need not be deleted, and what cannot be stays.
        self.objects.durable.delete_stream(paths).for_each(|_| future::ready(())).await;
    }

    /// By the client that commits entries: it does not retry.
    async fn create(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        let options = PutOptions::from(PutMode::Create);
        self.objects.commit.put_opts(path, bytes.into(), options).await.map(drop)
    }

    async fn read(&self, path: &Path) -> object_store::Result<Option<Bytes>> {
        match self.objects.durable.get(path).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn plain_path(&self) -> Path {
        self.path("plain")
    }

    fn race_path(&self, key: u64) -> Path {
        self.path(&format!("race-{key}"))
    }

    fn path(&self, what: &str) -> Path {
        Path::from(format!("{FOLDER}/{}-{what}", self.run))
    }
}

fn is_denied(e: &object_store::Error) -> bool {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    matches!(e, PermissionDenied { .. } | Unauthenticated { .. })
}

fn failed(doing: &str, permission: &str, e: object_store::Error) -> Error {
    if Refusal::of(&e).is_some() {
        return Error::store(e);
    }
    match is_denied(&e) {
        true => refuse(&format!(
            "{doing} is forbidden: the credentials are wrong, or lack the permission {permission}"
        )),
        false => no_answer(doing),
    }
    .because(e)
}

fn no_answer(what: &str) -> Error {
    Error::unavailable(format!("the object store does not answer as it should: {what}"))
}

fn refuse(what: &str) -> Error {
    let text = format!("this object store cannot hold a registry: {what}. {ADVICE}");
    Error::new(Kind::Internal, text)
}

#[cfg(test)]
mod tests;
