//! Index files: in memory, from the store, from the chain of upstreams, and what is known of them beside
//! their lines.

pub mod cache;
pub mod chain;
pub mod copies;
pub mod credit;
pub mod judged;
pub mod read_through;
mod taken;
