//! The body of an answer, until the socket has all of it.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::traffic::AtWork;

/// A body whose request is at work for as long as a part of it waits to be sent.
pub(super) struct Sending<B> {
    body: B,
    /// Goes with the last piece.
    work: Option<Work>,
}

/// A piece of it.
pub(super) struct Piece {
    bytes: Bytes,
    work: Option<Work>,
}

/// A request at work.
enum Work {
    /// Its answer is one piece, as nearly all are.
    Own(AtWork),
    /// Its answer has several.
    Shared(Arc<AtWork>),
}

impl Work {
    /// For a piece that is not the last.
    fn share(self) -> Arc<AtWork> {
        match self {
            Self::Own(work) => Arc::new(work),
            Self::Shared(work) => work,
        }
    }
}

impl Deref for Work {
    type Target = AtWork;

    fn deref(&self) -> &AtWork {
        match self {
            Self::Own(work) => work,
            Self::Shared(work) => work,
        }
    }
}

impl<B> Sending<B> {
    pub(super) fn new(body: B, mut work: AtWork) -> Self {
        work.answered();
        Self { body, work: Some(Work::Own(work)) }
    }

    fn work_of_piece(&mut self, is_last: bool) -> Option<Work> {
        if is_last {
            return self.work.take();
        }
        let work = self.work.take()?.share();
        self.work = Some(Work::Shared(Arc::clone(&work)));
        Some(Work::Shared(work))
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
        if let Some(work) = &this.work {
            work.goes_on(); // its client has room for more, and waits for us
        }
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(context));
        let is_last = this.body.is_end_stream();
        let piece = |bytes| Piece { bytes, work: this.work_of_piece(is_last) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Piece {
    fn takes(&self, bytes: usize) {
        if let Some(work) = &self.work {
            work.takes(bytes);
        }
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
        self.takes(count);
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.takes(length);
        self.bytes.copy_to_bytes(length)
    }
}
