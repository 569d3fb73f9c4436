//! stub: owner C1
/// One upstream registry.
#[derive(Debug)]
pub struct Upstream {}
impl Upstream {
    /// Builds the client; no request is made.
    pub fn new(
        _config: &crate::config::Upstream,
        _limits: &crate::config::Limits,
        _extra_ca: Option<&std::path::Path>,
        _metrics: crate::metrics::Metrics,
    ) -> crate::error::Result<Self> {
        todo!()
    }
}
