//! What a published crate's dependencies are, seen from here: every one must be known, and its
//! index line must say where cargo finds it, in one way for all dependants.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::config::{CRATES_IO, Config, crates_io_index};
use crate::flows::access::reader::Reader;
use crate::flows::access::visibility::Visibility;
use crate::flows::registry::hosting::{Hosting, NameOf};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::chain::{Chain, lowered};
use cratehouse_mirror::settings::Identity;
use cratehouse_package::manifest::{Draft, DraftDep};
use cratehouse_package::name::CrateName;
use cratehouse_package::registries::{OurUrls, PublicUrls, Registries, Resolved, registry_of};

/// Dependencies that are looked up at one time.
const LOOKUPS: usize = 16;

/// What finds the dependencies of crates that are published.
#[derive(Debug)]
pub struct Dependencies {
    hosting: Arc<Hosting>,
    chain: Arc<Chain>,
    visibility: Arc<Visibility>,
    /// The registries that this gateway speaks for, and those that it allows.
    registries: Registries,
    /// Whether our own index lists crates of crates.io's identity too.
    unified: bool,
}

impl Dependencies {
    /// Those that the registry of this configuration and URL may have.
    pub fn new(
        config: &Config,
        url: &str,
        unified: bool,
        hosting: Arc<Hosting>,
        chain: Arc<Chain>,
        visibility: Arc<Visibility>,
    ) -> Self {
        Self { hosting, chain, visibility, registries: registries(config, url), unified }
    }

    /// The `registry` of every dependency's index line, in the order of the draft. What does not exist for who
    /// publishes cannot be depended on.
    ///
    /// # Errors
    /// When a dependency comes from a registry that is not allowed, or nobody knows it; when an
    /// upstream that might know it does not answer.
    pub async fn resolve(&self, reader: &Reader, draft: &Draft) -> Result<Vec<Option<String>>> {
        let hosted =
            |dep: &DraftDep| Ok::<_, Error>(self.hosting.generation(&dep.krate.key())?.is_some());
        let known = draft.deps.iter().map(hosted).collect::<Result<Vec<_>>>()?;
        if !known.into_iter().all(|known| known) {
            // Another replica may have published one of them a moment ago.
            self.hosting.journal.catch_up().await?;
        }
        // Collected first: a lazy iterator of futures is not `Send` for every lifetime.
        let resolved: Vec<_> = draft.deps.iter().map(|dep| self.one(reader, draft, dep)).collect();
        stream::iter(resolved).buffered(LOOKUPS).try_collect().await
    }

    /// The restricted crates among the dependencies of an open one: it shows their names to all its readers.
    ///
    /// # Errors
    /// When the catalog fails.
    pub fn exposed(&self, draft: &Draft) -> Result<Vec<CrateName>> {
        if self.visibility.is_restricted(&draft.name.key())? {
            return Ok(Vec::new());
        }
        let mut exposed = Vec::new();
        for dep in &draft.deps {
            if self.visibility.is_restricted(&dep.krate.key())? {
                exposed.push(dep.krate.clone());
            }
        }
        Ok(exposed)
    }

    async fn one(&self, reader: &Reader, draft: &Draft, dep: &DraftDep) -> Result<Option<String>> {
        let source = self.registries.resolve(&dep.source).map_err(|e| {
            Error::invalid(format!("the dependency `{}` is refused: {e}", dep.krate))
        })?;
        if let Resolved::Allowed(_) = source {
            return Ok(registry_of(false, &source));
        }
        if !self.visibility.exists_for(reader, &dep.krate)? {
            let is_of_us = source == Resolved::Ours && !self.unified;
            return Err(if is_of_us && !self.hosting.is_reserved(&dep.krate.key()) {
                not_of_us(dep)
            } else {
                unknown(dep)
            });
        }
        Ok(registry_of(self.is_ours(draft, (dep, &source)).await?, &source))
    }

    /// Whether a dependency is found under our own name: hosted here, or from an upstream whose
    /// crates become ours.
    ///
    /// One that is said to be ours is not asked of an upstream whose crates are not, unless the index
    /// is unified: it would tell a private name, and take a stranger's crate for ours.
    async fn is_ours(&self, draft: &Draft, (dep, source): (&DraftDep, &Resolved)) -> Result<bool> {
        let name = &dep.krate;
        let key = name.key();
        if *name == draft.name {
            return Ok(true);
        }
        match self.hosting.whose(&key)? {
            NameOf::Hosted(row) if row.name == *name => return Ok(true),
            NameOf::Hosted(row) => return Err(misspelt(dep, &row.name)),
            NameOf::Reserved => return Err(unknown(dep)),
            NameOf::Others => {}
        }
        let is_of_us = *source == Resolved::Ours && !self.unified;
        let may_have = |identity| !is_of_us || identity == Identity::Ours;
        for (at, upstream) in self.chain.upstreams.iter().enumerate() {
            let identity = upstream.config().identity;
            if !may_have(identity) {
                continue;
            }
            let found = self.chain.mirrored_at(ClientKey::Exempt, &lowered(name), at).await;
            let unknown_now = |e| {
                let text = format!(
                    "whether there is a crate `{name}` cannot be told now, and nothing was changed: try again shortly"
                );
                Error::unavailable(text).because(e)
            };
            let Some(file) = found.map_err(unknown_now)? else { continue };
            return match file.versions().next() {
                Some(listed) if listed.name != *name => Err(misspelt(dep, &listed.name)),
                _ => Ok(identity == Identity::Ours),
            };
        }
        Err(if is_of_us { not_of_us(dep) } else { unknown(dep) })
    }
}

fn registries(config: &Config, url: &str) -> Registries {
    let indexes = |identity| {
        let chosen = config.upstreams.iter().filter(move |u| u.identity == identity);
        chosen.map(|u| u.index.clone()).collect::<Vec<_>>()
    };
    let ours = OurUrls::new(url, &config.server.aliases).and(&indexes(Identity::Ours));
    let mut public = indexes(Identity::CratesIo);
    public.push(crates_io_index());
    let views = PublicUrls::new(url, &config.server.aliases);
    Registries::new(ours, &views, &public, &config.allowed_registries)
}

fn not_of_us(dep: &DraftDep) -> Error {
    Error::invalid(format!(
        "this registry has no crate `{0}`: publish it first; or, if the crate of {CRATES_IO} is meant, depend on it \
         without `registry`",
        dep.krate
    ))
}

fn unknown(dep: &DraftDep) -> Error {
    Error::invalid(format!(
        "no known crate named `{}`: it is neither hosted here nor found upstream ({CRATES_IO} or another); publish it first",
        dep.krate
    ))
}

fn misspelt(dep: &DraftDep, known: &CrateName) -> Error {
    Error::invalid(format!(
        "no known crate named `{}`: the crate is spelled `{known}`, and so must the dependency be",
        dep.krate
    ))
}
