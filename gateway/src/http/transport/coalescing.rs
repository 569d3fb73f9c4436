//! What HTTP writes, gathered. An HTTP/2 connection writes and flushes every frame by itself; sent
//! like that, thirty small answers are thirty TLS records and thirty system calls, and those are most
//! of what a small answer costs. Here they wait until the connection has done all that it can do at the
//! moment: what is small as it was written, to share a record, and the rest encrypted. Then all leaves
//! in one call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How much may wait on one connection encrypted, in bytes. What is more leaves on the spot.
const WAITING_BYTES: usize = 64 << 10;
/// How much may wait beside that as it was written, in bytes: what a TLS record holds.
const RECORD_BYTES: usize = 16 << 10;
/// What is larger costs more to copy than a record of its own, in bytes.
const SMALL_BYTES: usize = 4 << 10;

/// A TLS connection whose flushes do nothing: its driver calls [`CoalescedWriter::release`] each
/// time after the connection was polled. Clones are the same connection.
#[derive(Debug)]
pub(crate) struct CoalescedWriter<S>(Arc<Mutex<Waiting<S>>>);

#[derive(Debug)]
struct Waiting<S> {
    stream: TlsStream<Gate<S>>,
    /// What was written and is not encrypted yet.
    small: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescedWriter<S> {
    /// Shakes hands.
    ///
    /// # Errors
    /// Those of the client and of the socket.
    pub(crate) async fn accept(tls: &TlsAcceptor, stream: S) -> io::Result<Self> {
        let open = Gate { stream, is_open: true };
        let mut stream = tls.accept(open).await?;
        let (gate, session) = stream.get_mut();
        gate.is_open = false;
        session.set_buffer_limit(Some(WAITING_BYTES));
        Ok(Self(Arc::new(Mutex::new(Waiting { stream, small: Vec::new() }))))
    }

    /// Sends what waits. `Pending`: the client takes no more at the moment, and the task is woken
    /// when it does.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn release(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().release(context)
    }
}

impl<S> CoalescedWriter<S> {
    fn lock(&self) -> MutexGuard<'_, Waiting<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Waiting<S> {
    fn write(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes <= SMALL_BYTES && self.small.len() + bytes <= RECORD_BYTES {
            parts.iter().for_each(|part| self.small.extend_from_slice(part));
            return Poll::Ready(Ok(bytes));
        }
        loop {
            match ready!(self.encrypt_record(context, parts))? {
                0 => {} // what waited has left them no room
                taken => return Poll::Ready(Ok(taken)),
            }
        }
    }

    /// Makes a record of what is not encrypted yet and of as much of these parts as fits beside it;
    /// says how much of them that is. The largest frame of HTTP/2 is nine bytes longer than a record:
    /// those are small, and share the next one.
    fn encrypt_record(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = RECORD_BYTES.saturating_sub(self.small.len());
        let mut record = Vec::with_capacity(1 + parts.len());
        record.push(IoSlice::new(&self.small));
        for part in parts {
            let part = part.get(..room).unwrap_or(part);
            room -= part.len();
            record.push(IoSlice::new(part));
        }
        let taken = ready!(encrypt(&mut self.stream, context, &record))?;
        let of_small = taken.min(self.small.len());
        self.small.drain(..of_small);
        Poll::Ready(Ok(taken - of_small))
    }

    /// Encrypts what is not yet, and frees its memory: a connection may be idle for long.
    fn encrypt_small(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.small.is_empty() {
            ready!(self.encrypt_record(context, &[]))?;
        }
        self.small = Vec::new();
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.encrypt_small(context))?;
        release(&mut self.stream, context)
    }
}

/// Encrypts, if need be after what waits has left.
fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<Gate<S>>,
    context: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match Pin::new(&mut *stream).poll_write_vectored(context, parts) {
        Poll::Pending => {}
        written => return written,
    }
    match release(stream, context) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        // What has left made room, or the task is woken when it has.
        _ => Pin::new(stream).poll_write_vectored(context, parts),
    }
}

fn release<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<Gate<S>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    stream.get_mut().0.is_open = true;
    let sent = Pin::new(&mut *stream).poll_flush(context);
    stream.get_mut().0.is_open = false;
    sent
}

impl<S> Clone for CoalescedWriter<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CoalescedWriter<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CoalescedWriter<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.lock();
        ready!(waiting.encrypt_small(context))?;
        waiting.stream.get_mut().0.is_open = true;
        Pin::new(&mut waiting.stream).poll_shutdown(context)
    }
}

/// The socket, which takes nothing while it is closed: what TLS has encrypted stays with TLS. Then
/// nobody is woken when it opens, and nobody has to be.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    stream: S,
    is_open: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.is_open {
            true => Pin::new(&mut self.stream).poll_write(context, bytes),
            false => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.is_open {
            true => Pin::new(&mut self.stream).poll_write_vectored(context, bytes),
            false => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::config::Tls;
    use crate::http::transport::tls::server_config;

    const PIPE_BYTES: usize = 16 << 10;
    /// What a record takes beside what it holds, in TLS 1.3.
    const RECORD_COSTS: usize = 5 + 1 + 16;

    /// Our side of a pipe, which counts the writes that it is asked for and the bytes that it takes.
    struct Counting(DuplexStream, Arc<Counts>);

    #[derive(Default)]
    struct Counts {
        writes: AtomicUsize,
        bytes: AtomicUsize,
    }

    impl Counting {
        fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
            self.1.writes.fetch_add(1, Ordering::Relaxed);
            if let Poll::Ready(Ok(bytes)) = written {
                self.1.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            written
        }
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = Pin::new(&mut self.0).poll_write(context, bytes);
            self.count(written)
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let written = Pin::new(&mut self.0).poll_write_vectored(context, bytes);
            self.count(written)
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }
        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    type Client = tokio_rustls::client::TlsStream<DuplexStream>;

    /// Both ends after the handshake, and what ours has written.
    async fn connected() -> (CoalescedWriter<Counting>, Client, Arc<Counts>) {
        let folder = tempfile::tempdir().unwrap();
        let prepared = server_config(&Tls::LocalCa, folder.path(), &[]).unwrap().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(prepared.ca.unwrap()).unwrap()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let (client, acceptor) =
            (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(prepared.config));
        let (ours, theirs) = duplex(PIPE_BYTES);
        let counts = Arc::<Counts>::default();
        let ours = CoalescedWriter::accept(&acceptor, Counting(ours, Arc::clone(&counts)));
        let name = ServerName::try_from("localhost").unwrap();
        let (ours, theirs) = tokio::join!(ours, client.connect(name, theirs));
        let ours = ours.unwrap();
        poll_fn(|context| ours.release(context)).await.unwrap(); // tickets
        (ours, theirs.unwrap(), counts)
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_waits_and_leaves_in_one_record_and_one_call() {
        let (mut ours, mut theirs, counts) = connected().await;
        let so_far = || {
            let Counts { writes, bytes } = &*counts;
            (writes.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
        };
        let (writes, bytes) = so_far();
        for _ in 0..30 {
            ours.write_all(&[7; 100]).await.unwrap();
            ours.flush().await.unwrap();
        }
        assert_eq!(so_far(), (writes, bytes));
        poll_fn(|context| ours.release(context)).await.unwrap();
        assert_eq!(so_far(), (writes + 1, bytes + 3000 + RECORD_COSTS));
        let mut read = [0; 3000];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [7; 3000]);
    }

    #[tokio::test]
    async fn what_a_frame_has_more_than_a_record_shares_the_next_one() {
        let (mut ours, mut theirs, counts) = connected().await;
        let before = counts.bytes.load(Ordering::Relaxed);
        let (frame, next) = (vec![7; RECORD_BYTES + 9], vec![7; SMALL_BYTES + 1]);
        ours.write_all(&frame).await.unwrap();
        ours.write_all(&next).await.unwrap();
        let mut read = vec![0; frame.len() + next.len()];
        let sent = poll_fn(|context| ours.release(context));
        let (sent, got) = tokio::join!(sent, theirs.read_exact(&mut read));
        sent.unwrap();
        got.unwrap();
        let took = counts.bytes.load(Ordering::Relaxed) - before;
        assert_eq!(took, read.len() + 2 * RECORD_COSTS);
    }

    #[tokio::test]
    async fn small_and_large_pieces_leave_in_their_order() {
        let (mut ours, mut theirs, _) = connected().await;
        let sizes = [1, SMALL_BYTES, 9, SMALL_BYTES + 1, 100, 40_000].into_iter().cycle().take(60);
        let pieces: Vec<_> = (0..=u8::MAX).zip(sizes).map(|(n, size)| vec![n; size]).collect();
        let whole = pieces.concat();
        let mut read = Vec::new();
        let writing = async {
            for piece in &pieces {
                ours.write_all(piece).await.unwrap();
            }
            ours.shutdown().await.unwrap();
        };
        let ((), outcome) = tokio::join!(writing, theirs.read_to_end(&mut read));
        outcome.unwrap();
        assert!(read == whole);
    }

    #[tokio::test]
    async fn what_is_more_than_may_wait_leaves_as_fast_as_it_is_read() {
        let (mut ours, mut theirs, _) = connected().await;
        let whole: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut read = Vec::new();
        let writing = async {
            ours.write_all(&whole).await.unwrap();
            ours.shutdown().await.unwrap();
        };
        let ((), outcome) = tokio::join!(writing, theirs.read_to_end(&mut read));
        outcome.unwrap();
        assert_eq!(read, whole);
    }

    #[tokio::test]
    async fn no_more_is_taken_from_who_writes_than_may_wait() {
        for piece in [&[7; 10_000][..], &[7; 100]] {
            let (mut ours, _theirs, _) = connected().await;
            let mut taken = 0;
            while let Some(written) =
                futures_util::FutureExt::now_or_never(AsyncWriteExt::write(&mut ours, piece))
            {
                taken += written.unwrap();
            }
            let most = WAITING_BYTES + RECORD_BYTES + PIPE_BYTES;
            assert!((WAITING_BYTES..=most).contains(&taken), "{taken}");
        }
    }
}
