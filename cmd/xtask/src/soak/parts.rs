//! The parts: each some commands, with the variables that make a test's sample the whole.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, release_program, root};
use crate::test::install;

pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What it runs, in this order, whichever of them fail. It may keep files in the directory. An error is a reason
    /// why it cannot be run on this machine.
    pub(super) commands: fn(&Path) -> Result<Vec<Command>>,
}

pub(super) const PARTS: [Part; 9] = [
    Part {
        name: "cells",
        about: "every load of the matrix: engines, forms of a reference, what is there, how layers are packed",
        commands: |_| Ok(tests("cells", &[], "PALLETJACK_CELLS", "all")),
    },
    Part {
        name: "cuts",
        about: "ten power cuts of loads on each engine, and ten of fetches",
        commands: |_| Ok(tests("crash", &["cuts"], "PALLETJACK_CUTS", "10")),
    },
    Part {
        name: "kills",
        about: "the program and engines killed a hundred times amid loads",
        commands: |_| Ok(tests("crash", &["kills"], "PALLETJACK_KILLS", "100")),
    },
    Part {
        name: "compose",
        about: "Compose offline on graph drivers by every way, and on staged bundles; PALLETJACK_CORPUS has those",
        commands: |_| Ok(tests("compose", &["every_way", "staged"], "PALLETJACK_SOAK", "1")),
    },
    Part {
        name: "boots",
        about: "systems that boot, with units and a cache: wiped, unplugged, damaged, seeded",
        commands: |_| Ok(tests("boot", &["--skip", MACHINES], "PALLETJACK_SOAK", "1")),
    },
    Part {
        name: "vm",
        about: "a virtual machine whose power is cut amid the first boot's load, and right after it",
        commands: vm,
    },
    Part {
        name: "mutants",
        about: "3000 mutated pallets, resolved as a reference does it; PALLETJACK_DIFFERENTIAL names the comparing program, \
                PALLETJACK_CORPUS the pallets",
        commands: mutants,
    },
    Part { name: "dist", about: "the packages of a release, made twice and installed", commands: dist },
    Part { name: "bench", about: "both benchmarks", commands: |_| bench() },
];

/// Tests of the program in one of its binaries, with a variable that says how many. None of them may be skipped.
fn tests(binary: &str, filter: &[&str], variable: &str, value: &str) -> Vec<Command> {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--package", "palletjack", "--test", binary, "--"])
        .args(filter)
        .env("PALLETJACK_REQUIRE_REAL", "1")
        .env(variable, value);
    vec![command]
}

/// The tests of boots in virtual machines.
const MACHINES: &str = "vm::";

/// Debian packages of QEMU and the firmware that it starts, by a file that tells whether they are there.
const QEMU: [(&str, &str); 3] = [
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu"),
    ("/usr/share/seabios/bios-256k.bin", "seabios"),
];

fn vm(_: &Path) -> Result<Vec<Command>> {
    // Where nothing can be installed, the test says what is missing.
    install(&QEMU)?;
    Ok(tests("boot", &[MACHINES], "PALLETJACK_SOAK", "1"))
}

/// How many mutants are compared at least.
const MUTANTS: usize = 3000;

/// `PROGRAM --tool TEMPLATE --images-only --seeds N --jobs N --keep DIR CASE…`, which ends with 0 where nothing differs.
fn mutants(directory: &Path) -> Result<Vec<Command>> {
    let named = |variable: &str, what: &str| {
        let path = env::var_os(variable).filter(|value| !value.is_empty());
        let path = path.with_context(|| format!("{variable} does not name {what}"))?;
        let path = PathBuf::from(path);
        path.canonicalize().with_context(|| format!("{variable} is {}", path.display()))
    };
    let differential = named("PALLETJACK_DIFFERENTIAL", "a program that compares mutants")?;
    let corpus = named("PALLETJACK_CORPUS", "a corpus of pallets")?;
    let cases = unpack(&corpus, &directory.join("corpus"))?;
    let program = release_program()?;
    let program = program.to_str().filter(|path| !path.contains(['\'', ' '])).with_context(|| {
        format!("{} has characters in its name that a shell takes for others", program.display())
    })?;
    let is_python = differential.extension().is_some_and(|extension| extension == "py");
    let mut command = if is_python { Command::new("python3") } else { Command::new(&differential) };
    if is_python {
        command.arg(&differential);
    }
    command
        .current_dir(root())
        .arg("--tool")
        .arg(format!("{program} --workspace {{ws}} plt ls-img {{flags}}"))
        .arg("--images-only")
        .arg("--seeds")
        .arg(MUTANTS.div_ceil(cases.len()).to_string())
        .arg("--jobs")
        .arg(available_parallelism().map_or(1, usize::from).to_string())
        .arg("--keep")
        .arg(directory.join("mutants"))
        .args(cases);
    Ok(vec![command])
}

/// Unpacks a corpus anew, and lists its cases that are pallets.
fn unpack(corpus: &Path, into: &Path) -> Result<Vec<PathBuf>> {
    match fs::remove_dir_all(into) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(into)?,
    }
    let status = Command::new("tar").arg("-xf").arg(corpus).arg("-C").arg(into).status();
    ensure!(status.context("cannot run tar")?.success(), "{} is no archive that tar reads", corpus.display());
    let mut cases = Vec::new();
    for top in fs::read_dir(into)? {
        for case in fs::read_dir(top?.path())? {
            let case = case?.path();
            if case.join("pallet").is_dir() {
                cases.push(case);
            }
        }
    }
    ensure!(!cases.is_empty(), "{} has no pallets in <directory>/<case>/pallet", corpus.display());
    cases.sort();
    Ok(cases)
}

/// Twice for one target, which must give the same bytes; then the tests of what came of it.
fn dist(directory: &Path) -> Result<Vec<Command>> {
    let program = env::current_exe().context("this program's own path")?;
    let (all, again) = (directory.join("dist"), directory.join("dist-again"));
    let mut make = Command::new(&program);
    make.current_dir(root()).args(["dist", "--out"]).arg(&all);
    let mut repeat = Command::new(&program);
    repeat.current_dir(root()).args(["dist", "--target", "x86_64-unknown-linux-gnu", "--out"]).arg(&again);
    let mut check = Command::new("sha256sum");
    check.current_dir(&all).args(["--check", "--ignore-missing"]).arg(again.join("SHA256SUMS"));
    let mut commands = vec![make, repeat, check];
    for mut command in tests("package", &[], "PALLETJACK_SOAK", "1") {
        command.env("PALLETJACK_DIST", &all);
        commands.push(command);
    }
    Ok(commands)
}

fn bench() -> Result<Vec<Command>> {
    let program = env::current_exe().context("this program's own path")?;
    let bench = |what| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(["bench", what]);
        command
    };
    Ok(vec![bench("fetch"), bench("load")])
}
