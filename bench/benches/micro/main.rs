//! What the answer to one request is made of, piece by piece: time and allocations of each.
//! `cargo bench -p cratehouse-bench` runs all of them, `… -- has_already` those of that name.
//! ../../README.md says what each is about.

#![allow(clippy::unwrap_used, reason = "what cannot be set up cannot be measured")]

mod access;
mod files;
mod input;
mod lookups;
mod policies;
mod requests;
mod test_gateway;

#[global_allocator]
static COUNTED: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}
