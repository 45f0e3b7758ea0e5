//! A home of its own for the program under test: directories, environment, workspace, small disks.
//!
//! ```text
//!   Sandbox::new()
//!     home/                                    HOME, and the default Forklift workspace
//!       .local/share/forklift/pallet           write_pallet(&PalletFiles) or copy_case(corpus case)
//!       .local/share/forklift/stages           copy_case of a stage store
//!       .cache/forklift                        requirements of a case
//!       .cache/palletjack                      the cache under test
//! ```

mod corpus;
mod disk;
mod pallet;
mod rewrite;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub use corpus::Corpus;
pub use disk::SmallDisk;
pub use pallet::PalletFiles;
pub use rewrite::rewrite_images;

use crate::run::Ran;

/// A temporary home and an environment that holds nothing of the machine's but `PATH`.
#[derive(Debug)]
pub struct Sandbox {
    root: TempDir,
}

impl Sandbox {
    /// Makes an empty home.
    pub fn new() -> io::Result<Self> {
        let root = tempfile::Builder::new().prefix("palletjack-").tempdir()?;
        for directory in ["home", "run", "tmp"] {
            fs::create_dir(root.path().join(directory))?;
        }
        Ok(Self { root })
    }

    /// The directory that holds the home; files beside it disturb nothing.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The home directory, which is the default Forklift workspace too.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Where Forklift keeps the workspace's pallet.
    pub fn pallet(&self) -> PathBuf {
        self.home().join(".local/share/forklift/pallet")
    }

    /// Where Forklift keeps the workspace's stage store.
    pub fn stage_store(&self) -> PathBuf {
        self.home().join(".local/share/forklift/stages")
    }

    /// Where Forklift keeps required pallets and repositories.
    pub fn forklift_cache(&self) -> PathBuf {
        self.home().join(".cache/forklift")
    }

    /// Where palletjack keeps its cache when nothing says otherwise.
    pub fn cache(&self) -> PathBuf {
        self.home().join(".cache/palletjack")
    }

    /// The sandbox's environment: `HOME`, the XDG directories, `TMPDIR`, `PATH`, a C locale, and nothing else (but for
    /// the variable by which coverage tools collect their data).
    pub fn environment(&self) -> Vec<(String, String)> {
        let home = self.home();
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut environment = vec![
            ("HOME".to_owned(), text(home.clone())),
            ("XDG_CACHE_HOME".to_owned(), text(home.join(".cache"))),
            ("XDG_CONFIG_HOME".to_owned(), text(home.join(".config"))),
            ("XDG_DATA_HOME".to_owned(), text(home.join(".local/share"))),
            ("XDG_STATE_HOME".to_owned(), text(home.join(".local/state"))),
            ("XDG_RUNTIME_DIR".to_owned(), text(self.root.path().join("run"))),
            ("TMPDIR".to_owned(), text(self.root.path().join("tmp"))),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ];
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Ok(value) = std::env::var(name) {
                environment.push((name.to_owned(), value));
            }
        }
        environment
    }

    /// A program in this environment, started in the home; arguments and more variables are the caller's to add.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().envs(self.environment()).current_dir(self.home());
        command
    }

    /// Runs a program with these arguments to its end.
    pub fn run(&self, program: impl AsRef<Path>, args: &[&str]) -> io::Result<Ran> {
        self.run_with(program, args, &[])
    }

    /// The same with more environment variables.
    pub fn run_with(
        &self,
        program: impl AsRef<Path>,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<Ran> {
        Ran::run(self.command(program).args(args).envs(environment.iter().copied()))
    }

    /// Writes a file below the home, with its directories.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.home().join(path);
        write_file(&path, content.as_ref())?;
        Ok(path)
    }

    /// Makes this pallet the workspace's, in place of the one before.
    pub fn write_pallet(&self, files: &PalletFiles) -> io::Result<()> {
        remove(&self.pallet())?;
        files.write(&self.pallet())
    }

    /// Copies a case of the pallet corpus into the workspace: its `pallet`, its `cache` and its `stages`, whichever
    /// it has. What the workspace had of these is removed.
    pub fn copy_case(&self, case: &Path) -> io::Result<()> {
        let mut found = false;
        for (part, target) in
            [("pallet", self.pallet()), ("cache", self.forklift_cache()), ("stages", self.stage_store())]
        {
            remove(&target)?;
            if case.join(part).is_dir() {
                copy_tree(&case.join(part), &target)?;
                found = true;
            }
        }
        if found {
            Ok(())
        } else {
            Err(io::Error::other(format!("{} has no pallet, cache or stages", case.display())))
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}

/// Copies files, directories and symbolic links (as links).
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_program_sees_only_the_sandbox() {
        let sandbox = Sandbox::new().unwrap();
        let ran = sandbox.run_with("/usr/bin/env", &[], &[("EXTRA", "1")]).unwrap();
        ran.assert_success();
        let names: Vec<&str> = ran.stdout.lines().filter_map(|l| l.split('=').next()).collect();
        for name in &names {
            let known = name.starts_with("XDG_")
                || ["HOME", "TMPDIR", "PATH", "LC_ALL", "EXTRA", "LLVM_PROFILE_FILE"].contains(name);
            assert!(known, "{name} leaked in");
        }
        assert!(names.contains(&"EXTRA"));
        assert!(ran.stdout.contains(&format!("HOME={}\n", sandbox.home().display())));
        let failed = sandbox.run("/bin/sh", &["-c", "echo out; echo err >&2; exit 3"]).unwrap();
        failed.assert_code(3);
        assert_eq!((failed.stdout.as_str(), failed.stderr.as_str()), ("out\n", "err\n"));
        assert!(failed.ok().unwrap_err().to_string().contains("exited with 3"));
    }

    #[test]
    fn a_case_is_copied_and_its_digests_replaced() {
        let case = tempfile::tempdir().unwrap();
        let compose = "services:\n  a:\n    image: caddy:2@sha256:old # pinned\n  b: {image: \"x/y:1\"}\n";
        write_file(&case.path().join("pallet/packages/a/compose.yml"), compose.as_bytes()).unwrap();
        write_file(&case.path().join("cache/pallets/github.com/x/y@v1/compose.yml"), compose.as_bytes())
            .unwrap();
        fs::create_dir_all(case.path().join("pallet/deployments")).unwrap();
        std::os::unix::fs::symlink("nowhere", case.path().join("pallet/link")).unwrap();
        let sandbox = Sandbox::new().unwrap();
        sandbox.copy_case(case.path()).unwrap();
        assert_eq!(fs::read_link(sandbox.pallet().join("link")).unwrap(), Path::new("nowhere"));
        let map = BTreeMap::from([("caddy:2@sha256:old".to_owned(), "caddy:2@sha256:new".to_owned())]);
        assert_eq!(rewrite_images(&sandbox.pallet(), &map).unwrap(), 1);
        let path = sandbox.pallet().join("packages/a/compose.yml");
        assert_eq!(fs::read_to_string(path).unwrap(), compose.replace(":old", ":new"));
        assert!(sandbox.forklift_cache().join("pallets/github.com/x/y@v1/compose.yml").is_file());
        assert!(sandbox.copy_case(&case.path().join("pallet")).is_err());
    }
}
