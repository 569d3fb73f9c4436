//! Room on the disks of the store's folder and of the data folder.

use std::path::Path;

use super::finding::Finding;
use cratehouse_storage::disk::Disk;

const MIB: u64 = 1 << 20;
/// With less than this a publish may fail at any moment.
const TOO_LITTLE: u64 = 256 * MIB;
/// Of a disk, one part in so many is little, and of a large one this.
const LITTLE_PART: u64 = 10;
const LITTLE: u64 = 10 * 1024 * MIB;

/// Judges the disk below a folder.
pub fn judge(what: &str, path: &Path, disk: Disk) -> Finding {
    let (free, total) = (disk.free / MIB, disk.total / MIB);
    let found = format!("{what} {}: {free} MiB of {total} MiB are free", path.display());
    let cure = "make room, enlarge the disk, or bound the mirror (`mirror.max_mib`)";
    match disk.free {
        free if free < TOO_LITTLE => Finding::wrong("disk", found, cure),
        free if free < (disk.total / LITTLE_PART).min(LITTLE) => Finding::mind("disk", found, cure),
        _ => Finding::fine("disk", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_told() {
        let judged = |free, total| {
            judge("the store", Path::new("/s"), Disk { total: total * MIB, free: free * MIB })
        };
        assert_eq!(judged(255, 1000).gravity, Gravity::Wrong);
        assert_eq!(judged(9_999, 100_000).gravity, Gravity::Mind);
        assert_eq!(judged(10_240, 1_000_000).gravity, Gravity::Fine);
        let fine = judged(10_000, 100_000);
        assert_eq!(fine.gravity, Gravity::Fine);
        assert_eq!(fine.found, "the store /s: 10000 MiB of 100000 MiB are free");
    }
}
