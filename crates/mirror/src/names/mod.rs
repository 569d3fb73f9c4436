//! The names of mirrored crates, as search finds them: in memory, and one list an upstream in the store.

pub mod keeper;
pub mod known;
pub mod table;
