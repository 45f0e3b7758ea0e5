//! Units and the program into an OS image's tree.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Kind;
use super::elf::{HEAD, Machine};
use super::inside::{Directory, Inside};
use super::render::{EngineName, MARK};

const UNITS: &str = "/etc/systemd/system";
/// Where units of packages lie.
const PACKAGED: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// What every system of ours has, and its processor's.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Where the program is copied to.
const PROGRAMS: &str = "/usr/local/bin";
const PROGRAM: &str = "palletjack";
/// Text of a unit of ours that is looked at.
const UNIT_HEAD: u64 = 256;

/// Why nothing, or not all, was written into a tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{} cannot be opened as an OS image's tree", .root.display())]
    NoTree { root: PathBuf, source: io::Error },
    #[error("there is no systemd in {}: units would do nothing there", .root.display())]
    NoSystemd { root: PathBuf },
    #[error("{} cannot be read", .program.display())]
    Unreadable { program: PathBuf, source: io::Error },
    #[error("{} is no program", .program.display())]
    NoProgram { program: PathBuf },
    #[error(
        "{} is a program for {its}, and the system in {} is for {systems}: give the program that was built for it",
        .program.display(), .root.display()
    )]
    Architecture { program: PathBuf, root: PathBuf, its: Machine, systems: Machine },
    #[error(
        "there is no palletjack in {}: install its package there, or copy a program built for it with --binary FILE",
        .root.display()
    )]
    Absent { root: PathBuf },
    #[error("{unit} is masked in {}: unmask it first (`systemctl --root {} unmask {unit}`)", .root.display(), .root.display())]
    Masked { unit: &'static str, root: PathBuf },
    #[error("{path} cannot be written in {}", .root.display())]
    Write { path: String, root: PathBuf, source: io::Error },
}

/// What was done to a tree.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// Units of an earlier time that were removed.
    pub(crate) removed: Vec<&'static str>,
}

/// A tree that units go into.
#[derive(Debug)]
pub(crate) struct Installer {
    tree: Inside,
    machine: Machine,
}

/// A program that fits the tree.
#[derive(Debug)]
pub(crate) struct Program {
    file: File,
    path: PathBuf,
}

impl Program {
    /// Where it will be, as the device sees it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Installer {
    pub(crate) fn open(root: &Path) -> Result<Self, InstallError> {
        let no_tree = |source| InstallError::NoTree { root: root.to_owned(), source };
        let tree = Inside::open(root).map_err(no_tree)?;
        for path in SYSTEMD {
            let head = tree.head(Path::new(path), HEAD as u64).map_err(no_tree)?;
            if let Some(machine) = head.as_deref().and_then(Machine::of) {
                return Ok(Self { tree, machine });
            }
        }
        Err(InstallError::NoSystemd { root: root.to_owned() })
    }

    pub(crate) fn tree(&self) -> &Inside {
        &self.tree
    }

    /// The engine that the system has; Docker where it has both.
    pub(crate) fn engine(&self) -> Option<EngineName> {
        let has = |name: &str| {
            DIRECTORIES.iter().any(|directory| self.tree.has_file(format!("{directory}/{name}")))
        };
        if has("dockerd") {
            Some(EngineName::Docker)
        } else if has("podman") {
            Some(EngineName::Podman)
        } else {
            None
        }
    }

    /// Whether the system has a unit of this name.
    pub(crate) fn has_unit(&self, name: &str) -> bool {
        PACKAGED.iter().any(|directory| self.tree.has_file(format!("{directory}/{name}")))
    }

    /// The program that the system has already.
    pub(crate) fn own_program(&self) -> Result<PathBuf, InstallError> {
        let mut paths = DIRECTORIES.iter().map(|directory| Path::new(directory).join(PROGRAM));
        paths
            .rfind(|path| self.tree.has_file(path))
            .ok_or_else(|| InstallError::Absent { root: self.tree.path().to_owned() })
    }

    /// Opens a program of this machine that is to be copied, and checks that the system can run it.
    pub(crate) fn program(&self, path: &Path) -> Result<Program, InstallError> {
        let unreadable = |source| InstallError::Unreadable { program: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut head = Vec::new();
        io::copy(&mut io::Read::take(&mut file, HEAD as u64), &mut head).map_err(unreadable)?;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let Some(its) = Machine::of(&head) else {
            return Err(InstallError::NoProgram { program: path.to_owned() });
        };
        if its != self.machine {
            return Err(InstallError::Architecture {
                program: path.to_owned(),
                root: self.tree.path().to_owned(),
                its,
                systems: self.machine,
            });
        }
        Ok(Program { file, path: Path::new(PROGRAMS).join(PROGRAM) })
    }

    /// Checks what can be checked before anything is written.
    pub(crate) fn check(&self, kinds: &[Kind]) -> Result<(), InstallError> {
        for kind in kinds {
            let is_masked = match self.tree.locate(Path::new(UNITS)) {
                None => false,
                Some(units) => {
                    std::fs::read_link(units.join(kind.file())).is_ok_and(|to| to == Path::new("/dev/null"))
                }
            };
            if is_masked {
                return Err(InstallError::Masked { unit: kind.file(), root: self.tree.path().to_owned() });
            }
        }
        Ok(())
    }

    /// Writes the program, if there is one, then the units, then what starts them at boot. With `alone`, units of ours
    /// that are not among these are removed.
    pub(crate) fn install(
        &self,
        program: Option<Program>,
        units: &[(Kind, String)],
        alone: bool,
    ) -> Result<Installed, InstallError> {
        if let Some(Program { file, path }) = program {
            let directory = self.made(Path::new(PROGRAMS))?;
            directory.write(PROGRAM, file, 0o755).map_err(|error| self.unwritten(&path, error))?;
        }
        let directory = self.made(Path::new(UNITS))?;
        let mut installed = Installed::default();
        if alone {
            let given: Vec<Kind> = units.iter().map(|(kind, _)| *kind).collect();
            for kind in Kind::ALL.into_iter().filter(|kind| !given.contains(kind)) {
                if self.remove(kind, &directory)? {
                    installed.removed.push(kind.file());
                }
            }
        }
        for (kind, text) in units {
            let path = Path::new(UNITS).join(kind.file());
            directory
                .write(kind.file(), text.as_bytes(), 0o644)
                .map_err(|error| self.unwritten(&path, error))?;
        }
        for (kind, _) in units {
            let wants = Path::new(UNITS).join(format!("{}.wants", kind.wanted_by()));
            let link = self.made(&wants)?.symlink(kind.file(), Path::new(UNITS).join(kind.file()));
            link.map_err(|error| self.unwritten(&wants.join(kind.file()), error))?;
        }
        Ok(installed)
    }

    /// Removes a unit that an earlier run wrote; one of somebody else's stays.
    fn remove(&self, kind: Kind, directory: &Directory) -> Result<bool, InstallError> {
        let path = Path::new(UNITS).join(kind.file());
        let failed = |error| self.unwritten(&path, error);
        let head = self.tree.head(&path, UNIT_HEAD).map_err(failed)?;
        if !head.is_some_and(|head| head.starts_with(MARK.as_bytes())) {
            return Ok(false);
        }
        let wants = self.made(&Path::new(UNITS).join(format!("{}.wants", kind.wanted_by())))?;
        wants.unlink(kind.file()).map_err(failed)?;
        directory.unlink(kind.file()).map_err(failed)
    }

    fn made(&self, path: &Path) -> Result<Directory, InstallError> {
        self.tree.directory(path).map_err(|error| self.unwritten(path, error))
    }

    fn unwritten(&self, path: &Path, source: io::Error) -> InstallError {
        InstallError::Write { path: path.display().to_string(), root: self.tree.path().to_owned(), source }
    }
}
