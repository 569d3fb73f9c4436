//! Each replica notes itself in the store, so that `cratehouse doctor` can tell which releases run over it.
//! The notes decide nothing: a replica that fails to write one, or reads a wrong one, works as well as ever.

use std::pin::pin;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::Config;
use crate::model::replica_note::ReplicaNote;
use crate::stores::replicas::ReplicaNotes;
use cratehouse_storage::format_level::Level;

/// How often a replica notes itself.
pub const EVERY: Duration = Duration::from_secs(600);
/// A note that is older than this is of a replica that was taken away without a stop; a replica that starts removes
/// it.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long a stop waits for the note's removal.
const LAST: Duration = Duration::from_secs(1);

/// What this process is, to be noted under the configured name.
pub fn of(config: &Config, now: Timestamp) -> ReplicaNote {
    ReplicaNote {
        replica: config.server.replica.clone(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("CRATEHOUSE_BUILD_COMMIT").to_owned(),
        config: config.fingerprint(),
        level: Level::KNOWN,
        started: now,
        noted: now,
    }
}

/// Notes it until told to stop, and then takes the note away.
pub async fn run(notes: ReplicaNotes, note: ReplicaNote, stop: CancellationToken) {
    let forgetting = stop.run_until_cancelled(forget(&notes, note.noted));
    if let Some(Err(error)) = forgetting.await {
        debug!(%error, "the notes of other replicas could not be looked at");
    }
    while !stop.is_cancelled() {
        let current = ReplicaNote { noted: Timestamp::now(), ..note.clone() };
        let mut put = pin!(notes.put(&current));
        // One that is given up at a stop could still land, after the note was taken away.
        let outcome = match stop.run_until_cancelled(&mut put).await {
            Some(outcome) => Some(outcome),
            None => timeout(LAST, put).await.ok(),
        };
        if let Some(Err(error)) = outcome {
            debug!(%error, "this replica could not be noted");
        }
        stop.run_until_cancelled(sleep(EVERY)).await;
    }
    let _ = timeout(LAST, notes.remove(&note.replica)).await; // what stays is forgotten some day
}

async fn forget(notes: &ReplicaNotes, now: Timestamp) -> object_store::Result<()> {
    for note in notes.all().await? {
        if now.duration_since(note.noted) > FORGOTTEN {
            notes.remove(&note.replica).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::flows::fixture::memory;

    #[tokio::test(start_paused = true)]
    async fn a_replica_is_noted_until_it_stops_and_those_that_are_long_gone_are_forgotten() {
        let notes = ReplicaNotes::new(memory());
        let config = Config::load(&Flags::default(), []).unwrap();
        let note = |replica: &str, noted: &str| ReplicaNote {
            replica: replica.to_owned(),
            noted: noted.parse().unwrap(),
            ..of(&config, Timestamp::now())
        };
        notes.put(&note("gone", "2020-01-01T00:00:00Z")).await.unwrap();
        notes.put(&note("other", "2999-01-01T00:00:00Z")).await.unwrap();
        let stop = CancellationToken::new();
        let own = ReplicaNote { replica: "own".to_owned(), ..of(&config, Timestamp::now()) };
        let running = tokio::spawn(run(notes.clone(), own, stop.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let names = async || {
            let all = notes.all().await.unwrap();
            all.into_iter().map(|note| note.replica).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names().await, "other own");
        stop.cancel();
        running.await.unwrap();
        assert_eq!(names().await, "other");
    }
}
