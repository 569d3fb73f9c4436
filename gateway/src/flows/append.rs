//! stub: owner FOUNDER
/// The way into the journal.
#[derive(Debug, Clone)]
pub struct Appender {}
impl Appender {
    /// Whether the journal was read to its end once and is not known to be broken; else why not (for `/readyz`).
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }
    /// Reads the journal up to its end, begun after this call (shared by all who wait, limited in rate).
    pub async fn catch_up(&self) -> crate::error::Result<()> {
        todo!()
    }
}
