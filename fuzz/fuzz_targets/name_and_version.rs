#![no_main]
#[path = "../entry_points.rs"]
#[allow(dead_code)] // the other targets'
mod entry_points;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry_points::name_and_version(bytes));
