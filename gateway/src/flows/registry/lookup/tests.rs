use crate::config::Config;
use cratehouse_core::error::Kind;
use cratehouse_mirror::index::copies;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::config::Limits;
use crate::flows::open::{Keep, Running};
use crate::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_mirror::upstream::test_util::{self, Server, reply};
use cratehouse_package::index::IndexLine;
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::{Metadata, Published};

fn line(name: &str, vers: &str) -> IndexLine {
    IndexLine {
        name: name.parse().unwrap(),
        vers: vers.parse().unwrap(),
        deps: Vec::new(),
        cksum: Checksum::of(vers.as_bytes()),
        features: BTreeMap::new(),
        features2: None,
        yanked: false,
        links: None,
        rust_version: None,
        pubtime: None,
        v: None,
    }
}

fn row(vers: &str, removed: bool) -> VersionRow {
    VersionRow { line: line("Foo", vers), size: 1, metadata: Metadata::default(), removed }
}

#[test]
fn a_hosted_file_has_a_line_for_each_version_that_is_left() {
    let rows = [row("1.0.0", false), row("1.1.0", true), row("0.9.0", false)];
    let file = hosted_file(&rows).unwrap().unwrap();
    let text = String::from_utf8(file.identity.bytes.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(text.ends_with('\n'));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(r#"{"name":"Foo","vers":"1.0.0","deps":[],"cksum":""#));
    assert!(lines[1].contains(r#""vers":"0.9.0""#));
    assert!(file.version(&"1.1.0".parse().unwrap()).is_none());
}

#[test]
fn a_crate_without_any_version_left_has_no_file() {
    assert!(hosted_file(&[row("1.0.0", true)]).unwrap().is_none());
    assert!(hosted_file(&[]).unwrap().is_none());
}

/// An upstream that has one crate, and answers everything else with a status.
async fn upstream(has: &'static str, status: u16) -> Server {
    let sum = Checksum::of(b"upstream");
    let line = format!("{{\"name\":\"{has}\",\"vers\":\"9.0.0\",\"cksum\":\"{sum}\"}}\n");
    let path_end = format!("/{has}");
    Server::start(move |path, _| match path.ends_with(&path_end) {
        true => reply(200, &[], line.clone()),
        false => reply(status, &[], ""),
    })
    .await
}

async fn gateway(upstreams: &[&str]) -> Running {
    gateway_with(upstreams, Limits::default()).await
}

pub(super) async fn gateway_with(upstreams: &[&str], limits: Limits) -> Running {
    let settings = [("CRATEHOUSE_STORE__URL", "memory://")].map(|(k, v)| (k.into(), v.into()));
    let mut config = Config::load(&Default::default(), settings).unwrap();
    config.limits = limits;
    config.reserved = vec!["acme-*".parse().unwrap()];
    config.upstreams = upstreams
        .iter()
        .enumerate()
        .map(|(at, url)| crate::config::Upstream {
            name: format!("up{at}"),
            ..test_util::config(url)
        })
        .collect();
    Running::open(Arc::new(config), "https://gw".to_owned(), Keep::Memory).await.unwrap()
}

async fn publish(gateway: &Gateway, name: &str, vers: &str) {
    let published = Published { line: line(name, vers), size: 1, metadata: Metadata::default() };
    let command = Command::Publish {
        published: Box::new(published),
        put_at: 0,
        bounds: IndexBounds::default(),
    };
    gateway.journal.append(ActorCommand { by: CommandActor::Operator, command }).await.unwrap();
}

/// The versions that a lookup shows.
async fn look(gateway: &Arc<Gateway>, name: &str) -> Result<Option<Vec<String>>> {
    let file = gateway.lookup.find(&name.parse().unwrap()).await?;
    Ok(file.map(|file| file.versions().map(|v| v.version.to_string()).collect()))
}

fn counted(gateway: &Gateway, outcome: &str) -> u64 {
    gateway.metrics.index_lookups.with_label_values(&[outcome]).get()
}

#[tokio::test]
async fn a_hosted_or_reserved_name_is_never_asked_of_an_upstream() {
    let up = upstream("foo_bar", 404).await;
    let running = gateway(&[&up.url]).await;
    let gateway = &running.gateway;
    publish(gateway, "Foo-Bar", "1.0.0").await;
    for _ in 0..2 {
        assert_eq!(look(gateway, "foo-bar").await.unwrap(), Some(vec!["1.0.0".to_owned()]));
        assert_eq!(look(gateway, "foo_bar").await.unwrap(), None);
        assert_eq!(look(gateway, "acme_x").await.unwrap(), None);
    }
    for name in ["Foo-Bar", "foo_bar", "acme-x"] {
        let file = gateway
            .mirror
            .chain
            .mirrored_at(ClientKey::Exempt, &name.parse().unwrap(), 0)
            .await
            .unwrap();
        assert!(file.is_none());
        assert!(copies::refresh(&gateway.mirror.chain, &name.parse().unwrap()).await.is_err());
    }
    assert!(up.paths().is_empty());
    let outcomes = ["miss", "hit", "negative", "error"].map(|o| counted(gateway, o));
    assert_eq!(outcomes, [1, 1, 4, 0]);
    running.close().await;
}

#[tokio::test]
async fn a_publish_is_seen_at_once_whatever_was_known_of_the_name() {
    let up = upstream("none", 404).await;
    let running = gateway(&[&up.url]).await;
    let gateway = &running.gateway;
    for spelling in ["foo-bar", "foo_bar"] {
        assert_eq!(look(gateway, spelling).await.unwrap(), None);
        assert_eq!(look(gateway, spelling).await.unwrap(), None);
    }
    assert_eq!(up.paths().len(), 2);
    for (count, vers) in ["1.0.0", "1.1.0"].into_iter().enumerate() {
        publish(gateway, "foo-bar", vers).await;
        assert_eq!(look(gateway, "foo-bar").await.unwrap().unwrap().len(), count + 1);
        assert_eq!(look(gateway, "foo_bar").await.unwrap(), None);
    }
    assert!(up.paths().is_empty());
    running.close().await;
}

#[tokio::test]
async fn only_a_definite_not_found_passes_a_name_on() {
    let (first, second) = (upstream("foo", 404).await, upstream("bar", 404).await);
    let running = gateway(&[&first.url, &second.url]).await;
    assert!(look(&running.gateway, "bar").await.unwrap().is_some());
    assert!(look(&running.gateway, "foo").await.unwrap().is_some());
    assert!(look(&running.gateway, "baz").await.unwrap().is_none());
    assert_eq!(first.paths(), ["/index/3/b/bar", "/index/3/f/foo", "/index/3/b/baz"]);
    assert_eq!(second.paths(), ["/index/3/b/bar", "/index/3/b/baz"]);
    running.close().await;

    let broken = upstream("foo", 500).await;
    let running = gateway(&[&broken.url, &second.url]).await;
    for _ in 0..2 {
        assert_eq!(look(&running.gateway, "bar").await.unwrap_err().kind, Kind::BadUpstream);
    }
    assert_eq!((broken.paths().len(), second.paths().len()), (1, 0));
    assert_eq!(counted(&running.gateway, "error"), 2);
    running.close().await;
}

#[tokio::test]
async fn askers_at_the_same_time_share_one_request() {
    let up = upstream("foo", 404).await;
    let running = gateway(&[&up.url]).await;
    let asks = (0..32).map(|_| look(&running.gateway, "foo"));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().is_some()));
    assert_eq!(up.paths().len(), 1);
    assert_eq!(
        copies::names(&running.gateway.mirror.chain).await.unwrap(),
        ["foo".parse().unwrap()]
    );
    running.close().await;
}

#[tokio::test]
async fn refresh_asks_at_once_and_purge_forgets() {
    let up = upstream("foo", 404).await;
    let running = gateway(&[&up.url]).await;
    let (gateway, foo) = (&running.gateway, "Foo".parse().unwrap());
    assert!(look(gateway, "foo").await.unwrap().is_some());
    assert!(copies::refresh(&gateway.mirror.chain, &foo).await.unwrap().contains("1 version"));
    assert_eq!(up.paths().len(), 2);
    copies::purge(&gateway.mirror.chain, &gateway.mirror.files, &foo, None).await.unwrap();
    assert!(copies::names(&gateway.mirror.chain).await.unwrap().is_empty());
    assert!(look(gateway, "foo").await.unwrap().is_some());
    assert_eq!(up.paths().len(), 1);
    running.close().await;
}

#[tokio::test]
async fn trouble_with_a_refresh_does_not_undo_an_answer_that_is_fresh() {
    let (down, second) = (Arc::new(AtomicBool::new(false)), upstream("foo", 404).await);
    let switch = Arc::clone(&down);
    let first = Server::start(move |_, _| match switch.load(Ordering::SeqCst) {
        true => reply(500, &[], ""),
        false => reply(404, &[], ""),
    })
    .await;
    let running = gateway(&[&first.url, &second.url]).await;
    assert!(look(&running.gateway, "foo").await.unwrap().is_some());
    down.store(true, Ordering::SeqCst);
    assert!(copies::refresh(&running.gateway.mirror.chain, &"foo".parse().unwrap()).await.is_err());
    assert!(look(&running.gateway, "foo").await.unwrap().is_some());
    running.close().await;
}

/// An upstream that says that it was asked, and answers not-found when it is told to.
async fn slow_upstream() -> (String, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, was_asked) = oneshot::channel();
    let (answer, may_answer) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        asked.send(()).unwrap();
        let _ = may_answer.await;
        stream.write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    (url, was_asked, answer)
}

#[tokio::test]
async fn a_name_published_while_its_upstream_was_asked_is_ours() {
    let (url, was_asked, answer) = slow_upstream().await;
    let running = gateway(&[&url]).await;
    let gateway = Arc::clone(&running.gateway);
    let early = tokio::spawn(async move { look(&gateway, "foo").await });
    was_asked.await.unwrap();
    publish(&running.gateway, "foo", "1.0.0").await;
    let ours = Some(vec!["1.0.0".to_owned()]);
    assert_eq!(look(&running.gateway, "foo").await.unwrap(), ours);
    answer.send(()).unwrap();
    assert_eq!(early.await.unwrap().unwrap(), ours);
    assert_eq!(look(&running.gateway, "foo").await.unwrap(), ours);
    running.close().await;
}
