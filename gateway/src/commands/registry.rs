//! What commands work on: a store, whose journal this process has read, or a server that is asked over HTTPS. What is
//! printed is the same, since both give the same rows.

mod access;
mod upkeep;

use crate::commands::remote::Server;
use crate::flows::open::Running;
use crate::gateway::Gateway;

/// A registry, by either way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Registry<'a> {
    /// Its store.
    Store(&'a Running),
    /// A server of it.
    Server(&'a Server),
}

impl<'a> Registry<'a> {
    /// The gateway over the store; an error tells the server instead.
    fn place(self) -> Result<&'a Gateway, &'a Server> {
        match self {
            Self::Store(running) => Ok(&running.gateway),
            Self::Server(server) => Err(server),
        }
    }
}
