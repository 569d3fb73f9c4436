//! The object store and the journal in it: kinds, outages, damage, replicas.

mod checkpoints;
mod durability;
mod folders;
mod forgeries;
mod full_disk;
mod permissions;
mod replicas;
mod s3;
mod store_mistakes;
mod store_outages;
mod upkeep;
mod wrong_store;
