//! An engine that nobody but us knows of, on a data root that nobody uses.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use super::containers;
use super::daemon::Daemon;
use super::device::{Device, StoreKind};
use super::dpkg::major;
use super::error::SeedError;
use super::programs::Programs;
use super::way::Way;
use crate::connect::Engine;
use crate::endpoint::Endpoint;

/// What the names of our temporary directories begin with: by it a daemon that a killed run left is known.
pub(super) const PREFIX: &str = "palletjack-seed-";
/// Short ones: the path of a socket has at most 108 bytes.
const TEMPORARY: [&str; 2] = ["/run", "/tmp"];
/// How long a daemon may take to come up. A large data root on an SD card takes its time.
const COME_UP: Duration = Duration::from_mins(3);
const HELLO: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// Docker's first version with a containerd store.
const CONTAINERD_SINCE: u32 = 23;

/// A running dockerd with a containerd of its own, or a running Podman. All are ended when it is dropped.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) engine: Engine,
    // In the order in which they are dropped.
    daemon: Daemon,
    containerd: Option<Daemon>,
    directory: TempDir,
    /// On the directory: as long as it is held, somebody uses it.
    _lock: File,
    /// A file in the storage that is this machine's and not the device's, where there was none before.
    new: Option<PathBuf>,
}

impl Private {
    pub(super) async fn start(
        device: &Device,
        programs: &Programs,
        way: Option<&Way>,
    ) -> Result<Self, SeedError> {
        if device.store == StoreKind::Podman {
            return Self::start_podman(device, programs).await;
        }
        let (dockerd, containerd) = (programs.find("dockerd")?, programs.find("containerd")?);
        let told = programs.docker_version()?;
        let version = major(&told);
        if device.store == StoreKind::Containerd && version.is_some_and(|major| major < CONTAINERD_SINCE) {
            return Err(SeedError::TooOld { version: told });
        }
        let (directory, lock) = temporary()
            .map_err(|source| SeedError::System { what: "make a temporary directory".to_owned(), source })?;
        let at = |name: &str| directory.path().join(name);
        let root = match device.store {
            // Nothing of a graph driver's images is containerd's.
            StoreKind::Graph => at("containerd-root"),
            StoreKind::Containerd | StoreKind::Podman => device.containerd_root.clone(),
        };
        let config = containerd_config(&root, directory.path());
        write(&at("containerd.toml"), &config)?;
        let args: Vec<OsString> = vec!["--config".into(), at("containerd.toml").into()];
        let mut containerd =
            Daemon::start(programs, "containerd", &containerd, &args, &[], directory.path())?;
        wait(&mut containerd, &at("c")).await?;

        // Where it is new, every card of one image would have the same.
        let id = device.data_root.join("engine-id");
        let new = (!id.exists()).then_some(id);
        let mut settings = json!({});
        if version.is_none_or(|major| major >= CONTAINERD_SINCE) {
            let snapshotter = device.store == StoreKind::Containerd;
            settings["features"] = json!({ "containerd-snapshotter": snapshotter });
        } else {
            // It would make one in /etc/docker.
            settings["deprecated-key-path"] = json!(at("key.json"));
        }
        write(&at("daemon.json"), &settings.to_string())?;
        let mut args: Vec<OsString> = Vec::new();
        for (flag, value) in [
            ("--config-file", at("daemon.json").into()),
            ("--data-root", device.data_root.clone().into()),
            ("--exec-root", at("exec").into()),
            ("--pidfile", at("pid").into()),
            ("--containerd", at("c").into()),
            ("--containerd-namespace", OsString::from(&device.namespace)),
            ("--storage-driver", OsString::from(&device.storage_driver)),
            ("--host", OsString::from(format!("unix://{}", at("s").display()))),
            ("--max-download-attempts", "2".into()),
        ] {
            args.extend([flag.into(), value]);
        }
        let off = [
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ];
        args.extend(off.map(OsString::from));
        args.extend(way.map(Way::args).unwrap_or_default());
        let env = way.map(Way::env).unwrap_or_default();
        let (program, args) =
            containers::hide(programs, &dockerd, &device.data_root, directory.path(), args)?;
        let mut dockerd = Daemon::start(programs, "dockerd", &program, &args, &env, directory.path())?;
        wait(&mut dockerd, &at("s")).await?;
        let engine = introduce(&mut dockerd, &at("s")).await?;
        tracing::debug!(capabilities = %engine.capabilities(), "private engine");
        Ok(Self { engine, daemon: dockerd, containerd: Some(containerd), directory, _lock: lock, new })
    }

    /// Podman's own database, which would keep paths of this machine, lies in the temporary directory: only images come
    /// into the storage.
    async fn start_podman(device: &Device, programs: &Programs) -> Result<Self, SeedError> {
        let program = programs.find("podman")?;
        let failed = |source| SeedError::System { what: "make a temporary directory".to_owned(), source };
        let (directory, lock) = temporary().map_err(failed)?;
        let at = |name: &str| directory.path().join(name);
        let text = |name: &str| json!(at(name)).to_string();
        let containers = format!(
            "[engine]\nstatic_dir = {}\nvolume_path = {}\ntmp_dir = {}\nevents_logger = \"none\"\n\
             cgroup_manager = \"cgroupfs\"\n",
            text("libpod"),
            text("volumes"),
            text("libpod-run"),
        );
        let storage = format!(
            "[storage]\ndriver = {}\ngraphroot = {}\nrunroot = {}\n",
            json!(device.storage_driver),
            json!(device.data_root),
            text("run"),
        );
        for made in [".config/containers", "tmp"] {
            fs::create_dir_all(at(made)).map_err(failed)?;
        }
        write(&at("containers.conf"), &containers)?;
        write(&at("storage.conf"), &storage)?;
        write(&at("registries.conf"), "")?;
        // What is loaded is verified by us, and no signature comes with it.
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        write(&at(".config/containers/policy.json"), policy)?;
        let env = [
            ("TMPDIR", "tmp"),
            ("XDG_RUNTIME_DIR", ""),
            ("CONTAINERS_CONF", "containers.conf"),
            ("CONTAINERS_STORAGE_CONF", "storage.conf"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
        ]
        .map(|(name, file)| (name, at(file).display().to_string()));
        let words = ["system", "service", "--time", "0"].map(OsString::from);
        let address = OsString::from(format!("unix://{}", at("s").display()));
        let args: Vec<OsString> = words.into_iter().chain([address]).collect();
        // Which network this machine's Podman would choose for its containers.
        let backend = device.data_root.join("defaultNetworkBackend");
        let new = (!backend.exists()).then_some(backend);
        let mut podman = Daemon::start(programs, "podman", &program, &args, &env, directory.path())?;
        wait(&mut podman, &at("s")).await?;
        let engine = introduce(&mut podman, &at("s")).await?;
        Ok(Self { engine, daemon: podman, containerd: None, directory, _lock: lock, new })
    }

    /// What it said last.
    pub(super) fn last_words(&self) -> String {
        self.daemon.last_words()
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        self.daemon.tail()
    }

    /// Ends all, and takes away what is not the device's.
    pub(super) async fn end(self) {
        let Self { engine, mut daemon, containerd, directory, new, _lock } = self;
        drop(engine);
        let ended = tokio::task::spawn_blocking(move || {
            daemon.end();
            if let Some(mut containerd) = containerd {
                containerd.end();
            }
            if let Some(new) = new
                && let Err(error) = fs::remove_file(new)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a file of the private engine stays");
            }
            if let Err(error) = directory.close() {
                tracing::warn!(%error, "a temporary directory stays");
            }
        });
        let _ = ended.await;
    }
}

/// A locked directory, after those were removed that nobody has locked.
fn temporary() -> io::Result<(TempDir, File)> {
    for place in TEMPORARY {
        sweep(Path::new(place));
    }
    loop {
        let new = |place: &Path| tempfile::Builder::new().prefix(PREFIX).tempdir_in(place);
        let directory = TEMPORARY
            .iter()
            .find_map(|place| new(Path::new(place)).ok())
            .map_or_else(|| tempfile::Builder::new().prefix(PREFIX).tempdir(), Ok)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::LockExclusive)?;
        // Another run's sweep may have come between.
        if directory.path().exists() {
            return Ok((directory, lock));
        }
    }
}

/// Removes what runs that were killed have left.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.metadata().is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
        let Some(lock) = is_ours.then(|| File::open(&path).ok()).flatten() else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::debug!(path = %path.display(), %error, "a killed run's directory stays");
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), SeedError> {
    fs::write(path, text)
        .map_err(|source| SeedError::System { what: format!("write {}", path.display()), source })
}

/// Without what opens sockets and directories elsewhere on the machine (Kubernetes' interface, NRI, `/opt/containerd`).
fn containerd_config(root: &Path, directory: &Path) -> String {
    let text = |path: PathBuf| json!(path).to_string();
    format!(
        "version = 2\nroot = {}\nstate = {}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
         \"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\", \
         \"io.containerd.internal.v1.tracing\"]\n[grpc]\naddress = {}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {}\n",
        text(root.to_owned()),
        text(directory.join("containerd")),
        text(directory.join("c")),
        text(directory.join("opt")),
    )
}

/// Until something listens at its socket.
async fn wait(daemon: &mut Daemon, socket: &Path) -> Result<(), SeedError> {
    let start = Instant::now();
    while UnixStream::connect(socket).is_err() {
        daemon.check()?;
        if start.elapsed() > COME_UP {
            return Err(daemon.failed(format!("did not come up within {} s", COME_UP.as_secs())));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn introduce(dockerd: &mut Daemon, socket: &Path) -> Result<Engine, SeedError> {
    let start = Instant::now();
    loop {
        match Engine::connect_within(Endpoint::Unix(socket.to_owned()), HELLO).await {
            Ok(engine) => return Ok(engine),
            Err(source) => {
                // It listens before it knows whether it can serve.
                dockerd.check()?;
                if start.elapsed() > COME_UP {
                    return Err(SeedError::Engine { log: dockerd.last_words(), source });
                }
            }
        }
        sleep(PAUSE).await;
    }
}
