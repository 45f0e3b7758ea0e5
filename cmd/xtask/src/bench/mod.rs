//! Measurements against peers, as whole processes in one run.

mod daemon;
mod fetch;
mod load;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Subcommand;
use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{DockerRegistry, push_all};

use crate::cargo::release_program;

#[derive(Subcommand)]
pub(crate) enum What {
    /// A cold fetch of 13 images from a registry on loopback, beside `curl -Z` and `skopeo copy`
    Fetch(fetch::FetchOptions),
    /// Loading 13 images into a Docker 20.10 of our own, beside `docker load`, and loading them again
    Load(load::LoadOptions),
}

const NAMES: [&str; 13] = [
    "docker.io/amir20/dozzle:v8.6.2",
    "docker.io/filebrowser/filebrowser:v2.31.2",
    "docker.io/grafana/grafana-oss:11.3.0",
    "docker.io/library/alpine:3.20.3",
    "docker.io/library/eclipse-mosquitto:2.0.20",
    "docker.io/lucaslorentz/caddy-docker-proxy:2.9.1",
    "docker.io/portainer/portainer-ce:2.23.0",
    "docker.io/prom/node-exporter:v1.8.2",
    "docker.io/prom/prometheus:v2.55.0",
    "docker.io/acme/segmenter:2024.0.0",
    "docker.io/acme/device-portal:0.2.3",
    "docker.io/acme/project-docs:2024.0.0",
    "docker.io/tecnativa/docker-socket-proxy:0.3.0",
];

pub(crate) fn run(what: &What) -> Result<()> {
    match what {
        What::Fetch(options) => fetch::fetch(options),
        What::Load(options) => load::load(options),
    }
}

/// Generated images in a registry on loopback, and the program.
struct Scene {
    directory: tempfile::TempDir,
    registry: DockerRegistry,
    program: PathBuf,
    set: ImageSet,
}

impl Scene {
    fn prepare(layer_bytes: u64, zstd: bool) -> Result<Self> {
        let program = release_program()?;
        let directory = tempfile::Builder::new().prefix("palletjack-bench-").tempdir()?;
        println!("Generating images");
        let layers = directory.path().join("layers");
        fs::create_dir(&layers)?;
        let set = ImageSet::build(&NAMES, &Shape { zstd, ..Shape::large(layer_bytes, layers) })?;
        let registry =
            DockerRegistry::start().context("cannot start docker-registry (Debian package of that name)")?;
        push_all(registry.host(), &set)?;
        let config = format!("[registries.\"docker.io\"]\nmirrors = [\"{}\"]\n", registry.url());
        fs::write(directory.path().join("config.toml"), config)?;
        Ok(Self { directory, registry, program, set })
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir(&path)?;
        // The runs before must not be paid for by this one.
        sync(&path)?;
        Ok(path)
    }

    /// The program, with a cache and without progress.
    fn palletjack_with(&self, cache: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--platform", "linux/amd64", "--progress", "none", "--quiet"])
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .arg("--cache-dir")
            .arg(cache);
        command
    }

    /// The program, fetching all images.
    fn cache_all(&self, cache: &Path) -> Command {
        let mut command = self.palletjack_with(cache);
        command.args(["cache", "add-img"]).args(self.set.images.iter().map(Image::pinned));
        command
    }
}

fn sync(directory: &Path) -> Result<()> {
    let file = fs::File::open(directory)?;
    rustix::fs::syncfs(&file)?;
    Ok(())
}
