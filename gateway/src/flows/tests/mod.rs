//! Tests that need whole gateways.

mod evict;
mod fill;
mod format;
mod judging;
mod licenses;
mod names;
mod streaming;
mod verify;
