//! Copying a whole registry from one store to another: a backup, or a move.
//!
//! The order makes an unfinished copy harmless: a mark first, then bytes, then the journal that
//! names them, and `format.json`, which makes a registry of it, last. A second run goes on where
//! the first one ended. The source may be in use: entries that were there when the copy began
//! come along, and their bytes were there before them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;

use cratehouse_core::checksum::Checksum;
use cratehouse_core::console::LogFormat;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::progress::Progress;
use cratehouse_journal::chain::Chain;
use cratehouse_journal::entry_store::{Journal, journal_in};
use cratehouse_journal::verify;
use cratehouse_storage::blobs::{blobs_in, has_checksum};
use cratehouse_storage::objects::{Objects, RegistryId};

/// Objects under way at one time, and the memory for them.
const OBJECTS_AT_ONCE: usize = 16;
const MEMORY_KIB: u32 = 512 * 1024;
/// The largest object that is copied, in bytes.
const MAX_OBJECT_BYTES: u64 = MEMORY_KIB as u64 * 1024;
/// Attempts to put one journal entry, and the pause between two.
const PUT_ATTEMPTS: u32 = 6;
const PUT_PAUSE: Duration = Duration::from_millis(200);

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The registry.
    pub registry: RegistryId,
    /// The last journal entry in the copy.
    pub head: u64,
    /// Objects that were copied, journal entries among them.
    pub objects: u64,
    /// Objects that were there already.
    pub present: u64,
    /// What is odd about the source but no loss, one sentence each.
    pub notes: Vec<String>,
    /// What is wrong with the copy, one sentence each. When there is anything, the copy was not
    /// made a registry.
    pub wrong: Vec<String>,
}

/// Copies the registry in `from` into `to`, which is empty or holds an earlier copy of it; then
/// walks the copy's journal and reads all hosted bytes back.
///
/// # Errors
/// When a store does not answer; when `from` holds no registry, or `to` another one, a newer
/// one, or an object that differs.
pub async fn copy(from: &Objects, to: &Objects, voice: LogFormat) -> Result<Copied> {
    let registry = from.existing().await?;
    let registry = registry.ok_or_else(|| Error::absent("there is no registry in FROM"))?;
    let (source, target) = (journal_in(from), journal_in(to));
    claim(to, registry).await?;
    let head = head_of(&source).await?;
    if target.read(head + 1).await.map_err(Error::store)?.is_some() {
        return Err(differs(&format!("the journal, which goes beyond FROM's entry {head}")));
    }
    let mut copied =
        Copied { registry, head, objects: 0, present: 0, notes: Vec::new(), wrong: Vec::new() };
    let copying = Copying { from: &*from.durable, to: &*to.durable, memory: memory() };
    for folder in folders(&*from.durable).await? {
        let step = Progress::begin(format!("copying {folder}/"), voice);
        copying.folder(&folder, &mut copied, &step).await?;
        step.end(&format!("{folder}/ is copied"));
    }
    let step = Progress::begin("copying the journal", voice);
    copy_journal(&source, &target, &mut copied, &step).await?;
    step.end(&format!("the journal is copied up to entry {head}"));

    let step = Progress::begin("verifying the copy", voice);
    let tick = |done, total| step.tick(done, Some(total));
    let mut walk = verify::walk(&target, &registry.to_string(), tick).await?;
    verify::check_bytes(&blobs_in(to), &mut walk, tick).await;
    copied.wrong = walk.wrong;
    step.end("the copy is verified");
    if copied.wrong.is_empty() {
        to.finish_copy(registry, from.founding().await?).await?;
    }
    Ok(copied)
}

/// Makes sure that nothing of another registry is in the target, and marks it as unfinished.
async fn claim(to: &Objects, registry: RegistryId) -> Result<()> {
    let found = match to.existing().await? {
        Some(found) => found,
        None => to.begin_copy(registry).await?,
    };
    match found == registry {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "TO holds another registry, {found}, or an unfinished copy of it: nothing was changed. Choose an empty folder, bucket or prefix"
        ))),
    }
}

/// The last entry: a listing is a hint, what can be read is the truth.
async fn head_of(journal: &Journal) -> Result<u64> {
    let mut head = journal.newest_hint(0).await.map_err(Error::store)?;
    while journal.read(head + 1).await.map_err(Error::store)?.is_some() {
        head += 1;
    }
    Ok(head)
}

/// All folders of a store but the journal, which comes last, and what is of running replicas alone.
/// Those of a newer release come along.
async fn folders(store: &dyn ObjectStore) -> Result<Vec<Path>> {
    let listed = store.list_with_delimiter(None).await.map_err(Error::store)?;
    let mut folders = listed.common_prefixes;
    folders.retain(|folder| !matches!(folder.as_ref(), "journal" | "selftest" | "replicas"));
    folders.sort();
    Ok(folders)
}

fn memory() -> Semaphore {
    Semaphore::new(usize::try_from(MEMORY_KIB).unwrap_or(Semaphore::MAX_PERMITS))
}

/// What an object's name says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A crate file: its name is its checksum.
    Blob(Checksum),
    /// An upstream's index file, or licences that were read: caches that are overwritten freely.
    Cache,
    /// First sights, which decide something, and lists that are written anew again and again: they
    /// change, perhaps to as many bytes, and are brought each time.
    Changing,
    /// Anything else is written once.
    Fixed,
}

impl Sort {
    fn of(path: &Path) -> Self {
        let parts: Vec<_> = path.as_ref().split('/').collect();
        match parts[..] {
            ["blobs", _, _, name] => name.parse().map_or(Self::Fixed, Self::Blob),
            ["mirror", _, "index" | "licenses", ..] => Self::Cache,
            ["mirror", _, "sights", ..]
            | ["mirror", _, "names.txt"]
            | ["advisories", "current.json"]
            | ["uses", ..] => Self::Changing,
            _ => Self::Fixed,
        }
    }
}

/// What became of an object.
enum Outcome {
    Copied,
    Present,
    Odd(String),
}

struct Copying<'a> {
    from: &'a dyn ObjectStore,
    to: &'a dyn ObjectStore,
    /// In KiB.
    memory: Semaphore,
}

impl Copying<'_> {
    async fn folder(&self, folder: &Path, copied: &mut Copied, step: &Progress) -> Result<()> {
        let listing = self.from.list(Some(folder));
        let each = listing.map(|object| async { self.object(object.map_err(Error::store)?).await });
        let mut outcomes = Box::pin(each.buffer_unordered(OBJECTS_AT_ONCE));
        let mut done = 0;
        while let Some(outcome) = outcomes.next().await {
            match outcome? {
                Outcome::Copied => copied.objects += 1,
                Outcome::Present => copied.present += 1,
                Outcome::Odd(note) => copied.notes.push(note),
            }
            done += 1;
            step.tick(done, None);
        }
        Ok(())
    }

    async fn object(&self, object: ObjectMeta) -> Result<Outcome> {
        let path = object.location;
        let sort = Sort::of(&path);
        let present = match self.to.head(&path).await {
            Ok(found) => Some(found.size),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(e) => return Err(Error::store(e)),
        };
        // Crate files are read back in the end, and an index file decides nothing.
        if present == Some(object.size) && matches!(sort, Sort::Blob(_) | Sort::Cache) {
            return Ok(Outcome::Present);
        }
        if object.size > MAX_OBJECT_BYTES {
            let text = format!("{path} has {} bytes; nothing of ours is that large", object.size);
            return Err(Error::new(Kind::Internal, text));
        }
        let kib = u32::try_from(object.size.div_ceil(1024)).unwrap_or(MEMORY_KIB);
        let _room = self.memory.acquire_many(kib).await.map_err(Error::internal)?;
        let Some(bytes) = read(self.from, &path).await? else {
            return Ok(Outcome::Odd(format!("{path} was deleted while the copy was made")));
        };
        if let Sort::Blob(cksum) = sort
            && !has_checksum(&bytes, &cksum).await
        {
            return Ok(Outcome::Odd(format!("{path} is damaged in FROM and was not copied")));
        }
        match (present, sort) {
            (None, _) | (Some(_), Sort::Cache | Sort::Changing) => {
                self.to.put(&path, bytes.into()).await.map_err(Error::store)?;
                Ok(Outcome::Copied)
            }
            (Some(_), _) => match read(self.to, &path).await? == Some(bytes) {
                true => Ok(Outcome::Present),
                false => Err(differs(path.as_ref())),
            },
        }
    }
}

async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    match store.get(path).await {
        Ok(found) => found.bytes().await.map(Some).map_err(Error::store),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(Error::store(e)),
    }
}

/// Copies the entries up to the head in order; the chain is checked on the way.
async fn copy_journal(
    source: &Journal,
    target: &Journal,
    copied: &mut Copied,
    step: &Progress,
) -> Result<()> {
    let mut chain = Chain::new(source, &copied.registry.to_string());
    while chain.head() < copied.head {
        let entries = chain.next(copied.head).await?;
        if entries.is_empty() {
            let missing = chain.head() + 1;
            let text = format!("FROM's journal has a gap: entry {missing} is missing");
            return Err(Error::new(Kind::Internal, text));
        }
        let mut present: FuturesOrdered<_> =
            entries.iter().map(|(entry, _)| target.read(entry.seq)).collect();
        for (entry, bytes) in &entries {
            let found = present.next().await.transpose().map_err(Error::store)?.flatten();
            match found {
                Some(found) if found == *bytes => copied.present += 1,
                Some(_) => return Err(differs(&format!("journal entry {}", entry.seq))),
                None => {
                    put_entry(target, entry.seq, bytes).await?;
                    copied.objects += 1;
                }
            }
            step.tick(entry.seq, Some(copied.head));
        }
    }
    Ok(())
}

/// Puts an entry create-only, until it is read back.
async fn put_entry(target: &Journal, seq: u64, bytes: &Bytes) -> Result<()> {
    let mut why = None;
    for attempt in 0..PUT_ATTEMPTS {
        let Err(unknown) = target.create(seq, bytes.clone()).await else { return Ok(()) };
        match target.read(seq).await {
            Ok(Some(found)) if found == *bytes => return Ok(()),
            Ok(Some(_)) => return Err(differs(&format!("journal entry {seq}"))),
            Ok(None) | Err(_) => why = Some(unknown),
        }
        tokio::time::sleep(PUT_PAUSE * 2_u32.pow(attempt)).await;
    }
    let text = format!("TO does not take journal entry {seq}; run the same command again to go on");
    let error = Error::unavailable(text);
    Err(why.map_or(error.clone(), |e| error.because(e)))
}

fn differs(what: &str) -> Error {
    let text = format!(
        "TO is no earlier copy of FROM: it differs in {what}. If that is damage, delete the object there and run the same command again"
    );
    Error::new(Kind::Internal, text)
}

#[cfg(test)]
mod tests;
