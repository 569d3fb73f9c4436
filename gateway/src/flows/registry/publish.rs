//! Path 3, publish: scope → JSON → permission → archive → policy → name → dependencies → blob → journal
//! → answer. What comes before the archive stands in `publish/admission.rs`: no byte of an archive is
//! read for one who may not publish it.
//!
//! The blob is put before the entry, so that an index line which anyone can see has its bytes;
//! a publish that fails in between leaves only bytes that nothing names.

mod admission;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

pub use self::admission::{frame_bytes, head_bytes, named};
use crate::config::Limits;
use crate::flows::access::reader::Reader;
use crate::flows::access::throttle::Publishes;
use crate::flows::access::visibility::Visibility;
use crate::flows::registry::dependencies::Dependencies;
use crate::flows::registry::hosting::Hosting;
use crate::flows::registry::publish_rules::PublishRules;
use crate::flows::turns::ClientParsers;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_journal::authorize::taken;
use cratehouse_journal::change;
use cratehouse_journal::commands::{self, ActorCommand, Command, CommandActor, must_put_again};
use cratehouse_journal::principal::Principal;
use cratehouse_journal::publish::VersionWriter;
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::chain::Chain;
use cratehouse_package::manifest::{Draft, ManifestLimits};
use cratehouse_package::name::CrateName;
use cratehouse_package::publish_frame::{self, Named, UploadLimits};
use cratehouse_package::published::Published;
use cratehouse_package::tarball::{self, Contents, TarballLimits};

/// All that comes before the journal takes this long at the most: cargo waits 30 s in all.
const PREPARE: Duration = Duration::from_secs(14);
/// The largest Cargo.toml, in bytes.
const MANIFEST_BYTES: u64 = 1024 * 1024;

/// What cargo prints after a publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishAnswer {
    /// `warnings.other`: whole sentences.
    pub warnings: Vec<String>,
}

/// A publish request that was found good in itself.
struct Parcel {
    crate_file: Bytes,
    cksum: Checksum,
    draft: Draft,
    /// What is worth knowing of its files.
    warnings: Vec<String>,
}

/// What publishes crates.
#[derive(Debug)]
pub struct Publisher {
    /// Our own names, and the journal.
    pub hosting: Arc<Hosting>,
    /// What brings versions in.
    pub versions: VersionWriter,
    /// What bounds a publish.
    pub limits: Limits,
    /// Which crates exist for whom.
    pub visibility: Arc<Visibility>,
    /// How often somebody publishes.
    pub rate: Publishes,
    /// What reads it.
    pub parsers: Arc<ClientParsers>,
    /// The policy's word on it.
    pub rules: PublishRules,
    /// What finds its dependencies.
    pub dependencies: Dependencies,
    /// The upstreams that may have its name.
    pub chain: Arc<Chain>,
    /// Where publishes count.
    pub metrics: Metrics,
}

impl Publisher {
    /// Whether this name and version may be published with this token, as far as this replica knows. What
    /// a replica that lags cannot know is refused only after a read of the journal.
    ///
    /// # Errors
    /// Those of the judge; [`cratehouse_core::error::Kind::Throttled`], when they have published too often.
    pub async fn admit(&self, who: &Principal, named: &Named) -> Result<()> {
        let by = CommandActor::Principal(who.clone());
        let judge = || {
            let view = self.hosting.catalog.view()?;
            commands::admit_publish(&view, &by, &named.name, &named.version, Timestamp::now())
        };
        change::early(&self.hosting.journal, judge).await?;
        self.rate.admit(who.user) // what is refused anyway does not count
    }

    /// Counts a publish that ended before its body was whole.
    pub fn count_refusal(&self, error: &Error) {
        self.metrics.publishes.with_label_values(&[admission::label(error)]).inc();
    }

    /// Publishes what the body of one `PUT /crates/new` holds.
    ///
    /// # Errors
    /// What crates.io refuses for correctness is refused here; unavailable, when an
    /// upstream or the store had to be asked and did not answer.
    pub async fn publish(
        &self,
        (who, client): (&Arc<Principal>, ClientKey),
        body: Bytes,
    ) -> Result<PublishAnswer> {
        let outcome = self.attempt((who, client), body).await;
        let label = match &outcome {
            Ok(_) => "published",
            Err(error) => admission::label(error),
        };
        self.metrics.publishes.with_label_values(&[label]).inc();
        outcome
    }

    async fn attempt(
        &self,
        (who, client): (&Arc<Principal>, ClientKey),
        body: Bytes,
    ) -> Result<PublishAnswer> {
        let too_slow = |_| {
            Error::unavailable(
                "this publish could not be checked in time; nothing was changed: try again",
            )
        };
        let preparing = async {
            let parcel = self.unpack(client, body).await?;
            self.prepare((who, client), parcel).await
        };
        let prepared = tokio::time::timeout(deadline::at_most(PREPARE), preparing)
            .await
            .map_err(too_slow)??;
        let (command, crate_file, answer) = prepared;
        self.versions.append(command, crate_file).await?;
        Ok(answer)
    }

    /// Everything up to the journal. It is judged twice: here, so that what will be refused costs
    /// neither an upstream request nor a blob, and again, for good, by the writer.
    async fn prepare(
        &self,
        (who, client): (&Arc<Principal>, ClientKey),
        parcel: Parcel,
    ) -> Result<(ActorCommand, Bytes, PublishAnswer)> {
        let Parcel { crate_file, cksum, draft, warnings } = parcel;
        let name = draft.name.clone();
        let by = CommandActor::Principal(Principal::clone(who));
        let size = crate_file.len() as u64;
        let (line, metadata) = draft.clone().into_line(cksum, None, |_| Ok::<_, Error>(None))?;
        let published = Box::new(Published { line, size, metadata });
        let put_at = self.hosting.catalog.head()?.seq;
        let bounds = self.limits.index;
        let first_look = Command::Publish { published: published.clone(), put_at, bounds };
        self.judge_early(&ActorCommand { by: by.clone(), command: first_look }).await?;
        self.rules.to_publish(&published, draft.readme)?;

        let mut answer = PublishAnswer { warnings };
        answer.warnings.extend(self.rules.to_version(&published).await?);
        if self.hosting.catalog.krate(&name.key())?.is_none() {
            let reader = Reader::Client(client, Some(Arc::clone(who)));
            if !self.visibility.exists_for(&reader, &name)? {
                return Err(taken(&name)); // mirrored, and restricted
            }
            let (visibility, asks) = (Arc::clone(&self.visibility), reader);
            let exists = move |name: &CrateName| visibility.exists_for(&asks, name);
            self.rules.to_name(&name, exists).await?;
            answer.warnings.extend(self.claim(&name).await?);
        }
        let reader = Reader::Client(client, Some(Arc::clone(who)));
        let registries = self.dependencies.resolve(&reader, &draft).await?;
        answer.warnings.extend(self.dependencies.exposed(&draft)?.iter().map(|dep| {
            format!(
                "`{name}` is open and depends on `{dep}`, which is restricted: all who read `{name}` see that name, and \
                 only its readers can build it"
            )
        }));
        let mut registries = registries.into_iter();
        let (line, metadata) =
            draft.into_line(cksum, None, |_| Ok::<_, Error>(registries.next().flatten()))?;
        // It was shorter before it was known where the dependencies are from.
        bounds.line(&line).map_err(|why| Error::new(Kind::TooLarge, why.to_string()))?;
        let published = Box::new(Published { line, size, metadata });
        let command = self.versions.put(by, published, crate_file.clone()).await?;
        Ok((command, crate_file, answer))
    }

    /// Frame, archive and manifest: computation, so off the async threads, and no more of it at one time
    /// than there are cores.
    async fn unpack(&self, client: ClientKey, body: Bytes) -> Result<Parcel> {
        let limits = self.limits.clone();
        self.parsers.publishes.parse(client, move || open_parcel(body, &limits)).await?
    }

    async fn judge_early(&self, command: &ActorCommand) -> Result<()> {
        // Off the async threads: of a crate with many versions all are looked at.
        let judge = || {
            let command = command.clone();
            self.hosting
                .catalog
                .scan(move |view| Ok(commands::judge(view, &command, Timestamp::now())))
        };
        match judge().await? {
            Ok(_) => Ok(()),
            Err(refusal) if must_put_again(&refusal.error) => Ok(()), // they are not put yet
            Err(refusal) if refusal.lag_could_explain => {
                self.hosting.journal.catch_up().await?;
                judge().await?.map(drop).map_err(|refusal| refusal.error)
            }
            Err(refusal) => Err(refusal.error),
        }
    }

    /// A name is taken for the first time: it must be free in every upstream, in every spelling,
    /// unless the configuration reserves it for us. Gives the warnings for cargo to print.
    async fn claim(&self, name: &CrateName) -> Result<Vec<String>> {
        if self.hosting.is_reserved(&name.key()) || self.chain.is_empty() {
            return Ok(Vec::new());
        }
        // Another replica may have just published it: then it is no upstream's business.
        self.hosting.journal.catch_up().await?;
        if self.hosting.catalog.krate(&name.key())?.is_some() {
            return Ok(Vec::new());
        }
        match self.chain.taken(name).await? {
            Some((upstream, spelling)) => Err(Error::invalid(format!(
                "the upstream `{upstream}` has a crate `{spelling}`: publish `{name}` under another name, or have an administrator reserve it for this registry (`[names] reserved`), which hides the upstream's"
            ))),
            None => Ok(vec![format!(
                "the name `{name}` is not reserved for this registry: it was asked for upstream, and a stranger may take it there. An administrator can reserve it, or a prefix such as `{}*`, under `[names] reserved`",
                prefix(name)
            )]),
        }
    }
}

fn open_parcel(body: Bytes, limits: &Limits) -> Result<Parcel> {
    let tarball_limits = TarballLimits {
        unpacked_bytes: limits.unpacked_bytes,
        entries: limits.tar_entries,
        manifest_bytes: MANIFEST_BYTES,
    };
    let manifest_limits =
        ManifestLimits { dependencies: limits.dependencies, features: limits.features };
    let upload =
        publish_frame::parse(body, &upload_limits(limits)).map_err(|e| admission::refused(&e))?;
    let (name, version) = (&upload.name, &upload.version);
    let Contents { manifest, warnings } =
        tarball::read(&upload.crate_file, name, version, &tarball_limits)
            .map_err(Error::invalid)?;
    let draft = Draft::parse(&manifest, name, version, &manifest_limits).map_err(Error::invalid)?;
    let cksum = Checksum::of(&upload.crate_file);
    Ok(Parcel { crate_file: upload.crate_file, cksum, draft, warnings })
}

fn upload_limits(limits: &Limits) -> UploadLimits {
    UploadLimits { json_bytes: limits.publish_json_bytes, crate_bytes: limits.publish_crate_bytes }
}

/// The part up to the first separator, as an example of a prefix.
fn prefix(name: &CrateName) -> &str {
    let name = name.as_str();
    match name.find(['-', '_']) {
        Some(at) => name.get(..=at).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use cratehouse_journal::writer::{ANSWER_GRACE, CATCH_UP};

    /// Cargo's patience.
    const CARGO: Duration = Duration::from_secs(30);

    /// The rest of cargo's 30 s is for the network.
    #[tokio::test(start_paused = true)]
    async fn a_publish_is_answered_while_cargo_still_waits_whatever_it_waited_for() {
        // For a place, for who it is, for room for the body, for who owns the crate, and then these.
        let ten = Duration::from_secs(10);
        let append = Limits::default().append + ANSWER_GRACE;
        let waits = [ten, CATCH_UP, ten, CATCH_UP, PREPARE, append];
        assert!(waits.iter().sum::<Duration>() > CARGO, "or this bounds nothing");
        let began = Instant::now();
        deadline::of_request(began, async {
            for wait in waits {
                sleep(deadline::at_most(wait)).await;
            }
        })
        .await;
        assert!(began.elapsed() < CARGO - Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
