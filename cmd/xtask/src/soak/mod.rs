//! What is too long for each change: all of everything, in named parts, each with a log of its own.

mod parts;

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;

use self::parts::{PARTS, Part};
use crate::cargo::root;

#[derive(Args)]
pub(crate) struct Options {
    /// What is run; everything unless some are named
    #[arg(value_name = "PART", value_parser = PossibleValuesParser::new(PARTS.map(|part| part.name)))]
    parts: Vec<String>,
    /// Only say which parts there are
    #[arg(long)]
    list: bool,
}

/// What became of a part.
enum Verdict {
    Passed,
    /// The commands that failed.
    Failed(Vec<String>),
    /// Why it cannot be run here.
    NotRun(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(commands) => write!(f, "FAILED: {}", commands.join(", ")),
            Self::NotRun(why) => write!(f, "NOT RUN: {why}"),
        }
    }
}

/// A part that has been run.
struct Ran {
    part: &'static Part,
    verdict: Verdict,
    took: Duration,
    log: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for part in &PARTS {
            println!("{:<10} {}", part.name, part.about);
        }
        return Ok(());
    }
    let directory = logs()?;
    let is_wanted =
        |part: &&Part| options.parts.is_empty() || options.parts.iter().any(|name| name == part.name);
    let mut done = Vec::new();
    for part in PARTS.iter().filter(is_wanted) {
        done.push(run_part(part, &directory)?);
    }
    summary(&done);
    let failed = done.iter().filter(|ran| matches!(ran.verdict, Verdict::Failed(_))).count();
    ensure!(failed == 0, "{failed} of {} parts failed", done.len());
    Ok(())
}

/// Where logs are kept: those of the last run of each part.
fn logs() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let directory = target.join("soak");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn run_part(part: &'static Part, directory: &Path) -> Result<Ran> {
    let log = directory.join(format!("{}.log", part.name));
    let start = Instant::now();
    println!("{}: {} (log: {})", part.name, part.about, log.display());
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let verdict = match (part.commands)(directory) {
        Err(why) => Verdict::NotRun(format!("{why:#}")),
        Ok(commands) => {
            let mut failed = Vec::new();
            for command in commands {
                if let Some(failure) = run_logged(command, &file)? {
                    failed.push(failure);
                }
            }
            if failed.is_empty() { Verdict::Passed } else { Verdict::Failed(failed) }
        }
    };
    let ran = Ran { part, verdict, took: start.elapsed(), log };
    println!("{}: {} after {:.0} s", part.name, ran.verdict, ran.took.as_secs_f32());
    Ok(ran)
}

/// Runs a command with all that it says going into the log. What failed, if it did.
fn run_logged(mut command: Command, log: &File) -> Result<Option<String>> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    println!("  {shown}");
    let status = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    Ok((!status.success()).then(|| format!("`{shown}` ended with {status}")))
}

/// What lines of a log begin with that are to be seen at the end: tables that tests write.
const MARK: &str = "== ";

fn summary(done: &[Ran]) {
    for ran in done {
        let text = fs::read(&ran.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(MARK)).collect();
        if !told.is_empty() {
            println!("\n{}:\n{}", ran.part.name, told.join("\n"));
        }
    }
    println!("\n{:<10} {:>8}  verdict", "part", "seconds");
    for Ran { part, verdict, took, log } in done {
        println!("{:<10} {:>8.0}  {verdict}", part.name, took.as_secs_f32());
        if matches!(verdict, Verdict::Failed(_)) {
            println!("{:<10} {:>8}  see {}", "", "", log.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FAILS: Part = Part {
        name: "fails",
        about: "one of two",
        commands: |_| Ok(["exit 3", "echo second"].map(shell).into()),
    };
    static CANNOT: Part = Part {
        name: "cannot",
        about: "where something is missing",
        commands: |_| anyhow::bail!("no such thing"),
    };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_command_fails_its_part_and_the_rest_of_it_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let ran = run_part(&FAILS, directory.path()).unwrap();
        let Verdict::Failed(commands) = &ran.verdict else { panic!("{}", ran.verdict) };
        assert!(commands.len() == 1 && commands[0].contains("exit 3"), "{commands:?}");
        assert_eq!(fs::read_to_string(&ran.log).unwrap(), "second\n");
        let ran = run_part(&CANNOT, directory.path()).unwrap();
        assert_eq!(ran.verdict.to_string(), "NOT RUN: no such thing");
    }
}
