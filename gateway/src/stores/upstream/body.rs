//! Reads a response's body under a bound that counts what it inflates to.

use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// Collects a body piece by piece.
pub(super) enum Collector {
    /// As it comes.
    Plain(Bounded),
    /// `Content-Encoding: gzip`.
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Collector {
    /// For a body of at most `max` bytes, of which `announced` are announced.
    pub(super) fn plain(max: usize, announced: Option<u64>) -> io::Result<Self> {
        let announced = announced.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if announced > max {
            return Err(too_large(max));
        }
        // The announced length is believed a little: memory is taken as bytes arrive.
        Ok(Self::Plain(Bounded { bytes: Vec::with_capacity(announced.min(1 << 20)), max }))
    }

    /// For a gzip body that inflates to at most `max` bytes.
    pub(super) fn gzip(max: usize) -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Bounded { bytes: Vec::new(), max })))
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
        }
    }

    /// The whole; an error when a gzip body was cut short.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        let mut bounded = match self {
            Self::Plain(bounded) => bounded,
            Self::Gzip(decoder) => decoder.finish()?,
        };
        // It may be kept for long, and a buffer that grew is up to twice as large.
        bounded.bytes.shrink_to_fit();
        Ok(Bytes::from(bounded.bytes))
    }
}

/// A buffer that refuses to grow beyond its bound.
pub(super) struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.max.saturating_sub(self.bytes.len()) {
            return Err(too_large(self.max));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(max: usize) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("the body is larger than {max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(packed: &[u8], max: usize) -> io::Result<Bytes> {
        let mut collector = Collector::gzip(max);
        packed.chunks(7).try_for_each(|piece| collector.push(piece))?;
        collector.finish()
    }

    #[test]
    fn bodies_are_inflated_and_the_inflated_size_is_bounded() {
        let bytes = vec![b'x'; 100_000];
        assert_eq!(inflate(&packed(&bytes), 100_000).unwrap(), bytes);
        assert!(inflate(&packed(&bytes), 99_999).is_err());
    }

    #[test]
    fn a_gzip_body_cut_short_anywhere_is_an_error() {
        let whole = packed(b"some lines of an index file");
        for cut in 0..whole.len() {
            assert!(inflate(&whole[..cut], 1000).is_err(), "{cut} of {}", whole.len());
        }
    }

    #[test]
    fn plain_bodies_are_bounded_by_announcement_and_by_arrival() {
        assert!(Collector::plain(10, Some(11)).is_err());
        let mut collector = Collector::plain(10, None).unwrap();
        collector.push(b"0123456789").unwrap();
        assert!(collector.push(b"0").is_err());
    }
}
