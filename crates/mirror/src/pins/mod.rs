//! Pins: the checksum that a mirrored version had when it was first served here.

pub mod cache;
pub mod pinner;
