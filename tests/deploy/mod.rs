//! How it is run: images, manifests, units, balancers, monitoring, and releases beside each other.

mod balancers;
mod compatibility;
mod compose;
mod image;
mod manifests;
mod monitoring;
mod rolling;
mod systemd;
