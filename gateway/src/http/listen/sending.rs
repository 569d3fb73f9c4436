//! The body of an answer, until the socket has all of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::traffic::AtWork;

/// A body whose request is at work for as long as a part of it waits to be sent.
pub(super) struct Sending<B> {
    body: B,
    /// Goes with the last piece.
    work: Option<AtWork>,
}

/// A piece of it.
pub(super) struct Piece {
    bytes: Bytes,
    /// Only of the last one.
    _work: Option<AtWork>,
}

impl<B> Sending<B> {
    pub(super) fn new(body: B, mut work: AtWork) -> Self {
        work.answered();
        Self { body, work: Some(work) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sending<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(context));
        let is_last = this.body.is_end_stream();
        let piece = |bytes| Piece { bytes, _work: this.work.take_if(|_| is_last) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
