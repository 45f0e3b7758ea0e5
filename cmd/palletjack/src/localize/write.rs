//! Replacing the Compose files of a bundle, and putting them back, so that a crash anywhere leaves what the next run
//! completes or undoes.
//!
//! ```text
//!   record durable ──► new files beside the old, durable ──► renames ──► directories durable ──► record as it ends
//! ```
//!
//! The record comes first and ends last: at any moment each file is one whole version that the record knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use palletjack_image::Digest;
use palletjack_pallet::localize::{FileState, Localized, LocalizedFile, RECORD, Record};
use rustix::fs::FlockOperation;

use crate::error::{CommandError, Exit};

/// Called between any two steps; a test lets the machine die there.
pub(super) type Between<'a> = &'a dyn Fn() -> io::Result<()>;

/// A bundle that nobody else rewrites meanwhile.
pub(super) struct Locked {
    bundle: PathBuf,
    directory: File,
}

/// One file and what is to be in it.
struct Change {
    path: PathBuf,
    content: Vec<u8>,
}

impl Locked {
    pub(super) fn new(bundle: &Path) -> Result<Self, CommandError> {
        let opened = fs::canonicalize(bundle).and_then(|bundle| Ok((File::open(&bundle)?, bundle)));
        let (directory, bundle) = opened.map_err(|error| failed(bundle, error))?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // A record that a crash kept from getting its name. Where it cannot be removed, nothing can be written.
                let _ = remove_if_there(&temporary(&bundle.join(RECORD)));
                Ok(Self { bundle, directory })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let error = anyhow::anyhow!("another palletjack rewrites {} now", bundle.display());
                Err(CommandError::new(Exit::Failed, error))
            }
            Err(error) => Err(failed(&bundle, error.into())),
        }
    }

    /// Makes these files, and no others, be rewritten. Whether anything had to be changed.
    ///
    /// # Errors
    /// A file that somebody changed since: nothing is changed then. One of the file system: what was begun is undone if
    /// that is possible, else the next run does it.
    pub(super) fn localize(&self, files: &[Localized], between: Between<'_>) -> Result<bool, CommandError> {
        let previous = Record::read(&self.bundle)?;
        if files.is_empty() {
            return Ok(self.delocalize(between)? > 0);
        }
        let end = Record::new(files.iter().map(|file| file.file.clone()).collect());
        if let Some(previous) = &previous {
            let states = previous.states(&self.bundle)?;
            self.clear(previous);
            if *previous == end && states.iter().all(|state| *state == FileState::Rewritten) {
                return Ok(false);
            }
        }
        let begin = beginning(previous.as_ref(), files);
        begin.states(&self.bundle)?;
        let mut contents: BTreeMap<&str, &[u8]> =
            files.iter().map(|file| (&*file.file.path, &*file.content)).collect();
        for file in &begin.files {
            contents.entry(&file.path).or_insert(file.original.as_bytes());
        }
        let changes: Vec<Change> = contents
            .into_iter()
            .map(|(path, content)| Change { path: self.bundle.join(path), content: content.to_vec() })
            .collect();
        let made = self
            .write_record(&begin, between)
            .and_then(|()| prepare(&changes, between))
            .map_err(|error| self.abandon(previous.as_ref(), &changes, error))?;
        let done = made
            .put_in_place(between)
            .and_then(|()| if begin == end { Ok(()) } else { self.write_record(&end, between) });
        done.map_err(|error| {
            failed(&self.bundle, error)
                .hint("what is done in part is completed by the same command, and undone by `palletjack stage delocalize`")
        })?;
        Ok(true)
    }

    /// Puts all files back, byte for byte, and ends the record. How many were not as they had been.
    ///
    /// # Errors
    /// A file that somebody changed since: nothing is changed then.
    pub(super) fn delocalize(&self, between: Between<'_>) -> Result<usize, CommandError> {
        let Some(record) = Record::read(&self.bundle)? else { return Ok(0) };
        let states = record.states(&self.bundle)?;
        let changes: Vec<Change> = record
            .files
            .iter()
            .zip(states)
            .filter(|(_, state)| *state != FileState::Original)
            .map(|(file, _)| Change {
                path: self.bundle.join(&file.path),
                content: file.original.clone().into_bytes(),
            })
            .collect();
        self.clear(&record);
        let done = || -> io::Result<()> {
            prepare(&changes, between)?.put_in_place(between)?;
            fs::remove_file(self.bundle.join(RECORD))?;
            between()?;
            self.directory.sync_all()
        };
        done().map_err(|error| failed(&self.bundle, error).hint("the same command completes it"))?;
        Ok(changes.len())
    }

    /// Removes new files that an earlier attempt did not put in place. Where that fails, making them fails, and says why.
    fn clear(&self, record: &Record) {
        for file in &record.files {
            let _ = fs::remove_file(temporary(&self.bundle.join(&file.path)));
        }
    }

    fn write_record(&self, record: &Record, between: Between<'_>) -> io::Result<()> {
        let path = self.bundle.join(RECORD);
        let temporary = temporary(&path);
        remove_if_there(&temporary)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(&record.to_json())?;
        file.sync_all()?;
        between()?;
        fs::rename(&temporary, &path)?;
        between()?;
        self.directory.sync_all()?;
        between()
    }

    /// No file was touched yet: the record becomes what it was.
    fn abandon(&self, previous: Option<&Record>, changes: &[Change], error: io::Error) -> CommandError {
        for change in changes {
            let _ = fs::remove_file(temporary(&change.path));
        }
        let _ = fs::remove_file(temporary(&self.bundle.join(RECORD)));
        let back = match (Record::read(&self.bundle), previous) {
            // The failure was before it had its name.
            (Ok(now), previous) if now.as_ref() == previous => Ok(()),
            (_, Some(previous)) => self.write_record(previous, &|| Ok(())),
            (_, None) => remove_if_there(&self.bundle.join(RECORD)),
        };
        let error = failed(&self.bundle, error);
        match back.and_then(|()| self.directory.sync_all()) {
            Ok(()) => error.context("no Compose file was changed"),
            Err(_) => error.hint("`palletjack stage delocalize` undoes what was begun"),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Not by closing alone: a child process that is being started may have the descriptor for a moment longer.
        let _ = rustix::fs::flock(&self.directory, FlockOperation::Unlock);
    }
}

/// The record for the time of the change: it knows what each file may be before, amid and after.
fn beginning(previous: Option<&Record>, files: &[Localized]) -> Record {
    let mut all: BTreeMap<String, LocalizedFile> =
        files.iter().map(|file| (file.file.path.clone(), file.file.clone())).collect();
    for old in previous.into_iter().flat_map(|record| &record.files) {
        let file = all.entry(old.path.clone()).or_insert_with(|| LocalizedFile {
            rewritten: Digest::of(old.original.as_bytes()),
            images: Vec::new(),
            ..old.clone()
        });
        let known: BTreeSet<Digest> = old.earlier.iter().copied().chain([old.rewritten]).collect();
        file.earlier = known.into_iter().filter(|digest| *digest != file.rewritten).collect();
    }
    Record::new(all.into_values().collect())
}

/// New files that lie beside those that they are to replace.
struct Prepared<'a> {
    changes: &'a [Change],
}

fn prepare<'a>(changes: &'a [Change], between: Between<'_>) -> io::Result<Prepared<'a>> {
    for change in changes {
        let temporary = temporary(&change.path);
        remove_if_there(&temporary)?;
        let old = fs::symlink_metadata(&change.path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(&change.content)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        file.sync_all()?;
        between()?;
    }
    Ok(Prepared { changes })
}

impl Prepared<'_> {
    fn put_in_place(&self, between: Between<'_>) -> io::Result<()> {
        for change in self.changes {
            fs::rename(temporary(&change.path), &change.path)?;
            between()?;
        }
        let directories: BTreeSet<&Path> =
            self.changes.iter().filter_map(|change| change.path.parent()).collect();
        for directory in directories {
            File::open(directory)?.sync_all()?;
            between()?;
        }
        Ok(())
    }
}

/// A name beside a file, always the same one, so that what a crash leaves of it is found again.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{}.palletjack", name.trim_start_matches('.')))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(bundle: &Path, error: io::Error) -> CommandError {
    let exit = if error.kind() == io::ErrorKind::StorageFull { Exit::NoSpace } else { Exit::Failed };
    CommandError::new(exit, error)
        .context(format!("the Compose files of {} cannot be rewritten", bundle.display()))
}

#[cfg(test)]
mod tests;
