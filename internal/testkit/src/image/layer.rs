//! Layers: a tar of a few files, compressed, with its digest and diff ID.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::{Compression as GzipLevel, GzBuilder};
use palletjack_image::{Digest, Hasher};
use tar::{EntryType, Header};

use super::blob::Blob;
use super::filler::Filler;

/// Modification time of every entry, in seconds since 1970: a fixed one, because layers are deterministic.
const MTIME: u64 = 1_700_000_000;

/// How a layer is compressed in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip, what most registries hold.
    #[default]
    Gzip,
    /// zstd, which Docker before 23 cannot read.
    Zstd,
    /// A plain tar.
    None,
}

/// A finished layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Digest of the bytes as a registry serves them.
    pub digest: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Compressed length in bytes.
    pub size: u64,
    /// Uncompressed length in bytes.
    pub unpacked_size: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// The compressed bytes.
    pub blob: Blob,
}

#[derive(Debug, Clone)]
enum Entry {
    Directory,
    File { content: Vec<u8>, mode: u32 },
    Filler { seed: u64, size: u64 },
    Symlink(String),
    Hardlink(String),
}

/// Collects the entries of a layer, in the order in which they will stand in the tar.
///
/// Paths are relative to the image's root, without a leading slash.
#[derive(Debug, Clone, Default)]
pub struct LayerBuilder {
    entries: Vec<(String, Entry)>,
    compression: Compression,
}

impl LayerBuilder {
    /// A gzip layer without entries.
    pub fn new() -> Self {
        Self::default()
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.entries.push((path.to_owned(), entry));
        self
    }

    /// A directory of mode 0755.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.entry(path, Entry::Directory)
    }

    /// A file of mode 0644.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        self.entry(path, Entry::File { content, mode: 0o644 })
    }

    /// A file of mode 0755.
    #[must_use]
    pub fn program(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        self.entry(path, Entry::File { content, mode: 0o755 })
    }

    /// A file of `size` bytes of generated content, streamed and never held: it compresses to about 60 %.
    #[must_use]
    pub fn filler(self, path: &str, seed: u64, size: u64) -> Self {
        self.entry(path, Entry::Filler { seed, size })
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, Entry::Symlink(target.to_owned()))
    }

    /// A second name of a file that stands earlier in this layer.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(path, Entry::Hardlink(target.to_owned()))
    }

    /// Removes a path of a lower layer (an empty file `.wh.<name>`; OCI image layer specification, "Whiteouts").
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (parent, name) =
            path.rsplit_once('/').map_or((String::new(), path), |(p, n)| (format!("{p}/"), n));
        self.file(&format!("{parent}.wh.{name}"), "")
    }

    /// Hides everything that lower layers have in this directory (`.wh..wh..opq`).
    #[must_use]
    pub fn opaque(self, directory: &str) -> Self {
        self.file(&format!("{directory}/.wh..wh..opq"), "")
    }

    /// Compresses with something else than gzip.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Builds the layer in memory.
    pub fn build(&self) -> io::Result<Layer> {
        let (bytes, made) = self.write(Vec::new())?;
        Ok(made.layer(self.compression, bytes.into()))
    }

    /// Builds the layer as a file of this directory, named by its digest; memory use does not grow with its size.
    pub fn build_in(&self, directory: &Path) -> io::Result<Layer> {
        std::fs::create_dir_all(directory)?;
        let temporary = tempfile::NamedTempFile::new_in(directory)?;
        let (mut file, made) = self.write(BufWriter::new(File::create(temporary.path())?))?;
        file.flush()?;
        let path = directory.join(made.digest.hex());
        temporary.persist(&path).map_err(|e| e.error)?;
        let size = made.size;
        Ok(made.layer(self.compression, Blob::File { path, size }))
    }

    fn write<W: Write>(&self, into: W) -> io::Result<(W, Made)> {
        let packed = Hashing::new(into);
        let (packed, unpacked) = match self.compression {
            Compression::None => {
                let tar = self.write_tar(Hashing::new(packed))?;
                (tar.inner, tar.hasher)
            }
            Compression::Gzip => {
                // No name and no time in the header, and "unknown" as the operating system: the same bytes everywhere.
                let gzip = GzBuilder::new().mtime(0).operating_system(255).write(packed, GzipLevel::new(1));
                let tar = self.write_tar(Hashing::new(gzip))?;
                (tar.inner.finish()?, tar.hasher)
            }
            Compression::Zstd => {
                let zstd = zstd::Encoder::new(packed, 1)?;
                let tar = self.write_tar(Hashing::new(zstd))?;
                (tar.inner.finish()?, tar.hasher)
            }
        };
        let made = Made {
            size: packed.hasher.length(),
            unpacked_size: unpacked.length(),
            digest: packed.hasher.finish(),
            diff_id: unpacked.finish(),
        };
        Ok((packed.inner, made))
    }

    /// A second name says the same of its file as the first: Docker takes the rights from whichever comes last.
    fn mode_of(&self, path: &str) -> u32 {
        let named = self.entries.iter().rev().find(|(name, _)| name == path);
        match named {
            Some((_, Entry::File { mode, .. })) => *mode,
            _ => 0o644,
        }
    }

    fn write_tar<W: Write>(&self, into: W) -> io::Result<W> {
        let mut tar = tar::Builder::new(into);
        for (path, entry) in &self.entries {
            let mut header = Header::new_ustar();
            header.set_mtime(MTIME);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            header.set_mode(0o777);
            match entry {
                Entry::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(0o755);
                    tar.append_data(&mut header, path, io::empty())?;
                }
                Entry::File { content, mode } => {
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Filler { seed, size } => {
                    header.set_mode(0o644);
                    header.set_size(*size);
                    tar.append_data(&mut header, path, Filler::new(*seed, *size))?;
                }
                Entry::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
                Entry::Hardlink(target) => {
                    header.set_entry_type(EntryType::Link);
                    header.set_mode(self.mode_of(target));
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        tar.into_inner()
    }
}

struct Made {
    digest: Digest,
    diff_id: Digest,
    size: u64,
    unpacked_size: u64,
}

impl Made {
    fn layer(self, compression: Compression, blob: Blob) -> Layer {
        Layer {
            digest: self.digest,
            diff_id: self.diff_id,
            size: self.size,
            unpacked_size: self.unpacked_size,
            compression,
            blob,
        }
    }
}

/// Hashes what passes.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new() }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(from)?;
        self.hasher.update(&from[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample(compression: Compression) -> LayerBuilder {
        LayerBuilder::new()
            .directory("etc")
            .file("etc/motd", "hello")
            .program("bin/tool", vec![1, 2, 3])
            .symlink("bin/alias", "tool")
            .hardlink("bin/same", "bin/tool")
            .filler("var/data", 7, 100_000)
            .whiteout("usr/bin/git")
            .whiteout("top")
            .opaque("usr/share/doc")
            .compression(compression)
    }

    #[test]
    fn digest_diff_id_and_sizes_are_those_of_the_bytes() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let layer = sample(compression).build().unwrap();
            let bytes = layer.blob.read().unwrap();
            assert_eq!(Digest::of(&bytes), layer.digest);
            assert_eq!(bytes.len() as u64, layer.size);
            let mut raw = Vec::new();
            match compression {
                Compression::Gzip => {
                    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut raw).unwrap();
                }
                Compression::Zstd => {
                    zstd::Decoder::new(bytes.as_slice()).unwrap().read_to_end(&mut raw).unwrap();
                }
                Compression::None => raw = bytes,
            }
            assert_eq!(Digest::of(&raw), layer.diff_id);
            assert_eq!(raw.len() as u64, layer.unpacked_size);
            let names: Vec<String> = tar::Archive::new(raw.as_slice())
                .entries()
                .unwrap()
                .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
                .collect();
            assert_eq!(names.len(), 9);
            assert!(names.contains(&"usr/bin/.wh.git".to_owned()));
            assert!(names.contains(&".wh.top".to_owned()));
            assert!(names.contains(&"usr/share/doc/.wh..wh..opq".to_owned()));
        }
    }

    #[test]
    fn a_file_layer_is_the_memory_layer() {
        let directory = tempfile::tempdir().unwrap();
        let memory = sample(Compression::Gzip).build().unwrap();
        let file = sample(Compression::Gzip).build_in(directory.path()).unwrap();
        assert_eq!(memory.digest, file.digest);
        assert_eq!(memory.blob.read().unwrap(), file.blob.read().unwrap());
        assert_eq!(
            std::fs::read(directory.path().join(file.digest.hex())).unwrap(),
            memory.blob.read().unwrap()
        );
        let mut tail = Vec::new();
        file.blob.reader(10).unwrap().read_to_end(&mut tail).unwrap();
        assert_eq!(tail, memory.blob.read().unwrap()[10..]);
    }
}
