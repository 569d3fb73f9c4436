//! The runs, one a file: what it does, its options, its table, and its bounds.

pub(crate) mod cargo;
pub(crate) mod compare;
pub(crate) mod growth;
pub(crate) mod lookups;
pub(crate) mod misses;
pub(crate) mod policies;
pub(crate) mod publishes;
pub(crate) mod start;
