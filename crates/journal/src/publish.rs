//! Bringing a version in: its bytes to the store first, then the entry that names them, so that an index line
//! which anyone can see has its bytes.

use std::time::Duration;

use bytes::Bytes;

use crate::commands::{ActorCommand, Command, CommandActor, must_put_again};
use crate::writer::JournalHandle;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::Published;
use cratehouse_storage::blobs::{Blobs, Origin};

/// How long the deletion of the same bytes is waited for, and how often its end is looked for.
const COLLECTING: Duration = Duration::from_secs(5);
const COLLECTING_PAUSE: Duration = Duration::from_millis(100);

/// What brings versions in.
#[derive(Debug, Clone)]
pub struct VersionWriter {
    /// Where their entries go.
    pub journal: JournalHandle,
    /// Where their bytes go.
    pub blobs: Blobs,
    /// How much of the index a version and its crate may take.
    pub bounds: IndexBounds,
}

impl VersionWriter {
    /// Puts the bytes, and gives the command that names them.
    ///
    /// # Errors
    /// When the store does not take them.
    pub async fn put(
        &self,
        by: CommandActor,
        published: Box<Published>,
        crate_file: Bytes,
    ) -> Result<ActorCommand> {
        // Before the put: bytes that are condemned after this entry may be deleted again.
        let put_at = self.journal.catalog().head()?.seq;
        let put = self.blobs.put(Origin::Hosted, &published.line.cksum, crate_file);
        put.await.map_err(Error::store)?;
        Ok(ActorCommand {
            by,
            command: Command::Publish { published, put_at, bounds: self.bounds },
        })
    }

    /// Appends the command. The journal's word is the last one; where a sweep may have deleted the bytes
    /// since they were put, they are put again, once.
    ///
    /// # Errors
    /// Those of the judge; unavailable, when it is not known whether it was done.
    pub async fn append(&self, command: ActorCommand, crate_file: Bytes) -> Result<()> {
        match self.journal.append(command.clone()).await {
            Err(e) if must_put_again(&e) => {
                let again = self.put_again(command, crate_file);
                let command = tokio::time::timeout(deadline::at_most(COLLECTING), again)
                    .await
                    .map_err(|_| e)??;
                self.journal.append(command).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    async fn put_again(&self, command: ActorCommand, crate_file: Bytes) -> Result<ActorCommand> {
        let ActorCommand { by, command } = command;
        let Command::Publish { published, .. } = command else {
            return Ok(ActorCommand { by, command });
        };
        let condemned = || self.journal.catalog().view()?.condemned(&published.line.cksum);
        while condemned()?.is_some_and(|row| row.collected.is_none()) {
            tokio::time::sleep(COLLECTING_PAUSE).await;
            self.journal.catch_up().await?;
        }
        self.put(by, published, crate_file).await
    }
}
