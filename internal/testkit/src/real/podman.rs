//! A private Podman with its Docker-compatible API on a socket.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::mounts::unmount_below;
use super::parts::find_program;
use super::process::{Daemon, SYSTEM_PATH, daemon_command};
use crate::run::Ran;

/// Podman with a store of its own and a running API service.
#[derive(Debug)]
pub struct Podman {
    service: Option<Daemon>,
    root: PathBuf,
    /// What a reboot empties. Podman insists on finding it in the same place.
    run: PathBuf,
    directory: TempDir,
}

impl Podman {
    /// Starts the API service and waits until it listens.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("podman-").tempdir()?;
        let (root, run) = (directory.path().join("root"), directory.path().to_owned());
        Self::start_in(directory, root, run)
    }

    /// The same with images and containers in this directory, which is not removed with it, as after a reboot.
    pub fn start_on(root: &Path) -> io::Result<Self> {
        let run = root.with_file_name("podman-run");
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        fs::create_dir_all(&run)?;
        Self::start_in(tempfile::Builder::new().prefix("podman-").tempdir()?, root.to_owned(), run)
    }

    fn start_in(directory: TempDir, root: PathBuf, run: PathBuf) -> io::Result<Self> {
        let home = directory.path();
        // The limits and the cgroup manager are those that work in a container without systemd.
        fs::write(
            home.join("containers.conf"),
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        )?;
        fs::write(
            home.join("storage.conf"),
            format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = '{}'\nrunroot = '{}'\n",
                root.display(),
                run.join("run").display(),
            ),
        )?;
        fs::write(home.join("registries.conf"), "")?;
        fs::write(home.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        fs::create_dir(home.join("tmp"))?;
        // The one place where Podman looks for a policy that is neither the machine's nor an argument.
        fs::create_dir_all(home.join(".config/containers"))?;
        fs::copy(home.join("policy.json"), home.join(".config/containers/policy.json"))?;
        let mut podman = Self { service: None, root, run, directory };
        let mut command = daemon_command(program()?);
        podman.configure(&mut command);
        command.args(["--log-level", "info", "system", "service", "--time", "0"]).arg(podman.host());
        let service = Daemon::start("podman", command)?;
        service.wait_for_line("API service listening on")?;
        podman.service = Some(service);
        Ok(podman)
    }

    fn configure(&self, command: &mut Command) {
        let home = self.directory.path();
        command
            .env("HOME", home)
            .env("TMPDIR", home.join("tmp"))
            .env("XDG_RUNTIME_DIR", home)
            .env("CONTAINERS_CONF", home.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", home.join("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", home.join("registries.conf"))
            .arg("--tmpdir")
            .arg(self.run.join("libpod"))
            .arg("--root")
            .arg(&self.root)
            .arg("--runroot")
            .arg(self.run.join("run"));
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("podman.sock")
    }

    /// `unix://…`, as `DOCKER_HOST` wants it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where images are kept.
    pub fn data_root(&self) -> PathBuf {
        self.root.clone()
    }

    /// The `podman` program on the same store, not yet run.
    pub fn command(&self, args: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(program()?);
        command.env_clear().env("PATH", SYSTEM_PATH);
        self.configure(&mut command);
        command.args(args);
        Ok(command)
    }

    /// Runs `podman` on the same store.
    pub fn run(&self, args: &[&str]) -> io::Result<Ran> {
        Ran::run(&mut self.command(args)?)
    }

    /// `podman load` of an archive stream.
    pub fn load(&self, archive: impl Read + Send + 'static) -> io::Result<Ran> {
        Ran::run_with_input(&mut self.command(&["load"])?, archive)
    }

    /// `podman create --pull=never`, and the container removed again.
    pub fn create_never(&self, reference: &str) -> io::Result<Ran> {
        let ran = self.run(&["create", "--pull=never", "--network=none", reference])?;
        if ran.success() {
            self.run(&["rm", ran.stdout.trim()])?.ok()?;
        }
        Ok(ran)
    }

    /// Ends the API service; the images stay, and [`Podman::run`] still sees them.
    pub fn stop(&mut self) {
        self.service = None;
    }

    /// Ends the API service as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill();
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.stop();
        unmount_below(&self.root);
        unmount_below(self.directory.path());
    }
}

fn program() -> io::Result<PathBuf> {
    find_program("podman")
        .ok_or_else(|| io::Error::other("no podman here; on Debian 12: apt-get install podman"))
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;
    use crate::http::client::request_unix;
    use crate::image::ImageSet;
    use crate::registry::Registry;

    #[test]
    fn podman_serves_its_api_from_a_private_store() {
        crate::require_real!(Part::Podman);
        let podman = Podman::start().unwrap();
        let pinged = request_unix(&podman.socket(), "GET", "/_ping", &[], None).unwrap();
        assert_eq!((pinged.status, pinged.body.as_slice()), (200, &b"OK"[..]));

        let set = ImageSet::small(&["docker.io/library/caddy:2.6.2"]).unwrap();
        let registry = Registry::start().unwrap();
        registry.publish_all(&set);
        let reference = format!("{}/library/caddy:2.6.2", registry.host());
        podman.run(&["pull", "--quiet", "--tls-verify=false", &reference]).unwrap().assert_success();
        podman.create_never(&reference).unwrap().assert_success();
        assert!(!podman.create_never("docker.io/library/absent:1").unwrap().success());

        let directory = podman.directory.path().to_owned();
        drop(podman);
        assert!(!directory.exists());
    }
}
