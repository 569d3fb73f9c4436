//! The disk below a folder.

use std::io;
use std::path::Path;

/// How much room it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All of it, in bytes.
    pub total: u64,
    /// What a user without special rights may still take, in bytes.
    pub free: u64,
}

/// What part of a disk the mirror leaves free where nobody has set a bound, and how much of a large
/// disk at the most, in bytes.
const RESERVED_PART: u64 = 5;
const MAX_RESERVED: u64 = 64 << 30;

impl Disk {
    /// That of a folder or file. Blocks.
    ///
    /// # Errors
    /// When there is no such thing, or the disk does not answer.
    pub fn below(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }

    /// What the mirror leaves free: a fifth of the disk, and of a large one 64 GiB.
    pub fn reserved(self) -> u64 {
        (self.total / RESERVED_PART).min(MAX_RESERVED)
    }

    /// How large the mirror may be that takes so many bytes now. Where others take the disk, it keeps
    /// half of the room that is left to both: what they have taken is not had back by giving it all up.
    pub fn mirror_bound(self, mirror: u64) -> u64 {
        let room = mirror.saturating_add(self.free);
        room.saturating_sub(self.reserved()).max(room / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_mirror_leaves_a_part_of_the_disk_free_whoever_takes_the_rest() {
        let small = Disk { total: 100 * GIB, free: 50 * GIB };
        assert_eq!(small.reserved(), 20 * GIB);
        assert_eq!(small.mirror_bound(10 * GIB), 40 * GIB);
        let full = Disk { free: 5 * GIB, ..small };
        assert_eq!(full.mirror_bound(30 * GIB), 35 * GIB / 2, "less than it has: some is given up");
        assert_eq!(full.mirror_bound(GIB), 3 * GIB);
        assert_eq!(Disk { total: 4096 * GIB, free: 0 }.reserved(), 64 * GIB);
    }

    #[test]
    fn a_disk_that_others_have_filled_does_not_empty_the_mirror() {
        let shared = Disk { total: 200 * GIB, free: 20 * GIB };
        assert_eq!(shared.mirror_bound(10 * GIB), 15 * GIB, "none of it is given up");
        let mut mirror = 30 * GIB;
        let mut disk = Disk { total: 200 * GIB, free: 0 };
        for _ in 0..50 {
            let bound = disk.mirror_bound(mirror).min(mirror);
            disk.free += mirror - bound;
            mirror = bound;
        }
        assert_eq!((mirror, disk.free), (15 * GIB, 15 * GIB), "sweep after sweep");
    }

    #[test]
    fn a_folder_has_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::below(folder.path()).unwrap();
        assert!(disk.total > 0 && disk.free <= disk.total);
        assert!(Disk::below(&folder.path().join("none")).is_err());
    }
}
