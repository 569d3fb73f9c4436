//! Other registries: what is read through, kept, pinned and filled.

mod crates_io;
mod fills;
mod outgoing;
mod panamax;
mod pins;
mod read_through;
