//! The servers that are compared: nginx, and gateways of several configurations, with the same
//! content and the same certificate.

use std::net::SocketAddr;
use std::path::Path;

use cratehouse_tests::authority::Authority;
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Builder, Gateway, UpstreamConfig};
use cratehouse_tests::http::Server;
use serde::Serialize;

use crate::Result;
use crate::corpus::Corpus;
use crate::nginx::Nginx;
use crate::process::{Threads, resident};
use crate::site::Site;

/// One of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Nginx,
    /// A gateway as it is by default.
    Gateway,
    /// One that wants a token for every read.
    Token,
    /// One with `policies/starter`.
    Policies,
}

/// In the order of the table; each is compared with one that stands before it.
pub(super) const KINDS: [Kind; 4] = [Kind::Nginx, Kind::Gateway, Kind::Token, Kind::Policies];

/// The longest that a configuration may say, so that nothing is revalidated meanwhile.
const FRESH_SECONDS: u32 = 604_800;
/// Enough for the whole corpus, so that every request is a hit.
const INDEX_CACHE: &str = "index_mib = 1024";
const CRATE_CACHE: &str = "crates_mib = 1024";
const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/starter");

/// All of them, running.
#[derive(Debug)]
pub(super) struct Houses {
    pub(super) all: Vec<Contestant>,
    pub(super) authority: Authority,
    pub(super) site: Site,
    _upstream: Server,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) kind: Kind,
    /// Sent with every request.
    pub(super) headers: Vec<(String, String)>,
    /// What was resident when it had started, before anybody asked it, in bytes.
    pub(super) idle: u64,
    server: Running,
    client: Client,
}

#[derive(Debug)]
enum Running {
    Nginx(Nginx),
    Gateway(Box<Gateway>),
}

impl Kind {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Gateway => "gateway",
            Self::Token => "gateway, token",
            Self::Policies => "gateway, policies",
        }
    }

    /// Whose numbers its own are divided by.
    pub(super) fn compared_with(self) -> Option<Self> {
        match self {
            Self::Nginx => None,
            Self::Gateway => Some(Self::Nginx),
            Self::Token | Self::Policies => Some(Self::Gateway),
        }
    }

    fn configure(self, builder: Builder) -> Builder {
        match self {
            Self::Nginx | Self::Gateway => builder,
            Self::Token => builder.auth_required(),
            Self::Policies => builder.set("policy", &format!("dir = {STARTER:?}")),
        }
    }
}

impl Houses {
    /// Starts them: first the plain gateway, whose answers are what nginx serves.
    pub(super) fn open(corpus: &Corpus) -> Result<Self> {
        let (authority, upstream) = (Authority::new(), corpus.upstream());
        let gateway = |kind| Contestant::gateway(kind, &authority, &upstream);
        let plain = gateway(Kind::Gateway)?;
        let site = plain.site(corpus)?;
        let nginx = Contestant::nginx(site.path(), &authority)?;
        let all = vec![nginx, plain, gateway(Kind::Token)?, gateway(Kind::Policies)?];
        Ok(Self { all, authority, site, _upstream: upstream })
    }

    pub(super) fn of(&self, kind: Kind) -> Result<&Contestant> {
        Ok(self.all.iter().find(|registry| registry.kind == kind).ok_or("no such server")?)
    }
}

impl Contestant {
    fn nginx(site: &Path, authority: &Authority) -> Result<Self> {
        let nginx = Nginx::start(site, authority)?;
        let client = Client::new(&nginx.url(), Some(authority.ca.as_bytes()));
        Self::new(Kind::Nginx, Vec::new(), Running::Nginx(nginx), client)
    }

    fn gateway(kind: Kind, authority: &Authority, upstream: &Server) -> Result<Self> {
        let index = format!("{}/index/", upstream.origin());
        let upstream = UpstreamConfig::new("main", &index).fresh_seconds(FRESH_SECONDS);
        let builder = Gateway::builder().upstream(upstream).certificate(authority);
        let builder = builder.set("cache", INDEX_CACHE).set("cache", CRATE_CACHE);
        let gateway = kind.configure(builder).start();
        let headers = match kind {
            Kind::Token => vec![("authorization".to_owned(), gateway.token("ada"))],
            Kind::Nginx | Kind::Gateway | Kind::Policies => Vec::new(),
        };
        let client = gateway.client();
        Self::new(kind, headers, Running::Gateway(Box::new(gateway)), client)
    }

    fn new(
        kind: Kind,
        headers: Vec<(String, String)>,
        server: Running,
        client: Client,
    ) -> Result<Self> {
        let mut registry = Self { kind, headers, idle: 0, server, client };
        registry.idle = registry.resident()?;
        Ok(registry)
    }

    fn site(&self, corpus: &Corpus) -> Result<Site> {
        match &self.server {
            Running::Gateway(gateway) => Site::of(gateway, corpus),
            Running::Nginx(_) => Err("a site is made of a gateway's answers".into()),
        }
    }

    pub(super) fn url(&self) -> String {
        match &self.server {
            Running::Nginx(nginx) => nginx.url(),
            Running::Gateway(gateway) => gateway.url(),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        match &self.server {
            Running::Nginx(nginx) => nginx.addr(),
            Running::Gateway(gateway) => gateway.addr(),
        }
    }

    /// The CPU times of its threads, of all its processes.
    pub(super) fn threads(&self) -> Result<Threads> {
        Threads::of_all(&self.pids()?)
    }

    /// What of it is resident, in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        resident(&self.pids()?)
    }

    /// Its own validator of what it sends compressed.
    pub(super) fn etag(&self, path: &str) -> Result<String> {
        let mut headers = vec![("accept-encoding", "gzip")];
        headers.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let reply = self.client.get_with(path, &headers);
        let etag = reply.header("etag").filter(|_| reply.status == 200);
        Ok(etag.ok_or_else(|| format!("no ETag for {path}: {}", reply.status))?.to_owned())
    }

    fn pids(&self) -> Result<Vec<u32>> {
        match &self.server {
            Running::Nginx(nginx) => nginx.pids(),
            Running::Gateway(gateway) => Ok(vec![gateway.pid()]),
        }
    }
}
