//! What the gateway's command line and the credential provider both need to know of cargo: how it is configured,
//! and which registry an index URL is of. Asks nobody.

pub mod config;
pub mod registry;
