//! The upstream's index files: as many as are asked for, of which none was asked for before.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cratehouse_tests::krate::index_path;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Result;
use crate::journal::index_line;
use crate::origin::{Found, Origin};

/// What a file is like, which its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stem {
    /// Of the median size of those that builds ask for.
    Usual,
    /// The same, from an upstream that takes very long for it.
    Slow,
}

/// Names that were given out.
#[derive(Debug, Default)]
pub(super) struct Files {
    next: AtomicUsize,
}

/// Some 25 kB in all.
const VERSIONS: usize = 20;
/// As long as every name.
const PLACE: &str = "usual-crate-0000000";

impl Stem {
    fn label(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Slow => "slowl", // as long as the other
        }
    }
}

impl Files {
    /// An upstream that has all of them; `slow` is what the slow ones take.
    pub(super) fn served_slowly(slow: Duration) -> Result<(Arc<Self>, Origin)> {
        let template = template();
        let origin = Origin::start(move |path| {
            let name = path.strip_prefix("/index/")?.rsplit('/').next()?;
            let slow = match name.starts_with(Stem::Slow.label()) {
                true => slow,
                false => Duration::ZERO,
            };
            let body = packed(template.replace(PLACE, name).as_bytes()).ok()?;
            let etag = format!("\"{name}\"");
            let found = Found { body: body.into(), gzip: true, etag, slow };
            name.contains("-crate-").then_some(found)
        })?;
        Ok((Arc::default(), origin))
    }

    /// The same without slow ones.
    pub(super) fn served() -> Result<(Arc<Self>, Origin)> {
        Self::served_slowly(Duration::ZERO)
    }

    /// The index paths of so many that were not given out before.
    pub(super) fn more(&self, stem: Stem, count: usize) -> Vec<String> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let name = |nth: usize| format!("{}-crate-{nth:07}", stem.label());
        (first..first + count).map(|nth| index_path(&name(nth))).collect()
    }
}

fn template() -> String {
    let line = |nth: usize| index_line(PLACE, &format!("1.0.{nth}"), "2026-01-01T00:00:00Z");
    (0..VERSIONS).map(|nth| format!("{}\n", line(nth))).collect()
}

/// Cheaply: it takes part in what is measured.
fn packed(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_given_out_twice() {
        let files = Files::default();
        let (one, other) = (files.more(Stem::Usual, 2), files.more(Stem::Slow, 1));
        assert_eq!(one, ["us/ua/usual-crate-0000000", "us/ua/usual-crate-0000001"]);
        assert_eq!(other, ["sl/ow/slowl-crate-0000002"]);
    }

    #[test]
    fn a_file_has_the_median_size() {
        assert!((20_000..30_000).contains(&template().len()), "{}", template().len());
    }
}
