//! Booting a tree in a virtual machine, whose power can be cut for real: what its kernel has not written is lost.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::tree::BootTree;
use crate::real::process::{Daemon, daemon_command};
use crate::run::Ran;

/// How long anything in the machine may take: every instruction is emulated. No success depends on it.
const PATIENCE: Duration = Duration::from_mins(15);
/// The disk's size in bytes; what is not written takes no room.
const DISK: u64 = 3 << 30;
/// Docker asks for a program of AppArmor's where the kernel has it. Neither a login nor the progress of jobs is on the console,
/// whose lines would begin with them.
const KERNEL_OPTIONS: &str = "root=/dev/vda rw console=ttyS0 panic=-1 quiet apparmor=0 \
                              systemd.getty_auto=no systemd.show_status=no";
/// What lines of the script at the end of a boot begin with on the console, where all others speak as well.
const MARK: &str = "=== ";

/// A virtual machine without a network, with a disk that has what a tree had. Removed when dropped.
#[derive(Debug)]
pub struct VirtualMachine {
    disk: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    _directory: TempDir,
}

impl VirtualMachine {
    /// Makes the machine of a tree of [`BootTree::for_machines`]. `script` is run with `sh` at the end of each boot that
    /// comes so far; then the machine powers itself off. What the script prints is [`PoweredOff::output`].
    pub fn new(tree: &BootTree, script: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("machine-").tempdir()?;
        let disk = directory.path().join("disk.img");
        tree.write("the-end/script", on_console(script))?;
        let [kernel, initrd] = ["vmlinuz", "initrd.img"].map(|name| directory.path().join(name));
        // Links to the files with the version in their names.
        fs::copy(tree.root().join("vmlinuz"), &kernel)?;
        fs::copy(tree.root().join("initrd.img"), &initrd)?;
        File::create(&disk)?.set_len(DISK)?;
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F", "-m", "0", "-d"]).arg(tree.root()).arg(&disk);
        Ran::run(&mut command)?.ok()?;
        Ok(Self { disk, kernel, initrd, _directory: directory })
    }

    /// Another machine with the same disk, as this one's is now.
    pub fn twin(&self) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("machine-").tempdir()?;
        let place = |name: &str| directory.path().join(name);
        let twin = Self {
            disk: place("disk.img"),
            kernel: place("vmlinuz"),
            initrd: place("initrd.img"),
            _directory: directory,
        };
        for (from, to) in
            [(&self.disk, &twin.disk), (&self.kernel, &twin.kernel), (&self.initrd, &twin.initrd)]
        {
            copy(from, to)?;
        }
        Ok(twin)
    }

    /// Switches it on.
    pub fn start(&mut self) -> io::Result<Powered<'_>> {
        let mut command = daemon_command("qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024", "-cpu", "max"])
            .args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", KERNEL_OPTIONS, "-drive"])
            // What the guest wrote is on the disk when it flushes, and what it did not write is lost with its memory.
            .arg(format!("file={},if=virtio,format=raw,cache=writeback", self.disk.display()));
        Ok(Powered { daemon: Daemon::start("qemu-system-x86_64", command)?, _machine: self })
    }
}

/// A machine that is on. Switched off when dropped.
#[derive(Debug)]
pub struct Powered<'a> {
    daemon: Daemon,
    _machine: &'a mut VirtualMachine,
}

impl Powered<'_> {
    /// Waits for a line on the console that contains this text. An error, with the console's last lines, when the machine
    /// is off before.
    pub fn wait_for(&self, text: &str) -> io::Result<String> {
        self.daemon.wait_for_line_within(text, PATIENCE)
    }

    /// Cuts the power: SIGKILL to the emulation. Returns what the console had said until then.
    pub fn cut(mut self) -> Vec<String> {
        self.daemon.kill();
        self.daemon.log()
    }

    /// Waits until the machine has powered itself off.
    pub fn finish(mut self) -> io::Result<PoweredOff> {
        let code = self.daemon.wait(PATIENCE)?;
        let console = self.daemon.log();
        let output = console.iter().filter_map(|line| line.strip_prefix(MARK)).map(str::to_owned).collect();
        let off = PoweredOff { output, console };
        if code != Some(0) || off.output.is_empty() {
            return Err(io::Error::other(format!("the machine ended early (QEMU: {code:?})\n{off}")));
        }
        Ok(off)
    }
}

/// A machine that has come to the end of its boot.
#[derive(Debug, Clone)]
pub struct PoweredOff {
    /// The lines that the script printed on either stream, and at last `exited` and its exit code.
    pub output: Vec<String>,
    /// All lines of the console, which has the journal's too.
    pub console: Vec<String>,
}

impl std::fmt::Display for PoweredOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.console.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A script whose output is written on the console, each line with [`MARK`], and its exit code as the last one.
fn on_console(script: &str) -> String {
    let script = script.replace('\'', r"'\''");
    format!(
        "{{ sh -c '{script}' 2>&1; echo exited $?; }} | while IFS= read -r line; do\n\
         printf '%s%s\\n' '{MARK}' \"$line\" >/dev/console\ndone\n"
    )
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut command = Command::new("cp");
    command.args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    Ran::run(&mut command)?.ok().map(drop)
}
