//! The body of an answer: bytes that are in memory and shared, or a stream of known length.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, mem};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::flows::registry::download::File;
use cratehouse_core::error::{Error, Kind};
use cratehouse_core::memory_budget::bytes_holding;
use cratehouse_mirror::files::crate_file::STREAM_BYTES;

/// What an answer sends.
#[derive(Debug)]
pub enum Body {
    /// All of it is here, and shared: a cached file, whose memory is counted with its cache.
    Whole(Bytes),
    /// All of it is here, made for this request.
    Made(Bytes),
    /// It comes in pieces, as fast as the client takes them.
    Stream(Stream),
}

/// Pieces, and how many bytes of them are still to come.
pub struct Stream {
    pieces: BoxStream<'static, Result<Bytes, Error>>,
    left: u64,
}

impl Body {
    /// A body of `length` bytes in pieces. One that ends otherwise than at that length breaks, so
    /// that its client sees that it is not whole.
    pub fn stream(length: u64, pieces: BoxStream<'static, Result<Bytes, Error>>) -> Self {
        Self::Stream(Stream { pieces, left: length })
    }
}

impl Body {
    /// The same body; if it was made for this request, it holds something until it was sent.
    #[must_use]
    pub fn holding(self, held: impl Send + 'static) -> Self {
        match self {
            Self::Made(bytes) if !bytes.is_empty() => Self::Made(bytes_holding(bytes, held)),
            other => other,
        }
    }
}

/// What a body of a cache keeps from being given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// So many bytes.
    pub bytes: u64,
    /// Where they are, if others may have the same.
    pub at: Option<usize>,
}

impl Body {
    /// What it keeps in memory that a cache counts.
    pub fn kept(&self) -> Kept {
        match self {
            Self::Whole(bytes) => Kept { bytes: self.left(), at: Some(bytes.as_ptr().addr()) },
            Self::Made(_) => Kept { bytes: 0, at: None },
            Self::Stream(stream) => Kept { bytes: stream.left.min(STREAM_BYTES), at: None },
        }
    }

    /// The same body; whatever it is, it holds something until it was sent.
    #[must_use]
    pub fn counted<H: fmt::Debug + Send + Sync + 'static>(self, held: Arc<H>) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes_holding(bytes, held)),
            Self::Made(bytes) => Self::Made(bytes_holding(bytes, held)),
            Self::Stream(Stream { pieces, left }) => {
                let holding = move |piece| bytes_holding(piece, Arc::clone(&held));
                let pieces = pieces.map(move |piece| piece.map(&holding)).boxed();
                Self::Stream(Stream { pieces, left })
            }
        }
    }
}

impl Default for Body {
    /// No body.
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl From<File> for Body {
    fn from(file: File) -> Self {
        match file {
            File::Whole(bytes) => Self::Whole(bytes),
            File::Stream { length, pieces } => Self::stream(length, pieces),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) | Self::Made(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) | Self::Made(bytes) => {
                Poll::Ready(Some(Ok(Frame::data(mem::take(bytes)))))
            }
            Self::Stream(stream) => stream.poll(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl Body {
    /// The bytes that are still to be sent.
    fn left(&self) -> u64 {
        match self {
            Self::Whole(bytes) | Self::Made(bytes) => {
                u64::try_from(bytes.len()).unwrap_or(u64::MAX)
            }
            Self::Stream(stream) => stream.left,
        }
    }
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = match std::task::ready!(self.pieces.poll_next_unpin(context)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(Some(Err(wrong_length()))),
        };
        match u64::try_from(piece.len()).ok().and_then(|sent| self.left.checked_sub(sent)) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(wrong_length()))),
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

fn wrong_length() -> Error {
    Error::new(Kind::Internal, "a body has another length than was announced")
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    fn pieces(pieces: &[&'static [u8]]) -> BoxStream<'static, Result<Bytes, Error>> {
        let pieces: Vec<_> = pieces.iter().map(|p| Ok(Bytes::from_static(p))).collect();
        stream::iter(pieces).boxed()
    }

    fn read(body: Body) -> Result<Bytes, Error> {
        body.collect().now_or_never().unwrap().map(|read| read.to_bytes())
    }

    #[test]
    fn what_is_in_memory_is_one_piece_that_knows_its_end() {
        let mut body = Body::from(Bytes::from_static(b"abc"));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
        let frame = body.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "abc");
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        assert!(Body::default().is_end_stream());
        assert!(read(Body::default()).unwrap().is_empty());
    }

    #[test]
    fn a_stream_knows_what_is_left_of_it() {
        let mut body = Body::stream(5, pieces(&[b"abc", b"de"]));
        assert_eq!(body.size_hint().exact(), Some(5));
        body.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(2), false));
        assert_eq!(read(body).unwrap(), "de");
    }

    #[test]
    fn a_stream_of_another_length_than_announced_breaks() {
        assert!(read(Body::stream(4, pieces(&[b"abc"]))).is_err());
        assert!(read(Body::stream(4, pieces(&[b"abc", b"de"]))).is_err());
    }
}
