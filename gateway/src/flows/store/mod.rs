//! What operators do with the store, and what a replica does for them by itself.

pub mod copy;
pub mod doctor;
pub mod founded;
pub mod replica_note;
pub mod show;
pub mod store_watch;
pub mod sweeping;
pub mod trail_page;
pub mod trying;
pub mod upkeep;
pub mod verifying;
