//! Booting a tree, to its end or until the plug is pulled.

use std::fs;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::journal::{self, Entry};
use super::tree::BootTree;
use crate::real::process::{Daemon, daemon_command};

/// How long a boot may take. None takes a tenth of it; no success depends on it.
const PATIENCE: Duration = Duration::from_mins(5);

/// A boot that came to its end.
#[derive(Debug, Clone)]
pub struct Boot {
    /// How long it took, from nothing to power-off.
    pub took: Duration,
    /// What the script printed on standard output.
    pub output: String,
    /// How the script ended: `exited 0`, or otherwise.
    pub status: String,
    /// The journal of this boot.
    pub journal: Vec<Entry>,
}

impl Boot {
    /// The lines of a unit: its own, and systemd's about it.
    pub fn lines(&self, unit: &str) -> Vec<&str> {
        self.journal.iter().filter(|entry| entry.unit == unit).map(|entry| &*entry.message).collect()
    }

    /// Fails the test unless the script ended well.
    ///
    /// # Panics
    /// When it did not, with what it printed and the journal.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        assert!(self.status == "exited 0", "{self}");
        self
    }
}

impl std::fmt::Display for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "the script {}\n--- output\n{}\n--- journal", self.status, self.output)?;
        self.journal
            .iter()
            .try_for_each(|entry| writeln!(f, "{} <{}> {}", entry.unit, entry.priority, entry.message))
    }
}

/// A system that runs. Its power is cut when dropped.
#[derive(Debug)]
pub struct Running {
    daemon: Daemon,
    started: Instant,
}

impl Running {
    /// Waits for a moment of the boot, by looking again and again.
    ///
    /// # Panics
    /// When it has not come after some minutes.
    #[track_caller]
    pub fn wait_until(&self, is_there: impl Fn() -> bool) {
        const LOOK: Duration = Duration::from_millis(2);
        while !is_there() {
            assert!(self.started.elapsed() < PATIENCE, "it did not come:\n{}", self.daemon.log().join("\n"));
            std::thread::sleep(LOOK);
        }
    }

    /// Pulls the plug: every process of the system is gone at once, and nothing is written any more on its behalf but what
    /// the kernel has in memory.
    pub fn pull_the_plug(mut self) {
        self.daemon.kill_all();
    }
}

impl BootTree {
    /// Boots the system, runs a shell script at the end of the boot, and powers it off.
    ///
    /// The script runs as root in `/the-end` with `sh -x`, when everything that the boot wants has been started or has
    /// failed.
    pub fn boot(&self, script: &str) -> io::Result<Boot> {
        let mut running = self.start(script)?;
        let code = running.daemon.wait(PATIENCE)?;
        let took = running.started.elapsed();
        let read = |name: &str| fs::read_to_string(self.root().join("the-end").join(name));
        let ended = read("status");
        if code != Some(0) || ended.is_err() {
            let console = running.daemon.log().join("\n");
            let journal = journal::read(self.root()).unwrap_or_default();
            let last: Vec<&str> = journal.iter().rev().take(30).rev().map(|e| &*e.message).collect();
            return Err(io::Error::other(format!(
                "the boot did not come to its end (systemd-nspawn: {code:?})\n{console}\n--- journal\n{}",
                last.join("\n")
            )));
        }
        Ok(Boot {
            took,
            output: read("output")?,
            status: ended?.trim().to_owned(),
            journal: journal::read(self.root())?,
        })
    }

    /// Begins to boot the system.
    pub fn start(&self, script: &str) -> io::Result<Running> {
        let place = self.root().join("the-end");
        if place.is_dir() {
            fs::remove_dir_all(&place)?;
        }
        self.write("the-end/script", script)?;
        let mut command: Command = daemon_command("systemd-nspawn");
        command
            // Without a cgroup tree of its own kind, Docker starts and its containers do not.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .args([
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                "--private-network",
                "--capability=all",
            ])
            .args(["--link-journal=no", "--system-call-filter=add_key keyctl bpf", "--directory"])
            .arg(self.root());
        let started = Instant::now();
        Ok(Running { daemon: Daemon::start("systemd-nspawn", command)?, started })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::BootEngine;
    use crate::real::Part;

    use super::*;

    #[test]
    fn a_system_boots_with_its_own_docker_and_keeps_what_it_did() {
        crate::require_real!(Part::Boots, Part::Docker28);
        let tree = BootTree::new(BootEngine::Docker20).unwrap();
        let unit = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo \"<4>careful\" >&2'\n\
                    [Install]\nWantedBy=multi-user.target\n";
        tree.write("etc/systemd/system/ours.service", unit).unwrap();
        tree.enable("ours.service").unwrap();
        let script = "docker version --format '{{.Server.Version}}'; docker compose version --short; \
                      ls /sys/class/net; touch /var/lib/boots";
        let boot = tree.boot(script).unwrap();
        boot.assert_success();
        let lines: Vec<&str> = boot.output.lines().collect();
        assert!(lines[0].starts_with("20.10.") && lines[1].starts_with("2."), "{boot}");
        assert_eq!(lines[2..], ["lo"], "{boot}");
        let warning = boot.journal.iter().find(|entry| entry.message == "careful").unwrap();
        assert_eq!((&*warning.unit, warning.priority), ("ours.service", 4));
        assert!(boot.lines("docker.service").iter().any(|line| line.contains("API listen on")), "{boot}");

        let second = tree.boot("ls /var/lib/boots; exit 3").unwrap();
        assert_eq!((&*second.output, &*second.status), ("/var/lib/boots\n", "exited 3"));
        assert_eq!(second.lines("ours.service").iter().filter(|line| **line == "careful").count(), 1);

        let running = tree.start("exec sleep infinity").unwrap();
        running.pull_the_plug();
        tree.boot("true").unwrap().assert_success();
    }
}
