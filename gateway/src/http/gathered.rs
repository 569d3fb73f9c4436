//! TLS records that leave together. An HTTP/2 connection writes and flushes every frame by itself;
//! sent like that, thirty small answers are thirty system calls, and those are most of what a small
//! answer costs. Here they wait, encrypted, until the connection has done all that it can do at
//! the moment, and leave in one call.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How much may wait on one connection, in bytes. What is more leaves on the spot.
const WAITING_BYTES: usize = 64 << 10;

/// A TLS connection whose flushes do nothing: whoever drives it calls [`Gathered::release`] each
/// time after the connection was polled. Clones are the same connection.
#[derive(Debug)]
pub(super) struct Gathered<S>(Arc<Mutex<TlsStream<Gate<S>>>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Gathered<S> {
    /// Shakes hands.
    ///
    /// # Errors
    /// Those of the client and of the socket.
    pub(super) async fn accept(tls: &TlsAcceptor, stream: S) -> io::Result<Self> {
        let open = Gate { stream, is_open: true };
        let mut stream = tls.accept(open).await?;
        let (gate, session) = stream.get_mut();
        gate.is_open = false;
        session.set_buffer_limit(Some(WAITING_BYTES));
        Ok(Self(Arc::new(Mutex::new(stream))))
    }

    /// Sends what waits. `Pending`: the client takes no more at the moment, and the task is woken
    /// when it does.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn release(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        release(&mut self.lock(), context)
    }

    fn lock(&self) -> MutexGuard<'_, TlsStream<Gate<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, if need be after what waits has left.
    fn write(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(Pin<&mut TlsStream<Gate<S>>>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.lock();
        loop {
            match write(Pin::new(&mut *stream), context) {
                Poll::Pending => ready!(release(&mut stream, context))?,
                written => return written,
            }
        }
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

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.lock();
        stream.get_mut().0.is_open = true;
        Pin::new(&mut *stream).poll_shutdown(context)
    }
}

/// The socket, which takes nothing while it is closed: what TLS has encrypted stays with TLS. Then
/// nobody is woken when it opens, and nobody has to be.
#[derive(Debug)]
pub(super) struct Gate<S> {
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
        bytes: &[io::IoSlice<'_>],
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::config::Tls;
    use crate::http::tls::server_config;

    const PIPE_BYTES: usize = 16 << 10;

    /// Our side of a pipe, which counts the writes that it takes.
    struct Counting(DuplexStream, Arc<AtomicUsize>);

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
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write_vectored(context, bytes)
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

    /// Both ends after the handshake, and how often ours has written.
    async fn connected() -> (Gathered<Counting>, Client, Arc<AtomicUsize>) {
        let folder = tempfile::tempdir().unwrap();
        let prepared = server_config(&Tls::LocalCa, folder.path(), &[]).unwrap().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(prepared.ca.unwrap()).unwrap()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let (client, acceptor) =
            (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(prepared.config));
        let (ours, theirs) = duplex(PIPE_BYTES);
        let writes = Arc::new(AtomicUsize::new(0));
        let ours = Gathered::accept(&acceptor, Counting(ours, Arc::clone(&writes)));
        let name = ServerName::try_from("localhost").unwrap();
        let (ours, theirs) = tokio::join!(ours, client.connect(name, theirs));
        let ours = ours.unwrap();
        poll_fn(|context| ours.release(context)).await.unwrap(); // tickets
        (ours, theirs.unwrap(), writes)
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_waits_and_leaves_in_one_call() {
        let (mut ours, mut theirs, writes) = connected().await;
        let before = writes.load(Ordering::Relaxed);
        for _ in 0..30 {
            ours.write_all(&[7; 100]).await.unwrap();
            ours.flush().await.unwrap();
        }
        assert_eq!(writes.load(Ordering::Relaxed), before);
        poll_fn(|context| ours.release(context)).await.unwrap();
        assert_eq!(writes.load(Ordering::Relaxed), before + 1);
        let mut read = [0; 3000];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [7; 3000]);
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
        let (mut ours, _theirs, _) = connected().await;
        let mut taken = 0;
        let piece = [7; 10_000];
        while let Some(written) = futures_util::FutureExt::now_or_never(ours.write(&piece)) {
            taken += written.unwrap();
        }
        assert!((WAITING_BYTES..=WAITING_BYTES + 2 * PIPE_BYTES).contains(&taken), "{taken}");
    }
}
