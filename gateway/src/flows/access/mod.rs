//! Who asks.

pub mod authenticate;
pub mod token_cache;
