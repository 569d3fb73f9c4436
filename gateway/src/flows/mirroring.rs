//! The chain of upstreams: what it has of a crate, and what administrators do with the copies.

mod held;
mod memory;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

pub(super) use self::held::is_held;
use self::held::{is_kept, is_remembered};
pub(super) use self::memory::admit_within;
use self::memory::{admit, remembered_file, unbegun};
use crate::flows::credit::Credit;
use crate::flows::index_cache::{CachedLookup, Flight, Outcome, Place, landed};
use crate::flows::read_through::{Begun, ReadThrough, Rendered};
use crate::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::render_pool::RenderPool;
use cratehouse_mirror::settings::Identity;
use cratehouse_mirror::upstream::{Answer, Turn, Upstream, UpstreamError, UpstreamErrorKind};
use cratehouse_package::index::IndexFile;
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::version::{CrateVersion, no_such_version};
use cratehouse_storage::blobs::Origin;

/// The most `-` and `_` in a name whose every spelling is asked of the upstreams (256 spellings).
const MAX_SEPARATORS: u32 = 8;
/// For how long it is served as it was when there was none.
const NO_MEMORY_REST: Duration = Duration::from_secs(2);
/// Spellings that are asked for at one time.
const SPELLINGS: usize = 16;

/// The index file of a crate at one upstream of the chain, by the rules of every lookup; `None`
/// when that upstream definitely does not have it, and for every name that is hosted or reserved.
///
/// # Errors
/// When the upstream did not answer and nothing is known from before.
pub async fn mirrored_at(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    at: usize,
) -> Result<Option<Arc<IndexFile>>> {
    known_at(gateway, client, name, at).await?.answer
}

/// The same, with all that is known of it.
async fn known_at(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    at: usize,
) -> Result<CachedLookup> {
    let key = name.key();
    if gateway.catalog.krate(&key)?.is_some() || gateway.config.is_reserved(&key) {
        return Ok(CachedLookup::absent(None));
    }
    let asked = Asked { client, credit: None, force: false };
    Ok(at_upstream(gateway, &lowered(name), at, &asked).await)
}

/// What is known of a mirrored crate, and the upstream in the chain that it is from, if memory
/// knows both: a hit needs neither the catalog nor the store.
pub(super) fn in_memory(gateway: &Gateway, name: &CrateName) -> Option<(usize, CachedLookup)> {
    gateway.index.mirrored(&name.key(), &lowered(name), gateway.upstreams.len())
}

/// Who has a crate looked up, and how.
#[derive(Debug, Clone)]
struct Asked {
    client: ClientKey,
    /// What the client pays with if no upstream has the crate; `None`: something is held of it.
    credit: Option<Arc<Credit>>,
    /// Whether upstreams are asked even though the copy is fresh.
    force: bool,
}

/// Asks the first upstreams of the chain, so many, for a crate, and says which one answered; their number
/// when none has it. Only a
/// definite not-found passes it on to the next upstream. A name that none has is charged to the
/// client, and waits in the client's own queue when it has no credit left.
pub(super) async fn chain(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    chain: usize,
) -> (CachedLookup, usize) {
    if chain == 0 {
        return (CachedLookup::absent(None), 0);
    }
    let remembered = gateway.index.answer(&name.key(), name, chain).map(|answer| answer.known);
    if let Some(absent) = remembered.filter(CachedLookup::is_absent) {
        return (absent, chain); // it was charged, if at all, when it was asked for
    }
    let credit = match credit(gateway, client, name).await {
        Ok(credit) => credit.map(Arc::new),
        Err(error) => return (CachedLookup::trouble(error, Duration::ZERO), 0),
    };
    let asked = Asked { client, credit, force: false };
    let (known, at) = walk(gateway, name, chain, &asked).await;
    asked.settle(gateway, name, &known);
    (known, at)
}

/// What the client pays with; `None`: nothing, because something is held of the crate.
async fn credit(gateway: &Gateway, client: ClientKey, name: &CrateName) -> Result<Option<Credit>> {
    if is_remembered(gateway, name) {
        return Ok(None);
    }
    match gateway.credits.at_once(client) {
        Some(credit) => Ok(Some(credit)),
        None if is_kept(gateway, name).await => Ok(None),
        None => gateway.credits.wait(client).await.map(Some),
    }
}

impl Asked {
    /// Says what a name costs by what came of it. One that another replica has just hosted was not
    /// asked for.
    fn settle(&self, gateway: &Gateway, name: &CrateName, known: &CachedLookup) {
        let Some(credit) = &self.credit else { return };
        let nowhere = || matches!(gateway.catalog.krate(&name.key()), Ok(None));
        credit.settle(known.is_absent() && nowhere());
    }
}

async fn walk(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    chain: usize,
    asked: &Asked,
) -> (CachedLookup, usize) {
    let mut read_from = None;
    for at in 0..chain {
        let known = at_upstream(gateway, name, at, asked).await;
        if !known.is_absent() {
            return (known, at);
        }
        read_from = read_from.max(known.read_from);
    }
    (CachedLookup { read_from, ..CachedLookup::absent(None) }, chain)
}

async fn at_upstream(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    at: usize,
    asked: &Asked,
) -> CachedLookup {
    let (place, force) = (Place::Upstream(at), asked.force);
    let recalled = gateway.index.recall(&name.key(), name, place);
    if let Some(known) = recalled.filter(|_| !force) {
        return known;
    }
    match fly(gateway, name, at, asked).await {
        // It waited among those of the client that began it, where this one may have places left.
        (CachedLookup { answer: Err(error), .. }, Beginner::Another)
            if error.kind == Kind::Unavailable =>
        {
            fly(gateway, name, at, asked).await.0
        }
        (known, _) => known,
    }
}

/// Who began what was waited for.
enum Beginner {
    This,
    Another,
}

/// Asks an upstream, or waits for what is under way.
async fn fly(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    at: usize,
    asked: &Asked,
) -> (CachedLookup, Beginner) {
    let place = Place::Upstream(at);
    let flight = Flight { name: name.clone(), place, generation: None, force: asked.force };
    let (owned, krate, asked) = (Arc::clone(gateway), name.clone(), asked.clone());
    let (client, mut beginner) = (asked.client, Beginner::Another);
    // It may outlive the request: then this settles what the name costs.
    let work = || {
        beginner = Beginner::This;
        async move {
            let known = ask(&owned, &krate, at, &asked).await;
            asked.settle(&owned, &krate, &known);
            known
        }
    };
    match gateway.index.flights.join_for(client, flight, work).await {
        Ok(result) => (landed(result), beginner),
        Err(crowded) => (unbegun(gateway, name, place, crowded), Beginner::This),
    }
}

/// Reads one upstream through the store, and takes note of what came of it.
async fn ask(gateway: &Gateway, name: &CrateName, at: usize, asked: &Asked) -> CachedLookup {
    let Some(upstream) = gateway.upstreams.get(at) else { return CachedLookup::absent(None) };
    let (key, place) = (name.key(), Place::Upstream(at));
    let corrections = gateway.catalog.corrections();
    let former = gateway.index.remember(&key, name, place);
    if let Err(error) = admit(gateway, former.as_ref()).await {
        let Some(stale) = remembered_file(gateway, name, place) else {
            return CachedLookup::trouble(error, Duration::ZERO);
        };
        // So that not each who asks for it waits again.
        let stale = CachedLookup { until: Instant::now().checked_add(NO_MEMORY_REST), ..stale };
        let now = || gateway.generation(&key);
        gateway.index.put(&key, None, (name, place), stale.clone(), now);
        return stale;
    }
    let reader = ReadThrough {
        at,
        index: &gateway.index,
        upstream,
        store: &gateway.mirror,
        write_behind: &gateway.write_behind,
        pins: &gateway.crates.pins,
        catalog: &gateway.catalog,
        metrics: &gateway.metrics,
        lines: &gateway.mirror_lines,
        own: Arc::new(own_registries(gateway, upstream)),
    };
    let remembered = former.as_ref().and_then(Rendered::remembered);
    let turn = |held| Turn { client: asked.client, held };
    let known = match reader.begin(asked.client, name, remembered, asked.force).await {
        Begun::Known(known) => known,
        Begun::Ask(question) if question.is_first() => {
            match unheard_of(gateway, asked.client, &key).await {
                Ok(read_from) => {
                    let known = reader.ask(name, turn(false), *question).await;
                    CachedLookup { read_from: Some(read_from), ..known }
                }
                Err(answer) => return *answer,
            }
        }
        Begun::Ask(question) => reader.ask(name, turn(true), *question).await,
    };
    match &known.answer {
        Ok(Some(file)) if gateway.policy_store.is_silent() => gateway.mirrored_names.note(at, file),
        Ok(Some(file)) => gateway.mirrored_names.note_unjudged(at, name, file),
        Ok(None) => gateway.mirrored_names.forget(at, name),
        Err(_) => {}
    }
    // Trouble with an early question says nothing against an answer that is good for longer.
    let unanswered = matches!(known.outcome, Outcome::Stale | Outcome::Error);
    if !(unanswered && former.is_some_and(|former| former.is_current(Instant::now()))) {
        let now = || gateway.generation(&key);
        gateway.index.put(&key, None, (name, place), known.clone(), now);
    }
    if gateway.catalog.corrections() != corrections {
        gateway.index.forget(&key); // it may be judged by a pin that was corrected meanwhile
    }
    known
}

/// A name of which nothing is held goes to an upstream only after a read of the journal, begun by
/// now, that does not have it: another replica may just have published it. Says when that began.
///
/// # Errors
/// The answer without asking: the name is hosted, or that cannot be told.
async fn unheard_of(
    gateway: &Gateway,
    client: ClientKey,
    key: &NameKey,
) -> Result<Instant, Box<CachedLookup>> {
    let began = Instant::now();
    let unread = |error: Error| {
        let message = "whether this registry hosts that name cannot be told now, so it was not \
                       looked for elsewhere; try again in a few seconds";
        Box::new(CachedLookup::trouble(Error::unavailable(message).because(error), Duration::ZERO))
    };
    gateway.journal.catch_up_for(gateway.reader(client)).await.map_err(unread)?;
    match gateway.catalog.krate(key) {
        Ok(None) => Ok(began),
        Ok(Some(_)) => Err(Box::new(CachedLookup::absent(None))),
        Err(error) => Err(Box::new(CachedLookup::trouble(error, Duration::ZERO))),
    }
}

/// The index URLs that become null in an upstream's lines.
fn own_registries(gateway: &Gateway, upstream: &Upstream) -> OwnRegistries {
    if upstream.config().identity == Identity::CratesIo {
        return OwnRegistries::default();
    }
    let aliases = gateway.config.server.aliases.iter().map(|alias| alias.as_str());
    let ours = std::iter::once(gateway.url.as_str()).chain(aliases);
    let ours = ours.map(|url| format!("{}/index/", url.trim_end_matches('/')));
    let all: Vec<String> = ours.chain([upstream.config().index.to_string()]).collect();
    OwnRegistries::new(all.iter().map(String::as_str))
}

/// Asks the upstreams now, whatever is fresh. Says what was found.
///
/// # Errors
/// When the name is hosted or reserved here, or an upstream did not answer.
pub async fn refresh(gateway: &Arc<Gateway>, name: &CrateName) -> Result<String> {
    let key = name.key();
    if gateway.catalog.krate(&key)?.is_some() || gateway.config.is_reserved(&key) {
        return Err(Error::invalid(format_args!(
            "`{name}` is hosted or reserved here: its name is never asked of an upstream"
        )));
    }
    let asked = Asked { client: ClientKey::OWN, credit: None, force: true };
    let (known, at) = walk(gateway, &lowered(name), gateway.upstreams.len(), &asked).await;
    let upstream = gateway.upstreams.get(at).map_or("", |upstream| upstream.name());
    if known.outcome == Outcome::Stale {
        return Err(Error::unavailable(format_args!(
            "the upstream `{upstream}` did not answer, so `{name}` stays as it was last seen; the \
             log knows why: try again later"
        )));
    }
    Ok(match known.answer? {
        None => format!("no upstream has a crate `{name}`"),
        Some(file) => {
            let (count, news) = (file.versions().count(), known.outcome);
            let noun = if count == 1 { "version" } else { "versions" };
            let news = if news == Outcome::Revalidated { "unchanged" } else { "new" };
            format!("`{name}` has {count} {noun} at upstream `{upstream}` ({news})")
        }
    })
}

/// Forgets the mirrored copies of a crate (its index files, and the bytes of one or all
/// versions); pins stay.
///
/// # Errors
/// Absent, when only a version of the same number with other build metadata is there; when the
/// store does not answer.
pub async fn purge(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<String> {
    let name = lowered(name);
    let mut sums = BTreeSet::new();
    for upstream in &gateway.upstreams {
        sums.extend(mirrored_checksums(gateway, upstream, &name, version).await?);
    }
    if let Some(version) = version.filter(|_| sums.is_empty()) {
        refuse_for_another(gateway, &name, version).await?;
    }
    for sum in &sums {
        gateway.blobs.delete(Origin::Mirrored, sum).await.map_err(Error::store)?;
        gateway.crates.forget(sum);
    }
    // Last, because they tell the checksums: a purge that fails half-way can be repeated.
    for (at, upstream) in gateway.upstreams.iter().enumerate() {
        let _turn = gateway.write_behind.turn((upstream.name(), &name)).await;
        gateway.mirror.delete_index(upstream.name(), &name).await?;
        if version.is_none() {
            gateway.mirrored_names.forget(at, &name);
        }
    }
    gateway.index.forget(&name.key());
    Ok(format!("forgot the index files of `{name}` and {} crate files at the most", sums.len()))
}

/// A version is meant exactly: nothing is purged for one that only resembles what is there.
async fn refuse_for_another(
    gateway: &Gateway,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<()> {
    for upstream in &gateway.upstreams {
        let mut known = gateway.mirror.pinned_versions(upstream.name(), name).await?;
        if let Some(kept) = gateway.mirror.index(upstream.name(), name).await? {
            let name = name.clone();
            let read = move || mirrored::read(&kept.body, &name, &OwnRegistries::default());
            let read = gateway.index.renderers.make(read).await?;
            known.extend(read.into_iter().flat_map(|read| read.versions).map(|v| v.version));
        }
        if let Some(other) = known.iter().find(|other| other.same_number(version)) {
            return Err(Error::absent(no_such_version(name, version, Some(other))));
        }
    }
    Ok(())
}

/// The checksums under which bytes of a crate may be kept: those of its copy, and those of its
/// pins, for versions that the upstream has removed.
async fn mirrored_checksums(
    gateway: &Gateway,
    upstream: &Upstream,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<Vec<Checksum>> {
    let wanted = |other: &CrateVersion| version.is_none_or(|version| version == other);
    let mut sums = Vec::new();
    if let Some(kept) = gateway.mirror.index(upstream.name(), name).await? {
        let name = name.clone();
        let read = move || mirrored::read(&kept.body, &name, &OwnRegistries::default());
        let listed = gateway.index.renderers.make(read).await?;
        let listed = listed.map(|read| read.versions).unwrap_or_default();
        sums.extend(listed.iter().filter(|v| wanted(&v.version)).map(|v| v.cksum));
    }
    for pinned in gateway.mirror.pinned_versions(upstream.name(), name).await? {
        if wanted(&pinned) {
            let pin = gateway.mirror.pinned(upstream.name(), name, &pinned).await?;
            sums.extend(pin.map(|pin| pin.cksum));
        }
    }
    Ok(sums)
}

/// Which upstream has a crate of any spelling of this name: `Some((upstream, spelling))`, `None`
/// when every upstream definitely answered not-found for every spelling. Always asks.
///
/// # Errors
/// Unavailable when one did not answer and none has it; invalid when there are too many
/// spellings to ask for.
pub async fn taken_upstream(
    gateway: &Arc<Gateway>,
    name: &CrateName,
) -> Result<Option<(String, CrateName)>> {
    taken(&gateway.index.renderers, &gateway.upstreams, name).await
}

async fn taken(
    renderers: &RenderPool,
    upstreams: &[Arc<Upstream>],
    name: &CrateName,
) -> Result<Option<(String, CrateName)>> {
    if upstreams.is_empty() {
        return Ok(None);
    }
    let spellings = name.spellings(MAX_SEPARATORS).ok_or_else(|| {
        Error::invalid(format_args!(
            "`{name}` has more than {MAX_SEPARATORS} `-` and `_`, too many for every spelling to \
             be asked of the upstreams: reserve the name in the configuration (`[names] reserved`)"
        ))
    })?;
    let questions: Vec<_> = upstreams
        .iter()
        .flat_map(|upstream| {
            spellings.iter().map(move |spelling| has(renderers, upstream, spelling))
        })
        .collect();
    let mut answers = stream::iter(questions).buffer_unordered(SPELLINGS);
    let mut trouble = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Some(taken)) => return Ok(Some(taken)),
            Ok(None) => {}
            Err(unknown) => trouble = Some(unknown),
        }
    }
    match trouble {
        None => Ok(None),
        Some(trouble) => Err(Error::unavailable(format_args!(
            "the upstream registry `{}` did not say whether it has a crate `{name}`, so its first \
             publish must wait: try again shortly, or reserve the name in the configuration",
            trouble.upstream
        ))
        .because(trouble)),
    }
}

/// Whether an upstream has a crate of exactly this spelling, with its own spelling of it.
async fn has(
    renderers: &RenderPool,
    upstream: &Arc<Upstream>,
    name: &CrateName,
) -> Result<Option<(String, CrateName)>, UpstreamError> {
    let Answer::Found { body, .. } =
        upstream.index_file(Turn::OWN, name, None, &mut |_| true).await?
    else {
        return Ok(None);
    };
    let (asked, wanted) = (Arc::clone(upstream), name.clone());
    let read = move || {
        let nonsense = |why| UpstreamError::new(asked.name(), UpstreamErrorKind::Nonsense, why);
        let bytes = body.unpack().map_err(|e| asked.misfit(&e))?;
        let read = mirrored::read(&bytes, &wanted, &OwnRegistries::default());
        let first = read.map_err(|e| nonsense(e.to_string()))?.versions.into_iter().next();
        let spelled = first.map_or(wanted, |version| version.name);
        Ok(Some((asked.name().to_owned(), spelled)))
    };
    let crashed = |e: Error| {
        Err(UpstreamError::new(
            upstream.name(),
            UpstreamErrorKind::Nonsense,
            format!("its answer: {}", e.chain()),
        ))
    };
    renderers.make(read).await.unwrap_or_else(crashed)
}

/// Every mirrored crate name in the store that was ever asked for and found, in lower case.
///
/// # Errors
/// When the store does not answer.
pub async fn names(gateway: &Arc<Gateway>) -> Result<Vec<CrateName>> {
    let mut names = BTreeSet::new();
    for upstream in &gateway.upstreams {
        names.extend(gateway.mirror.names(upstream.name()).await?);
    }
    Ok(names.into_iter().collect())
}

/// A name as index paths spell it.
pub(super) fn lowered(name: &CrateName) -> CrateName {
    if !name.as_str().bytes().any(|b| b.is_ascii_uppercase()) {
        return name.clone();
    }
    name.lower().parse().unwrap_or_else(|_| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::error::Kind;
    use cratehouse_mirror::upstream::test_util::{Server, config, reply, upstream};

    async fn server(status: u16, has: &'static str) -> (Server, Arc<Upstream>) {
        let line = format!(
            "{{\"name\":\"{}\",\"vers\":\"1.0.0\",\"cksum\":\"{}\"}}\n",
            has.to_uppercase(),
            Checksum::of(b"a")
        );
        let server = Server::start(move |path, _| match path.ends_with(has) {
            true => reply(200, &[], line.clone()),
            false => reply(status, &[], ""),
        })
        .await;
        let upstream = Arc::new(upstream(&config(&server.url)));
        (server, upstream)
    }

    #[tokio::test]
    async fn every_spelling_is_asked_of_every_upstream() {
        let (one, first) = server(404, "/none").await;
        let (_two, second) = server(404, "foo_bar-x").await;
        let name = "Foo-bar_x".parse().unwrap();
        assert_eq!(
            taken(&RenderPool::default(), std::slice::from_ref(&first), &name).await.unwrap(),
            None
        );
        let mut paths = one.paths();
        paths.sort();
        assert_eq!(
            paths,
            ["foo-bar-x", "foo-bar_x", "foo_bar-x", "foo_bar_x"]
                .map(|spelling| format!("/index/fo/{}/{spelling}", &spelling[2..4]))
        );
        let found = taken(&RenderPool::default(), &[first, second], &name).await.unwrap();
        assert_eq!(found, Some(("up".to_owned(), "FOO_BAR-X".parse().unwrap())));
    }

    #[tokio::test]
    async fn a_name_is_not_free_before_every_upstream_has_said_so() {
        let (_one, first) = server(404, "/none").await;
        let (_two, second) = server(500, "/none").await;
        let unknown = taken(&RenderPool::default(), &[first, second], &"foo".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(unknown.kind, Kind::Unavailable);
        assert_eq!(
            taken(&RenderPool::default(), &[], &"foo".parse().unwrap()).await.unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn a_name_with_too_many_spellings_must_be_reserved() {
        let (one, first) = server(404, "/none").await;
        let refused =
            taken(&RenderPool::default(), &[first], &"a-b-c-d-e-f-g-h-i-j".parse().unwrap())
                .await
                .unwrap_err();
        assert_eq!(refused.kind, Kind::Invalid);
        assert!(refused.message.contains("reserve"));
        assert!(one.paths().is_empty());
    }
}
