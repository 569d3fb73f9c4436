//! What memory answers at once is what the long way would have found: whatever was done before, by whomever, a
//! warm replica and one that has just started give the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::config::Config;
use crate::flows::access::reader::Reader;
use crate::flows::fixture::{Public, TestGateway, memory, name, version};
use crate::flows::registry::download::{File, Part};
use cratehouse_core::error::Kind;
use cratehouse_journal::commands::Command;
use cratehouse_package::view::View;

const SEEDS: u64 = 8;
const STEPS: usize = 30;
/// `Foo` is at the upstream, `acme-own` and `tool` are published here now and then, `none` is nowhere.
const NAMES: [&str; 4] = ["foo", "acme-own", "tool", "none"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
const POLICY: &str = "[[ban]]\nname = \"tool\"\nversion = \"=1.1.0\"\nreason = \"r\"\n\
                      [[ban]]\nname = \"acme-own\"\nversion = \"=2.0.0\"\naction = \"hold\"\nreason = \"r\"\n";

/// A registry that keeps in memory what it has answered.
async fn replica(store: &Arc<dyn ObjectStore>, public: &Public, policy: &str) -> TestGateway {
    let fresh = Duration::from_secs(600);
    TestGateway::changed(store, &[public], policy, |config: &mut Config| {
        config.cache.index_bytes = 8 << 20;
        config.cache.absent_bytes = 1 << 20;
        config.upstreams.iter_mut().for_each(|up| (up.fresh, up.negative) = (fresh, fresh));
    })
    .await
}

/// An index file as it is sent.
type Index = Option<(Bytes, String)>;

fn index_at_hand(server: &TestGateway, view: View, krate: &str) -> Option<Index> {
    let found = server.gateway.lookup.at_hand(&Reader::OWN, view, &name(krate))?;
    Some(found.map(|file| (file.identity.bytes.clone(), file.identity.etag.to_string())))
}

async fn index(server: &TestGateway, view: View, krate: &str) -> Index {
    let found = server.gateway.lookup.find_for(&Reader::OWN, view, &name(krate)).await.unwrap();
    found.map(|file| (file.identity.bytes.clone(), file.identity.etag.to_string()))
}

fn bytes_at_hand(server: &TestGateway, krate: &str, vers: &str) -> Option<Bytes> {
    match server.gateway.downloads.at_hand(&Reader::OWN, &name(krate), &version(vers))?.file {
        File::Whole(bytes) => Some(bytes),
        File::Stream { .. } => panic!("a stream is not at hand"),
    }
}

async fn bytes(server: &TestGateway, krate: &str, vers: &str) -> Result<Bytes, Kind> {
    let got = server.gateway.downloads.get(&name(krate), &version(vers), Part::Bytes).await;
    Ok(got.map_err(|e| e.kind)?.file.read().await.unwrap())
}

struct Story {
    rng: StdRng,
    warm: TestGateway,
    published: Vec<(&'static str, &'static str)>,
}

impl Story {
    async fn step(&mut self) {
        let krate = *NAMES.choose(&mut self.rng).unwrap();
        let vers = *VERSIONS.choose(&mut self.rng).unwrap();
        let view = if self.rng.random() { View::Own } else { View::CratesIo };
        match self.rng.random_range(0..8) {
            0 if krate != "foo" && krate != "none" && !self.published.contains(&(krate, vers)) => {
                self.warm.publish(krate, vers, vers.as_bytes()).await;
                self.published.push((krate, vers));
            }
            1 => {
                let Some((krate, vers)) = self.published.choose(&mut self.rng).copied() else {
                    return;
                };
                let (krate, version, yanked) = (name(krate), version(vers), self.rng.random());
                self.warm.command(Command::Yank { krate, version, yanked }).await;
            }
            2..5 => drop(index(&self.warm, view, krate).await),
            _ => drop(bytes(&self.warm, if krate == "foo" { "Foo" } else { krate }, vers).await),
        }
    }

    /// Whatever is at hand in the warm replica is what the cold one finds; says how much that was.
    async fn agrees_with(&self, cold: &TestGateway, seed: u64) -> usize {
        let mut at_hand = 0;
        for krate in NAMES {
            for view in [View::Own, View::CratesIo] {
                let Some(found) = index_at_hand(&self.warm, view, krate) else { continue };
                assert_eq!(
                    found,
                    index(cold, view, krate).await,
                    "seed {seed}: {krate} in {view:?}"
                );
                at_hand += 1;
            }
            let spelled = if krate == "foo" { "Foo" } else { krate };
            for vers in VERSIONS {
                let Some(found) = bytes_at_hand(&self.warm, spelled, vers) else { continue };
                let other = bytes(cold, spelled, vers).await;
                assert_eq!(Ok(found), other, "seed {seed}: {spelled} {vers}");
                at_hand += 1;
            }
        }
        at_hand
    }
}

#[tokio::test]
async fn what_is_at_hand_is_what_the_long_way_finds() {
    let mut at_hand = 0;
    for seed in 0..SEEDS {
        let policy = if seed % 2 == 0 { "" } else { POLICY };
        let (store, public) = (memory(), Public::start(b"public").await);
        let warm = replica(&store, &public, policy).await;
        let mut story = Story { rng: StdRng::seed_from_u64(seed), warm, published: Vec::new() };
        for _ in 0..STEPS {
            story.step().await;
        }
        story.warm.gateway.mirror.written().await;
        let cold = replica(&store, &public, policy).await;
        at_hand += story.agrees_with(&cold, seed).await;
    }
    assert!(at_hand > 30, "only {at_hand} answers were at hand: nothing was compared");
}
