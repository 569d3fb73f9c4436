//! What a replica tells of itself in the store, for people who look: it decides nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use cratehouse_storage::format_level::Level;

/// One replica, as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaNote {
    /// Its name (`server.replica`).
    pub replica: String,
    /// Its release, such as `0.1.0`.
    pub release: String,
    /// The commit that it was made from.
    pub commit: String,
    /// The hash of its configuration, as `config check` prints it.
    pub config: String,
    /// The highest format level that it knows.
    pub level: Level,
    /// When it was started.
    pub started: Timestamp,
    /// When it noted this.
    pub noted: Timestamp,
}
