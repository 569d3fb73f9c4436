//! The gateway: every component that a request may need, behind one `Arc`.

use std::sync::Arc;

use crate::config::Config;
use crate::flows::crate_cache::CrateCache;
use crate::flows::crate_uses::Uses;
use crate::flows::credit::Credits;
use crate::flows::download_log::DownloadLog;
use crate::flows::index_cache::IndexCache;
use crate::flows::license_facts::Readers;
use crate::flows::mirror_lines::MirrorLines;
use crate::flows::parsing::ClientParsers;
use crate::flows::policy_store::PolicyStore;
use crate::flows::search::known::MirroredNames;
use crate::flows::token_cache::TokenCache;
use crate::flows::views::Views;
use crate::logging::requests::RequestLines;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_core::fair_queue::FairQueues;
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::traces::Traces;
use cratehouse_core::write_behind::WriteBehind;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::writer::{JournalHandle, Waiter};
use cratehouse_mirror::store::MirrorStore;
use cratehouse_mirror::upstream::Upstream;
use cratehouse_package::name::NameKey;
use cratehouse_storage::blobs::Blobs;

/// What [`Gateway::responses`] counts in, in bytes.
pub const RESPONSE_STEP_BYTES: usize = 1 << 10;

/// Everything that a request may need. Components are concrete types.
#[derive(Debug)]
pub struct Gateway {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Our public URL without a trailing slash, e.g. `https://crates.acme.example`.
    pub url: String,
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// How many lines requests leave in the log.
    pub lines: RequestLines,
    /// Where spans are told; `None`: nowhere.
    pub traces: Option<Traces>,
    /// The journal, applied.
    pub catalog: Catalog,
    /// Who holds the tokens that are in use.
    pub holders: TokenCache,
    /// The way into the journal.
    pub journal: JournalHandle,
    /// Crate files in the store.
    pub blobs: Blobs,
    /// Mirrored index files and pins in the store.
    pub mirror: MirrorStore,
    /// What the store gets after the answer was given.
    pub write_behind: WriteBehind,
    /// What each view of the index shows.
    pub views: Views,
    /// The chain of upstreams, in order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What of their doings is logged.
    pub mirror_lines: MirrorLines,
    /// What clients may ask them for in vain.
    pub credits: Credits,
    /// What may enter.
    pub policy_store: Arc<PolicyStore>,
    /// Who reads licences for it.
    pub licenses: Readers,
    /// Permits to parse what clients send.
    pub parsers: ClientParsers,
    /// Rendered index files in memory.
    pub index: IndexCache,
    /// Crate files in memory.
    pub crates: CrateCache,
    /// Which mirrored crate files were served, for eviction.
    pub uses: Uses,
    /// Who pulled what, until it is written down.
    pub pulls: DownloadLog,
    /// Requests that memory does not answer at once.
    pub in_flight: FairShares,
    /// Memory for large responses that are made for one request, in KiB.
    pub responses: FairShares,
    /// Turns for searches, checks and long answers.
    pub turns: FairQueues,
    /// What search knows of the mirror.
    pub mirrored_names: MirroredNames,
}

impl Gateway {
    /// The journal entry that last touched a hosted crate; `None`: there is no such crate.
    ///
    /// # Errors
    /// When the catalog fails.
    pub fn generation(&self, key: &NameKey) -> Result<Option<u64>> {
        Ok(self.catalog.krate(key)?.map(|row| row.changed))
    }

    /// For whom a read of the journal is waited for by a flow that hears of no token: where reads need
    /// one, it was looked at before.
    pub fn reader(&self, client: ClientKey) -> Waiter {
        match self.config.auth_required || client.is_trusted() {
            true => Waiter::Authenticated,
            false => Waiter::Unauthenticated(client),
        }
    }
}
