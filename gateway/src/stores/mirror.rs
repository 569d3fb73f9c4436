//! stub: owner C1
use object_store::ObjectStore;
use std::sync::Arc;
/// Mirrored index files and pins in the store.
#[derive(Debug, Clone)]
pub struct MirrorStore {
    #[allow(dead_code)]
    store: Arc<dyn ObjectStore>,
}
impl MirrorStore {
    /// stub
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }
}
