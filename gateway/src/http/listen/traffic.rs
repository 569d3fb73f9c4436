//! What happens on one connection, counted; and its socket, which can be had back when the
//! conversation is over.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What happens on one connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Requests so far.
    pub(super) asked: AtomicU64,
    /// Heard once, at the first of them.
    pub(super) first: Notify,
    /// Requests that have no answer yet.
    pub(super) at_work: AtomicU64,
    /// Answers that are being sent.
    pub(super) sending: AtomicU64,
    /// Whether the socket did not take what it was given last.
    blocked: AtomicBool,
    /// Its client has not read for so long what is left for it that it was told to go.
    pub(super) given_up: AtomicBool,
    /// Bytes that the socket has taken so far.
    pub(super) written: AtomicU64,
    /// The socket, when whoever spoke on it has let it go.
    left: Mutex<Option<TcpStream>>,
}

impl Traffic {
    /// A number that changes with all that a client asks and reads.
    pub(super) fn done(&self) -> u64 {
        let (asked, written) = (&self.asked, &self.written);
        asked.load(Ordering::Relaxed).wrapping_add(written.load(Ordering::Relaxed))
    }

    /// Whether something waits to be read by the client.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed) > 0 || self.blocked.load(Ordering::Relaxed)
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
}

impl AtWork {
    pub(super) fn begin(traffic: &Arc<Traffic>) -> Self {
        traffic.at_work.fetch_add(1, Ordering::Relaxed);
        if traffic.asked.fetch_add(1, Ordering::Relaxed) == 0 {
            traffic.first.notify_one();
        }
        Self { traffic: Arc::clone(traffic), is_answered: false }
    }

    /// There is an answer, which is to be sent.
    pub(super) fn answered(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            self.traffic.sending.fetch_add(1, Ordering::Relaxed);
            self.traffic.at_work.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let of = if self.is_answered { &self.traffic.sending } else { &self.traffic.at_work };
        of.fetch_sub(1, Ordering::Relaxed);
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
