//! The frame that tar puts around a member.

use std::io;

use bytes::Bytes;
use tar::{EntryType, Header};

/// Everything in a tar is a multiple of this many bytes.
const BLOCK: u64 = 512;

/// Two empty blocks end an archive.
pub(crate) const TRAILER: u64 = ZEROS.len() as u64;

static ZEROS: [u8; 1024] = [0; 1024];

/// The header of a regular file. Owner, time and mode are the same for all, so that the same content gives the same
/// archive. Our names are at most 77 bytes, which fit a plain header; a size of 8 GiB and more is written in base 256,
/// as GNU tar and Go do.
pub(crate) fn header(name: &str, size: u64) -> io::Result<Bytes> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}

/// How many zero bytes follow a member of `size` bytes.
pub(crate) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// What a member of `size` bytes takes in the archive, header and padding included. `None` beyond 2^64.
pub(crate) fn framed(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK)?.checked_add(BLOCK)
}

/// `length` zero bytes; at most [`TRAILER`].
pub(crate) fn zeros(length: u64) -> Bytes {
    let length = usize::try_from(length).map_or(ZEROS.len(), |length| length.min(ZEROS.len()));
    Bytes::from_static(&ZEROS[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_fill_whole_blocks() {
        for (size, framed_size, padded) in [(0, 512, 0), (1, 1024, 511), (512, 1024, 0), (513, 1536, 511)] {
            assert_eq!(framed(size), Some(framed_size));
            assert_eq!(padding(size), padded);
        }
        assert_eq!(framed(u64::MAX), None);
        assert_eq!(framed(u64::MAX - 511), None);
    }

    #[test]
    fn a_header_says_name_and_size_and_nothing_of_this_machine() {
        let bytes = header("blobs/sha256/00", 9 << 30).unwrap();
        let read = Header::from_byte_slice(&bytes);
        assert_eq!(read.path().unwrap().to_str(), Some("blobs/sha256/00"));
        assert_eq!(read.size().unwrap(), 9 << 30);
        assert_eq!((read.uid().unwrap(), read.mtime().unwrap(), read.mode().unwrap()), (0, 0, 0o644));
        assert_eq!(header("blobs/sha256/00", 9 << 30).unwrap(), bytes);
    }
}
