//! Random moments of a run.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palletjack_testkit::Ran;
use palletjack_testkit::powercut::Disk;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

use crate::device::{CacheOn, Device};
use crate::images::images;

/// Numbers that follow from a seed (splitmix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Of the seed that was asked for, else of another on each run; it is printed.
    pub(crate) fn new(who: &str) -> Self {
        let asked = std::env::var("PALLETJACK_SEED").ok().map(|text| text.parse().unwrap());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed = asked.unwrap_or_else(clock);
        println!("{who}: PALLETJACK_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A number of the environment.
pub(crate) fn asked(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A moment of a load, by what can be seen of it from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So many bytes more than before are on the engine's disk, or in memory on their way there.
    Written(u64),
    /// So many images are with the engine, which unpacks them.
    Unpacking(usize),
    /// So many images are done.
    Done(usize),
}

impl Moment {
    /// Any moment of a load of all images.
    pub(crate) fn random(numbers: &mut Numbers) -> Self {
        let mut image = || usize::try_from(1 + numbers.below(images().count() as u64)).unwrap();
        let (unpacking, done) = (Self::Unpacking(image()), Self::Done(image().min(images().count() - 1)));
        match numbers.below(6) {
            0 => unpacking,
            1 => done,
            _ => Self::Written(numbers.below(images().unpacked_bytes())),
        }
    }
}

/// What was seen of a run so far.
#[derive(Debug, Default)]
struct Seen {
    written: u64,
    unpacking: usize,
    done: usize,
}

impl Seen {
    fn is_past(&self, moment: &Moment) -> bool {
        match moment {
            Moment::Written(bytes) => self.written >= *bytes,
            Moment::Unpacking(images) => self.unpacking >= *images,
            Moment::Done(images) => self.done >= *images,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(bytes) => write!(f, "after {bytes} bytes were written"),
            Self::Unpacking(images) => write!(f, "when image {images} was with the engine"),
            Self::Done(images) => write!(f, "when {images} images were done"),
        }
    }
}

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Loads the pallet, and does something at each of these moments while that goes on. Moments that had not come when the
/// run was over are not told.
pub(crate) fn load_and(device: &Device, moments: &[Moment], act: impl FnMut(&Child, &Moment)) -> Ran {
    let words = "plt load-img --progress json --output json --parallel=2";
    run_and(device.machine.command(words), &device.disk, moments, act)
}

/// Bytes on a disk, with those that are only in memory yet.
fn used(disk: &Disk) -> u64 {
    let status = rustix::fs::statvfs(disk.path()).unwrap();
    (status.f_blocks - status.f_bfree) * status.f_frsize
}

/// The same for any run of the program that tells its progress as JSON.
pub(crate) fn run_and(
    mut command: Command,
    disk: &Disk,
    moments: &[Moment],
    mut act: impl FnMut(&Child, &Moment),
) -> Ran {
    let mut least = used(disk);
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let (sender, lines) = channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut waiting = moments.to_vec();
    let (mut seen, mut stderr) = (Seen::default(), String::new());
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                seen.unpacking += usize::from(event["event"] == "unpacking");
                seen.done += usize::from(event["event"] == "image-done");
                stderr.push_str(&line);
                stderr.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // An engine that still does away with what was removed before gives back room meanwhile.
        let now = used(disk);
        least = least.min(now);
        seen.written = now - least;
        waiting.retain(|moment| {
            let is_past = seen.is_past(moment);
            if is_past {
                act(&child, moment);
            }
            !is_past
        });
    }
    let code = child.wait().unwrap().code();
    Ran { command: format!("{command:?}"), code, stdout: reader.join().unwrap(), stderr }
}

/// Does something while a run is halted, if its cache would go on changing else.
pub(crate) fn halted<T>(device: &Device, child: &Child, act: impl FnOnce() -> T) -> T {
    if device.cache_on() == CacheOn::SameDisk {
        return act();
    }
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::STOP).unwrap();
    // Stopped is who has no system call under way any more. It may have ended first.
    let how = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), how).unwrap();
    let result = act();
    kill_process(pid, Signal::CONT).unwrap();
    result
}
