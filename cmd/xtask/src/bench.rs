//! Measurements against peers, as whole processes in one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{DockerRegistry, push_all};
use wait4::Wait4;

use crate::cargo::release_program;

#[derive(Subcommand)]
pub(crate) enum What {
    /// A cold fetch of 13 images from a registry on loopback, beside `curl -Z` and `skopeo copy`
    Fetch(FetchOptions),
}

#[derive(Args)]
pub(crate) struct FetchOptions {
    /// Unpacked megabytes of each image's own layer
    #[arg(long, default_value_t = 40)]
    megabytes: u64,
    /// Runs of each, in turn
    #[arg(long, default_value_t = 3)]
    runs: usize,
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
    let What::Fetch(options) = what;
    fetch(options)
}

/// What a process cost.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    /// Peak memory in bytes.
    memory: u64,
    requests: usize,
}

struct Bench {
    directory: tempfile::TempDir,
    registry: DockerRegistry,
    program: PathBuf,
    set: ImageSet,
}

fn fetch(options: &FetchOptions) -> Result<()> {
    let bench = Bench::prepare(options.megabytes << 20)?;
    let bytes: u64 = bench.set.layers("linux/amd64").values().map(|layer| layer.size).sum();
    println!(
        "13 images, {} distinct layers, {:.1} MB compressed; {} runs, the median of each\n",
        bench.set.layers("linux/amd64").len(),
        bytes as f64 / 1e6,
        options.runs
    );
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for _ in 0..options.runs {
        costs[0].push(bench.palletjack()?);
        costs[1].push(bench.curl()?);
        costs[2].push(bench.skopeo()?);
    }
    let medians = costs.map(median);
    println!(
        "{:<34} {:>8} {:>8} {:>10} {:>9} {:>10}",
        "", "wall s", "CPU s", "peak MiB", "requests", "wall ratio"
    );
    let names =
        ["palletjack cache add-img", "curl -Z (8 at once) + sync -f", "skopeo copy, one after the other"];
    for (name, cost) in names.iter().zip(&medians) {
        println!(
            "{name:<34} {:>8.2} {:>8.2} {:>10.1} {:>9} {:>10.2}",
            cost.wall.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            cost.memory as f64 / f64::from(1 << 20),
            cost.requests,
            medians[0].wall.as_secs_f64() / cost.wall.as_secs_f64()
        );
    }
    println!(
        "\nwall ratio: palletjack's wall time divided by the row's. palletjack hashes and syncs every blob; curl hashes nothing."
    );
    Ok(())
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.wall);
    costs[costs.len() / 2]
}

impl Bench {
    fn prepare(layer_bytes: u64) -> Result<Self> {
        let program = release_program()?;
        let directory = tempfile::Builder::new().prefix("palletjack-bench-").tempdir()?;
        println!("Generating images");
        let layers = directory.path().join("layers");
        fs::create_dir(&layers)?;
        let set = ImageSet::build(&NAMES, &Shape::large(layer_bytes, layers))?;
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

    fn palletjack(&self) -> Result<Cost> {
        let cache = self.fresh("cache")?;
        let mut command = Command::new(&self.program);
        command
            .args(["cache", "add-img", "--platform", "linux/amd64", "--progress", "none"])
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .arg("--cache-dir")
            .arg(&cache)
            .args(self.set.images.iter().map(palletjack_testkit::image::Image::pinned));
        self.measure(&mut [command], None)
    }

    /// curl of the same layers and nothing else, then the sync that ours does as well.
    fn curl(&self) -> Result<Cost> {
        let target = self.fresh("curl")?;
        let mut lines = String::new();
        for image in &self.set.images {
            let Some(platform) = image.platform("linux/amd64") else { continue };
            for layer in &platform.layers {
                let file = target.join(layer.digest.hex());
                let url =
                    format!("{}/v2/{}/blobs/{}", self.registry.url(), image.name.repository, layer.digest);
                let entry = format!("url = \"{url}\"\noutput = \"{}\"\n", file.display());
                if !lines.contains(&format!("output = \"{}\"", file.display())) {
                    lines.push_str(&entry);
                }
            }
        }
        let list = self.directory.path().join("curl.txt");
        fs::write(&list, lines)?;
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail", "-Z", "--parallel-max", "8", "--config"])
            .arg(&list);
        self.measure(&mut [command], Some(&target))
    }

    fn skopeo(&self) -> Result<Cost> {
        let target = self.fresh("skopeo")?;
        let mut commands: Vec<Command> = self
            .set
            .images
            .iter()
            .map(|image| {
                let tag = image.name.tag.as_deref().unwrap_or("latest");
                let from = format!("docker://{}/{}:{tag}", self.registry.host(), image.name.repository);
                let to = format!("oci:{}:{}", target.display(), image.tagged());
                let mut command = Command::new("skopeo");
                command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &from, &to]);
                command
            })
            .collect();
        self.measure(&mut commands, None)
    }

    fn measure(&self, commands: &mut [Command], synced: Option<&Path>) -> Result<Cost> {
        let before = self.requests();
        let start = Instant::now();
        let mut cost = Cost { wall: Duration::ZERO, cpu: Duration::ZERO, memory: 0, requests: 0 };
        for command in commands {
            let child = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot run {}", command.get_program().display()))?;
            let ended = child.wait4()?;
            ensure!(
                ended.status.success(),
                "{} ended with {}",
                command.get_program().display(),
                ended.status
            );
            cost.cpu += ended.rusage.utime + ended.rusage.stime;
            cost.memory = cost.memory.max(ended.rusage.maxrss);
        }
        if let Some(directory) = synced {
            sync(directory)?;
        }
        cost.wall = start.elapsed();
        cost.requests = self.requests() - before;
        Ok(cost)
    }

    fn requests(&self) -> usize {
        self.registry.log().iter().filter(|line| line.contains("http.request.method")).count()
    }
}

fn sync(directory: &Path) -> Result<()> {
    let file = fs::File::open(directory)?;
    rustix::fs::syncfs(&file)?;
    Ok(())
}
