//! The store, the journal's format and the mirror.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::Registry;
use crate::commands::remote::path;
use crate::flows::registry::clashes::{self, Clash};
use crate::flows::registry::pins::{self, Former, Listed};
use crate::flows::registry::prefetch::{Told, Wanted};
use crate::flows::store::sweeping::{Outcome, Sweep, sweep};
use crate::flows::store::upkeep::{Enabled, Levels};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Result;
use cratehouse_journal::checkpoint_store::FOLDER;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::{format, remove};
use cratehouse_mirror::index::copies;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::format_level::Level;

const BY: CommandActor = CommandActor::Operator;

const NOTHING: Option<&()> = None;

#[derive(Deserialize)]
struct Checkpoint {
    checkpoint: String,
}

/// What cargo would print.
#[derive(Deserialize)]
struct Message {
    msg: String,
}

impl Registry<'_> {
    pub(in crate::commands) async fn remove(
        self,
        name: &CrateName,
        version: &CrateVersion,
        reason: &str,
    ) -> Result<()> {
        match self.place() {
            Ok(gateway) => remove::remove(&gateway.journal, BY, name, version, reason).await,
            Err(server) => {
                let path = path(&["crates", name.as_str(), &version.to_string()], &[])?;
                let body = json!({ "reason": reason });
                let done =
                    server.send::<BTreeMap<String, IgnoredAny>>(Method::DELETE, &path, Some(&body));
                done.await.map(drop)
            }
        }
    }

    /// The sentence that tells of it.
    pub(in crate::commands) async fn refresh(self, name: &CrateName) -> Result<String> {
        match self.place() {
            Ok(gateway) => copies::refresh(&gateway.mirror.chain, name).await,
            Err(server) => {
                let path = path(&["mirror", name.as_str(), "refresh"], &[])?;
                server.work::<Message>(Method::POST, &path, NOTHING).await.map(|told| told.msg)
            }
        }
    }

    /// Likewise.
    pub(in crate::commands) async fn purge(
        self,
        name: &CrateName,
        version: Option<&CrateVersion>,
    ) -> Result<String> {
        match self.place() {
            Ok(gateway) => {
                let mirror = &gateway.mirror;
                copies::purge(&mirror.chain, &mirror.files, name, version).await
            }
            Err(server) => {
                let query = [("version", version.map(ToString::to_string))];
                let path = path(&["mirror", name.as_str(), "purge"], &query)?;
                server.work::<Message>(Method::POST, &path, NOTHING).await.map(|told| told.msg)
            }
        }
    }

    pub(in crate::commands) async fn clashes(self) -> Result<Vec<Clash>> {
        match self.place() {
            Ok(gateway) => clashes::names(&gateway.hosting, &gateway.mirror.chain).await,
            Err(server) => {
                server.work(Method::GET, &path(&["names", "audit"], &[])?, NOTHING).await
            }
        }
    }

    /// `progress` is told nothing by a server.
    pub(in crate::commands) async fn sweep(
        self,
        what: &Sweep,
        progress: impl Fn(u64, u64),
    ) -> Result<Outcome> {
        match self.place() {
            Ok(gateway) => {
                let tick = |done, total| {
                    progress(done, total);
                    ControlFlow::Continue(())
                };
                sweep(&gateway.upkeep.objects, &gateway.journal, &BY, what, tick).await
            }
            Err(server) => server.work(Method::POST, &path(&["gc"], &[])?, Some(what)).await,
        }
    }

    /// Likewise.
    pub(in crate::commands) async fn prefetch(
        self,
        wanted: &Wanted,
        progress: impl Fn(usize, usize),
    ) -> Result<Told> {
        match self.place() {
            Ok(gateway) => gateway.prefetcher.prefetch(wanted, progress).await.map(Told::from),
            Err(server) => {
                let locks = wanted.locks.iter();
                let locks = locks.map(|(name, text)| json!({ "name": name, "text": text }));
                let locks: Vec<_> = locks.collect();
                let crates: Vec<_> = wanted.crates.iter().map(ToString::to_string).collect();
                let body = json!({ "locks": locks, "crates": crates });
                server.work(Method::POST, &path(&["prefetch"], &[])?, Some(&body)).await
            }
        }
    }

    pub(in crate::commands) async fn pins(
        self,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<Vec<Listed>> {
        match self.place() {
            Ok(gateway) => {
                let parts = (&gateway.mirror, &*gateway.hosting);
                let pins = pins::of(parts, name, version).await?;
                Ok(pins.into_iter().map(Listed::from).collect())
            }
            Err(server) => {
                server.get(&path(&["pins", name.as_str(), &version.to_string()], &[])?).await
            }
        }
    }

    pub(in crate::commands) async fn correct_pin(
        self,
        (name, version): (&CrateName, &CrateVersion),
        upstream: Option<&str>,
        checksum: Checksum,
        reason: &str,
    ) -> Result<Former> {
        match self.place() {
            Ok(gateway) => {
                let parts = (&gateway.mirror, &*gateway.hosting);
                let of = (name, version);
                let was = pins::correct(parts, BY, of, upstream, checksum, reason).await?;
                Ok(Former::from(was))
            }
            Err(server) => {
                let path = path(&["pins", name.as_str(), &version.to_string()], &[])?;
                let body = json!({ "checksum": checksum, "reason": reason, "upstream": upstream });
                server.send(Method::PUT, &path, Some(&body)).await
            }
        }
    }

    /// The path in the store of the one that was written.
    pub(in crate::commands) async fn write_checkpoint(self) -> Result<String> {
        match self {
            Self::Store(running) => {
                running.checkpointer.write().await.map(|name| format!("{FOLDER}/{name}"))
            }
            Self::Server(server) => {
                let path = path(&["checkpoints"], &[])?;
                let written: Checkpoint = server.work(Method::POST, &path, NOTHING).await?;
                Ok(written.checkpoint)
            }
        }
    }

    pub(in crate::commands) async fn levels(self) -> Result<Levels> {
        match self.place() {
            Ok(gateway) => {
                Ok(Levels { enabled: format::enabled(&gateway.journal)?, known: Level::KNOWN })
            }
            Err(server) => server.get(&path(&["format"], &[])?).await,
        }
    }

    /// Enables a level, for ever, and writes a checkpoint where those from before are not believed any more.
    pub(in crate::commands) async fn enable_level(self, level: Level) -> Result<Enabled> {
        match self {
            Self::Store(running) => {
                let new = format::enable(&running.gateway.journal, BY, level).await?;
                let is_named = running.gateway.catalog.head()?.level >= Level::NAMED_CHECKPOINTS;
                let checkpoint = match is_named {
                    true => Some(self.write_checkpoint().await?),
                    false => None,
                };
                Ok(Enabled { new, checkpoint })
            }
            Self::Server(server) => {
                let path = path(&["format"], &[])?;
                server.work(Method::PUT, &path, Some(&json!({ "level": level }))).await
            }
        }
    }
}
