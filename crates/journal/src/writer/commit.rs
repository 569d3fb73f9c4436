//! One entry's way into the journal: put until it is known what stands at its number.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use tracing::{error, info, warn};

#[cfg(any(test, feature = "test-util"))]
use super::bugs::Bug;
use super::follow::Found;
use super::group::{Sealed, Waiting, refuse};
use super::{JournalWriter, lock, unwritable};
use cratehouse_core::error::{Error, Refusal};

/// Entries that are read at once after a lost race: who lost is behind by more than one when
/// another never stops, and would stay so.
const LOSERS_READ: u64 = 8;
/// Waits between two puts of the same entry.
const PUT_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// For how long a lost race counts as contention, and by how much a winner's pause then varies,
/// beside the time that a put takes.
const CONTENTION: Duration = Duration::from_secs(10);
const WINNER_PAUSE: Duration = Duration::from_millis(30);
/// Puts that win without a break, after which there is one, whichever replica competes.
const MAX_WINS: u32 = 10;

impl JournalWriter {
    /// Puts an entry until it is known what stands at its number. Gives back the commands that
    /// must be judged again, because somebody else's entry stands there.
    pub(super) async fn commit(&mut self, sealed: Sealed) -> Vec<Waiting> {
        let (seq, id) = (sealed.entry.seq, sealed.entry.id);
        let mut pause = PUT_PAUSES.0;
        // Whether each put so far has come to nothing: one of which that is not known may still land.
        let mut is_certain = true;
        loop {
            let began = Instant::now();
            let (put, early) = self.put(&sealed).await;
            self.put_took = began.elapsed();
            let Err(unknown) = put else {
                // Where the catalog cannot be written the entry stands all the same.
                self.apply(vec![(sealed.entry.clone(), sealed.hash)]).await;
                return self.won(sealed);
            };
            self.metrics.append_retries.inc();
            #[cfg(any(test, feature = "test-util"))]
            if self.has(Bug::BelievesAnError) {
                return self.lost(sealed, true);
            }
            #[cfg(any(test, feature = "test-util"))]
            if self.has(Bug::AnswersUnproven) {
                return self.won(sealed);
            }
            let read = match early {
                Some(found) => Ok(found),
                None => self.read_entries(LOSERS_READ).await,
            };
            match read {
                Ok((entries, broken)) => match entries.first().map(|(first, _)| first.id == id) {
                    Some(ours) => {
                        let applied = self.apply(entries).await;
                        broken.inspect(|why| drop(self.break_off(why)));
                        return if ours { self.won(sealed) } else { self.lost(sealed, applied) };
                    }
                    None => match broken {
                        Some(why) => {
                            self.break_off(&why);
                            return sealed.into_group();
                        }
                        #[cfg(any(test, feature = "test-util"))]
                        None if self.has(Bug::MovesOn) => return self.lost(sealed, true),
                        None => {
                            match Refusal::of(&unknown) {
                                Some(why) if is_certain => return self.refused(sealed, why),
                                Some(_) => (),
                                None => is_certain = false,
                            }
                            if let Some(suppressed) = self.lines.admit() {
                                info!(seq, error = %unknown, suppressed, "an entry was not put; the same is put again");
                            }
                        }
                    },
                },
                Err(e) => {
                    is_certain &= Refusal::of(&unknown).is_some();
                    if let Some(suppressed) = self.lines.admit() {
                        warn!(seq, put = %unknown, read = %e.chain(), suppressed, "what became of an entry is not known; the same is put again");
                    }
                }
            }
            tokio::time::sleep(pause + self.jitter(pause)).await;
            pause = (pause * 2).min(PUT_PAUSES.1);
            // The failure may have been a store that was set back: then there is a gap before
            // this number, and nothing may be put behind it.
            self.recognised = None;
            if self.recognise().await.is_err() && lock(&self.status).broken.is_some() {
                return sealed.into_group();
            }
        }
    }

    /// Puts an entry. While others compete, what stands behind the head is read at the same time:
    /// who loses then knows at once to whom, since an entry never changes.
    async fn put(&self, sealed: &Sealed) -> (object_store::Result<()>, Option<Found>) {
        let put = self.journal.create(sealed.entry.seq, sealed.bytes.clone());
        if !self.contended() {
            return (put.await, None);
        }
        let (put, read) = tokio::join!(put, self.read_entries(LOSERS_READ));
        (put, read.ok().filter(|(entries, _)| !entries.is_empty()))
    }

    fn contended(&self) -> bool {
        self.contended_at.is_some_and(|at| at.elapsed() < CONTENTION)
    }

    fn won(&mut self, sealed: Sealed) -> Vec<Waiting> {
        self.metrics.appends.inc();
        self.won_at = Some(Instant::now());
        self.wins += 1;
        sealed.answer();
        Vec::new()
    }

    /// The folder refused the put, and nothing stands at its number: nor can it come there, since such a
    /// call has no effect once it has failed. Trying on would keep everybody waiting for an operator.
    fn refused(&mut self, sealed: Sealed, why: Refusal) -> Vec<Waiting> {
        let seq = sealed.entry.seq;
        if let Some(suppressed) = self.lines.admit() {
            error!(seq, suppressed, "an entry was not put: {}", why.words());
        }
        refuse(sealed.release(), &Error::refused_by_store(why));
        Vec::new()
    }

    fn lost(&mut self, sealed: Sealed, applied: bool) -> Vec<Waiting> {
        (self.won_at, self.wins) = (None, 0);
        self.contended_at = Some(Instant::now());
        let group = sealed.release();
        match applied {
            true => group,
            false => {
                refuse(group, &unwritable());
                Vec::new()
            }
        }
    }

    /// While others compete, who has just won lets them go first; who has lost does not wait, so
    /// that nobody starves. Whoever always wins cannot see others lose: after so many wins
    /// without a break it makes room for them too, and if there are any, it then sees them.
    pub(super) async fn let_others_go_first(&mut self) {
        let Some(won) = self.won_at else { return };
        let contended = self.contended();
        // Others learn that they lost, read, and put again: two or three round trips.
        let room = self.put_took * 2;
        let until = won + room + self.jitter(room + WINNER_PAUSE);
        if contended || self.wins >= MAX_WINS {
            tokio::time::sleep_until(until).await;
        }
        if contended || won.elapsed() > room {
            self.wins = 0;
        }
    }

    pub(super) fn jitter(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.random::<f64>())
    }
}
