//! The store: whether it is there, behaves, and holds a registry that this release reads.

use std::time::Duration;

use jiff::Timestamp;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use tokio::time::timeout;

use super::finding::Finding;
use crate::config::Config;
use crate::flows::store::founded;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_storage::objects::Objects;
use cratehouse_storage::self_test::{Effort, self_test};

/// How long the store may take for a question.
const PATIENCE: Duration = Duration::from_secs(30);
const CHECK: &str = "store";

/// Looks for the registry and tries the store, as a start does; gives the store, if there is a registry in
/// it.
pub async fn look(config: &Config) -> (Finding, Option<Objects>) {
    let (objects, registry) = match timeout(PATIENCE, founded::existing(config)).await {
        Ok(Ok(found)) => found,
        Ok(Err(e)) => return (judge_absence(&e), None),
        Err(_) => return (judge_absence(&silent()), None),
    };
    let tried = self_test(&objects, Effort::of(&config.store.url), |_, _| ()).await;
    let store = founded::shown(&config.store.url);
    let finding = match tried {
        Ok(()) => Finding::fine(CHECK, format!("{store} behaves, and holds registry {registry}")),
        Err(e) => Finding::wrong(
            CHECK,
            e.chain(),
            "mend it before anything else: a start is refused until then",
        ),
    };
    (finding, Some(objects))
}

fn silent() -> Error {
    let text = format!("the store does not answer within {} s", PATIENCE.as_secs());
    Error::new(Kind::Unavailable, text)
}

/// Judges why no registry is found.
pub fn judge_absence(why: &Error) -> Finding {
    let cure = match why.kind {
        Kind::Unavailable => {
            "look at `store.url`, `store.endpoint` and `store.region`, at the credentials and at the network"
        }
        Kind::Absent => "name the right store, or found a registry there with `cratehouse init`",
        Kind::Forbidden => "run this as the user of the server",
        _ => "look at the section `[store]` of the configuration",
    };
    Finding::wrong(CHECK, why.chain(), cure)
}

/// What time the store says it is, by an object that is written for that and deleted.
///
/// # Errors
/// Those of the store.
pub async fn time(objects: &Objects) -> Result<Option<(Timestamp, Timestamp)>> {
    let path = Path::from(format!("selftest/clock-{:016x}", rand::random::<u64>()));
    let asking = async {
        objects.durable.put(&path, "x".into()).await?;
        let ours = Timestamp::now();
        let seen = objects.durable.head(&path).await?;
        objects.durable.delete(&path).await?;
        Ok::<_, object_store::Error>((ours, seen.last_modified))
    };
    let asked = timeout(PATIENCE, asking).await.map_err(|_| silent())?;
    let (ours, stores) = asked.map_err(Error::store)?;
    Ok(Timestamp::from_millisecond(stores.timestamp_millis()).ok().map(|stores| (ours, stores)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_of_a_store_is_read_and_nothing_stays_there() {
        let objects = Objects::in_memory();
        let (ours, stores) = time(&objects).await.unwrap().unwrap();
        assert!(ours.duration_since(stores).as_secs().abs() < 60);
        let left: Vec<_> = futures_util::StreamExt::collect(objects.durable.list(None)).await;
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn each_kind_of_absence_has_its_cure() {
        let cure = |kind| judge_absence(&Error::new(kind, "no")).cure.unwrap();
        assert!(cure(Kind::Unavailable).contains("store.endpoint"));
        assert!(cure(Kind::Absent).contains("cratehouse init"));
    }
}
