//! Licences of mirrored versions: what their crate files state.

pub mod facts;
pub mod reader;
pub mod search;
