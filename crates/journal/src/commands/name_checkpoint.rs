//! Name a checkpoint that may be believed.

use super::checks::lagging;
use super::{CommandActor, Judged};
use crate::checkpoint_format::Name;
use crate::entry::EventKind;
use cratehouse_core::error::Error;

/// Names a checkpoint: only what a replica has written, of an entry that there is.
pub(super) fn judge(head: u64, by: &CommandActor, name: Name) -> Judged {
    let Name { seq, hash } = name;
    match (by, (1..=head).contains(&seq)) {
        (CommandActor::Principal(_), _) => {
            Err(Error::forbidden("replicas name their checkpoints themselves").into())
        }
        (_, false) => {
            Err(lagging(Error::invalid(format!("there is no entry {seq} to have a checkpoint of"))))
        }
        _ => Ok(vec![EventKind::Checkpointed { seq, hash }]),
    }
}
