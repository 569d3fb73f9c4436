//! What happens on one connection, counted; and its socket, which can be had back when the
//! conversation is over.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Ticks that are told apart: those of an answer that its client takes nothing of.
pub(super) const TICKS: usize = 16;
/// What a client must take of an answer to have taken something of it, in bytes.
const SOMETHING_BYTES: usize = 100;

/// What happens on one connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Requests so far.
    pub(super) asked: AtomicU64,
    /// Heard once, at the first of them.
    pub(super) first: Notify,
    /// Those of them that have their answer, or that nobody waits for any more: by the tick in which
    /// something of it was last taken, the number of which is that of its place, modulo their number.
    ticks: [Tick; TICKS],
    /// How often an answer went on from one tick to another: it counts as answered in both.
    went_on: AtomicU64,
    /// The tick that it is.
    tick: AtomicU32,
    /// Whether the socket did not take what it was given last.
    blocked: AtomicBool,
    /// Its client has not read for so long what is left for it that it was told to go.
    pub(super) given_up: AtomicBool,
    /// Bytes that the socket has taken so far.
    pub(super) written: AtomicU64,
    /// The socket, when its driver has let it go.
    left: Mutex<Option<TcpStream>>,
}

/// Both numbers only grow.
#[derive(Debug, Default)]
struct Tick {
    /// Requests that have their answer.
    answered: AtomicU64,
    /// Those of these whose answer was sent, or that have none; or of which something was taken later.
    over: AtomicU64,
}

impl Tick {
    fn unsent(&self) -> u64 {
        let over = self.over.load(Ordering::Acquire);
        self.answered.load(Ordering::Relaxed).saturating_sub(over)
    }
}

impl Traffic {
    /// A number that changes with all that a client asks and reads.
    pub(super) fn done(&self) -> u64 {
        let (asked, written) = (&self.asked, &self.written);
        asked.load(Ordering::Relaxed).wrapping_add(written.load(Ordering::Relaxed))
    }

    /// Whether a request has no answer yet. What was reached last is read first, here and below, so that
    /// no request is overlooked while others come and go.
    pub(super) fn is_at_work(&self) -> bool {
        let answered: u64 = self.sum(|tick| &tick.answered);
        let more_than_once = self.went_on.load(Ordering::Relaxed);
        self.asked.load(Ordering::Relaxed) + more_than_once > answered
    }

    /// Whether something waits to be read by the client.
    pub(super) fn is_sending(&self) -> bool {
        let over = self.sum(|tick| &tick.over);
        self.sum(|tick| &tick.answered) > over || self.blocked.load(Ordering::Relaxed)
    }

    fn sum(&self, number: impl Fn(&Tick) -> &AtomicU64) -> u64 {
        self.ticks.iter().map(|tick| number(tick).load(Ordering::Acquire)).sum()
    }

    /// How many answers wait to be sent.
    pub(super) fn unsent(&self) -> u64 {
        self.ticks.iter().map(Tick::unsent).sum()
    }

    /// How many of them their client has last taken something of in a tick; it is one of the last
    /// [`TICKS`].
    pub(super) fn unsent_since(&self, tick: u32) -> u64 {
        self.at(tick).unsent()
    }

    /// The next tick begins. Says which one has ended.
    pub(super) fn tick(&self) -> u32 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    fn at(&self, tick: u32) -> &Tick {
        let [first, ..] = &self.ticks;
        self.ticks.get(tick as usize % TICKS).unwrap_or(first)
    }

    /// The socket, once nobody speaks on it any more.
    pub(super) fn take_left(&self) -> Option<TcpStream> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request, until its answer is sent; that is until this is dropped.
pub(super) struct AtWork {
    traffic: Arc<Traffic>,
    is_answered: bool,
    /// In which its client has last taken something of the answer.
    tick: AtomicU32,
    /// What it has taken since, in bytes: next to nothing.
    taken: AtomicUsize,
}

impl AtWork {
    pub(super) fn begin(traffic: &Arc<Traffic>) -> Self {
        if traffic.asked.fetch_add(1, Ordering::Relaxed) == 0 {
            traffic.first.notify_one();
        }
        let (tick, taken) = (AtomicU32::new(0), AtomicUsize::new(0));
        Self { traffic: Arc::clone(traffic), is_answered: false, tick, taken }
    }

    /// There is an answer, which is to be sent.
    pub(super) fn answered(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            let tick = self.traffic.tick.load(Ordering::Relaxed);
            *self.tick.get_mut() = tick;
            self.traffic.at(tick).answered.fetch_add(1, Ordering::Release);
        }
    }

    /// So many bytes of the answer were taken.
    pub(super) fn takes(&self, bytes: usize) {
        if self.tick.load(Ordering::Relaxed) == self.traffic.tick.load(Ordering::Relaxed) {
            return;
        }
        let taken = self.taken.load(Ordering::Relaxed).saturating_add(bytes);
        self.taken.store(taken, Ordering::Relaxed);
        if taken >= SOMETHING_BYTES {
            self.goes_on();
        }
    }

    /// More of the answer is wanted.
    pub(super) fn goes_on(&self) {
        let (traffic, now) = (&self.traffic, self.traffic.tick.load(Ordering::Relaxed));
        let before = self.tick.swap(now, Ordering::Relaxed);
        if before == now {
            return;
        }
        self.taken.store(0, Ordering::Relaxed);
        // In an order in which nobody who looks meanwhile overlooks it: see `Traffic::is_at_work`.
        traffic.went_on.fetch_add(1, Ordering::Relaxed);
        traffic.at(now).answered.fetch_add(1, Ordering::Release);
        traffic.at(before).over.fetch_add(1, Ordering::Release);
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.answered();
        self.traffic.at(*self.tick.get_mut()).over.fetch_add(1, Ordering::Release);
    }
}

/// A socket that counts what it has taken. Dropped, it leaves the socket with its [`Traffic`].
pub(super) struct Counted {
    /// `None` never, before the drop.
    stream: Option<TcpStream>,
    traffic: Arc<Traffic>,
}

impl Counted {
    pub(super) fn new(stream: TcpStream, traffic: &Arc<Traffic>) -> Self {
        Self { stream: Some(stream), traffic: Arc::clone(traffic) }
    }

    /// Looks at what comes next, and leaves it there.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.stream {
            Some(stream) => stream.peek(into).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        self.traffic.blocked.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = written {
            let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
            self.traffic.written.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *self.traffic.left.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(context, bytes);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(TcpStream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Arc<Traffic> {
        Arc::default()
    }

    #[test]
    fn an_answer_counts_in_the_tick_in_which_something_of_it_was_last_taken() {
        let traffic = traffic();
        let mut stalled = AtWork::begin(&traffic);
        let mut read = AtWork::begin(&traffic);
        assert!(traffic.is_at_work() && !traffic.is_sending());
        stalled.answered();
        assert!(traffic.is_at_work() && traffic.is_sending());
        read.answered();
        assert!(!traffic.is_at_work() && traffic.is_sending());
        assert_eq!(traffic.tick(), 0);
        read.takes(SOMETHING_BYTES - 1);
        stalled.takes(SOMETHING_BYTES - 1);
        assert_eq!((traffic.unsent_since(0), traffic.unsent_since(1)), (2, 0));
        read.takes(1);
        assert_eq!((traffic.unsent_since(0), traffic.unsent_since(1)), (1, 1));
        assert!(!traffic.is_at_work() && traffic.is_sending());
        assert_eq!(traffic.unsent(), 2);
        let at_work = AtWork::begin(&traffic);
        assert!(traffic.is_at_work());
        drop((stalled, read));
        assert!(traffic.is_at_work() && !traffic.is_sending());
        drop(at_work);
        assert!(!traffic.is_at_work() && !traffic.is_sending());
        assert_eq!(traffic.unsent(), 0);
    }

    #[test]
    fn ticks_come_round() {
        let traffic = traffic();
        let mut read = AtWork::begin(&traffic);
        read.answered();
        for tick in 0..3 * TICKS as u32 {
            assert_eq!((traffic.tick(), traffic.unsent_since(tick)), (tick, 1));
            read.goes_on();
            assert_eq!((traffic.unsent_since(tick), traffic.unsent()), (0, 1));
        }
    }
}
