//! Log lines about what upstreams and the mirror do wrong. A single upstream can cause any number of
//! them, so each kind is limited; alarms and metrics count all.

use std::sync::Arc;

use cratehouse_core::log_limit::LineLimit;
use cratehouse_core::metrics::Metrics;

/// The limits of these lines.
#[derive(Debug)]
pub(crate) struct MirrorLines {
    /// A version has another checksum than its pin.
    pub(super) checksum_changed: LineLimit,
    /// Bytes are not what the index says.
    pub(super) wrong_bytes: LineLimit,
    /// What the store has is damaged.
    pub(super) damaged_copy: LineLimit,
    /// The store does not give or keep licences, or they are damaged. Work that goes on by itself
    /// shares it.
    pub(super) licenses: Arc<LineLimit>,
    /// An upstream gave no answer that could be used.
    pub(super) no_answer: LineLimit,
    /// An index file of an upstream has lines that cannot be read.
    pub(super) skipped: LineLimit,
    /// The store did not keep or give what is mirrored. Copies that follow an answer share it.
    pub(super) store: Arc<LineLimit>,
    /// An upstream no longer has a crate.
    pub(super) gone: LineLimit,
    /// An upstream lists a version and does not have its bytes.
    pub(super) not_at_dl: LineLimit,
    /// There was no memory for what was asked for.
    pub(super) no_memory: LineLimit,
    /// A hosted version's bytes are lost.
    pub(super) lost: LineLimit,
    /// A crate file broke off while it was sent.
    pub(super) broken: LineLimit,
    /// The names of mirrored crates could not be read or written.
    pub(super) names: LineLimit,
}

impl MirrorLines {
    /// Limits that count in these metrics what is left out.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            checksum_changed: LineLimit::new("checksum_changed", metrics),
            wrong_bytes: LineLimit::new("wrong_bytes", metrics),
            damaged_copy: LineLimit::new("damaged_copy", metrics),
            licenses: Arc::new(LineLimit::new("licenses", metrics)),
            no_answer: LineLimit::new("no_answer", metrics),
            skipped: LineLimit::new("index_lines", metrics),
            store: Arc::new(LineLimit::new("mirror_store", metrics)),
            gone: LineLimit::new("gone_upstream", metrics),
            not_at_dl: LineLimit::new("not_at_dl", metrics),
            no_memory: LineLimit::new("no_memory", metrics),
            lost: LineLimit::new("hosted_blob_missing", metrics),
            broken: LineLimit::new("stream_broken", metrics),
            names: LineLimit::new("mirrored_names", metrics),
        }
    }
}
