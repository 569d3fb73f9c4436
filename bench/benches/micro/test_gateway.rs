//! A whole gateway in memory, and an upstream before it on the loopback interface.

use std::ffi::OsString;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cratehouse::config::{Config, Flags};
use cratehouse::flows::open::{Keep, Running};
use cratehouse::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_journal::principal::{Grant, Principal, PrincipalKind};
use cratehouse_journal::{tokens, users};
use cratehouse_package::index::IndexLine;
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::name::CrateName;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_storage::blobs::Origin;
use cratehouse_tests::http::{Action, Response, Server};
use tokio::runtime::Runtime;

use crate::input::{self, File, INDEX_PATH};

/// The size of the crate file of the hosted crate, in bytes.
const CRATE_BYTES: usize = 30_000;
/// The user.
pub(crate) const LOGIN: &str = "bench";

/// What stands in memory is measured without a wait: a hit never has one.
pub(crate) struct TestGateway {
    pub(crate) gateway: Arc<Gateway>,
    /// A token of its one user.
    pub(crate) token: String,
    runtime: Runtime,
    _running: Running,
    _upstream: Server,
}

impl TestGateway {
    /// One that hosts the crate.
    pub(crate) fn hosting() -> Self {
        let server = Self::open(&[], None);
        server.runtime.block_on(publish(&server.gateway));
        server
    }

    /// One that hosts a version of each of these.
    pub(crate) fn hosting_many(names: impl Iterator<Item = CrateName>) -> Self {
        let server = Self::open(&[], None);
        server.runtime.block_on(async {
            let names: Vec<_> = names.collect();
            // Many at once go into one entry.
            for some in names.chunks(200) {
                let publishing = some.iter().map(|name| publish_one(&server.gateway, name));
                futures_util::future::join_all(publishing).await;
            }
        });
        server
    }

    /// The holder of the token, as the catalog knows them.
    pub(crate) fn reader(&self) -> Arc<Principal> {
        let shown = self.gateway.tokens.authenticate(ClientKey::OWN, &self.token);
        self.runtime.block_on(shown).unwrap()
    }

    /// One whose upstream has the crate, and the crate files that it lists.
    pub(crate) fn mirroring_crates() -> Self {
        let lines = (0..input::USUAL).map(|nth| {
            let line = IndexLine { cksum: Checksum::of(&crate_bytes()), ..input::index_line(nth) };
            serde_json::to_string(&line).unwrap() + "\n"
        });
        Self::open(lines.collect::<String>().as_bytes(), None)
    }

    /// One whose upstream has the crate; perhaps with a policy.
    pub(crate) fn mirroring(file: File, policy: Option<&Path>) -> Self {
        Self::open(&file.body(), policy)
    }

    fn open(file: &[u8], policy: Option<&Path>) -> Self {
        let upstream = serving(file.to_vec());
        let mut settings = vec![
            ("STORE__URL", "memory://".to_owned()),
            ("AUTH__REQUIRED", "true".to_owned()),
            ("UPSTREAM__0__NAME", "up".to_owned()),
            ("UPSTREAM__0__INDEX", upstream.origin() + "/index/"),
            ("UPSTREAM__0__DL", upstream.origin() + "/dl"),
            ("UPSTREAM__0__IDENTITY", "crates-io".to_owned()),
            ("UPSTREAM__0__FRESH_SECONDS", "86400".to_owned()),
        ];
        settings.extend(policy.map(|dir| ("POLICY__DIR", dir.to_str().unwrap().to_owned())));
        let variable = |(key, value): (&str, String)| {
            (OsString::from(format!("CRATEHOUSE_{key}")), OsString::from(value))
        };
        let config = Config::load(&Flags::default(), settings.into_iter().map(variable)).unwrap();
        let runtime = Runtime::new().unwrap();
        let url = "https://crates.example".to_owned();
        let opening = Running::open(Arc::new(config), url, Keep::Memory);
        let running = runtime.block_on(opening).unwrap();
        let gateway = Arc::clone(&running.gateway);
        let token = runtime.block_on(async {
            users::create(&gateway.journal, CommandActor::Operator, LOGIN, PrincipalKind::Person)
                .await
                .unwrap();
            let grant = Grant::usual();
            tokens::create(&gateway.journal, CommandActor::Operator, LOGIN, "", grant)
                .await
                .unwrap()
                .1
        });
        let token = token.reveal().to_owned();
        Self { gateway, token, runtime, _running: running, _upstream: upstream }
    }

    /// What comes of something that may have to wait.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Where timers are made: they need a runtime even if nobody waits for them.
    pub(crate) fn inside(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }
}

/// What comes of something that does not wait.
pub(crate) fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
    .unwrap()
}

fn crate_bytes() -> Vec<u8> {
    vec![7; CRATE_BYTES]
}

fn serving(file: Vec<u8>) -> Server {
    Server::start(move |request, _| {
        Action::Answer(match request.path.as_str() {
            INDEX_PATH if !file.is_empty() => Response::ok(file.clone()),
            path if path.starts_with("/dl/") => Response::ok(crate_bytes()),
            _ => Response::status(404),
        })
    })
}

async fn publish_one(gateway: &Gateway, name: &CrateName) {
    let mut line = input::index_line(0);
    line.name = name.clone();
    let published = Box::new(Published { line, size: 1, metadata: Metadata::default() });
    let put_at = gateway.catalog.head().unwrap().seq;
    let command = Command::Publish { published, put_at, bounds: IndexBounds::default() };
    gateway.journal.append(ActorCommand { by: CommandActor::Operator, command }).await.unwrap();
}

async fn publish(gateway: &Gateway) {
    let bytes = Bytes::from(crate_bytes());
    let cksum = Checksum::of(&bytes);
    gateway.mirror.files.blobs.put(Origin::Hosted, &cksum, bytes).await.unwrap();
    for nth in 0..input::USUAL {
        let mut line = input::index_line(nth);
        line.cksum = cksum;
        let size = CRATE_BYTES as u64;
        let published = Box::new(Published { line, size, metadata: Metadata::default() });
        let put_at = gateway.catalog.head().unwrap().seq;
        let command = Command::Publish { published, put_at, bounds: IndexBounds::default() };
        gateway.journal.append(ActorCommand { by: CommandActor::Operator, command }).await.unwrap();
    }
}
