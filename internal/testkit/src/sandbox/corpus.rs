//! The corpus of real pallets, where a machine has it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::run::Ran;

/// An unpacked corpus: `pallets/<case>/` with `pallet`, `cache`, `stages` and `expected.json`.
#[derive(Debug)]
pub struct Corpus {
    directory: TempDir,
}

impl Corpus {
    /// Unpacks a `.tar.xz` with the system's `tar` (6,000 small files). Removed when dropped.
    pub fn unpack(archive: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("corpus-").tempdir()?;
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(directory.path()).arg("-xf").arg(archive);
        Ran::run(&mut tar)?.ok()?;
        Ok(Self { directory })
    }

    /// One case's directory; an error that names it when there is no such case.
    pub fn case(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.directory.path().join("pallets").join(name);
        if path.is_dir() { Ok(path) } else { Err(io::Error::other(format!("the corpus has no case {name}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_by_name() {
        let source = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(source.path().join("pallets/one/pallet")).unwrap();
        let archive = source.path().join("corpus.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
        tar.append_dir_all("pallets", source.path().join("pallets")).unwrap();
        tar.finish().unwrap();
        let corpus = Corpus::unpack(&archive).unwrap();
        assert!(corpus.case("one").unwrap().join("pallet").is_dir());
        assert!(corpus.case("two").unwrap_err().to_string().contains("two"));
    }
}
