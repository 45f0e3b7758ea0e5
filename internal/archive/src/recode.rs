//! Zstandard layers as gzip, for engines that do not read Zstandard.
//!
//! A tar header names the size of what follows, so a recoded layer has to be whole before the first byte of it is
//! sent: it waits in an unnamed file, one layer at a time. A graph driver checks what it unpacks against the diff ID,
//! which is the same for either packing, and the image ID stays the config's digest.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use palletjack_image::{Descriptor, Hasher};

use crate::error::ExportError;
use crate::plan::Member;
use crate::stream::Sink;

/// The largest window that is accepted, as a power of two: 128 MiB, which is also what the format's own tools accept
/// unasked (RFC 8878, section 3.1.1.1.2, leaves it to the decoder).
const WINDOW: u32 = 27;
/// How much is decoded at once, in bytes.
const PIECE: usize = 256 << 10;

/// What may go wrong here, beside what goes wrong with every layer.
pub(crate) struct Recoding<'a> {
    pub(crate) member: &'a Member,
    pub(crate) layer: &'a Descriptor,
    pub(crate) scratch: &'a Path,
}

impl Recoding<'_> {
    /// The layer as gzip, at its start, and its length. The content of `blob` is verified before this returns.
    ///
    /// An empty piece goes to `sink` now and then, which asks it whether to go on.
    pub(crate) fn run(
        &self,
        blob: &File,
        corrupt: &dyn Fn(String) -> ExportError,
        sink: &mut Sink<'_>,
    ) -> Result<(File, u64), ExportError> {
        let target = tempfile::tempfile_in(self.scratch).map_err(|source| self.scratch_error(source))?;
        // Speed matters more than size: the engine throws the packed layer away as soon as it is unpacked.
        let mut packed = GzEncoder::new(BufWriter::with_capacity(PIECE, target), Compression::fast());
        let mut hashing = Hashing { blob, hasher: Hasher::new() };
        let decoded = self.decode(&mut hashing, &mut packed, sink)?;
        // What follows the last frame, or the place where decoding failed, counts for the digest.
        io::copy(&mut hashing, &mut io::sink()).map_err(|source| self.read_error(source))?;
        if hashing.hasher.length() != self.layer.size {
            let length = hashing.hasher.length();
            return Err(corrupt(format!("it has {length} bytes instead of {}", self.layer.size)));
        }
        let actual = hashing.hasher.finish();
        if actual != self.layer.digest {
            return Err(corrupt(format!("its content is {actual}")));
        }
        decoded.map_err(|source| ExportError::Recode {
            digest: self.layer.digest,
            image: self.member.image.clone(),
            source,
        })?;
        let scratch = |source| self.scratch_error(source);
        let mut target =
            packed.finish().map_err(scratch)?.into_inner().map_err(|error| scratch(error.into_error()))?;
        let length = target.seek(SeekFrom::End(0)).map_err(scratch)?;
        target.rewind().map_err(scratch)?;
        Ok((target, length))
    }

    /// The inner result is the decoder's: whether the blob is corrupt or never was Zstandard is told by its digest.
    fn decode(
        &self,
        hashing: &mut Hashing<'_>,
        packed: &mut impl Write,
        sink: &mut Sink<'_>,
    ) -> Result<io::Result<()>, ExportError> {
        let decoder = zstd::stream::read::Decoder::new(hashing).and_then(|mut decoder| {
            decoder.window_log_max(WINDOW)?;
            Ok(decoder)
        });
        let mut decoder = match decoder {
            Ok(decoder) => decoder,
            Err(error) => return Ok(Err(error)),
        };
        let mut piece = vec![0; PIECE];
        loop {
            sink(Bytes::new())?;
            match decoder.read(&mut piece) {
                Ok(0) => return Ok(Ok(())),
                Ok(read) => {
                    packed.write_all(&piece[..read]).map_err(|source| self.scratch_error(source))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    fn scratch_error(&self, source: io::Error) -> ExportError {
        ExportError::Scratch { directory: self.scratch.to_owned(), image: self.member.image.clone(), source }
    }

    pub(crate) fn read_error(&self, source: io::Error) -> ExportError {
        ExportError::Read {
            path: self.scratch.join(&self.member.name),
            image: self.member.image.clone(),
            source,
        }
    }
}

/// Hashes what is read through it.
struct Hashing<'a> {
    blob: &'a File,
    hasher: Hasher,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut blob = self.blob;
        let read = blob.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
