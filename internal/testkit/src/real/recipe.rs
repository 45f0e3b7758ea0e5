//! What tests need and make once: directories of a cache outside the checkout, each under a hash of how it is made.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use palletjack_image::Digest;
use rustix::fs::{FlockOperation, flock};

/// The tests' cache: `PALLETJACK_TEST_CACHE`, else `palletjack-tests` in the user's cache directory.
fn cache() -> io::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("PALLETJACK_TEST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("palletjack-tests")))
        .or_else(|| set("HOME").map(|d| d.join(".cache/palletjack-tests")))
        .ok_or_else(|| io::Error::other("no HOME; set PALLETJACK_TEST_CACHE to a directory"))
}

/// The directory of this recipe: found in the tests' cache, or made there. `make` gets an empty directory to work in,
/// and leaves what is to be kept in its `root`.
///
/// Whoever comes second waits for the first; a name stands for a whole directory, whatever ended the making.
pub(super) fn once(
    name: &str,
    recipe: &str,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let cache = cache()?;
    let name = format!("{name}-{}", Digest::of(recipe.as_bytes()).short());
    let directory = cache.join(&name);
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if !directory.is_dir() {
        let work = tempfile::Builder::new().prefix("making-").tempdir_in(&cache)?;
        make(work.path())
            .map_err(|error| io::Error::other(format!("cannot make {}: {error}", directory.display())))?;
        fs::rename(work.path().join("root"), &directory)?;
    }
    Ok(directory)
}
