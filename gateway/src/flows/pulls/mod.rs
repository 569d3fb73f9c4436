//! Who pulled what.

pub mod log;
