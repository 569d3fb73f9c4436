//! How much of the index a hosted crate may take. What is published stands in the journal for ever, in
//! every catalog, and in each answer about the crate; and a crate file of 2 kB can ask for a line of
//! megabytes.

use crate::index::IndexLine;

/// Bounds for hosted crates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexBounds {
    /// One index line, in bytes.
    pub line_bytes: usize,
    /// All lines of one crate, in bytes.
    pub file_bytes: usize,
}

/// What a `pubtime` adds to a line that has none yet, in bytes: `,"pubtime":"2026-01-01T00:00:00Z"`.
const PUBTIME_BYTES: usize = 33;

/// Why a version does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    /// Its line is too long.
    #[error(
        "the index line of `{what}` would have {bytes} bytes; this registry takes {limit} at most \
         (`[limits] index_line_kib`): it is long by its features and dependencies"
    )]
    Line {
        /// The version.
        what: String,
        /// How long it would be, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Its crate's file would become too long.
    #[error(
        "the index file of `{name}` would have {bytes} bytes with this version; this registry takes \
         {limit} at most (`[limits] hosted_index_file_mib`): publish under another name, or have an \
         administrator remove versions or raise the limit"
    )]
    File {
        /// The crate.
        name: String,
        /// How long it would be, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl IndexBounds {
    /// The length of a line with its newline and its `pubtime`, in bytes, if it may be so long.
    ///
    /// # Errors
    /// [`OutOfBounds::Line`].
    pub fn line(&self, line: &IndexLine) -> Result<usize, OutOfBounds> {
        let pubtime = if line.pubtime.is_none() { PUBTIME_BYTES } else { 0 };
        let bytes = serde_json::to_string(line).map_or(usize::MAX, |text| text.len() + pubtime + 1);
        match bytes <= self.line_bytes {
            true => Ok(bytes),
            false => {
                let what = format!("{}@{}", line.name, line.vers);
                Err(OutOfBounds::Line { what, bytes, limit: self.line_bytes })
            }
        }
    }

    /// How many bytes the other lines of a crate may have beside one of `line` bytes.
    pub fn beside(&self, line: usize) -> u64 {
        self.file_bytes.saturating_sub(line) as u64
    }

    /// Whether a line of `line` bytes fits beside those that a crate has.
    ///
    /// # Errors
    /// [`OutOfBounds::File`].
    pub fn file(&self, of: &IndexLine, others: u64, line: usize) -> Result<(), OutOfBounds> {
        match others <= self.beside(line) {
            true => Ok(()),
            false => Err(OutOfBounds::File {
                name: of.name.to_string(),
                bytes: others.saturating_add(line as u64),
                limit: self.file_bytes as u64,
            }),
        }
    }
}

impl Default for IndexBounds {
    fn default() -> Self {
        Self { line_bytes: 128 * 1024, file_bytes: 32 * 1024 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::published;

    #[test]
    fn a_line_counts_with_its_time_and_newline() {
        let dated = published("foo", 1).line;
        let bytes = serde_json::to_string(&dated).unwrap().len() + 1;
        let mut undated = dated.clone();
        undated.pubtime = None;
        for line in [&dated, &undated] {
            let exact = IndexBounds { line_bytes: bytes, file_bytes: 0 };
            assert_eq!(exact.line(line), Ok(bytes));
            let less = IndexBounds { line_bytes: bytes - 1, file_bytes: 0 };
            let refusal = less.line(line).unwrap_err();
            assert!(refusal.to_string().contains("`foo@1.0.1`"), "{refusal}");
        }
    }

    #[test]
    fn a_file_is_full_when_the_next_line_does_not_fit() {
        let bounds = IndexBounds { line_bytes: 10, file_bytes: 100 };
        let line = published("foo", 1).line;
        assert_eq!(bounds.file(&line, 90, 10), Ok(()));
        assert!(matches!(bounds.file(&line, 91, 10), Err(OutOfBounds::File { bytes: 101, .. })));
        assert!(bounds.file(&line, u64::MAX, 10).is_err());
    }
}
