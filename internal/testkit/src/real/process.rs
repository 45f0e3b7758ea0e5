//! A daemon under our care: its log, its readiness, its end.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// How long a daemon may take to say that it is ready, and to leave after SIGTERM. No success depends on either.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where Debian keeps programs. `/usr/local` is left out: another Docker there would shadow Debian's.
pub(super) const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// Pipes still open; none left means that the process and its children are gone.
    open: usize,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

impl Log {
    fn state(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        self.state().open += 1;
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut from = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.state().lines.push(text);
                log.changed.notify_all();
                line.clear();
            }
            log.state().open -= 1;
            log.changed.notify_all();
        });
    }
}

/// A running process, ended when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    child: Child,
    log: Arc<Log>,
    running: bool,
}

impl Daemon {
    /// Starts a daemon and collects what it prints.
    pub(super) fn start(name: &str, mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            spawn(command).map_err(|e| io::Error::new(e.kind(), format!("cannot start {name}: {e}")))?;
        let log = Arc::new(Log::default());
        if let Some(pipe) = child.stdout.take() {
            log.follow(pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            log.follow(pipe);
        }
        Ok(Self { name: name.to_owned(), child, log, running: true })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of its log contains this text, and returns that line. An error when the process ends first.
    pub(super) fn wait_for_line(&self, text: &str) -> io::Result<String> {
        self.wait_for_line_within(text, PATIENCE)
    }

    /// The same for a daemon that may take its time.
    pub(super) fn wait_for_line_within(&self, text: &str, patience: Duration) -> io::Result<String> {
        let found = |lines: &Lines| lines.lines.iter().find(|l| l.contains(text)).cloned();
        let (state, _) = self
            .log
            .changed
            .wait_timeout_while(self.log.state(), patience, |lines| found(lines).is_none() && lines.open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        found(&state).ok_or_else(|| {
            let tail = state.lines.iter().rev().take(15).rev();
            let tail: Vec<&str> = tail.map(String::as_str).collect();
            io::Error::other(format!(
                "{} did not say {text:?}; its last words:\n{}",
                self.name,
                tail.join("\n")
            ))
        })
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.state().lines.clone()
    }

    /// Waits for its end, and returns its exit code. An error when it goes on for longer than this; it is killed then.
    pub(super) fn wait(&mut self, patience: Duration) -> io::Result<Option<i32>> {
        if let Some(pid) = self.pid()
            && !exits(pid, patience)
        {
            self.kill();
            return Err(io::Error::other(format!(
                "{} went on for more than {} s; its last words:\n{}",
                self.name,
                patience.as_secs(),
                self.log().iter().rev().take(15).rev().cloned().collect::<Vec<_>>().join("\n")
            )));
        }
        self.running = false;
        Ok(self.child.wait()?.code())
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// SIGTERM, and SIGKILL if that does not help.
    pub(super) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// SIGKILL at once.
    pub(super) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// SIGKILL at once, to all that it has started as well; returns when they are gone.
    pub(super) fn kill_all(&mut self) {
        let below: Vec<(Pid, OwnedFd)> = self
            .pid()
            .map(descendants)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
            .collect();
        self.kill();
        for (_, handle) in &below {
            // By the handle: the number may be another process's by now.
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        for (pid, _) in below {
            exits(pid, PATIENCE);
        }
    }

    fn end(&mut self, signal: Signal) {
        if !std::mem::replace(&mut self.running, false) {
            return;
        }
        if let Some(pid) = self.pid() {
            // The child has not been waited for, so the id cannot belong to another process yet.
            let _ = kill_process(pid, signal);
            if !exits(pid, PATIENCE) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The processes that have come of one, the nearest first, by the parents that `/proc/PID/stat` names (proc(5)).
fn descendants(of: Pid) -> Vec<Pid> {
    let processes: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name before it may have any characters, parentheses too.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![of.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

/// Whether the process ends within this time.
fn exits(pid: Pid, patience: Duration) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        // Too old a kernel for pidfds: wait() does the waiting.
        return true;
    };
    let timeout = Timespec { tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut fds = [PollFd::new(&handle, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}

/// A command with nothing of our environment but Debian's own program directories, told to end when the test process
/// does, even if that is killed (`setpriv` of util-linux).
pub(super) fn daemon_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    let mut command = if std::path::Path::new(SETPRIV).exists() {
        let mut leashed = Command::new(SETPRIV);
        leashed.args(["--pdeathsig", "TERM", "--"]).arg(program);
        leashed
    } else {
        Command::new(program)
    };
    command.env_clear().env("PATH", SYSTEM_PATH);
    command
}

type Order = (Command, Sender<io::Result<Child>>);

/// Spawns on a thread that lives as long as the process: the death signal of [`daemon_command`] comes when the *thread* that
/// started a child ends, and a test's thread ends before a daemon that several tests share.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Whoever ordered it may have given up.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, child) = channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| io::Error::other("the spawning thread is gone"))?;
    child.recv().map_err(|_| io::Error::other("the spawning thread is gone"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = daemon_command("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn readiness_is_a_line_of_the_log() {
        let mut daemon = Daemon::start("sh", shell("echo ready on 7 >&2; exec tail -f /dev/null")).unwrap();
        assert_eq!(daemon.wait_for_line("ready").unwrap(), "ready on 7");
        let pid = daemon.id();
        daemon.stop();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn all_that_it_started_is_gone_with_it() {
        let script = "sh -c 'echo $$; exec tail -f /dev/null' & wait";
        let mut daemon = Daemon::start("sh", shell(script)).unwrap();
        let line = daemon.wait_for_line("").unwrap();
        daemon.kill_all();
        assert!(!std::path::Path::new(&format!("/proc/{line}/cwd")).exists());
    }

    #[test]
    fn an_early_end_is_told_with_the_last_words() {
        let daemon = Daemon::start("sh", shell("echo no such file; exit 3")).unwrap();
        let error = daemon.wait_for_line("ready").unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
    }
}
