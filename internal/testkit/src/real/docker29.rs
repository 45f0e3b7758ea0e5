//! Docker 29, which no Debian suite has: built by Go from its published modules, at fixed versions.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::forky::Forky;
use super::process::SYSTEM_PATH;
use super::recipe::once;
use crate::run::Ran;

/// A program that `go install` makes.
#[derive(Debug)]
struct Module {
    package: &'static str,
    version: &'static str,
    /// Build tags, as `-tags` wants them.
    tags: &'static str,
    /// Whether it has parts in C.
    cgo: bool,
}

const MOBY: &str = "v2.0.0-beta.24";
const CONTAINERD: &str = "v2.4.2";
const MODULES: [Module; 4] = [
    Module {
        package: "github.com/moby/moby/v2/cmd/dockerd",
        version: MOBY,
        tags: "exclude_graphdriver_btrfs no_btrfs",
        cgo: false,
    },
    Module {
        package: "github.com/containerd/containerd/v2/cmd/containerd",
        version: CONTAINERD,
        tags: "",
        cgo: false,
    },
    Module {
        package: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        version: CONTAINERD,
        tags: "",
        cgo: false,
    },
    // Its namespaces are entered by C code.
    Module { package: "github.com/opencontainers/runc", version: "v1.5.2", tags: "", cgo: true },
];

/// Docker 29's daemons, and the client of Debian forky.
#[derive(Debug, Clone)]
pub struct Docker29 {
    programs: PathBuf,
    forky: Forky,
}

impl Docker29 {
    /// The version of the module that dockerd is built from. Built so, it calls itself "library-import".
    pub const VERSION: &'static str = MOBY;

    /// Finds the programs in the tests' cache, or builds them there: 300 MB and some minutes, once. Go's own caches
    /// are used and filled.
    pub fn install() -> io::Result<Self> {
        let forky = Forky::install()?;
        let recipe = format!("{MODULES:?} {}", env::consts::ARCH);
        let programs = once("docker29", &recipe, |work| {
            let (go, root) = (find_go()?, work.join("root"));
            // Straight to the stream, as what is skipped: a test that seems to hang for minutes must say why.
            let _ =
                writeln!(io::stderr(), "building Docker 29 {MOBY} with {}: some minutes, once", go.display());
            fs::create_dir(&root)?;
            MODULES.iter().try_for_each(|module| module.install(&go, &root))
        })?;
        Ok(Self { programs, forky })
    }

    /// `dockerd`, `containerd`, `containerd-shim-runc-v2` or `runc`; any other is forky's.
    pub fn program(&self, name: &str) -> PathBuf {
        let built = self.programs.join(name);
        if built.is_file() { built } else { self.forky.program(name) }
    }

    /// The program directories, as `PATH` wants them.
    pub(super) fn path(&self) -> String {
        format!("{}:{}", self.programs.display(), self.forky.path())
    }
}

impl Module {
    fn install(&self, go: &Path, into: &Path) -> io::Result<()> {
        let mut command = Command::new(go);
        command
            .args(["install", "-tags", self.tags])
            .arg(format!("{}@{}", self.package, self.version))
            .env("GOBIN", into)
            .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
            // Elsewhere a module of this directory would be asked first.
            .current_dir(into);
        Ran::run(&mut command)?.ok().map(drop)
    }
}

/// Go, where the path or its own installer has it.
fn find_go() -> io::Result<PathBuf> {
    let path = env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(SYSTEM_PATH.split(':')).chain(["/usr/local/go/bin"]);
    directories.map(|directory| Path::new(directory).join("go")).find(|program| program.is_file()).ok_or_else(
        || {
            io::Error::other(
                "no go here, which builds Docker 29; it is at https://go.dev/dl, to be unpacked into /usr/local",
            )
        },
    )
}
