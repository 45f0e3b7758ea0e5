//! The main job on an example pallet, by the commands that a user would type.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::sandbox::rewrite_images;

use crate::cargo::{release_program, root};

const PALLET: &str = "field-station";

pub(crate) fn run() -> Result<()> {
    say("Building the program (a few minutes the first time)");
    let demo = Demo::prepare(release_program()?)?;
    let pallet = ["dev", "--cwd", PALLET, "plt"];

    say("Which images does the pallet require? (nothing is downloaded for that)");
    demo.palletjack(&[&pallet[..], &["ls-img"]].concat())?;
    say("Into the cache, without a Docker daemon: each layer once, each byte verified");
    demo.palletjack(&[&pallet[..], &["cache-img"]].concat())?;
    demo.palletjack(&["cache", "ls-img"])?;
    demo.palletjack(&["cache", "verify"])?;

    let Demo { registry, .. } = &demo;
    say("The registry goes away; a second run has nothing to ask it for");
    registry.lock().map_err(|_| anyhow::anyhow!("the registry's thread panicked"))?.stop();
    demo.palletjack(&[&pallet[..], &["cache-img"]].concat())?;

    if demo.has_engine() {
        say("Into the engine, one image per request");
        // 5: loaded, but pins do not resolve on an engine that keeps no digests. The program has said what runs.
        let loaded = demo.palletjack_ending(&[&pallet[..], &["load-img"]].concat(), &[0, 5])?;
        if loaded == 5 {
            println!(
                "\n(exit status 5: every image is loaded, but this engine does not know pins; see above for the ways)"
            );
        }
        println!("\nThe images are small stand-ins named palletjack-demo/…; to remove them again:");
        println!(
            "  docker images -q --filter 'reference=palletjack-demo/*' --filter 'reference=*/palletjack-demo/*' | xargs docker rmi -f"
        );
    } else {
        say("No engine answers here, so this is the archive that `docker load` would be given");
        demo.shell("tar -C cache/docker-archives -cf archive.tar . && ls -sh archive.tar && tar -tf archive.tar | head -20")?;
    }
    println!("\nThat was it. For your own pallet: palletjack plt cache-img, then palletjack plt load-img.");
    Ok(())
}

fn say(text: &str) {
    println!("\n== {text}");
}

struct Demo {
    directory: tempfile::TempDir,
    program: PathBuf,
    registry: std::sync::Mutex<Registry>,
}

impl Demo {
    /// A directory with a copy of the example pallet whose images are small generated ones, a registry that serves
    /// them, and a configuration that leads there.
    fn prepare(program: PathBuf) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("palletjack-demo-").tempdir()?;
        let pallet = directory.path().join(PALLET);
        copy(&root().join("pallets").join(PALLET), &pallet)?;
        let registry = Registry::start()?;

        let output = Command::new(&program)
            .args(["--workspace", ".", "dev", "--cwd", PALLET, "plt", "ls-img", "--include-disabled"])
            .current_dir(directory.path())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run the program")?;
        let listed = String::from_utf8(output.stdout).context("the image list")?;
        let wanted: Vec<&str> = listed.lines().collect();
        let named: Vec<String> = wanted.iter().map(|reference| stand_in(reference)).collect();
        // Without Zstandard: Docker before version 23, which Debian 12 has, cannot load that.
        let set = ImageSet::build(&named, &Shape { zstd: false, ..Shape::small() })?;
        registry.publish_all(&set);
        let replacements = wanted
            .iter()
            .zip(&named)
            .zip(&set.images)
            .map(|((wanted, named), image)| ((*wanted).to_owned(), format!("{named}@{}", image.top.digest)))
            .collect();
        rewrite_images(&pallet, &replacements)?;

        let config = format!(
            "[registries.\"docker.io\"]\nmirrors = [\"{url}\"]\n\n[registries.\"ghcr.io\"]\nmirrors = [\"{url}\"]\n",
            url = registry.url()
        );
        fs::write(directory.path().join("config.toml"), &config)?;
        say(
            "A copy of pallets/field-station whose images are small generated stand-ins, served by a registry on loopback",
        );
        println!("$ cd {}", directory.path().display());
        println!("$ cat config.toml\n{config}");
        println!("$ export PALLETJACK_CONFIG=config.toml PALLETJACK_CACHE_DIR=cache");
        Ok(Self { directory, program, registry: std::sync::Mutex::new(registry) })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("PALLETJACK_CONFIG", "config.toml")
            .env("PALLETJACK_CACHE_DIR", "cache")
            .env("PALLETJACK_WORKSPACE", ".")
            .stdin(Stdio::null());
        command
    }

    fn palletjack(&self, arguments: &[&str]) -> Result<()> {
        self.palletjack_ending(arguments, &[0]).map(drop)
    }

    fn palletjack_ending(&self, arguments: &[&str], codes: &[i32]) -> Result<i32> {
        println!("\n$ palletjack {}", arguments.join(" "));
        let status =
            self.command(&self.program).args(arguments).status().context("cannot run the program")?;
        match status.code() {
            Some(code) if codes.contains(&code) => Ok(code),
            _ => bail!("palletjack {} ended with {status}", arguments.join(" ")),
        }
    }

    fn shell(&self, script: &str) -> Result<()> {
        println!("\n$ {script}");
        let status = self.command(Path::new("sh")).args(["-c", script]).status().context("cannot run sh")?;
        if !status.success() {
            bail!("`{script}` ended with {status}");
        }
        Ok(())
    }

    /// Whether the program finds an engine that answers, asked with an empty list of work to do.
    fn has_engine(&self) -> bool {
        self.command(&self.program)
            .args(["cache", "load-img", "--platform", "none/none"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// A name that no real image has, so that a load replaces nothing of the user's.
fn stand_in(reference: &str) -> String {
    let (name, _) = reference.split_once('@').unwrap_or((reference, ""));
    let last = name.rsplit('/').next().unwrap_or(name);
    let registry = if name.starts_with("ghcr.io/") { "ghcr.io" } else { "docker.io" };
    format!("{registry}/palletjack-demo/{last}")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
