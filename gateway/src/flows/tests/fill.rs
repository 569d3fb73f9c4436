//! Fills from upstreams: turns, memory, and on whose behalf.

use crate::config::Limits;
use crate::flows::access::reader::Reader;
use crate::flows::fixture::{Public, TestGateway, limits, memory, name};
use crate::flows::registry::download::Part;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_mirror::upstream::Turn;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_fill_that_waits_for_its_turn_has_no_memory_yet() {
    let public = Public::start(b"bytes").await;
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    let upstream = &server.gateway.mirror.upstreams[0];
    let mut places = Vec::new();
    for _ in 0..limits().upstream_requests {
        places.push(upstream.crate_place(Turn::OWN).await.unwrap());
    }
    let its_turn_comes = async {
        while upstream.crates_waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let taken = server.taken();
        drop(places);
        taken
    };
    let (answer, taken) = tokio::join!(server.foo(), its_turn_comes);
    assert_eq!((taken, answer.1, answer.0.unwrap().as_ref()), (0, "miss", &b"bytes"[..]));
}

#[tokio::test]
async fn what_another_upstream_lists_is_asked_on_behalf_of_the_client() {
    let (first, second) = (Public::start(b"bytes").await, Public::start(b"bytes").await);
    first.set(|state| state.sent = None);
    let server = TestGateway::open(&memory(), &[&first, &second], limits()).await;
    let upstream = &server.gateway.mirror.upstreams[1];
    let mut places = Vec::new();
    for _ in 0..limits().upstream_requests {
        places.push(upstream.index_place().await);
    }
    let client = ClientKey::of([192, 0, 2, 1].into());
    let (name, version) = (name("Foo"), "1.0.0".parse().unwrap());
    let reader = Reader::Own(client);
    let downloading = server.gateway.downloads.get_for(&reader, &name, &version, Part::Bytes);
    let its_turn_comes = async {
        while upstream.index_waiting().is_empty() {
            tokio::task::yield_now().await;
        }
        let waiting = upstream.index_waiting();
        drop(places);
        waiting
    };
    let (download, waiting) = tokio::join!(downloading, its_turn_comes);
    assert_eq!((waiting, download.unwrap().cksum), (vec![client], Checksum::of(b"bytes")));
}

#[tokio::test]
async fn a_large_crate_file_waits_for_memory_without_an_open_answer() {
    let public = Public::start(&vec![7; 3 << 20]).await;
    let limits = Limits { fill_memory_bytes: 4 << 20, ..limits() };
    let server = TestGateway::open(&memory(), &[&public], limits).await;
    let crates = &server.gateway.mirror.files.cache;
    let others = crates.reserve(10 * MIB).await.unwrap();
    let waiting = server.foo();
    let freed = async {
        // One who waits has taken what there is.
        while crates.taken() < 12 * MIB {
            tokio::task::yield_now().await;
        }
        drop(others);
    };
    let (answer, ()) = tokio::join!(waiting, freed);
    assert_eq!((answer.1, public.fills()), ("miss", 2));
}
