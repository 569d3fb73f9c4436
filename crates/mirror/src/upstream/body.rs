//! Reads a response's body under a bound that counts what it inflates to, too.

use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// A body that was received whole, as it came.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Bytes,
    /// `Content-Encoding: gzip`: it inflates to so many bytes at the most.
    inflated_max: Option<usize>,
}

impl Body {
    /// What was sent. It may take a while to inflate: run it off the async threads.
    ///
    /// # Errors
    /// `FileTooLarge` when it inflates to more than its bound; others when it is no gzip, or was
    /// cut short.
    pub fn unpack(self) -> io::Result<Bytes> {
        let Some(max) = self.inflated_max else { return Ok(self.bytes) };
        let mut decoder = MultiGzDecoder::new(Bounded::new(max));
        decoder.write_all(&self.bytes)?;
        Ok(decoder.finish()?.finish())
    }
}

impl From<Bytes> for Body {
    /// One that is not compressed.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, inflated_max: None }
    }
}

/// Collects a body piece by piece.
pub(super) struct Collector {
    bounded: Bounded,
    gzip: bool,
}

impl Collector {
    /// For a body of at most `max` bytes, before and after it is inflated, of which `announced`
    /// are announced.
    pub(super) fn new(max: usize, announced: Option<u64>, gzip: bool) -> io::Result<Self> {
        let announced = announced.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if announced > max {
            return Err(too_large(max));
        }
        let mut bounded = Bounded::new(max);
        // The announced length is believed a little: memory is taken as bytes arrive.
        bounded.bytes.reserve_exact(announced.min(1 << 20));
        Ok(Self { bounded, gzip })
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        self.bounded.write_all(piece)
    }

    /// The whole.
    pub(super) fn finish(self) -> Body {
        let inflated_max = self.gzip.then_some(self.bounded.max);
        Body { bytes: self.bounded.finish(), inflated_max }
    }
}

/// A buffer that refuses to grow beyond its bound.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Bounded {
    fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max }
    }

    fn finish(mut self) -> Bytes {
        // It may be kept for long, and a buffer that grew is up to twice as large.
        self.bytes.shrink_to_fit();
        Bytes::from(self.bytes)
    }
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
        let mut collector = Collector::new(max.max(packed.len()), None, true)?;
        packed.chunks(7).try_for_each(|piece| collector.push(piece))?;
        let body = collector.finish();
        Body { inflated_max: Some(max), ..body }.unpack()
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
        assert!(Collector::new(10, Some(11), false).is_err());
        let mut collector = Collector::new(10, None, false).unwrap();
        collector.push(b"0123456789").unwrap();
        assert!(collector.push(b"0").is_err());
    }
}
