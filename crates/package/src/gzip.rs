//! Gzip of index files, by compressors that are used again. One has some 270 kB, many times as much
//! as most files: to take that memory anew and to clear it costs more than to compress a small
//! file, and leaves holes between what is kept for long.
//! Source: RFC 1952.

use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Compressors that are kept for later: as many as usually work at one time.
const KEPT: usize = 4;
/// Gzip, deflate, no flags, no time, neither the best nor the fastest, of no system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// What is left to be written when the room ends, at the least, in bytes.
const MORE: usize = 4096;

static KEPT_COMPRESSORS: Mutex<Vec<Compress>> = Mutex::new(Vec::new());

/// Compresses; `None` never, in practice. It takes a while: run it off the async threads.
pub(crate) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut compress = take().unwrap_or_else(|| Compress::new(Compression::default(), false));
    let mut packed = Vec::with_capacity(bytes.len() / 6 + MORE);
    packed.extend_from_slice(&HEAD);
    deflate(&mut compress, bytes, &mut packed)?;
    keep(compress);
    let mut crc = Crc::new();
    crc.update(bytes);
    packed.extend_from_slice(&crc.sum().to_le_bytes());
    packed.extend_from_slice(&crc.amount().to_le_bytes());
    packed.shrink_to_fit(); // or its weight would be a lie
    Some(packed)
}

fn deflate(compress: &mut Compress, bytes: &[u8], packed: &mut Vec<u8>) -> Option<()> {
    loop {
        let read = usize::try_from(compress.total_in()).ok()?;
        let left = bytes.get(read..)?;
        match compress.compress_vec(left, packed, FlushCompress::Finish).ok()? {
            Status::StreamEnd => return Some(()),
            Status::Ok | Status::BufError => packed.reserve(MORE.max(packed.len() / 2)),
        }
    }
}

fn take() -> Option<Compress> {
    KEPT_COMPRESSORS.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn keep(mut compress: Compress) {
    compress.reset();
    let mut kept = KEPT_COMPRESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT {
        kept.push(compress);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    /// As the library does it with a compressor of its own.
    fn anew(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_compressor_that_was_used_before_packs_as_a_new_one_does() {
        let line = b"{\"name\":\"foo\",\"vers\":\"1.0.0\",\"deps\":[]}\n";
        let noise: Vec<u8> =
            (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for bytes in [&line.repeat(20_000)[..], b"", line, &noise, &line.repeat(3)] {
            assert!(pack(bytes).unwrap() == anew(bytes), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn few_compressors_are_kept() {
        std::thread::scope(|scope| {
            (0..3 * KEPT).for_each(|_| _ = scope.spawn(|| pack(&[b'x'; 100_000])));
        });
        assert!(KEPT_COMPRESSORS.lock().unwrap().len() <= KEPT);
    }
}
