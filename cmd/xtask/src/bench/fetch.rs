//! A cold fetch beside other programs that fetch.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use wait4::Wait4;

use super::{Scene, sync};

#[derive(Args)]
pub(crate) struct FetchOptions {
    /// Unpacked megabytes of each image's own layer
    #[arg(long, default_value_t = 40)]
    megabytes: u64,
    /// Runs of each, in turn
    #[arg(long, default_value_t = 3)]
    runs: usize,
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

pub(super) fn fetch(options: &FetchOptions) -> Result<()> {
    let bench = Scene::prepare(options.megabytes << 20, true)?;
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

impl Scene {
    fn palletjack(&self) -> Result<Cost> {
        let cache = self.fresh("cache")?;
        let command = self.cache_all(&cache);
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
