//! A private Docker: containerd and dockerd with roots, sockets and networks of their own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::docker::DockerCli;
use super::docker29::Docker29;
use super::forky::Forky;
use super::mounts::unmount_below;
use super::parts::find_program;
use super::process::{Daemon, SYSTEM_PATH, daemon_command};
use crate::run::Ran;

/// Where an engine keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The overlay2 graph driver.
    GraphDriver,
    /// The containerd image store (Docker 28 and later).
    Containerd,
}

/// What differs between private engines.
#[derive(Debug, Clone, Default)]
pub struct DockerdOptions {
    /// Keep the data here instead of in the engine's own temporary directory; it is not removed with it.
    pub data_root: Option<PathBuf>,
    /// Further arguments of dockerd, e.g. `--registry-mirror http://127.0.0.1:5000`.
    pub args: Vec<String>,
    /// Further environment of dockerd.
    pub env: Vec<(String, String)>,
}

#[derive(Debug)]
struct Daemons {
    // In the order in which they are dropped.
    dockerd: Daemon,
    containerd: Daemon,
}

/// Whose programs run.
#[derive(Debug)]
enum Programs {
    /// Those of Debian 12, on the system.
    Debian,
    Forky(Forky),
    Built(Box<Docker29>),
}

/// A running Docker engine. Ended, unmounted and removed when dropped.
#[derive(Debug)]
pub struct Dockerd {
    daemons: Option<Daemons>,
    programs: Programs,
    store: Store,
    options: DockerdOptions,
    storage_driver: String,
    version: String,
    directory: TempDir,
}

impl Dockerd {
    /// Docker 20.10 of Debian 12 with its graph driver.
    pub fn debian() -> io::Result<Self> {
        Self::debian_with(DockerdOptions::default())
    }

    /// The same with options.
    pub fn debian_with(options: DockerdOptions) -> io::Result<Self> {
        Self::start(Programs::Debian, Store::GraphDriver, options)
    }

    /// Docker 28 of Debian forky.
    pub fn forky(store: Store) -> io::Result<Self> {
        Self::forky_with(store, DockerdOptions::default())
    }

    /// The same with options.
    pub fn forky_with(store: Store, options: DockerdOptions) -> io::Result<Self> {
        Self::start(Programs::Forky(Forky::install()?), store, options)
    }

    /// Docker 29, built by Go.
    pub fn built(store: Store) -> io::Result<Self> {
        Self::built_with(store, DockerdOptions::default())
    }

    /// The same with options.
    pub fn built_with(store: Store, options: DockerdOptions) -> io::Result<Self> {
        Self::start(Programs::Built(Box::new(Docker29::install()?)), store, options)
    }

    fn start(programs: Programs, store: Store, options: DockerdOptions) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("dockerd-").tempdir()?;
        let mut engine = Self {
            daemons: None,
            programs,
            store,
            options,
            storage_driver: String::new(),
            version: String::new(),
            directory,
        };
        // sun_path holds 108 bytes, and containerd appends a suffix to its own socket.
        if engine.socket().as_os_str().len() > 80 {
            return Err(io::Error::other(format!(
                "{} is too long for a unix socket; set TMPDIR to a shorter directory",
                engine.socket().display()
            )));
        }
        engine.start_again()?;
        Ok(engine)
    }

    /// Starts it (again) on the same data root.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.stop();
        let driver = match self.store {
            Store::GraphDriver => Some("overlay2"),
            Store::Containerd => None,
        };
        match self.start_daemons(driver) {
            // On a file system without overlay (or inside one), the slow driver that works everywhere.
            Err(error) if driver.is_some() && error.to_string().contains("not supported") => {
                self.start_daemons(Some("vfs"))?;
            }
            other => other?,
        }
        let info = self.info()?;
        let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        self.storage_driver = text("Driver");
        self.version = text("ServerVersion");
        Ok(())
    }

    fn start_daemons(&mut self, driver: Option<&str>) -> io::Result<()> {
        let containerd = self.start_containerd()?;
        let path = |name: &str| self.directory.path().join(name);
        let config = path("daemon.json");
        let mut settings = json!({});
        if !matches!(self.programs, Programs::Debian) {
            settings["features"] = json!({ "containerd-snapshotter": self.store == Store::Containerd });
        }
        fs::write(&config, settings.to_string())?;
        let mut command = daemon_command(self.program("dockerd")?);
        command
            .env("PATH", self.path())
            .env("HOME", self.directory.path())
            .envs(self.options.env.iter().cloned())
            .arg("--config-file")
            .arg(&config)
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--containerd")
            .arg(path("c.sock"))
            .arg("--host")
            .arg(self.host())
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(&self.options.args);
        if matches!(self.programs, Programs::Built(_)) {
            // A runc that Go alone has built has no seccomp, and refuses containers that ask for it.
            command.arg("--seccomp-profile=unconfined");
        }
        if let Some(driver) = driver {
            command.args(["--storage-driver", driver]);
        }
        let dockerd = Daemon::start("dockerd", command)?;
        dockerd.wait_for_line("API listen on")?;
        self.daemons = Some(Daemons { dockerd, containerd });
        Ok(())
    }

    /// dockerd would use the machine's containerd if its socket exists, so it always gets one of its own.
    fn start_containerd(&self) -> io::Result<Daemon> {
        let path = |name: &str| self.directory.path().join(name);
        // Below the data root, so that images survive where the data root does.
        let root = self.data_root().join("private-containerd");
        fs::create_dir_all(&root)?;
        let config = path("containerd.toml");
        fs::write(
            &config,
            format!(
                "version = 2\nroot = '{root}'\nstate = '{state}'\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\naddress = '{address}'\n\
                 [plugins.\"io.containerd.internal.v1.opt\"]\npath = '{opt}'\n",
                root = root.display(),
                state = path("containerd").display(),
                address = path("c.sock").display(),
                opt = path("opt").display(),
            ),
        )?;
        let mut command = daemon_command(self.program("containerd")?);
        command.env("PATH", self.path()).arg("--config").arg(&config);
        let daemon = Daemon::start("containerd", command)?;
        daemon.wait_for_line("containerd successfully booted")?;
        Ok(daemon)
    }

    fn program(&self, name: &str) -> io::Result<PathBuf> {
        match &self.programs {
            Programs::Forky(forky) => Ok(forky.program(name)),
            Programs::Built(built) => Ok(built.program(name)),
            Programs::Debian => find_program(name).ok_or_else(|| {
                io::Error::other(format!("no {name} here; on Debian 12: apt-get install docker.io"))
            }),
        }
    }

    fn path(&self) -> String {
        match &self.programs {
            Programs::Forky(forky) => format!("{}:{SYSTEM_PATH}", forky.path()),
            Programs::Built(built) => format!("{}:{SYSTEM_PATH}", built.path()),
            Programs::Debian => SYSTEM_PATH.to_owned(),
        }
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// `unix://…`, as `DOCKER_HOST` wants it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where the engine keeps its data.
    pub fn data_root(&self) -> PathBuf {
        match &self.options.data_root {
            Some(root) => root.clone(),
            None => self.directory.path().join("data"),
        }
    }

    /// The storage driver that it found usable: `overlay2`, `vfs`, or the snapshotter's name.
    pub fn storage_driver(&self) -> &str {
        &self.storage_driver
    }

    /// Where it keeps images.
    pub fn store(&self) -> Store {
        self.store
    }

    /// The engine's version, e.g. `20.10.24+dfsg1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// dockerd's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemons.as_ref().map(|d| d.dockerd.id())
    }

    /// The process ids of dockerd and of its containerd while they run.
    pub fn pids(&self) -> Vec<u32> {
        self.daemons.as_ref().map_or_else(Vec::new, |d| vec![d.dockerd.id(), d.containerd.id()])
    }

    /// What dockerd has logged since it was started last.
    pub fn log(&self) -> Vec<String> {
        self.daemons.as_ref().map_or_else(Vec::new, |d| d.dockerd.log())
    }

    /// The client that belongs to this engine.
    pub fn docker(&self) -> io::Result<DockerCli> {
        let config = self.directory.path().join("client");
        fs::create_dir_all(&config)?;
        Ok(DockerCli::new(self.program("docker")?, &self.socket(), config))
    }

    /// `docker compose` with these arguments in this directory (Docker 28's packages; any engine can be its host).
    pub fn compose(&self, forky: &Forky, directory: &Path, args: &[&str]) -> io::Result<Ran> {
        let mut command = std::process::Command::new(forky.compose());
        command
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", self.directory.path())
            .env("DOCKER_HOST", self.host())
            .current_dir(directory)
            .args(args);
        Ran::run(&mut command)
    }

    /// What `GET /info` says.
    pub fn info(&self) -> io::Result<Value> {
        let info = self.docker()?.run(&["info", "--format", "{{json .}}"])?.ok()?;
        Ok(serde_json::from_str(&info)?)
    }

    /// Ends both daemons in order; the data stays.
    pub fn stop(&mut self) {
        self.daemons = None;
    }

    /// Ends dockerd as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut daemons) = self.daemons.take() {
            daemons.dockerd.kill();
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
        unmount_below(self.directory.path());
        if let Some(root) = &self.options.data_root {
            unmount_below(root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Part, push_all};
    use super::*;
    use crate::image::ImageSet;
    use crate::registry::Registry;

    /// Starts, pulls an image through a mirror, creates a container, restarts, stops.
    fn exercise(mut engine: Dockerd, registry: &Registry, set: &ImageSet, version: &str) {
        assert!(engine.version().starts_with(version), "{}", engine.version());
        let docker = engine.docker().unwrap();
        assert!(docker.tags().unwrap().is_empty());
        let caddy = &set.images[0];
        docker.run(&["pull", "--quiet", &caddy.pinned()]).unwrap().assert_success();
        docker.create_never(&caddy.pinned()).unwrap().assert_success();
        assert!(!docker.create_never("caddy:absent").unwrap().success());
        assert!(docker.inspect("caddy:absent").unwrap().is_none());
        assert!(registry.count("GET", "/blobs/") > 0);

        // Out and in again: what the client's `load` is for.
        let archive = engine.directory.path().join("saved.tar");
        let path = archive.to_string_lossy();
        docker.run(&["tag", &caddy.pinned(), "other:saved"]).unwrap().assert_success();
        docker.run(&["save", "--output", &path, "other:saved"]).unwrap().assert_success();
        docker.run(&["rmi", "other:saved"]).unwrap().assert_success();
        docker.load_file(&archive).unwrap().assert_success();
        assert!(docker.tags().unwrap().contains(&"other:saved".to_owned()));

        engine.start_again().unwrap();
        let docker = engine.docker().unwrap();
        assert!(docker.inspect(&caddy.pinned()).unwrap().is_some());
        let (pid, directory) = (engine.pid().unwrap(), engine.directory.path().to_owned());
        drop(engine);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!directory.exists());
    }

    fn mirror() -> (Registry, ImageSet, DockerdOptions) {
        let set = ImageSet::small(&["docker.io/library/caddy:2.6.2"]).unwrap();
        let registry = Registry::start().unwrap();
        push_all(&registry.host(), &set).unwrap();
        registry.clear_requests();
        let options = DockerdOptions {
            args: vec!["--registry-mirror".to_owned(), registry.url()],
            ..DockerdOptions::default()
        };
        (registry, set, options)
    }

    #[test]
    fn docker_20_runs_privately_and_leaves_nothing() {
        crate::require_real!(Part::Docker20);
        let (registry, set, options) = mirror();
        let engine = Dockerd::debian_with(options).unwrap();
        assert!(["overlay2", "vfs"].contains(&engine.storage_driver()));
        exercise(engine, &registry, &set, "20.10");
    }

    #[test]
    fn docker_28_runs_privately_with_both_stores() {
        crate::require_real!(Part::Docker28);
        for store in [Store::Containerd, Store::GraphDriver] {
            let (registry, set, options) = mirror();
            let engine = Dockerd::forky_with(store, options).unwrap();
            let status = engine.info().unwrap()["DriverStatus"].to_string();
            assert_eq!(
                status.contains("io.containerd.snapshotter.v1"),
                store == Store::Containerd,
                "{status}"
            );
            exercise(engine, &registry, &set, "28.");
        }
    }
}
