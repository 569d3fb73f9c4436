//! Tests that need whole gateways.

mod evict;
mod fill;
mod judging;
mod licenses;
mod names;
mod streaming;
mod twins;
