//! Log lines about what upstreams and the mirror do wrong. A single upstream can cause any number of
//! them, so each kind is limited; alarms and metrics count all.

use std::sync::Arc;

use crate::logging::limit::LineLimit;
use crate::metrics::Metrics;

/// The limits of these lines.
#[derive(Debug)]
pub struct MirrorLines {
    /// A version has another checksum than its pin.
    pub(super) checksum_changed: LineLimit,
    /// Bytes are not what the index says.
    pub(super) wrong_bytes: LineLimit,
    /// What the store has is damaged.
    pub(super) damaged_copy: LineLimit,
    /// An upstream gave no answer that could be used.
    pub(super) no_answer: LineLimit,
    /// An index file of an upstream has lines that cannot be read.
    pub(super) skipped: LineLimit,
    /// The store did not keep or give what is mirrored. Copies that follow an answer share it.
    pub(super) store: Arc<LineLimit>,
    /// The names of mirrored crates could not be read or written.
    pub(super) names: LineLimit,
}

impl MirrorLines {
    /// Limits that count in these metrics what is left out.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            checksum_changed: LineLimit::new("checksum_changed", metrics),
            wrong_bytes: LineLimit::new("wrong_bytes", metrics),
            damaged_copy: LineLimit::new("damaged_copy", metrics),
            no_answer: LineLimit::new("no_answer", metrics),
            skipped: LineLimit::new("index_lines", metrics),
            store: Arc::new(LineLimit::new("mirror_store", metrics)),
            names: LineLimit::new("mirrored_names", metrics),
        }
    }
}
