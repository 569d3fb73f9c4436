//! Who asks.

pub mod authenticate;
pub mod reader;
pub mod token_cache;
pub mod visibility;
