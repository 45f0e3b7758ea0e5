//! The `docker` client, bound to one engine and to an empty configuration.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::Ran;

/// Runs `docker` against one socket.
#[derive(Debug, Clone)]
pub struct DockerCli {
    program: PathBuf,
    host: String,
    config: PathBuf,
}

impl DockerCli {
    pub(super) fn new(program: PathBuf, socket: &Path, config: PathBuf) -> Self {
        Self { program, host: format!("unix://{}", socket.display()), config }
    }

    /// The client with these arguments, not yet run.
    pub fn command<I: IntoIterator<Item = A>, A: AsRef<std::ffi::OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", super::process::SYSTEM_PATH)
            .env("HOME", &self.config)
            .env("DOCKER_CONFIG", &self.config)
            .env("DOCKER_HOST", &self.host)
            .args(args);
        command
    }

    /// Runs the client with these arguments.
    pub fn run(&self, args: &[&str]) -> io::Result<Ran> {
        Ran::run(&mut self.command(args))
    }

    /// `docker load` of an archive file.
    pub fn load_file(&self, archive: &Path) -> io::Result<Ran> {
        self.load(File::open(archive)?)
    }

    /// `docker load` of an archive stream.
    pub fn load(&self, archive: impl Read + Send + 'static) -> io::Result<Ran> {
        Ran::run_with_input(&mut self.command(["load"]), archive)
    }

    /// `repository:tag` of every image, sorted.
    pub fn tags(&self) -> io::Result<Vec<String>> {
        let listed = self.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?.ok()?;
        let mut tags: Vec<String> = listed.lines().map(str::to_owned).collect();
        tags.sort();
        Ok(tags)
    }

    /// What `docker image inspect` says; `None` when the engine has no such image.
    pub fn inspect(&self, reference: &str) -> io::Result<Option<Value>> {
        let ran = self.run(&["image", "inspect", reference])?;
        // 20.10 says "No such image", 28 "no such image".
        if !ran.success() && ran.stderr.to_lowercase().contains("no such image") {
            return Ok(None);
        }
        let mut found: Vec<Value> = serde_json::from_str(&ran.ok()?)?;
        Ok(found.pop())
    }

    /// `docker create --pull never`: the cheapest honest test of "would it run offline". Removes the container again.
    pub fn create_never(&self, reference: &str) -> io::Result<Ran> {
        let ran = self.run(&["create", "--pull", "never", "--network", "none", reference])?;
        if ran.success() {
            self.run(&["rm", ran.stdout.trim()])?.ok()?;
        }
        Ok(ran)
    }
}
