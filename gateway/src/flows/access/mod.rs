//! Who asks.

pub mod authenticate;
pub mod last_uses;
pub mod reader;
pub mod throttle;
pub mod token_cache;
pub mod token_life;
pub mod visibility;
