//! Crate files that are not held whole: they come from the store piece by piece, as fast as their
//! client takes them. The last piece is withheld until the checksum of the whole was compared, so
//! that nobody ever gets the whole of what is not verified.

use crate::files::crate_file::{PIECE_BYTES, PIECES, Stored};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use super::CrateFiles;
use cratehouse_core::checksum::Checksumming;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::memory_budget::{MemoryPermit, bytes_holding};
use cratehouse_storage::blobs::{Origin, hashed_on};

/// How long the store may take for one piece.
const PIECE_WAIT: Duration = Duration::from_secs(20);

/// The pieces of a crate file. They hold the room, also when they have left the stream.
pub(super) fn pieces(
    files: &Arc<CrateFiles>,
    file: Stored,
    permit: MemoryPermit,
) -> BoxStream<'static, Result<Bytes>> {
    let under_way = UnderWay {
        files: Arc::clone(files),
        file,
        at: 0,
        sum: Checksumming::default(),
        turns: Arc::new(Semaphore::new(PIECES)),
        permit: Arc::new(permit),
        span: Span::current(),
    };
    stream::try_unfold(under_way, UnderWay::next).boxed()
}

struct UnderWay {
    files: Arc<CrateFiles>,
    file: Stored,
    /// How many bytes were read.
    at: u64,
    /// Of these.
    sum: Checksumming,
    turns: Arc<Semaphore>,
    permit: Arc<MemoryPermit>,
    /// The request, for what is told of it.
    span: Span,
}

/// Why a stream breaks.
#[derive(Debug)]
enum Broken {
    Store(Error),
    Damaged,
}

impl UnderWay {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        let Some(range) = next_piece(self.at, self.file.size) else { return Ok(None) };
        match self.read(range).await {
            Ok(piece) => Ok(Some((piece, self))),
            Err(broken) => Err(self.tell(broken).await),
        }
    }

    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, Broken> {
        // Held by the piece: the next but one is read when this one has left.
        let held = (Arc::clone(&self.turns).acquire_owned().await, Arc::clone(&self.permit));
        let Stored { origin, cksum, size } = self.file;
        let (owned, sum, end) = (Arc::clone(&self.files), self.sum.clone(), range.end);
        let wanted = range.end - range.start;
        let reading = async move {
            let read = timeout(PIECE_WAIT, owned.blobs.piece(origin, &cksum, range)).await;
            let bytes = read.map_err(|_| too_slow())?.map_err(Error::store)?;
            let sum = hashed_on(sum, &bytes).await;
            Ok((bytes_holding(bytes, held), sum))
        };
        // Not on the thread that serves the connection.
        let reading = self.files.cache.runtime.spawn(reading.instrument(self.span.clone()));
        let read = reading.await.unwrap_or_else(|e| Err(Error::internal(e)));
        let (bytes, sum) = read.map_err(Broken::Store)?;
        if bytes.len() as u64 != wanted {
            return Err(Broken::Damaged);
        }
        (self.at, self.sum) = (end, sum);
        if self.at == size && self.sum.clone().finish() != cksum {
            return Err(Broken::Damaged);
        }
        Ok(bytes)
    }

    /// The client only sees that its body ends early.
    async fn tell(&self, broken: Broken) -> Error {
        let (metrics, cache) = (&self.files.metrics, &self.files.cache);
        let Stored { origin, cksum, size } = self.file;
        let (reason, error) = match broken {
            Broken::Store(error) => ("store", error),
            Broken::Damaged => ("damaged", damaged()),
        };
        metrics.streams_broken.with_label_values(&[reason]).inc();
        let why = error.chain();
        if let Some(suppressed) = self.files.lines.broken.admit() {
            self.span.in_scope(|| {
                tracing::error!(%cksum, %origin, size, sent = self.at, why, suppressed,
                    "a crate file broke off");
            });
        }
        if reason == "damaged" {
            let alarm = match origin {
                Origin::Hosted => "hosted_blob_missing",
                Origin::Mirrored => "damaged_blob",
            };
            metrics.alarms.with_label_values(&[alarm]).inc();
            cache.damaged.insert(cksum, ());
        }
        error
    }
}

/// The next piece of a file. The first takes what is not a whole piece, so that the last, which is
/// withheld, is one.
fn next_piece(at: u64, size: u64) -> Option<Range<u64>> {
    let left = size.checked_sub(at).filter(|left| *left > 0)?;
    let odd = left % PIECE_BYTES;
    let length = if odd == 0 { PIECE_BYTES } else { odd };
    Some(at..at + length)
}

fn too_slow() -> Error {
    let seconds = PIECE_WAIT.as_secs();
    Error::unavailable(format_args!("the object store did not answer within {seconds} s"))
}

fn damaged() -> Error {
    Error::new(Kind::Internal, "the store's copy of the crate file is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_but_the_first_has_the_full_size() {
        let pieces = |size: u64| {
            let mut at = 0;
            std::iter::from_fn(move || {
                let range = next_piece(at, size)?;
                at = range.end;
                Some(range.end - range.start)
            })
            .collect::<Vec<_>>()
        };
        assert_eq!(pieces(0), [0; 0]);
        assert_eq!(pieces(3), [3]);
        assert_eq!(pieces(PIECE_BYTES), [PIECE_BYTES]);
        assert_eq!(pieces(2 * PIECE_BYTES + 1), [1, PIECE_BYTES, PIECE_BYTES]);
    }
}
