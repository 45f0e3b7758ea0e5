//! Loading beside `docker load`: of one archive with everything, and of one archive per image in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use palletjack_testkit::real::Dockerd;
use wait4::Wait4;

use super::daemon::Spent;
use super::{Scene, sync};

#[derive(Args)]
pub(crate) struct LoadOptions {
    /// Unpacked megabytes of each image's own layer
    #[arg(long, default_value_t = 40)]
    megabytes: u64,
    /// Runs of each, in turn, each into an empty engine
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// What a way of loading cost.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    daemon: Spent,
    /// Processor time of the client, in which `palletjack` hashes.
    client: Duration,
}

#[derive(Clone, Copy)]
enum Way {
    Palletjack,
    Combined,
    OneByOne,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Palletjack, "palletjack cache load-img"),
    (Way::Combined, "docker load, one archive of all"),
    (Way::OneByOne, "docker load, one archive per image"),
];

pub(super) fn load(options: &LoadOptions) -> Result<()> {
    // Docker 20.10 reads no layers that are compressed with Zstandard.
    let scene = Scene::prepare(options.megabytes << 20, false)?;
    let bench = Bench::prepare(&scene)?;
    let layers = scene.set.layers("linux/amd64");
    println!(
        "13 images, {} distinct layers, {:.1} MB compressed, into Docker 20.10; {} runs, the median of each; every row ends \
         with one sync of the engine's disk\n",
        layers.len(),
        layers.values().map(|layer| layer.size).sum::<u64>() as f64 / 1e6,
        options.runs
    );
    let (mut empty, mut present): ([Vec<Cost>; 3], [Vec<Cost>; 3]) = Default::default();
    for _ in 0..options.runs {
        for (index, (way, _)) in WAYS.iter().enumerate() {
            let engine = Dockerd::debian().context("cannot start Docker 20.10 (Debian package docker.io)")?;
            empty[index].push(bench.measure(&engine, *way)?);
            present[index].push(bench.measure(&engine, *way)?);
        }
    }
    show("into an empty engine", empty);
    show("again, everything is there", present);
    println!(
        "x: palletjack's value divided by the row's. CPU and bytes written are those of dockerd and containerd."
    );
    Ok(())
}

fn show(title: &str, costs: [Vec<Cost>; 3]) {
    println!(
        "{title:<36} {:>8} {:>6} {:>11} {:>6} {:>12} {:>6} {:>11}",
        "wall s", "x", "daemon CPU s", "x", "written MB", "x", "client CPU s"
    );
    let medians = costs.map(|mut costs| {
        costs.sort_by_key(|cost| cost.wall);
        costs[costs.len() / 2]
    });
    let ours = medians[0];
    let ratio = |ours: f64, theirs: f64| if theirs > 0.0 { ours / theirs } else { f64::NAN };
    for ((_, name), cost) in WAYS.iter().zip(&medians) {
        let seconds = |of: fn(&Cost) -> Duration| (of(cost).as_secs_f64(), of(&ours).as_secs_f64());
        let (wall, our_wall) = seconds(|cost| cost.wall);
        let (cpu, our_cpu) = seconds(|cost| cost.daemon.cpu);
        let (written, our_written) = (cost.daemon.written as f64 / 1e6, ours.daemon.written as f64 / 1e6);
        println!(
            "{name:<36} {wall:>8.2} {:>6.2} {cpu:>12.2} {:>6.2} {written:>12.1} {:>6.2} {:>12.2}",
            ratio(our_wall, wall),
            ratio(our_cpu, cpu),
            ratio(our_written, written),
            cost.client.as_secs_f64()
        );
    }
    println!();
}

struct Bench<'a> {
    scene: &'a Scene,
    cache: PathBuf,
    /// One archive of all images.
    combined: PathBuf,
    /// One archive per image.
    single: Vec<PathBuf>,
}

impl<'a> Bench<'a> {
    fn prepare(scene: &'a Scene) -> Result<Self> {
        let cache = scene.fresh("cache")?;
        run(&mut scene.cache_all(&cache))?;
        let layout = cache.join("docker-archives");
        let archives = scene.fresh("archives")?;
        let combined = archives.join("all.tar");
        run(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&combined).arg("."))?;
        let mut single = Vec::new();
        for image in &scene.set.images {
            let platform = image.platform("linux/amd64").context("every image is for linux/amd64")?;
            let member = |digest: &dyn std::fmt::Display| {
                format!("blobs/sha256/{}", digest.to_string().trim_start_matches("sha256:"))
            };
            let config = member(&platform.config);
            let layers: Vec<String> = platform.layers.iter().map(|layer| member(&layer.digest)).collect();
            let quoted: Vec<String> = layers.iter().map(|layer| format!("\"{layer}\"")).collect();
            let manifest = format!(
                "[{{\"Config\":\"{config}\",\"RepoTags\":[\"{}\"],\"Layers\":[{}]}}]",
                image.tagged(),
                quoted.join(",")
            );
            let parts = scene.fresh("part")?;
            fs::write(parts.join("manifest.json"), manifest)?;
            let archive = archives.join(format!("{}.tar", single.len()));
            run(Command::new("tar")
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&parts)
                .arg("manifest.json")
                .arg("-C")
                .arg(&layout)
                .arg(&config)
                .args(&layers))?;
            single.push(archive);
        }
        Ok(Self { scene, cache, combined, single })
    }

    fn measure(&self, engine: &Dockerd, way: Way) -> Result<Cost> {
        let docker = engine.docker()?;
        let load = |archive: &Path| {
            let mut command = docker.command(["load", "--quiet", "--input"]);
            command.arg(archive);
            command
        };
        let mut commands: Vec<Command> = match way {
            Way::Palletjack => {
                let mut command = self.scene.palletjack_with(&self.cache);
                command.args(["cache", "load-img"]).env("DOCKER_HOST", engine.host());
                vec![command]
            }
            Way::Combined => vec![load(&self.combined)],
            Way::OneByOne => self.single.iter().map(|archive| load(archive)).collect(),
        };
        sync(&engine.data_root())?;
        let pids = engine.pids();
        let before = Spent::by(&pids)?;
        let mut client = Duration::ZERO;
        let start = Instant::now();
        for command in &mut commands {
            client += run(command)?;
        }
        sync(&engine.data_root())?;
        let wall = start.elapsed();
        Ok(Cost { wall, daemon: Spent::by(&pids)? - before, client })
    }
}

/// Runs a command and says how much processor time it took.
fn run(command: &mut Command) -> Result<Duration> {
    let name = command.get_program().display().to_string();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let ended = child.wait4()?;
    // 5 of ours: all is loaded, and this engine keeps no digests, so pins do not resolve.
    let is_fine = matches!(ended.status.code(), Some(0 | 5));
    ensure!(is_fine, "{name} ended with {}", ended.status);
    Ok(ended.rusage.utime + ended.rusage.stime)
}
