//! The device's own containers, which a private engine must not know of: it would start those that are to be restarted, with
//! none of their networks, and before anything that the device starts before them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::SeedError;
use super::programs::Programs;

/// Where dockerd keeps them, below its data root.
const CONTAINERS: &str = "containers";
/// Mounts a directory over the containers of a data root, and becomes the rest. In mounts of its own: nobody else sees that. The
/// data root is made a shared mount first, as dockerd wants it: else it would do that itself, and so uncover what is below.
const HIDE: &str = r#"
mount --bind "$1" "$1" && mount --make-shared "$1" && mount --bind "$0" "$1/containers" && shift && exec "$@""#;

/// dockerd and its arguments, so that it finds an empty directory where it would look for containers. As they are, where
/// there are none.
pub(super) fn hide(
    programs: &Programs,
    dockerd: &Path,
    data_root: &Path,
    directory: &Path,
    args: Vec<OsString>,
) -> Result<(PathBuf, Vec<OsString>), SeedError> {
    let containers = data_root.join(CONTAINERS);
    if !fs::read_dir(&containers).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok((dockerd.to_owned(), args));
    }
    let failed = |source| SeedError::System {
        what: format!("keep a private engine from the containers in {}", data_root.display()),
        source,
    };
    if !programs.wrapper.iter().any(|word| word == "unshare") {
        return Err(failed(io::Error::other("there may be no mount namespaces here")));
    }
    let empty = directory.join("no-containers");
    fs::create_dir(&empty).map_err(failed)?;
    let mut words: Vec<OsString> = vec!["-c".into(), HIDE.into(), empty.into(), data_root.into()];
    words.push(dockerd.into());
    words.extend(args);
    Ok(("/bin/sh".into(), words))
}
