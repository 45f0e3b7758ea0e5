//! Ends a service in which nothing moves any more, so that nothing that is started after it waits for ever.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Service, State};

/// Fewer bytes than these since the last look are somebody else's, or the look itself.
const MOVED: u64 = 1 << 20;
/// How long the run may take to put things in order after that.
const GRACE: Duration = Duration::from_secs(30);

/// Set when nothing moved for this long.
pub(crate) type Stalled = Arc<OnceLock<Duration>>;

/// The file system below a directory.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    free: u64,
}

impl Disk {
    /// `None` where it cannot be looked at: the engine is another user's, or on another machine.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        Some(Self { free: free(directory)?, directory: directory.to_owned() })
    }

    /// Whether it has been written to.
    fn moved(&mut self) -> bool {
        let Some(free) = free(&self.directory) else { return false };
        let moved = self.free.abs_diff(free) >= MOVED;
        if moved {
            self.free = free;
        }
        moved
    }
}

fn free(directory: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(directory).ok()?;
    Some(status.f_bfree.saturating_mul(status.f_frsize))
}

/// Cancels the run when nothing has moved for `limit`, and kills the process when it does not end then either.
///
/// What moves: anything that is said, any step that is told with [`Service::moved`], bytes that the process reads or
/// writes, and bytes on the disk that an engine unpacks to.
pub(crate) fn watch(service: &Service, limit: Duration, cancel: CancellationToken, stalled: Stalled) {
    let Some(state) = service.state.clone() else { return };
    // Apart from the runtime, whose threads may be what is stuck.
    thread::spawn(move || {
        let mut bytes = own_bytes();
        while !state.stands_still(limit, &mut bytes) {
            thread::sleep((limit / 20).clamp(Duration::from_millis(50), Duration::from_secs(5)));
        }
        let _ = stalled.set(limit);
        cancel.cancel();
        thread::sleep(GRACE);
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}

impl State {
    fn stands_still(&self, limit: Duration, bytes: &mut u64) -> bool {
        let own = own_bytes();
        let disk_moved =
            self.disk.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_some_and(Disk::moved);
        if own.abs_diff(*bytes) >= MOVED || disk_moved {
            *bytes = own;
            self.moved.store(self.elapsed(), Ordering::Relaxed);
        }
        let still = self.elapsed().saturating_sub(self.moved.load(Ordering::Relaxed));
        Duration::from_millis(still) >= limit
    }
}

/// Bytes that this process has read and written, by `/proc/self/io` (proc(5)).
fn own_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/io").map_or(0, |text| moved_bytes(&text))
}

fn moved_bytes(io: &str) -> u64 {
    let value = |line: &str| {
        let value = line.strip_prefix("rchar: ").or_else(|| line.strip_prefix("wchar: "))?;
        value.trim().parse::<u64>().ok()
    };
    io.lines().filter_map(value).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_read_and_written() {
        assert_eq!(moved_bytes("rchar: 100\nwchar: 23\nsyscr: 7\nread_bytes: 4096\n"), 123);
        assert_eq!(moved_bytes("nothing"), 0);
    }

    #[test]
    fn a_run_in_which_nothing_moves_is_cancelled() {
        let (service, cancel, stalled) = (Service::unit(None), CancellationToken::new(), Stalled::default());
        let state = service.state.clone().unwrap();
        assert!(!state.stands_still(Duration::from_mins(1), &mut own_bytes()));
        // Nothing is told, and whatever the other tests of this process read and write ends before they do.
        watch(&service, Duration::from_millis(200), cancel.clone(), stalled.clone());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(cancel.cancelled());
        assert_eq!(stalled.get(), Some(&Duration::from_millis(200)));
    }

    #[test]
    fn what_moves_is_told_said_read_or_written() {
        let service = Service::unit(None);
        let state = service.state.clone().unwrap();
        state.moved.store(0, Ordering::Relaxed);
        let limit = Duration::ZERO;
        assert!(state.stands_still(limit, &mut own_bytes()));
        // As if a byte count had been seen before all that this process has read since.
        let mut long_ago = own_bytes().wrapping_sub(MOVED);
        state.stands_still(limit, &mut long_ago);
        assert!(own_bytes().abs_diff(long_ago) < MOVED, "it was noticed");
        let disk = Disk { directory: PathBuf::from("/"), free: free(Path::new("/")).unwrap() - 2 * MOVED };
        *state.disk.lock().unwrap() = Some(disk);
        assert!(state.disk.lock().unwrap().as_mut().unwrap().moved());
        assert!(Disk::of(Path::new("/no/such/directory")).is_none());
    }
}
