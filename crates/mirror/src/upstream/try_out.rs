//! Whether an upstream is there at all, for who has just configured it.

use super::{Turn, Upstream, UpstreamError, UpstreamRequest};

impl Upstream {
    /// Asks for something that every upstream has an answer to.
    ///
    /// # Errors
    /// [`UpstreamError`], when it has none.
    pub async fn try_out(&self) -> Result<(), UpstreamError> {
        if self.config.dl.is_none() {
            return self.learn().await.map(drop);
        }
        // It may do without a `config.json`.
        let url = self.index_url("se/rd/serde")?;
        let request = UpstreamRequest {
            kind: "index",
            url,
            validators: None,
            inflate: true,
            permit: &mut |_| self.index_bytes as u64,
            largest: self.index_bytes as u64,
            arriving: &mut |_| true,
            within: self.config.timeout,
            trace: None,
        };
        self.run_in_turn(Turn { held: true, ..Turn::OWN }, request).await.map(drop)
    }
}
