//! The names that search finds, and a store that does not give them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::flows::fixture::{Public, TestGateway, limits, memory};
use cratehouse_storage::test_util::{Fault, FaultyStore};

#[tokio::test]
async fn searches_have_the_names_read_once_and_not_again_soon_after_a_failure() {
    let store = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::None)));
    let shared = Arc::clone(&store) as Arc<dyn ObjectStore>;
    let public = Public::start(b"x").await;
    let server = TestGateway::open(&shared, &[&public], limits()).await;
    let (keeper, calls) = (&server.gateway.mirror.keeper, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let plan = move |_, path: &Path| {
        let is_mirror = path.as_ref().contains("mirror");
        counted.fetch_add(usize::from(is_mirror), Ordering::SeqCst);
        if is_mirror { Fault::Before } else { Fault::None }
    };
    store.plan(Box::new(plan));
    // Each leaves at once.
    (0..100).for_each(|_| assert!(keeper.load().now_or_never().is_none()));
    assert!(keeper.has_failed().await);
    let asked = calls.load(Ordering::SeqCst);
    assert!(asked > 0);
    for _ in 0..100 {
        keeper.load().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), asked, "the store was asked by one of them");
    store.plan(Box::new(|_, _| Fault::None));
    keeper.forget_failure().await;
    keeper.load().await;
    assert!(keeper.is_loaded());
}
