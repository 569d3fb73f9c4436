//! What is given up of the mirror, by several replicas.

use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tokio_util::sync::CancellationToken;

use crate::flows::fixture::{Public, TestGateway, limits, memory};
use cratehouse_core::checksum::Checksum;
use cratehouse_mirror::files::evict::{Evictor, Swept};
use cratehouse_mirror::files::uses::{Bounds, day_of};
use cratehouse_storage::blobs::Origin;

fn evictor(server: &TestGateway) -> &Arc<Evictor> {
    &server.gateway.mirror.evictor
}

const ALL: Bounds = Bounds { bytes: Some(0), age_days: None };
const MONTH: Bounds = Bounds { bytes: None, age_days: Some(30) };

fn in_days(days: i64) -> Timestamp {
    Timestamp::now() + (days * 24).hours()
}

#[tokio::test]
async fn what_is_given_up_is_filled_again_and_its_pin_stays() {
    let public = Public::start(b"x").await;
    let store = memory();
    let server = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!((server.foo().await.1, public.fills()), ("miss", 1));
    let own = Checksum::of(b"y");
    server.gateway.mirror.files.blobs.put(Origin::Hosted, &own, "y".into()).await.unwrap();
    let unbounded = Bounds { bytes: None, age_days: None };
    let found = evictor(&server).sweep(unbounded, in_days(0)).await.unwrap();
    assert_eq!(found, Swept { bytes: 1, blobs: 1, evicted: 0 });
    let swept = evictor(&server).sweep(ALL, in_days(0)).await.unwrap();
    assert_eq!(swept, Swept { bytes: 0, blobs: 0, evicted: 1 });
    assert_eq!(server.gateway.metrics.mirror_evictions.get(), 1);
    let other = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!((other.foo().await.1, public.fills()), ("miss", 1));
    let kept = other.gateway.mirror.files.blobs.get(Origin::Hosted, &own, |_| 9).await.unwrap();
    assert_eq!(kept, cratehouse_storage::blobs::Blob::Whole("y".into()));
    public.set(|s| (s.listed, s.sent) = (Some(b"z".to_vec()), Some(b"z".to_vec())));
    let changed = TestGateway::open(&store, &[&public], limits()).await;
    assert!(changed.foo().await.0.is_err(), "the pin stays");
}

#[tokio::test]
async fn what_another_replica_uses_is_not_too_old() {
    let public = Public::start(b"x").await;
    let store = memory();
    let server = TestGateway::open(&store, &[&public], limits()).await;
    let other = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!(server.foo().await.1, "miss");
    assert_eq!(other.foo().await.1, "store");
    other.gateway.mirror.uses.write(day_of(in_days(20))).await.unwrap();
    assert_eq!(evictor(&server).sweep(MONTH, in_days(40)).await.unwrap().evicted, 0);
    assert_eq!(evictor(&server).sweep(MONTH, in_days(60)).await.unwrap().evicted, 1);
    assert_eq!(server.gateway.mirror.uses.store.lists().await.unwrap(), [], "nor is its list kept");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_runs_by_itself_and_a_stop_writes_down_what_was_used() {
    let public = Public::start(b"x").await;
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(evictor(&server)).run(stop.clone()));
    assert_eq!(server.foo().await.1, "miss");
    let measured = async {
        while server.gateway.metrics.mirror_blobs.get() != 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1000), measured).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    assert_eq!(server.gateway.mirror.uses.store.lists().await.unwrap().len(), 1);
}
