//! Reading a tar as container engines do (Go's archive/tar: ustar, pax, GNU), within bounds.
//!
//! The tar crate's own reader takes a long name or a pax header of any size into memory, which is nothing to hand a
//! stranger's layer to; its header parsing is used.

use std::io::{self, Read};

use palletjack_image::{Digest, Hasher};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// A path that a kernel takes is at most 4 KiB; pax records carry extended attributes too (64 KiB each in Linux).
const MAX_EXTENSION: u64 = 1 << 20;
const MAX_PATH: usize = 4096;

/// Why bytes are not a tar that an engine would unpack.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed or ended early, or its compression is broken.
    #[error("it cannot be read to its end")]
    Read(#[from] io::Error),
    /// A header is damaged.
    #[error("it is not a tar archive ({0})")]
    Malformed(&'static str),
    /// A path that would leave the root, with `..` in it.
    #[error("it has a path that leaves its root: `{0}`")]
    Escape(String),
    /// More or longer than is reasonable.
    #[error("it is too large to be checked ({0})")]
    TooLarge(&'static str),
}

/// One member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path below the root, without leading and trailing slashes; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with set-user-ID, set-group-ID and sticky bit.
    pub mode: u32,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file of so many bytes, which [`Tarball::digest`] hashes.
    File(u64),
    /// A regular file stored with holes: its content is not rebuilt here.
    Sparse,
    /// A directory.
    Directory,
    /// A symbolic link with its target, byte for byte.
    Symlink(Vec<u8>),
    /// A hard link to another path below the root.
    Hardlink(Vec<u8>),
    /// A device or a pipe.
    Special,
}

/// A tar stream, read member by member.
#[derive(Debug)]
pub struct Tarball<R> {
    reader: R,
    /// Content of the current member not read yet, and the zeros behind it.
    content: u64,
    padding: u64,
}

/// What precedes a member and changes it.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<R: Read> Tarball<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Self {
        Self { reader, content: 0, padding: 0 }
    }

    /// The next member, what was left of the one before skipped. `None` at the end of the archive.
    #[allow(
        clippy::should_implement_trait,
        reason = "contents are read between the calls, so it is no iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let announced = header.entry_size().map_err(|_| TarError::Malformed("a size is no number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension(announced)?;
                    extension.read_pax(&records)?;
                }
                EntryType::GNULongName => extension.path = Some(until_nul(self.extension(announced)?)),
                EntryType::GNULongLink => extension.link = Some(until_nul(self.extension(announced)?)),
                EntryType::XGlobalHeader => self.begin(announced)?,
                _ => return self.member(&header, extension, announced).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, extension: Extension, announced: u64) -> Result<Member, TarError> {
        let raw = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            let link = extension.link.clone();
            link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default()
        };
        let mut size = 0;
        let kind = match header.entry_type() {
            // Archives older than POSIX tell a directory by the slash.
            EntryType::Regular | EntryType::Continuous if raw.ends_with(b"/") => MemberKind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                size = extension.size.unwrap_or(announced);
                if extension.sparse { MemberKind::Sparse } else { MemberKind::File(size) }
            }
            EntryType::GNUSparse => {
                size = announced;
                self.skip_sparse_map(header)?;
                MemberKind::Sparse
            }
            EntryType::Directory => MemberKind::Directory,
            EntryType::Symlink => MemberKind::Symlink(link()),
            EntryType::Link => MemberKind::Hardlink(below_root(&link())?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => MemberKind::Special,
            _ => return Err(TarError::Malformed("a member of an unknown type")),
        };
        // Some writers leave it empty, which means 0.
        let mode = header.mode().unwrap_or(0) & 0o7777;
        let path = below_root(&raw)?;
        self.begin(size)?;
        Ok(Member { path, kind, mode })
    }

    /// Hashes the content of the file that [`Self::next`] returned last. Once per file.
    pub fn digest(&mut self) -> Result<Digest, TarError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.content(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    /// The next bytes of the file that [`Self::next`] returned last; 0 at its end.
    pub fn content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let room = usize::try_from(self.content).map_or(buffer.len(), |left| left.min(buffer.len()));
        if room == 0 {
            return Ok(0);
        }
        loop {
            match self.reader.read(&mut buffer[..room]) {
                Ok(0) => return Err(cut_short()),
                Ok(read) => {
                    self.content -= read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the tar is read from.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// What the tar was read from.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn begin(&mut self, size: u64) -> Result<(), TarError> {
        let padded = size
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or(TarError::Malformed("a size that no file can have"))?;
        (self.content, self.padding) = (size, padded - size);
        Ok(())
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let due = self.content.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.reader).take(due), &mut io::sink())?;
        (self.content, self.padding) = (0, 0);
        if skipped == due { Ok(()) } else { Err(cut_short()) }
    }

    /// `None` at the two empty blocks, or where the stream ends instead of them.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_short()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |range: &[u8]| range.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let actual = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        if header.cksum().ok() != Some(actual) {
            return Err(TarError::Malformed("a header with a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::TooLarge("a header of more than 1 MiB"));
        }
        self.begin(size)?;
        let mut bytes = Vec::new();
        (&mut self.reader).take(size).read_to_end(&mut bytes)?;
        self.content -= bytes.len() as u64;
        if self.content == 0 { Ok(bytes) } else { Err(cut_short()) }
    }

    /// Blocks of an old GNU sparse map that continue the header; the last byte but seven says whether another follows.
    fn skip_sparse_map(&mut self, header: &Header) -> Result<(), TarError> {
        const MORE: usize = 504;
        let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while more {
            let mut block = [0; BLOCK];
            self.reader.read_exact(&mut block)?;
            more = block[MORE] == 1;
        }
        Ok(())
    }
}

impl Extension {
    /// Records of a pax extended header (POSIX.1-2001 pax): `<length> <key>=<value>\n`.
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), TarError> {
        const BAD: TarError = TarError::Malformed("a pax header that is none");
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or(BAD)?;
            let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok());
            let length: usize = length.filter(|length| *length > space + 1).ok_or(BAD)?;
            let record = records.get(space + 1..length).ok_or(BAD)?;
            let record = record.strip_suffix(b"\n").ok_or(BAD)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or(BAD)?);
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            records = &records[length..];
        }
        Ok(())
    }
}

fn cut_short() -> TarError {
    TarError::Read(io::ErrorKind::UnexpectedEof.into())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// A path without `.` and empty parts, relative to the root.
fn below_root(raw: &[u8]) -> Result<Vec<u8>, TarError> {
    if raw.len() > MAX_PATH {
        return Err(TarError::TooLarge("a path of more than 4096 bytes"));
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(TarError::Escape(String::from_utf8_lossy(raw).into_owned())),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]
mod tests {
    use super::*;

    fn members(bytes: &[u8]) -> Result<Vec<(String, MemberKind)>, TarError> {
        let mut tarball = Tarball::new(bytes);
        let mut found = Vec::new();
        while let Some(member) = tarball.next()? {
            found.push((String::from_utf8(member.path).unwrap(), member.kind));
        }
        Ok(found)
    }

    #[test]
    fn names_of_all_three_formats_are_read() {
        let long = "d/".repeat(150) + "file";
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", &long).unwrap();
        builder.append_pax_extensions([("path", b"pax/./name".as_slice()), ("size", b"4")]).unwrap();
        let mut header = Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(4);
        header.set_mode(0o100_755);
        header.set_cksum();
        builder.append(&header, &b"four"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();

        let mut tarball = Tarball::new(&bytes[..]);
        let first = tarball.next().unwrap().unwrap();
        assert_eq!((first.path, first.kind), (long.clone().into_bytes(), MemberKind::File(3)));
        assert_eq!(tarball.digest().unwrap(), Digest::of(b"abc"));
        let second = tarball.next().unwrap().unwrap();
        assert_eq!(second.kind, MemberKind::Symlink(long.into_bytes()));
        let third = tarball.next().unwrap().unwrap();
        assert_eq!((&third.path[..], third.mode), (&b"pax/name"[..], 0o755));
        assert_eq!(tarball.digest().unwrap(), Digest::of(b"four"));
        assert_eq!(tarball.next().unwrap(), None);
    }

    #[test]
    fn hostile_archives_are_refused() {
        let with_path = |path: &str| {
            let mut header = Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        for path in ["../x", "a/../../x", "/.."] {
            assert!(matches!(members(&with_path(path)), Err(TarError::Escape(_))), "{path}");
        }
        assert_eq!(members(&with_path("/abs//x/")).unwrap()[0].0, "abs/x");

        let extension = |kind, size: u64, content: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_cksum();
            let mut bytes = header.as_bytes().to_vec();
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            bytes
        };
        let huge = extension(EntryType::GNULongName, 1 << 40, b"");
        assert!(matches!(members(&huge), Err(TarError::TooLarge(_))));
        for pax in ["", "5", "3 =\n", "99 path=x\n", "x path=y\n", "13 path=abc\n", "10 size=x\n", "0 a=b\n"]
        {
            let bytes = extension(EntryType::XHeader, pax.len() as u64, pax.as_bytes());
            // What follows is missing, so an extension that is accepted still ends at the end.
            let read = members(&bytes);
            assert!(pax.is_empty() == read.is_ok(), "{pax:?}: {read:?}");
        }
        let mut wrong = with_path("a");
        wrong[0] = b'b';
        assert!(matches!(members(&wrong), Err(TarError::Malformed(_))));
        let mut short = extension(EntryType::Regular, 600, &[1; 600]);
        short.truncate(900);
        assert!(matches!(members(&short), Err(TarError::Read(_))));
        assert_eq!(members(&[]).unwrap(), []);
        assert!(members(&[1; 100]).is_err());
    }
}
