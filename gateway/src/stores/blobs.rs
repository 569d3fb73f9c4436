//! stub: owner C2
use crate::model::checksum::Checksum;
use bytes::Bytes;
use object_store::ObjectStore;
use std::sync::Arc;
/// Whose bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// published here
    Hosted,
    /// mirrored
    Mirrored,
}
/// Crate files in the store.
#[derive(Debug, Clone)]
pub struct Blobs {
    #[allow(dead_code)]
    store: Arc<dyn ObjectStore>,
}
impl Blobs {
    /// stub
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }
    /// Stores bytes under their checksum (the caller has verified them). Overwrites: same bytes.
    pub async fn put(
        &self,
        _o: Origin,
        _sum: &Checksum,
        _bytes: Bytes,
    ) -> Result<(), object_store::Error> {
        todo!()
    }
    /// Bytes, verified against the checksum; absent when not there. Damaged bytes are an alarm and count as absent.
    pub async fn get(
        &self,
        _o: Origin,
        _sum: &Checksum,
    ) -> Result<Option<Bytes>, object_store::Error> {
        todo!()
    }
    /// Deletes.
    pub async fn delete(&self, _o: Origin, _sum: &Checksum) -> Result<(), object_store::Error> {
        todo!()
    }
}
