//! One layer put on those below it.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use palletjack_image::{Descriptor, Digest, LayerCompression};
use palletjack_store::{Image, Store};

use super::error::FlattenError;
use super::tarball::{Member, MemberKind, TarError, Tarball};
use super::tree::{Kind, Tree};
use crate::hashed::Hashed;

/// OCI image specification, "Whiteouts": a file that stands for the absence of another.
const WHITEOUT: &[u8] = b".wh.";
/// OCI image specification, "Opaque Whiteout"; other names with this prefix are the notes of a long-gone driver.
const WHITEOUT_NOTE: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Reads a layer from the cache and puts it on the tree. Its blob is verified on the way.
pub(super) fn apply(
    store: &Store,
    image: &Image,
    layer: &Descriptor,
    tree: &mut Tree,
) -> Result<(), FlattenError> {
    let name = || image.entry.reference.familiar();
    let digest = layer.digest;
    let Some(compression) = LayerCompression::of(&layer.media_type) else {
        return Err(FlattenError::Kind { digest, image: name(), media_type: layer.media_type.clone() });
    };
    let file = store.open_blob(layer).map_err(|source| FlattenError::Store { image: name(), source })?;
    let mut blob = BufReader::with_capacity(256 << 10, Hashed::new(file));
    let unpacked = match compression {
        LayerCompression::None => read(&mut blob, tree),
        LayerCompression::Gzip => read(MultiGzDecoder::new(&mut blob), tree),
        LayerCompression::Zstd => match zstd::Decoder::with_buffer(&mut blob) {
            Ok(decoder) => read(decoder, tree),
            Err(error) => Err(error.into()),
        },
    };
    // A broken stream is mostly a broken file, and that is the better thing to say.
    let actual =
        rest(blob).map_err(|source| FlattenError::Layer { digest, image: name(), source: source.into() })?;
    if actual != digest {
        return Err(FlattenError::Corrupt {
            digest,
            path: store.blob_path(&digest),
            image: name(),
            what: format!("its content is {actual}"),
        });
    }
    tree.next_layer();
    unpacked.map_err(|source| FlattenError::Layer { digest, image: name(), source })
}

/// Reads what lies behind the archive, and says what the whole blob's digest is.
fn rest(mut blob: BufReader<Hashed>) -> io::Result<Digest> {
    loop {
        let read = match blob.fill_buf() {
            Ok(piece) => piece.len(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Ok(blob.into_inner().finish());
        }
        blob.consume(read);
    }
}

fn read(layer: impl Read, tree: &mut Tree) -> Result<(), TarError> {
    let mut tarball = Tarball::new(layer);
    while let Some(member) = tarball.next()? {
        let (directory, name) = split(&member.path);
        if name == OPAQUE {
            tree.hide_below(directory);
        } else if name.starts_with(WHITEOUT_NOTE) || directory.starts_with(WHITEOUT_NOTE) {
            // An aufs machine's own links.
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            tree.hide(&join(directory, hidden));
        } else if !member.path.is_empty() {
            add(&mut tarball, member, tree)?;
        }
    }
    Ok(())
}

fn add(tarball: &mut Tarball<impl Read>, member: Member, tree: &mut Tree) -> Result<(), TarError> {
    let Member { path, kind, mode } = member;
    let mode = Some(mode);
    let (kind, mode) = match kind {
        MemberKind::File(size) => (Kind::File { size, digest: tarball.digest()? }, mode),
        MemberKind::Sparse => (Kind::Unknown, mode),
        MemberKind::Directory => (Kind::Directory, mode),
        MemberKind::Symlink(target) => (Kind::Symlink(target.into()), mode),
        MemberKind::Special => (Kind::Special, mode),
        MemberKind::Hardlink(target) => (tree.link(&target), None),
    };
    tree.insert(path, kind, mode)
}

/// Directory and name of a path; a path without a slash is in the root, which is the empty path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
