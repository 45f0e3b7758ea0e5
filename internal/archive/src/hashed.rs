//! A file that is hashed while it is read.

use std::fs::File;
use std::io::{self, Read};

use palletjack_image::{Digest, Hasher};

/// Hashes every byte that is read, in one pass with whoever unpacks them.
pub(crate) struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Hashed {
    /// Nothing of the file is read yet.
    pub(crate) fn new(file: File) -> Self {
        Self { file, hasher: Hasher::new() }
    }

    /// The digest of all that was read.
    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
