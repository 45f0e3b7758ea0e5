//! Trees with what `unit --install` looks at, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::{Machine, PROGRAM};

/// The number of this machine's processor's opposite: an ELF machine that no test runs on.
const OTHER: u16 = 2;

pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

impl Tree {
    /// A system of this machine's processor with these programs in `/usr/bin`.
    pub(crate) fn new(machine: &Machine, programs: &[&str]) -> Self {
        let tree = Self { root: machine.sandbox.root().join("card") };
        let head = fs::read(PROGRAM).unwrap()[..64].to_vec();
        tree.write("usr/lib/systemd/systemd", &head);
        for program in programs {
            tree.write(&format!("usr/bin/{program}"), &head);
        }
        tree
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn unit(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root.join("etc/systemd/system").join(name)).ok()
    }

    /// Where the link that starts a unit leads.
    pub(crate) fn wanted(&self, by: &str, name: &str) -> Option<PathBuf> {
        fs::read_link(self.root.join(format!("etc/systemd/system/{by}.wants/{name}"))).ok()
    }

    /// Every path in the tree, sorted.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        collect(&self.root, &mut paths);
        paths.sort();
        paths
    }
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        paths.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), paths);
        }
    }
}

/// A program for another processor.
pub(crate) fn foreign_program(machine: &Machine) -> PathBuf {
    let mut head = fs::read(PROGRAM).unwrap()[..64].to_vec();
    head[18..20].copy_from_slice(&OTHER.to_le_bytes());
    let path = machine.sandbox.root().join("foreign");
    fs::write(&path, head).unwrap();
    path
}
