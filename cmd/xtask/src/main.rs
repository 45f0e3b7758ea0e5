//! The project's chores, as `cargo xtask CHORE`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for people at a terminal")]

mod bench;
mod cargo;
mod demo;
mod dist;
mod docs;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Show the main job on an example pallet: resolve, cache without a daemon, verify, load
    Demo,
    /// Run all tests; installs what they need where this is root on Debian
    Test(test::Options),
    /// Write docs/cli.md anew from the program's own definition of its command line
    Docs,
    /// Everything that is too long for each change: all cells, many crashes, mutants, benchmarks
    Soak(soak::Options),
    /// Make what is released: programs for x86_64, aarch64 and armv7 with all that belongs to them, as tarballs and .deb
    Dist(dist::Options),
    /// Measure against peers
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Test(options) => test::run(&options),
        Chore::Docs => docs::run(),
        Chore::Soak(options) => soak::run(&options),
        Chore::Dist(options) => dist::run(&options),
        Chore::Bench { what } => bench::run(&what),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
