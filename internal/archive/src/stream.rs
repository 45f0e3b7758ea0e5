//! Writing the archive: each blob read once, hashed as it passes, its end held back until the digest is verified.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use palletjack_image::{Descriptor, Hasher};

use crate::error::{ExportError, SinkClosed};
use crate::header::{TRAILER, header, padding, zeros};
use crate::plan::{Export, Member, Source};
use crate::recode::Recoding;

/// How much of a layer is read at once, in bytes. Hashing and sockets are fastest from 64 KiB on; two pieces are in
/// memory here, and a few more in the channel that the receiver puts behind.
const PIECE: usize = 512 << 10;

/// What an archive came to, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// The whole archive.
    pub bytes: u64,
    /// Layers among it, as they were sent, without the tar's frame.
    pub layer_bytes: u64,
}

impl Export {
    /// Writes the archive to `sink` in pieces of at most 512 KiB. Blocks: async callers run it on a blocking thread.
    /// An empty piece is no content: while a layer is recoded, it asks whether the receiver is still there.
    ///
    /// On any error the pieces handed out so far are *not* a whole archive, and the caller must let its receiver see
    /// that: break the connection, remove the file. For a corrupt layer the last piece of that layer was never
    /// handed out.
    pub fn write(
        &self,
        sink: &mut dyn FnMut(Bytes) -> Result<(), SinkClosed>,
    ) -> Result<Written, ExportError> {
        self.pieces(&mut |piece| sink(piece).map_err(ExportError::from))
    }

    /// Writes the archive to a file, a pipe, standard output. Does not flush to disk.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<Written, ExportError> {
        let written = self.pieces(&mut |piece| out.write_all(&piece).map_err(ExportError::Write))?;
        out.flush().map_err(ExportError::Write)?;
        Ok(written)
    }

    fn pieces(&self, sink: &mut Sink<'_>) -> Result<Written, ExportError> {
        let mut written = Written::default();
        let mut counted = |piece: Bytes| {
            written.bytes += piece.len() as u64;
            sink(piece)
        };
        let mut layer_bytes = 0;
        for member in &self.members {
            let size = match &member.source {
                Source::Omit(_) => continue,
                Source::Bytes(bytes) => {
                    let size = bytes.len() as u64;
                    counted(header(&member.name, size).map_err(ExportError::Write)?)?;
                    counted(bytes.clone())?;
                    size
                }
                Source::Blob(layer) => {
                    self.layer(member, layer, &mut counted)?;
                    layer_bytes += layer.size;
                    layer.size
                }
                Source::Recode(layer) => {
                    let size = self.recoded(member, layer, &mut counted)?;
                    layer_bytes += size;
                    size
                }
            };
            match padding(size) {
                0 => {}
                missing => counted(zeros(missing))?,
            }
        }
        counted(zeros(TRAILER))?;
        Ok(Written { layer_bytes, ..written })
    }

    fn open(&self, member: &Member, layer: &Descriptor) -> Result<File, ExportError> {
        self.store
            .open_blob(layer)
            .map_err(|source| ExportError::Store { image: member.image.clone(), source })
    }

    /// Sends a layer in another packing and says how long that is. Verified as a whole before its header goes out.
    fn recoded(&self, member: &Member, layer: &Descriptor, sink: &mut Sink<'_>) -> Result<u64, ExportError> {
        let blob = self.open(member, layer)?;
        let recoding = Recoding { member, layer, scratch: &self.scratch };
        let (packed, length) = recoding.run(&blob, &|what| self.corrupt(member, layer, what), sink)?;
        sink(header(&member.name, length).map_err(ExportError::Write)?)?;
        let mut sent = 0;
        while sent < length {
            let piece = read_piece(&packed, length - sent).map_err(|source| recoding.read_error(source))?;
            sent += piece.len() as u64;
            if piece.is_empty() || sent > length {
                return Err(recoding.read_error(io::ErrorKind::UnexpectedEof.into()));
            }
            sink(piece)?;
        }
        Ok(length)
    }

    fn corrupt(&self, member: &Member, layer: &Descriptor, what: String) -> ExportError {
        let path = self.store.blob_path(&layer.digest);
        ExportError::Corrupt { digest: layer.digest, path, image: member.image.clone(), what }
    }

    fn layer(&self, member: &Member, layer: &Descriptor, sink: &mut Sink<'_>) -> Result<(), ExportError> {
        let path = self.store.blob_path(&layer.digest);
        let corrupt = |what: String| self.corrupt(member, layer, what);
        let file = self.open(member, layer)?;
        sink(header(&member.name, layer.size).map_err(ExportError::Write)?)?;

        let mut hasher = Hasher::new();
        let mut held: Option<Bytes> = None;
        loop {
            let due = layer.size.saturating_sub(hasher.length());
            let piece = read_piece(&file, due).map_err(|source| ExportError::Read {
                path: path.clone(),
                image: member.image.clone(),
                source,
            })?;
            if piece.is_empty() {
                break;
            }
            hasher.update(&piece);
            // The header has announced the size: a byte more would be read as the next member's header.
            if hasher.length() > layer.size {
                return Err(corrupt(format!("it is longer than its {} bytes", layer.size)));
            }
            if let Some(previous) = held.replace(piece) {
                sink(previous)?;
            }
        }
        if hasher.length() != layer.size {
            return Err(corrupt(format!("it has {} of its {} bytes", hasher.length(), layer.size)));
        }
        let actual = hasher.finish();
        if actual != layer.digest {
            return Err(corrupt(format!("its content is {actual}")));
        }
        match held {
            Some(last) => sink(last),
            None => Ok(()),
        }
    }
}

pub(crate) type Sink<'a> = dyn FnMut(Bytes) -> Result<(), ExportError> + 'a;

/// Up to [`PIECE`] bytes; none at the end of the file. Where only `due` bytes are expected no more is allocated than
/// these and the one that shows that there are more.
fn read_piece(mut file: &File, due: u64) -> io::Result<Bytes> {
    let room = usize::try_from(due.saturating_add(1)).map_or(PIECE, |room| room.min(PIECE));
    let mut piece = BytesMut::zeroed(room);
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece.freeze())
}
