//! Mounts that an engine left behind.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything below a directory, the deepest first.
pub(super) fn unmount_below(directory: &Path) {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let mut points = below(&table, directory);
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    for point in points {
        // A mount that goes away by itself meanwhile is what we want.
        let _ = unmount(&point, UnmountFlags::DETACH);
    }
}

/// Mount points below a directory, from the text of `/proc/self/mountinfo` (proc(5); the fifth word, octal escapes).
fn below(table: &str, directory: &Path) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ").replace("\\134", "\\")))
        .filter(|point| point.starts_with(directory))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_are_found() {
        let table = "1 2 8:1 / / rw - ext4 /dev/vda rw\n\
            3 1 0:5 / /tmp/a/merged\\040x rw - overlay overlay rw\n\
            4 1 0:5 / /tmp/ab rw - overlay overlay rw\n";
        assert_eq!(below(table, Path::new("/tmp/a")), [PathBuf::from("/tmp/a/merged x")]);
    }
}
