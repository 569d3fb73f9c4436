//! Connections, bodies, certificates.

mod bodies;
mod browsers;
mod connections;
mod rotation;
mod unread;
