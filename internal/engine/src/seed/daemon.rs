//! One daemon of a private engine: started, watched, ended whatever happens.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process};

use super::error::SeedError;
use super::programs::Programs;
use crate::answer::one_line;

/// How long a daemon may take to leave after SIGTERM. dockerd itself gives its parts fifteen seconds.
const LEAVE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// So much of the end of a log is looked at, so many lines of it are shown.
const TAIL: u64 = 8192;
const LAST_LINES: usize = 6;

#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    ended: bool,
}

impl Daemon {
    /// Starts a daemon with nothing of our environment, in a process group of its own: a Ctrl-C is for us alone.
    pub(super) fn start(
        programs: &Programs,
        name: &'static str,
        program: &Path,
        args: &[OsString],
        env: &[(&str, String)],
        directory: &Path,
    ) -> Result<Self, SeedError> {
        let log = directory.join(format!("{name}.log"));
        let failed = |source| SeedError::System { what: format!("start {}", program.display()), source };
        let out = File::create(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut words: Vec<OsString> = programs.wrapper.clone();
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(args)
            .env_clear()
            .env("PATH", &programs.path)
            .env("HOME", directory)
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let child = command.spawn().map_err(failed)?;
        tracing::debug!(name, pid = child.id(), "started");
        Ok(Self { name, child, log, ended: false })
    }

    /// Fails when it has ended.
    pub(super) fn check(&mut self) -> Result<(), SeedError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                self.ended = true;
                Err(self.failed(format!("ended at once ({status})")))
            }
            Err(source) => Err(SeedError::System { what: format!("watch {}", self.name), source }),
        }
    }

    pub(super) fn failed(&self, what: String) -> SeedError {
        SeedError::Start { program: self.name, what, log: self.last_words() }
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        let tail = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        tail().unwrap_or_default()
    }

    /// What of the end of its log is worth a person's while.
    pub(super) fn last_words(&self) -> String {
        let text = self.tail();
        // What it says on its way out is not why it goes.
        let is_telling = |line: &&str| !line.contains("level=info") && !line.contains("level=debug");
        let mut lines: Vec<&str> = text.lines().filter(is_telling).collect();
        if lines.is_empty() {
            lines = text.lines().collect();
        }
        let last = lines.split_off(lines.len().saturating_sub(LAST_LINES));
        let words = last.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("; ");
        if words.is_empty() { "none".to_owned() } else { words }
    }

    /// SIGTERM, a bounded wait, SIGKILL. Blocks.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // Not waited for yet: the id is not another process's.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < LEAVE {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(PAUSE),
                _ => return,
            }
        }
        tracing::warn!(name = self.name, "it did not end when asked, and is killed");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
