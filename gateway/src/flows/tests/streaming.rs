//! Streams from a store in memory: pieces, what is withheld, and how they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::flows::fixture::{Public, TestGateway, limits, memory, name, version};
use crate::flows::registry::download::{File, Part};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Kind, Result};
use cratehouse_mirror::files::crate_file::STREAM_BYTES;
use cratehouse_storage::blobs::Origin;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};

const MIB: usize = 1 << 20;
/// The last piece, which is withheld until all were compared.
const PIECE_BYTES: u64 = 1 << 20;

/// Bytes of which no two pieces are the same.
fn large(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 1000) as u8 ^ at as u8).collect()
}

async fn open(server: &TestGateway) -> Result<(u64, BoxStream<'static, Result<Bytes>>)> {
    let (krate, vers) = (name("Foo"), version("1.0.0"));
    match server.gateway.downloads.get(&krate, &vers, Part::Bytes).await?.file {
        File::Stream { length, pieces } => Ok((length, pieces)),
        File::Whole(bytes) => panic!("{} bytes are whole", bytes.len()),
    }
}

/// What a client has when its body ends, and whether it ended well.
async fn read(mut pieces: BoxStream<'static, Result<Bytes>>) -> (Vec<u8>, Result<()>) {
    let mut all = Vec::new();
    loop {
        match pieces.try_next().await {
            Ok(Some(piece)) => all.extend_from_slice(&piece),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// A registry whose store has a file of this size already.
async fn server(store: &Arc<dyn ObjectStore>, bytes: &[u8]) -> (TestGateway, Public) {
    let public = Public::start(bytes).await;
    let first = TestGateway::open(store, &[&public], limits()).await;
    assert_eq!(first.foo().await.0.unwrap(), bytes.to_vec());
    (TestGateway::open(store, &[&public], limits()).await, public)
}

#[tokio::test]
async fn a_large_file_comes_in_pieces_and_gives_its_room_back() {
    let bytes = large(4 * MIB + 5);
    let (server, public) = server(&memory(), &bytes).await;
    let (length, pieces) = open(&server).await.unwrap();
    assert_eq!((length, server.taken()), (bytes.len() as u64, STREAM_BYTES));
    let (read, end) = read(pieces).await;
    assert!(end.is_ok() && read == bytes);
    assert_eq!((server.taken(), public.fills()), (0, 1));
}

#[tokio::test]
async fn no_more_is_read_than_a_client_takes_and_a_client_that_leaves_gives_its_room_back() {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let plan = move |call, path: &Path| {
        let blob = call == Call::Get && path.as_ref().starts_with("blobs/mirror/");
        counted.fetch_add(usize::from(blob), Ordering::SeqCst);
        Fault::None
    };
    let store: Arc<dyn ObjectStore> = Arc::new(FaultyStore::new(memory(), Box::new(plan)));
    let (server, _public) = server(&store, &large(5 * MIB)).await;
    let (_, mut pieces) = open(&server).await.unwrap();
    reads.store(0, Ordering::SeqCst);
    let (first, second) = (pieces.try_next().await.unwrap(), pieces.try_next().await.unwrap());
    let third = futures_util::FutureExt::now_or_never(pieces.try_next());
    assert!(third.is_none(), "it waits for a piece to leave");
    assert_eq!(reads.load(Ordering::SeqCst), 2);
    drop(first);
    assert!(pieces.try_next().await.unwrap().is_some());
    drop(pieces);
    assert_eq!(server.taken(), STREAM_BYTES, "a piece is still on its way");
    drop(second);
    assert_eq!(server.taken(), 0);
}

#[tokio::test]
async fn a_damaged_file_is_never_whole_and_the_next_request_fills_it_again() {
    let bytes = large(4 * MIB);
    let mut damaged = bytes.clone();
    damaged[17] ^= 1;
    let store = memory();
    let (server, public) = server(&store, &bytes).await;
    let cksum = Checksum::of(&bytes);
    server.gateway.mirror.files.blobs.put(Origin::Mirrored, &cksum, damaged.into()).await.unwrap();
    let (_, pieces) = open(&server).await.unwrap();
    let (read, end) = read(pieces).await;
    assert_eq!((read.len(), end.is_err()), (bytes.len() - PIECE_BYTES as usize, true));
    let broken = server.gateway.metrics.streams_broken.with_label_values(&["damaged"]).get();
    assert_eq!((server.alarms("damaged_blob"), broken, server.taken()), (1, 1, 0));

    public.fills();
    let (answer, outcome) = server.foo().await;
    assert_eq!((outcome, public.fills()), ("miss", 1));
    assert!(answer.unwrap() == bytes, "it was mended");
    assert_eq!((server.foo().await.1, server.alarms("damaged_blob")), ("store", 1));
}

#[tokio::test]
async fn a_damaged_hosted_file_raises_the_alarm_that_its_bytes_are_lost() {
    let bytes: &'static [u8] = Vec::leak(large(3 * MIB));
    let server = TestGateway::open(&memory(), &[], limits()).await;
    server.publish("Foo", "1.0.0", bytes).await;
    let other = vec![0; bytes.len()].into();
    server
        .gateway
        .mirror
        .files
        .blobs
        .put(Origin::Hosted, &Checksum::of(bytes), other)
        .await
        .unwrap();
    assert!(server.foo().await.0.is_err());
    assert_eq!(server.alarms("hosted_blob_missing"), 1);
    server.gateway.mirror.files.blobs.delete(Origin::Hosted, &Checksum::of(bytes)).await.unwrap();
    assert_eq!(open(&server).await.err().unwrap().kind, Kind::Internal, "told before the answer");
    assert_eq!(server.alarms("hosted_blob_missing"), 2);
}

#[tokio::test]
async fn a_store_that_fails_midway_breaks_the_body_and_a_retry_has_it_whole() {
    let bytes = large(4 * MIB);
    let faulty = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::None)));
    let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let (server, public) = server(&store, &bytes).await;
    let (_, mut pieces) = open(&server).await.unwrap();
    pieces.try_next().await.unwrap();
    faulty.plan(Box::new(|call, _| match call {
        Call::Get => Fault::Before,
        _ => Fault::None,
    }));
    let (rest, end) = read(pieces).await;
    assert!(rest.len() < bytes.len() && end.is_err());
    let broken = server.gateway.metrics.streams_broken.with_label_values(&["store"]).get();
    assert_eq!((broken, server.taken(), server.alarms("damaged_blob")), (1, 0, 0));
    faulty.plan(Box::new(|_, _| Fault::None));
    public.fills();
    let (answer, outcome) = server.foo().await;
    assert!(answer.unwrap() == bytes);
    assert_eq!((outcome, public.fills()), ("store", 0));
}

#[tokio::test]
async fn the_head_of_a_large_file_is_known_without_reading_it() {
    let bytes = large(4 * MIB);
    let (server, _public) = server(&memory(), &bytes).await;
    let (krate, vers) = (name("Foo"), version("1.0.0"));
    let head = server.gateway.downloads.get(&krate, &vers, Part::Head).await.unwrap();
    let File::Stream { length, pieces } = head.file else { panic!("it is whole") };
    assert_eq!((length, server.taken()), (bytes.len() as u64, 0));
    assert!(read(pieces).await.0.is_empty());
}
