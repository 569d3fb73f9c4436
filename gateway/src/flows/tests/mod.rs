//! Tests of the journal that need whole gateways.

mod format;
mod verify;
