//! Overwriting what is mirrored, in a store that does not compare versions when it puts.

use std::sync::Arc;

use object_store::local::LocalFileSystem;

use crate::store::{KeptHead, KeptIndex, MirrorStore};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::metrics::Metrics;
use cratehouse_policy::LicenseFact;
use cratehouse_storage::objects::Objects;

#[tokio::test]
async fn overwriting_index_files_and_licences_of_a_folder_counts_no_error() {
    let metrics = Metrics::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let objects = Objects::same(Arc::new(store)).measured(&metrics);
    let mirror = MirrorStore::new(objects.cache, objects.durable);
    let foo = "foo".parse().unwrap();
    for body in ["one", "two", "three"] {
        let head = serde_json::json!({
            "checked": "2026-01-01T00:00:00Z", "from": "x", "sha256": Checksum::of(body.as_bytes()),
        });
        let head: KeptHead = serde_json::from_value(head).unwrap();
        let seen = mirror.index_seen("up", &foo).await.unwrap().1;
        let kept = KeptIndex { head, body: body.into() };
        mirror.put_index("up", &foo, kept.clone(), seen).await.unwrap();
        assert_eq!(mirror.index("up", &foo).await.unwrap(), Some(kept));
        let fact = [(Checksum::of(body.as_bytes()), LicenseFact::Missing)].into();
        mirror.add_licenses("up", &foo, &fact).await.unwrap();
    }
    let counted = |outcome| {
        let put = metrics.store_requests.with_label_values(&["put", outcome]);
        put.get_sample_count()
    };
    assert_eq!((counted("ok"), counted("error")), (4, 0));
}
