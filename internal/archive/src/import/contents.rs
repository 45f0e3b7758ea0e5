//! What an archive holds, by digest.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use bytes::Bytes;
use palletjack_image::{Descriptor, Digest, Manifest};
use palletjack_store::{Lease, Scratch, Spooled, Store};

use super::error::ImportError;
use crate::flatten::{MemberKind, TarError, Tarball};

/// More files than any image's archive has: engines stop at some hundred layers, of three files each.
const MAX_MEMBERS: usize = 16_384;
/// Up to this size, in bytes, a file is kept in memory: manifests, configs, and the many small files that nobody needs.
const SMALL: u64 = 64 << 10;
/// How much of them, in bytes; more go to disk.
const MAX_SMALL: u64 = 8 << 20;
const PIECE: usize = 256 << 10;

/// The files of an archive, by the digest of their content. What no image has claimed when this is dropped is gone.
#[derive(Debug)]
pub struct Contents {
    scratch: Scratch,
    held: HashMap<Digest, Held>,
    /// Bytes of the archive.
    read: u64,
    /// Bytes of it that were written to disk.
    written: u64,
}

#[derive(Debug, Clone)]
enum Held {
    Memory(Bytes),
    File(Spooled),
}

impl Contents {
    /// Reads an archive to its end, hashing everything in it. Blocks.
    ///
    /// `skip` is asked about files whose name claims a digest: whether the cache has that content, so that the bytes need
    /// not be looked at. `progress` is told the bytes read so far, and stops the import by saying `false`.
    pub fn read(
        store: &Store,
        lease: &Lease,
        input: impl Read,
        skip: &dyn Fn(&Digest) -> bool,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self, ImportError> {
        let scratch = store.scratch(lease)?;
        let mut contents = Self { scratch, held: HashMap::new(), read: 0, written: 0 };
        let mut tarball = Tarball::new(Counted { input, bytes: 0 });
        let mut small = 0;
        let mut members = 0;
        // By their digests, because a path may be long and there may be many.
        let mut paths = HashSet::new();
        while let Some(member) = tarball.next().map_err(ImportError::Tar)? {
            members += 1;
            if members > MAX_MEMBERS {
                return Err(ImportError::TooMany(MAX_MEMBERS));
            }
            let MemberKind::File(size) = member.kind else { continue };
            if !paths.insert(Digest::of(&member.path)) {
                return Err(ImportError::Twice(String::from_utf8_lossy(&member.path).into_owned()));
            }
            if claimed(&member.path).is_some_and(|digest| skip(&digest)) {
                continue;
            }
            let mut tell = |tarball: &Tarball<Counted<_>>| {
                if progress(tarball.get_ref().bytes) { Ok(()) } else { Err(ImportError::Stopped) }
            };
            if size <= SMALL && small + size <= MAX_SMALL {
                small += size;
                let bytes = in_memory(&mut tarball, size)?;
                contents.held.insert(Digest::of(&bytes), Held::Memory(bytes.into()));
                tell(&tarball)?;
            } else {
                let spooled = contents.spool(&mut tarball, &mut tell)?;
                contents.held.insert(spooled.digest, Held::File(spooled));
            }
        }
        let mut rest = tarball.into_inner();
        // What follows the archive is nothing, or the stream is broken, which shows only at its end.
        io::copy(&mut rest, &mut io::sink()).map_err(|error| ImportError::Tar(error.into()))?;
        contents.read = rest.bytes;
        Ok(contents)
    }

    fn spool<R: Read>(
        &mut self,
        tarball: &mut Tarball<R>,
        tell: &mut dyn FnMut(&Tarball<R>) -> Result<(), ImportError>,
    ) -> Result<Spooled, ImportError> {
        let mut draft = self.scratch.begin()?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = tarball.content(&mut piece).map_err(ImportError::Tar)?;
            if read == 0 {
                let spooled = draft.finish();
                self.written += spooled.size;
                return Ok(spooled);
            }
            draft.write(&piece[..read])?;
            tell(tarball)?;
        }
    }

    /// Bytes of the archive.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Bytes of it that were written to disk on the way.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// How long some content is, in bytes; `None` where the archive does not have it.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        match self.held.get(digest)? {
            Held::Memory(bytes) => Some(bytes.len() as u64),
            Held::File(spooled) => Some(spooled.size),
        }
    }

    /// Content that may be a manifest or a config. `None` where the archive does not have it, or it is too large for one.
    pub(super) fn small(&self, digest: &Digest) -> Result<Option<Bytes>, ImportError> {
        match self.held.get(digest) {
            Some(Held::Memory(bytes)) => Ok(Some(bytes.clone())),
            Some(Held::File(spooled)) if spooled.size <= Manifest::MAX_SIZE as u64 => {
                let mut bytes = Vec::new();
                let file = self.scratch.open(spooled)?;
                file.take(spooled.size)
                    .read_to_end(&mut bytes)
                    .map_err(|error| ImportError::Tar(error.into()))?;
                Ok((Digest::of(&bytes) == *digest).then(|| bytes.into()))
            }
            _ => Ok(None),
        }
    }

    /// Makes content a blob of the cache, if the archive has it. It was hashed when it was read.
    pub(super) fn keep(
        &mut self,
        store: &Store,
        lease: &Lease,
        blob: &Descriptor,
    ) -> Result<bool, ImportError> {
        let Some(held) = self.held.remove(&blob.digest) else { return Ok(false) };
        match &held {
            Held::Memory(bytes) => store.put(lease, blob, bytes)?,
            Held::File(spooled) => {
                self.scratch.keep(spooled)?;
            }
        }
        Ok(true)
    }
}

/// A digest that a file's name claims its content to have: `blobs/sha256/<hex>`, `<hex>.tar`, `<hex>.json`.
fn claimed(path: &[u8]) -> Option<Digest> {
    let path = std::str::from_utf8(path).ok()?;
    let hex = match path.strip_prefix("blobs/sha256/") {
        Some(hex) => hex,
        None => path.strip_suffix(".tar").or_else(|| path.strip_suffix(".json"))?,
    };
    Digest::from_hex(hex).ok()
}

fn in_memory<R: Read>(tarball: &mut Tarball<R>, size: u64) -> Result<Vec<u8>, ImportError> {
    // At most `SMALL`.
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut filled = 0;
    while filled < bytes.len() {
        match tarball.content(&mut bytes[filled..]).map_err(ImportError::Tar)? {
            0 => return Err(ImportError::Tar(TarError::Read(io::ErrorKind::UnexpectedEof.into()))),
            read => filled += read,
        }
    }
    Ok(bytes)
}

struct Counted<R> {
    input: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
